"""What answers and refusals keep to themselves: paths and names of the host; and who may connect at all."""

import socket
import stat
import subprocess
from typing import Any

import grpc
import pytest
from sandboxd_api.v1 import (
    execution_service_pb2,
)

from tests.rpc.calls import METHODS, first_answer, status_of
from tests.support.serving import Answer, Serving, spec_of


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("raise ValueError('x')", id="exception"),
        pytest.param("import json\njson.loads('{')", id="in_the_standard_library"),
        pytest.param("import pandas as pd\npd.DataFrame({'a': [1]})['b']", id="in_pandas"),
        pytest.param("import numpy as np\nnp.linalg.inv(np.zeros((2, 2)))", id="in_numpy"),
        pytest.param("def f(:", id="syntax_error"),
        pytest.param("import nothing_like_that", id="import_error"),
        pytest.param("open('/nothing')", id="missing_file"),
        pytest.param(
            "import asyncio\nasync def f(): raise KeyError\nawait asyncio.gather(f())", id="asyncio"
        ),
        pytest.param("x = bytearray(1 << 40)", id="memory"),
        pytest.param("def f(): f()\nf()", id="recursion"),
        pytest.param("import warnings\nwarnings.warn('x')", id="warning"),
    ],
)
@pytest.mark.parametrize("debugging", [False, True])
def test_no_answer_shows_a_path_or_a_name_of_the_host(server: Serving, code: str, debugging: bool) -> None:
    answer = server.quick(code, debugging=debugging)
    _assert_clean(server, answer.execution)


def test_no_refusal_shows_a_path_or_a_name_of_the_host(server: Serving) -> None:
    for method in METHODS:
        try:
            _assert_clean(server, first_answer(server, method, server.metadata))
        except grpc.RpcError as error:
            assert not _leaks(server, error.details() or "")
            assert not _leaks(server, str(status_of(error)))


def test_a_crash_report_is_the_users_own(server: Serving) -> None:
    answer = Answer(
        server.executions.QuickExecute(
            execution_service_pb2.QuickExecuteRequest(
                code="def f(n):\n    return 1 / n\nf(0)", spec=spec_of(debugging=True)
            ),
            metadata=server.metadata,
            timeout=30,
        ).execution
    )
    assert [frame.line for frame in answer.result.failure.frames] == [3, 2]
    assert "return 1 / n" in answer.result.failure.traceback


def test_the_port_is_loopbacks_and_the_token_is_its_owners(server: Serving) -> None:
    host, port = server.address.rsplit(":", 1)
    assert host == "127.0.0.1"
    mode = (server.data_directory / "token").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    for address in own:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.settimeout(1)
            assert probe.connect_ex((address, int(port))) != 0


def _leaks(server: Serving, text: str) -> list[str]:
    needles = (
        "/usr", "/home", "/root", "/work", "/var/lib", "site-packages", "/lib/python", ".venv",
        socket.gethostname(), server.token, str(server.data_directory), str(server.pid),
    )  # fmt: skip
    return [needle for needle in needles if len(needle) > 4 and needle in text]


def _assert_clean(server: Serving, message: Any) -> None:
    text = str(message) if message is not None else ""
    assert not _leaks(server, text), text
