"""Request ids and trace contexts: taken, echoed, on every log line; what is malformed gets nowhere."""

from collections.abc import Iterable

import grpc
import pytest
import structlog
from sandboxd_api.v1 import execution_service_pb2, execution_service_pb2_grpc, sandbox_service_pb2_grpc
from sandboxd_api.v1 import sandbox_service_pb2 as sandbox_service

from sandboxd.rpc.call_ids import call_ids
from tests.operations.conftest import log_lines
from tests.support.server_process import Server

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_PARENT = "b7ad6b7169203331"
_TRACEPARENT = f"00-{_TRACE}-{_PARENT}-01"


def _execute(server: Server, code: str, *metadata: tuple[str, str]) -> dict[str, str | bytes]:
    """Runs code in a sandbox of its own; gives the initial metadata of the answer."""
    with grpc.insecure_channel(server.tcp) as channel:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        _, call = stub.QuickExecute.with_call(
            execution_service_pb2.QuickExecuteRequest(code=code),
            metadata=(("authorization", f"Bearer {server.token}"), *metadata),
            timeout=60,
        )
        return _plain(call.initial_metadata())


def _plain(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str | bytes]:
    return dict(metadata)


def test_ids_come_back_and_are_on_the_log_lines_of_their_call_alone(watched: Server) -> None:
    echoed = _execute(watched, "1", ("x-request-id", "order-7"), ("traceparent", _TRACEPARENT))
    assert echoed["x-request-id"] == "order-7"
    assert echoed["traceparent"] == _TRACEPARENT
    assert "x-request-id" not in _execute(watched, "2")
    lines = log_lines(watched.token_file.parent)
    finished = [line for line in lines if line["event"] == "execution.finished"]
    mine = [line for line in finished if line["request_id"] == "order-7"]
    assert len(mine) == 1
    assert (mine[0]["trace_id"], mine[0]["parent_id"]) == (_TRACE, _PARENT)
    others = [line for line in finished if line["request_id"] != "order-7"]
    assert others
    assert not any("trace_id" in line for line in others)


def test_a_failed_call_names_the_id_under_which_it_is_logged(watched: Server) -> None:
    with grpc.insecure_channel(watched.tcp) as channel:
        stub = sandbox_service_pb2_grpc.SandboxServiceStub(channel)
        with pytest.raises(grpc.RpcError) as failure:
            stub.GetSandbox(
                sandbox_service.GetSandboxRequest(sandbox_id="none"),
                metadata=(("authorization", f"Bearer {watched.token}"),),
                timeout=60,
            )
    request_id = _plain(failure.value.trailing_metadata())["x-request-id"]
    refused = [line for line in log_lines(watched.token_file.parent) if line["event"] == "call.refused"]
    assert [line["reason"] for line in refused if line["request_id"] == request_id] == ["SANDBOX_NOT_FOUND"]


def test_code_and_output_are_in_no_log_line(watched: Server) -> None:
    _execute(watched, "word = 'pomegranate'; print(word); debug(word, word); 1 / 0")
    assert "pomegranate" not in (watched.token_file.parent / "log").read_text()


@pytest.mark.parametrize(
    "request_id",
    ["", "two words", "line\nbreak", "x" * 129, "<script>", "\x1b[31m", "é", "-rf"],
    ids=["empty", "space", "newline", "long", "markup", "escape", "not ascii", "option"],
)
def test_a_request_id_that_could_forge_a_log_line_is_replaced(request_id: str) -> None:
    ids = call_ids([("x-request-id", request_id)])
    assert ids.request_id != request_id
    assert len(ids.request_id) == 16
    assert ids.given == ()


@pytest.mark.parametrize(
    "traceparent",
    [
        f"ff-{_TRACE}-{_PARENT}-01",
        f"00-{'0' * 32}-{_PARENT}-01",
        f"00-{_TRACE}-{'0' * 16}-01",
        f"00-{_TRACE.upper()}-{_PARENT}-01",
        f"00-{_TRACE}-{_PARENT}",
        f"00-{_TRACE}-{_PARENT}-01-more",
        f"cc-{_TRACE}-{_PARENT}-01-{'x' * 300}",
        "",
    ],
    ids=["version ff", "no trace", "no parent", "upper case", "no flags", "more in 00", "long", "empty"],
)
def test_a_malformed_trace_context_counts_as_none(traceparent: str) -> None:
    ids = call_ids([("traceparent", traceparent)])
    assert ids.traceparent == ""
    assert ids.given == ()


@pytest.mark.parametrize("extra", ["", "-what-the-future-brings"])
def test_a_trace_context_of_a_later_version_is_taken(extra: str) -> None:
    text = f"cc-{_TRACE}-{_PARENT}-01{extra}"
    ids = call_ids([("traceparent", text)])
    assert ids.traceparent == text
    with structlog.contextvars.bound_contextvars():
        ids.bind()
        assert structlog.contextvars.get_contextvars()["trace_id"] == _TRACE
    structlog.contextvars.clear_contextvars()


def test_the_first_of_several_ids_counts() -> None:
    assert call_ids([("x-request-id", "a"), ("x-request-id", "b")]).request_id == "a"
