"""Steps on their way from the recorder to who takes them."""

import math
from _thread import RLock
from collections.abc import Callable

from sandboxd.guest.debug.options import TraceOptions
from sandboxd.guest.debug.steps import ROW, Rows, Sink


class Outbox:
    """Keeps steps until they are many or old enough, or all there may be. Who records adds to `rows` itself,
    and looks at `flush_at` and `room`: a call a step would cost a tenth of it."""

    def __init__(
        self,
        options: TraceOptions,
        sink: Sink,
        *,
        on_fault: Callable[[Exception], None],
        on_limit: Callable[[], None],
    ) -> None:
        """`on_fault` is told what the sink raised, `on_limit` that there are all the steps there may be."""
        self.rows: Rows = []
        """Steps that the sink has not taken yet. The list stays the same one."""
        self.taken_count = 0
        """Steps that it has."""
        self._flush_interval_ns = options.flush_interval_ns
        self.flush_at: float = 0 if options.flush_interval_ns is not None else math.inf
        """Time in ns from which on the next step flushes."""
        self._batch_steps = options.batch_steps
        self._max_steps = options.filter.max_steps
        self.room = min(self._batch_steps, self._max_steps) * ROW
        """Length of `rows` at which they are due."""
        self._sink = sink
        self._on_fault = on_fault
        self._on_limit = on_limit
        self._turn = RLock()
        self._flushing = False

    def flush(self) -> None:
        """Hands the steps so far to the sink; in the order in which they were recorded."""
        with self._turn:
            if self._flushing:  # a finaliser of user code ran meanwhile, and was traced
                return
            self._flushing = True
            try:
                rows = self.rows[:]
                del self.rows[: len(rows)]
                self.taken_count += len(rows) // ROW
                left = self._max_steps - self.taken_count
                self.room = min(self._batch_steps, max(left, 1)) * ROW
                if rows:
                    self._sink.take(rows)
            finally:
                self._flushing = False

    def turn(self, now: int) -> None:
        """Steps are due, by their number or the time."""
        if self._flush_interval_ns is not None:
            self.flush_at = now + self._flush_interval_ns
        try:
            self.flush()
        except MemoryError:
            raise
        except Exception as error:
            self._on_fault(error)
        if self.taken_count >= self._max_steps:
            self._on_limit()
