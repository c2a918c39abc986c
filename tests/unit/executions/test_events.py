"""The list of events: bounded, without gaps, one end, followed by any number of readers."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from sandboxd.channel.messages import LogEntry
from sandboxd.executions.events import Dropped, Ended, Event, EventLog, OutputWritten, Started


def _entry(text: str) -> LogEntry:
    return LogEntry(run_id=1, level="INFO", message=text, time_ns=0, line=1)


async def _all(log: EventLog, after: int = 0) -> list[Event]:
    return [event async for event in log.follow(after_sequence=after)]


async def test_events_count_from_one_without_gaps_and_end_once() -> None:
    log = EventLog(budget_bytes=1000)
    log.add(Started(number=1))
    log.add_output("stdout", b"a")
    log.add_log(_entry("x"), size=65)
    log.end()
    log.end()
    events = await _all(log)
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert isinstance(events[-1].body, Ended)
    assert [event.sequence for event in await _all(log, after=2)] == [3, 4]


async def test_output_nobody_has_seen_is_merged_and_output_somebody_has_seen_is_not() -> None:
    log = EventLog(budget_bytes=1000)
    log.add_output("stdout", b"a")
    log.add_output("stdout", b"b")
    reader = log.follow()
    first = await anext(reader)
    log.add_output("stdout", b"c")
    second = await anext(reader)
    assert [(event.body.data, event.body.offset) for event in (first, second)] == [(b"ab", 0), (b"c", 2)]  # type: ignore[union-attr]
    await reader.aclose()  # type: ignore[attr-defined]


async def test_a_reader_waits_for_what_comes_and_a_second_one_gets_all_of_it_too() -> None:
    log = EventLog(budget_bytes=1000)
    waiting = [asyncio.create_task(_all(log)) for _ in range(3)]
    await asyncio.sleep(0)
    log.add(Started(number=1))
    await asyncio.sleep(0)
    log.end()
    assert [len(events) for events in await asyncio.gather(*waiting)] == [2, 2, 2]


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr", "log"]), st.integers(0, 400)), max_size=60))
def test_what_does_not_fit_is_left_out_counted_and_never_in_the_middle(steps: list[tuple[str, int]]) -> None:
    log = EventLog(budget_bytes=1000)
    written = {"stdout": b"", "stderr": b""}
    for stream, size in steps:
        if stream == "log":
            log.add_log(_entry("x"), size=64 + size)
        else:
            written[stream] += b"x" * size
            log.add_output(stream, b"x" * size)  # type: ignore[arg-type]
    log.end()
    events = asyncio.run(_all(log))
    kept = {"stdout": b"", "stderr": b""}
    for event in events:
        if isinstance(event.body, OutputWritten):
            assert event.body.offset == len(kept[event.body.stream])
            kept[event.body.stream] += event.body.data
    assert sum(len(data) for data in kept.values()) <= 1000
    dropped = next((event.body for event in events if isinstance(event.body, Dropped)), None)
    left_out = {name: len(written[name]) - len(kept[name]) for name in kept}
    assert (
        (dropped.stdout_bytes, dropped.stderr_bytes) == tuple(left_out.values())
        if dropped
        else not any(left_out.values())
    )
