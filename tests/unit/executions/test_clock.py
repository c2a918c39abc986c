"""The clock of a run lets go of the run at its end: a cycle would keep all output until a full collection."""

import gc
import weakref

from sandboxd.executions.clock import RunClock


class _Run:
    def __init__(self) -> None:
        self.clock = RunClock(60, self.expire, spent=self.spent)

    def expire(self) -> None:
        """Never, here."""

    def spent(self) -> float:
        return 0.0


async def test_run_whose_clock_has_ended_is_let_go_without_a_collection() -> None:
    run = _Run()
    run.clock.start()
    run.clock.end()
    held = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert held() is None
    finally:
        gc.enable()
