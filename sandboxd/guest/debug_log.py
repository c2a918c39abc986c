"""The debug log of one execution: entries and inspected variables, sent as they appear, capped in bytes."""

import sys
import time
from collections import Counter, deque
from typing import Any, Literal

from sandboxd.channel.messages import GuestMessage, Inspected, LogDropped, LogEntry, VariableReport
from sandboxd.guest.describe import to_value
from sandboxd.guest.interrupts import run_shielded
from sandboxd.guest.session import Session
from sandboxd.guest.summary import summarize_variable
from sandboxd.guest.type_names import clean_text

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_LEVELS: dict[str, Level] = {
    "DEBUG": "DEBUG",
    "TRACE": "DEBUG",
    "INFO": "INFO",
    "WARNING": "WARNING",
    "WARN": "WARNING",
    "ERROR": "ERROR",
    "CRITICAL": "CRITICAL",
    "FATAL": "CRITICAL",
}
_ENTRY_BYTES = 64
"""What an entry counts beside its text."""
_LONGEST_MESSAGE = 64 * 1024
_VARIABLE_BYTES = 16 * 1024
_REMEMBERED = 50


class DebugLog:
    """What user code has logged in the execution `run_id`."""

    def __init__(self, session: Session, run_id: int) -> None:
        self._session = session
        self.run_id = run_id
        self._left = session.configuration.log_bytes
        self._enabled = session.configuration.enable_debugging
        self._counts: Counter[str] = Counter()
        self._recent: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._variables: dict[str, dict[str, Any]] = {}
        self.dropped = 0

    def debug(self, message: Any, level: str = "INFO") -> None:
        """Adds one entry; its level is DEBUG, INFO, WARNING, ERROR or CRITICAL."""
        known = _LEVELS.get(str(level).upper())
        if known is None:
            raise ValueError(f"level {level!r} is none of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        if not self._enabled:
            return
        whole = message if type(message) is str else str(message)
        text = clean_text(whole, _LONGEST_MESSAGE)
        line = self._session.user_line(sys._getframe(1))
        entry = LogEntry(
            run_id=self.run_id,
            level=known,
            message=text,
            time_ns=time.time_ns(),
            line=line,
            truncated=len(whole) > _LONGEST_MESSAGE,
        )
        if self._send(entry, len(text.encode())):
            self._counts[known] += 1
            self._recent.append({"level": known, "message": text[:1000], "line": line})

    def inspect_var(self, name: str, value: Any) -> None:
        """Records a variable as it is now."""
        if not self._enabled:
            return
        typed, _ = to_value(value, size=_VARIABLE_BYTES)
        variable = summarize_variable(str(name), value, typed=typed)
        line = self._session.user_line(sys._getframe(1))
        inspected = Inspected(run_id=self.run_id, variable=variable, time_ns=time.time_ns(), line=line)
        if self._send(inspected, _size(variable)):
            self._variables[variable.name] = {
                "type": variable.type_name,
                "summary": variable.summary,
                "line": line,
            }

    def get_debug_info(self) -> dict[str, Any]:
        """What was logged so far in this execution, as plain data: totals, the last messages, the last
        state of each inspected variable."""
        return {
            "enabled": self._enabled,
            "total": self._counts.total(),
            "by_level": {level: self._counts[level] for level in dict.fromkeys(_LEVELS.values())},
            "dropped": self.dropped,
            "messages": list(self._recent),
            "variables": dict(self._variables),
        }

    def _send(self, message: GuestMessage, size: int) -> bool:
        """False when the cap was reached; the first time the host is told."""
        if self._left < size + _ENTRY_BYTES:
            self._left = 0
            self.dropped += 1
            if self.dropped == 1:
                self._session.send(LogDropped(run_id=self.run_id))
            return False
        self._left -= size + _ENTRY_BYTES
        run_shielded(lambda: self._session.send(message))
        self._session.interrupts.raise_pending()
        return True


def _size(variable: VariableReport) -> int:
    """An upper bound without encoding it twice."""
    return len(variable.name) + len(variable.summary.encode()) + _VARIABLE_BYTES // 16
