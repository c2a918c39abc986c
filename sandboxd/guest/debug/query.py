"""Questions about a trace, as the host asks them; they mirror `TraceQuery` of the contract."""

from dataclasses import dataclass
from typing import TypeAlias

from sandboxd.channel import debug

StateAtStep = debug.StateAtStep
WhenChanged = debug.WhenChanged
FirstWhere = debug.FirstWhere
LastWrite = debug.LastWrite
Calls = debug.Calls
LinesNotReached = debug.LinesNotReached
LoopPasses = debug.LoopPasses
TraceText = debug.TraceText
FailureText = debug.FailureText
Query: TypeAlias = debug.TraceQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """How long an answer may be."""

    max_entries: int = 100
    max_characters: int = 1600
