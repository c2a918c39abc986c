"""Who is told what happens: the figures always, spans where tracing is on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

from sandboxd.executions.model import Execution
from sandboxd.metrics.figures import Figures
from sandboxd.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from sandboxd.tracing import Tracing


class Observers:
    """Passes events on."""

    def __init__(self, figures: Figures, tracing: "Tracing | None") -> None:
        self._figures = figures
        self._tracing = tracing

    @property
    def around_call(self) -> Callable[[str, str], AbstractContextManager[None]] | None:
        """What every call runs in, given its method and traceparent; None for nothing."""
        return self._tracing.call if self._tracing else None

    def execution_finished(self, execution: Execution) -> None:
        """An execution has its result."""
        self._figures.execution_finished(execution)
        if self._tracing:
            self._tracing.execution_finished(execution)

    def call_refused(self, reason: str) -> None:
        """A call ends with an error of this reason."""
        self._figures.call_refused(reason)
        if self._tracing:
            self._tracing.call_refused(reason)


def open_tracing(
    settings: Settings, stack: AsyncExitStack, *, exporter: "SpanExporter | None" = None
) -> "Tracing | None":
    """Tracing until `stack` is closed, where it is on; raises `SettingsError` where its extra is missing."""
    if exporter is None and not settings.tracing:
        return None
    try:
        from sandboxd.tracing import Tracing, otlp_exporter

        tracing = Tracing(exporter=exporter or otlp_exporter(), version=version("sandboxd"))
    except ImportError as error:
        raise SettingsError(
            f"tracing: {error.name} is not installed; run: pip install 'sandboxd[otel]'"
        ) from error
    stack.callback(tracing.close)
    return tracing
