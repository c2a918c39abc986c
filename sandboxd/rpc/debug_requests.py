"""Debug requests as domain objects; InvalidArgument names the field that is not acceptable."""

from typing import Any

from google.protobuf import duration_pb2
from sandboxd_api.v1 import debug_pb2, debug_session_pb2, step_pb2, trace_pb2

from sandboxd.channel import debug
from sandboxd.errors import InvalidArgument
from sandboxd.rpc.requests import known_enum

_DETAILS = {0: "delta", 1: "full", 2: "delta", 3: "lines", 4: "summary"}
_STOPS: dict[int, debug.ExceptionStops] = {0: "uncaught", 1: "never", 2: "uncaught", 3: "raised"}
_MODES: dict[int, debug.ResumeMode] = {
    1: "continue", 2: "over", 3: "into", 4: "out", 5: "to_line", 6: "back", 7: "reverse",
}  # fmt: skip
_MAX_BREAKPOINTS = 1000
_MAX_FILTERS = 1000
_MAX_TEXT = 10_000
_PAUSE_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 3600.0
_EVALUATE_MS = 1000
_LONGEST_EVALUATE_MS = 10_000


def settings(options: debug_pb2.DebugOptions, **more: Any) -> debug.DebugSettings:
    """How a run is traced, every default filled in."""
    field = "debug_options"
    detail = known_enum(options.detail, debug_pb2.DebugOptions.Detail, f"{field}.detail")
    grain = known_enum(options.granularity, debug_pb2.DebugOptions.Granularity, f"{field}.granularity")
    chosen, bounds = options.filter, options.value_limits
    return debug.DebugSettings(
        detail=_DETAILS[detail],  # type: ignore[arg-type]  # the table has no other
        by_line=grain == debug_pb2.DebugOptions.GRANULARITY_LINE,
        functions=_texts(chosen.functions, f"{field}.filter.functions"),
        line_ranges=[(item.first, item.last) for item in chosen.line_ranges[:_MAX_FILTERS]],
        names=_texts(chosen.names, f"{field}.filter.names"),
        events=[
            known_enum(event, step_pb2.StepEvent, f"{field}.filter.events") for event in chosen.events[:16]
        ],
        every_nth=_whole(chosen, "every_nth", field, default=1, most=10**9),
        max_steps=_whole(chosen, "max_steps", field, default=1_000_000, most=10_000_000),
        max_depth=_whole(chosen, "max_depth", field, default=0, most=10**6),
        max_string=_whole(bounds, "max_string", field, default=80, most=10_000),
        max_items=_whole(bounds, "max_items", field, default=10, most=1000),
        max_nesting=_whole(bounds, "max_depth", field, default=3, most=10, least=0),
        max_nodes=_whole(bounds, "max_nodes", field, default=64, most=10_000),
        max_variables=_whole(bounds, "max_variables", field, default=200, most=1000),
        batch_steps=_whole(options, "batch_steps", field, default=1024, most=8192),
        flush_interval_ms=_milliseconds(
            options, "flush_interval", f"{field}.flush_interval", default=50, most=10_000
        ),
        **more,
    )


def session_settings(start: debug_session_pb2.StartDebugging) -> debug.DebugSettings:
    """How an interactive run is traced and where it stops."""
    stops = known_enum(
        start.exception_breakpoint, debug_session_pb2.ExceptionBreakpoint, "start.exception_breakpoint"
    )
    record = start.record_trace if start.HasField("record_trace") else True
    return settings(
        start.debug_options,
        stream_steps=start.stream_steps,
        record_trace=record,
        interactive=True,
        breakpoints=breakpoints(start.breakpoints),
        exception_stops=_STOPS[stops],
        stop_at_entry=start.stop_at_entry,
    )


def pause_seconds(start: debug_session_pb2.StartDebugging) -> float:
    """The longest one stop may last."""
    most = round(_LONGEST_PAUSE_SECONDS * 1000)
    milliseconds = _milliseconds(
        start, "pause_timeout", "start.pause_timeout", default=round(_PAUSE_SECONDS * 1000), most=most
    )
    return milliseconds / 1000


def breakpoints(given: Any) -> list[debug.Breakpoint]:
    """Breakpoints as the guest takes them."""
    if len(given) > _MAX_BREAKPOINTS:
        raise InvalidArgument(
            field="breakpoints", problem=f"has {len(given)} entries; at most {_MAX_BREAKPOINTS}"
        )
    return [
        debug.Breakpoint(
            line=item.line,
            condition=_text(item.condition, "breakpoints.condition"),
            hit_count=item.hit_count if item.HasField("hit_count") else 1,
            log_message=_text(item.log_message, "breakpoints.log_message"),
        )
        for item in given
    ]


def command(request: Any) -> debug.DebugCommand:
    """A command of a session that the guest carries out; the trace query aside."""
    number = request.command_id
    kind = request.WhichOneof("command")
    match kind:
        case "set_breakpoints":
            given = request.set_breakpoints
            stops = known_enum(
                given.exception_breakpoint, debug_session_pb2.ExceptionBreakpoint, "exception_breakpoint"
            )
            return debug.SetBreakpoints(
                command_id=number,
                breakpoints=breakpoints(given.breakpoints),
                exception_stops=_STOPS[stops] if stops else None,
            )
        case "resume":
            mode = known_enum(request.resume.mode, debug_session_pb2.Resume.Mode, "resume.mode")
            if mode not in _MODES:
                raise InvalidArgument(field="resume.mode", problem="is required")
            return debug.ResumeRun(command_id=number, mode=_MODES[mode], line=request.resume.line)
        case "pause":
            return debug.PauseRun(command_id=number)
        case "evaluate":
            return _evaluate(number, request.evaluate)
        case "set_variable":
            given = request.set_variable
            if not given.name.isidentifier():
                raise InvalidArgument(field="set_variable.name", problem="is not a Python name")
            return debug.SetVariable(
                command_id=number,
                name=given.name,
                expression=_text(given.expression, "set_variable.expression"),
                frame=given.frame,
            )
        case "query_trace":
            return query(request.query_trace, command_id=number, run_id=0)
    raise InvalidArgument(field="command", problem="is required")


def _evaluate(number: int, given: debug_session_pb2.Evaluate) -> debug.EvaluateInFrame:
    return debug.EvaluateInFrame(
        command_id=number,
        expression=_text(given.expression, "evaluate.expression"),
        frame=given.frame,
        allow_side_effects=given.allow_side_effects,
        timeout_ms=_milliseconds(
            given, "timeout", "evaluate.timeout", default=_EVALUATE_MS, most=_LONGEST_EVALUATE_MS
        ),
    )


def query(given: trace_pb2.TraceQuery, *, command_id: int, run_id: int) -> debug.QueryTrace:
    """A question about a trace."""
    return debug.QueryTrace(
        command_id=command_id,
        run_id=run_id,
        question=_question(given),
        max_entries=_whole(given, "max_entries", "query", default=100, most=10_000),
        max_characters=_whole(given, "max_characters", "query", default=1600, most=1_000_000, least=100),
    )


def _question(given: trace_pb2.TraceQuery) -> debug.TraceQuestion:
    match given.WhichOneof("query"):
        case "state_at_step":
            return debug.StateAtStep(step=given.state_at_step.step)
        case "when_changed":
            asked = given.when_changed
            return debug.WhenChanged(
                name=asked.name,
                function=asked.function,
                from_step=max(asked.from_step, 1),
                to_step=asked.to_step,
            )
        case "first_where":
            where = given.first_where
            return debug.FirstWhere(
                expression=_text(where.expression, "query.first_where.expression"),
                from_step=max(where.from_step, 1),
                function=where.function,
            )
        case "last_write":
            write = given.last_write
            return debug.LastWrite(name=write.name, before_step=write.before_step, function=write.function)
        case "calls":
            return debug.Calls(function=given.calls.function)
        case "lines_not_reached":
            return debug.LinesNotReached()
        case "loop_summary":
            count = _whole(given.loop_summary, "pass_count", "query.loop_summary", default=5, most=100)
            return debug.LoopPasses(line=given.loop_summary.line, pass_count=count)
        case "text":
            text = given.text
            return debug.TraceText(
                from_step=max(text.from_step, 1), to_step=text.to_step, with_source=text.with_source
            )
        case "failure_report":
            count = _whole(given.failure_report, "change_count", "query.failure_report", default=3, most=100)
            return debug.FailureText(change_count=count)
    raise InvalidArgument(field="query", problem="is required")


def _whole(message: Any, name: str, field: str, *, default: int, most: int, least: int = 1) -> int:
    if not message.HasField(name):
        return default
    value = int(getattr(message, name))
    if not least <= value <= most:
        raise InvalidArgument(
            field=f"{field}.{name}", problem=f"must be from {least} to {most}; {value} was sent"
        )
    return value


def _milliseconds(message: Any, name: str, field: str, *, default: int, most: int) -> int:
    if not message.HasField(name):
        return default
    given: duration_pb2.Duration = getattr(message, name)
    value = given.seconds * 1000 + given.nanos // 1_000_000
    if not 1 <= value <= most:
        raise InvalidArgument(field=field, problem=f"must be from 1 ms to {most} ms")
    return value


def _texts(given: Any, field: str) -> list[str]:
    if len(given) > _MAX_FILTERS:
        raise InvalidArgument(field=field, problem=f"has {len(given)} entries; at most {_MAX_FILTERS}")
    return [_text(item, field) for item in given]


def _text(text: str, field: str) -> str:
    if len(text) > _MAX_TEXT:
        raise InvalidArgument(field=field, problem=f"has {len(text)} characters; at most {_MAX_TEXT}")
    return text
