"""Call stacks as a user wants to read them: own lines in full, calls inside libraries as one line, the
guest's own machinery not at all."""

import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any

from sandboxd.guest.type_names import clean_text

Place = tuple[FrameType, int]
"""A frame and the line where it is."""

_OWN_PACKAGE = "sandboxd"
_MOST_ENTRIES = 60
_MOST_LINKED = 100


def places_of(error: BaseException) -> list[Place]:
    """The frames that `error` passed, outermost first."""
    places: list[Place] = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return places


class Origins:
    """Which source files are the user's, and which module each of the others is."""

    def __init__(self, places: Iterable[Place], namespace: dict[str, Any]) -> None:
        self._user_files: set[str] = set()
        self._modules: dict[str, str] = {}
        for frame, _line in places:
            name = frame.f_code.co_filename
            if frame.f_globals is namespace:
                self._user_files.add(name)
            else:
                module = frame.f_globals.get("__name__")
                self._modules[name] = clean_text(module, 200) if isinstance(module, str) else "?"

    @classmethod
    def of(cls, error: BaseException, places: Iterable[Place], namespace: dict[str, Any]) -> "Origins":
        """Of an exception and everything linked to it."""
        return cls([*places, *_linked_places(error)], namespace)

    def is_user_file(self, filename: str) -> bool:
        """Was the code of this file sent by the user?"""
        return filename in self._user_files

    def is_own(self, filename: str) -> bool:
        """Is the file part of the guest's own machinery?"""
        return self.module_of(filename).partition(".")[0] == _OWN_PACKAGE

    def module_of(self, filename: str) -> str:
        """The importable name of the module a library's file is; never its path."""
        return self._modules.get(filename, "?")

    def shown(self, places: Iterable[Place]) -> list[Place]:
        """Without the guest's own frames, and from the first user frame on where there is one."""
        kept = [place for place in places if not self.is_own(place[0].f_code.co_filename)]
        for position, (frame, _line) in enumerate(kept):
            if self.is_user_file(frame.f_code.co_filename):
                return kept[position:]
        return kept


def _linked_places(error: BaseException) -> list[Place]:
    places: list[Place] = []
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_LINKED:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        places += places_of(each)
        waiting += [link for link in (each.__cause__, each.__context__) if link is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return places


class UserStack:
    """Stands in for a `traceback.StackSummary` where `traceback` formats one."""

    def __init__(self, summary: traceback.StackSummary, origins: Origins) -> None:
        self._summary = summary
        self._origins = origins

    def format(self, **_options: Any) -> list[str]:
        """The text, one string an entry."""
        lines: list[str] = []
        for is_user, frames in self._runs():
            if is_user:
                lines += traceback.StackSummary.from_list(frames).format()
            elif lines:
                lines.append(self._library_line(frames))
        if not lines and self._summary:
            lines = [self._library_line(frames) for _, frames in self._runs()]
        if len(lines) > _MOST_ENTRIES:
            half = _MOST_ENTRIES // 2
            left_out = f"  [... {len(lines) - 2 * half} more entries ...]\n"
            lines = [*lines[:half], left_out, *lines[-half:]]
        return lines

    def _runs(self) -> list[tuple[bool, list[traceback.FrameSummary]]]:
        runs: list[tuple[bool, list[traceback.FrameSummary]]] = []
        for frame in self._summary:
            if self._origins.is_own(frame.filename):
                continue
            is_user = self._origins.is_user_file(frame.filename)
            if runs and runs[-1][0] == is_user:
                runs[-1][1].append(frame)
            else:
                runs.append((is_user, [frame]))
        return runs

    def _library_line(self, frames: list[traceback.FrameSummary]) -> str:
        names = [f"{self._origins.module_of(frame.filename)}.{frame.name}" for frame in frames]
        if len(names) == 1:
            return f"  in library code: {names[0]}\n"
        return f"  in library code: {names[0]} ... {names[-1]} ({len(names)} calls)\n"
