"""Spans of calls and executions: the caller's trace goes on, phases are told, code is not."""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sandboxd_api.v1 import execution_service_pb2 as execution_service
from sandboxd_api.v1 import execution_service_pb2_grpc

from sandboxd.app import running_server
from sandboxd.isolation import credentials
from sandboxd.settings import load_settings

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_PARENT = "b7ad6b7169203331"
_SECRET = "pomegranate"


class _Traced:
    """Calls on a server in this process."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._metadata = (
            ("authorization", f"Bearer {token}"),
            ("traceparent", f"00-{_TRACE}-{_PARENT}-01"),
        )

    async def quick(self, code: str) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            request = execution_service.QuickExecuteRequest(code=code)
            await stub.QuickExecute(request, metadata=self._metadata, timeout=30)

    async def stream(self, sandbox_id: str) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
            request = execution_service.StreamExecuteRequest(sandbox_id=sandbox_id, code="1")
            async for _ in stub.StreamExecute(request, metadata=self._metadata, timeout=30):
                pass


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ReadableSpan]:
    """Of one execution that fails and of one refused stream."""
    return asyncio.run(_spans(tmp_path_factory.mktemp("traced")))


async def _spans(directory: Path) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    settings = load_settings(environment={}, port=0, data_directory=directory, pool_size=1)
    async with running_server(settings, span_exporter=exporter) as addresses:
        server = _Traced(addresses.tcp, settings.token_path.read_text().strip())
        await server.quick(f"print({_SECRET!r}); raise ValueError({_SECRET!r})")
        with pytest.raises(grpc.aio.AioRpcError):
            await server.stream("sbx_of_nobody")
    credentials.set_dumpable(dumpable=True)  # of the tests' own process
    return {span.name: span for span in exporter.get_finished_spans()}


def test_call_goes_on_the_callers_trace_and_has_its_execution_with_its_phases(
    spans: dict[str, ReadableSpan],
) -> None:
    call = spans["sandboxd_api.v1.ExecutionService/QuickExecute"]
    execution = spans["execution"]
    assert call.parent is not None
    assert (f"{call.context.trace_id:032x}", f"{call.parent.span_id:016x}") == (_TRACE, _PARENT)
    assert execution.parent is not None
    assert execution.parent.span_id == call.context.span_id
    assert execution.attributes is not None
    assert execution.attributes["sandboxd.state"] == "FAILED"
    assert execution.attributes["sandboxd.failure"] == "EXCEPTION"
    assert call.status.status_code is StatusCode.UNSET  # what user code does wrong is no error of the call
    for name in ("queue", "start", "run", "end"):
        phase = spans[name]
        assert phase.parent is not None
        assert phase.parent.span_id == execution.context.span_id
        assert phase.start_time is not None
        assert phase.end_time is not None
        assert execution.start_time is not None
        assert execution.end_time is not None
        assert execution.start_time <= phase.start_time <= phase.end_time <= execution.end_time


def test_refused_stream_is_an_error_with_its_reason(spans: dict[str, ReadableSpan]) -> None:
    refused = spans["sandboxd_api.v1.ExecutionService/StreamExecute"]
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.attributes is not None
    assert refused.attributes["sandboxd.reason"] == "SANDBOX_NOT_FOUND"


def test_no_span_holds_code_or_output(spans: dict[str, ReadableSpan]) -> None:
    assert not [span.name for span in spans.values() if _SECRET in span.to_json()]


def test_nothing_is_imported_while_tracing_is_off() -> None:
    program = "import sys, sandboxd.app; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_tracing_without_its_extra_is_refused_and_says_how_to_get_it(tmp_path: Path) -> None:
    program = "import sys; sys.modules['opentelemetry'] = None\nfrom sandboxd.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", "--port", "0", "--data-directory", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "", "SANDBOXD_TRACING": "true"},
    )
    assert done.returncode != 0
    assert "pip install 'sandboxd[otel]'" in done.stderr
