"""Where a reader is in a trace while the program is stopped."""

from sandboxd.guest.debug.options import LINE
from sandboxd.guest.debug.stepping import BREAKPOINT, START_OF_TRACE, STEP, Stepping
from sandboxd.guest.debug.trace import Trace


class Past:
    """A position among the recorded steps; moving it changes nothing in the program."""

    def __init__(self, trace: Trace, stepping: Stepping, present: int) -> None:
        self._trace = trace
        self._stepping = stepping
        self.present = present
        self.step = present

    def back(self) -> int:
        """To the line before; the reason of the stop."""
        lines = [
            row.step for row in self._trace.rows(max(self.step - 4096, 1), self.step - 1) if row.event == LINE
        ]
        if not lines:
            self.step = max(self._trace.first_kept_step, 1)
            return START_OF_TRACE
        self.step = lines[-1]
        return STEP

    def forward(self) -> int:
        """To the line after, at most to the present."""
        for row in self._trace.rows(self.step + 1, self.present):
            if row.event == LINE:
                self.step = row.step
                return STEP
        self.step = self.present
        return STEP

    def reverse(self) -> int:
        """To the last breakpoint before; conditions are not judged again."""
        lines = self._stepping.breakpoints
        found = 0
        for row in self._trace.rows(1, self.step - 1):
            if row.event == LINE and row.line in lines:
                found = row.step
        if not found:
            self.step = max(self._trace.first_kept_step, 1)
            return START_OF_TRACE
        self.step = found
        return BREAKPOINT
