"""The answer to `Inspect`: the variables of the namespace that are the user's."""

import types
from typing import Any

from sandboxd.channel.messages import Inspect, StateReport
from sandboxd.channel.values import Value
from sandboxd.guest.describe import to_value
from sandboxd.guest.scalars import SCALARS
from sandboxd.guest.session import Session
from sandboxd.guest.summary import summarize_variable

_SCALAR_BYTES = 1024


def report(session: Session, request: Inspect) -> StateReport:
    """Names that start with two underscores and imported modules are not variables of the user."""
    variables = {
        name: value
        for name, value in list(session.namespace.items())
        if isinstance(name, str) and not name.startswith("__") and type(value) is not types.ModuleType
    }
    shown = list(variables.items())[: max(request.variable_limit, 0)]
    return StateReport(
        request_id=request.request_id,
        variables=[summarize_variable(name, value, typed=_typed(value)) for name, value in shown],
        total_count=len(variables),
        live_threads=session.live_threads(),
    )


def _typed(value: Any) -> Value | None:
    return to_value(value, size=_SCALAR_BYTES)[0] if type(value) in SCALARS else None
