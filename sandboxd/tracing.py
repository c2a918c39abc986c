"""Spans of calls and executions for OpenTelemetry. Imported only where the setting `tracing` is on: it
needs the extra `otel`, and where spans go is told by the standard OTEL_* variables.

A span's attributes are names and ids, never code, output or parameters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sandboxd.executions.model import Execution, ExecutionState

_OURS = (ExecutionState.ABORTED,)
"""States that are the service's failure; what user code does wrong is no error of the call."""


class Tracing:
    """Owns the way of spans to their exporter. Belongs to one event loop; a thread of the SDK sends them."""

    def __init__(self, *, exporter: SpanExporter, version: str) -> None:
        resource = Resource.create({"service.name": "sandboxd", "service.version": version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sandboxd")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def call(self, method: str, traceparent: str) -> Iterator[None]:
        """The span of a call, a child of the caller's; what the call starts finds it as its parent.

        It is not taken back from the context, which is that of the call's own task: a stream may be closed
        from another one.
        """
        parent = self._propagator.extract({"traceparent": traceparent}, context=context.Context())
        service, _, name = method.strip("/").partition("/")
        span = self._tracer.start_span(
            method.strip("/"),
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        context.attach(trace.set_span_in_context(span))
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception):
                span.set_attribute("sandboxd.reason", "CANCELLED")
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.end()

    def call_refused(self, reason: str) -> None:
        """The call under way ends with an error of this reason."""
        trace.get_current_span().set_attribute("sandboxd.reason", reason)

    def execution_finished(self, execution: Execution) -> None:
        """An execution has its result: its span and those of its phases, as they were measured."""
        span = self._tracer.start_span(
            "execution",
            start_time=_nanos(execution.create_time),
            attributes={
                "sandboxd.execution_id": execution.id,
                "sandboxd.sandbox_id": execution.sandbox_id,
                "sandboxd.kind": execution.request.kind.value,
                "sandboxd.state": execution.state.value,
            },
        )
        result = execution.result
        if result is not None and result.failure is not None:
            span.set_attribute("sandboxd.failure", result.failure.kind.value)
        if execution.state in _OURS:
            span.set_status(StatusCode.ERROR)
        end = self._phases(span, execution)
        span.end(end_time=_nanos(max(end, execution.end_time or end)))

    def close(self) -> None:
        """Sends what is left; waits for at most some seconds."""
        self._provider.force_flush(5000)
        self._provider.shutdown()

    def _phases(self, parent: Span, execution: Execution) -> datetime:
        """Child spans one after another; where the last one ends."""
        moment = execution.create_time
        if execution.result is None or execution.start_time is None:
            return moment
        usage = execution.result.usage
        within = trace.set_span_in_context(parent, context.Context())
        for name, seconds in (
            ("queue", usage.queue_seconds),
            ("start", usage.start_seconds),
            ("run", usage.wall_seconds),
            ("end", usage.end_seconds),
        ):
            phase = self._tracer.start_span(name, context=within, start_time=_nanos(moment))
            moment += timedelta(seconds=seconds)
            phase.end(end_time=_nanos(moment))
        return moment


def otlp_exporter() -> SpanExporter:
    """Sends spans to a collector by OTLP over HTTP."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _nanos(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
