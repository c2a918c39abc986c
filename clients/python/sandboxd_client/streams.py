"""Streams of execution events that survive a lost connection."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from sandboxd_api.v1 import execution_event_pb2, execution_service_pb2

from sandboxd_client import errors, events
from sandboxd_client.text import Decoders
from sandboxd_client.transport import Transport

_MOST_RESUMES = 20


class _Carrier(Protocol):
    """A response that carries one event."""

    @property
    def event(self) -> execution_event_pb2.ExecutionEvent:
        """The event."""
        ...


_Source = Callable[[], AsyncGenerator[_Carrier, None]]


async def execution_events(
    transport: Transport,
    request: execution_service_pb2.StreamExecuteRequest,
    *,
    deadline: float | None,
) -> AsyncIterator[events.Event]:
    """The events of a new execution, to the last; a lost connection is picked up where it broke."""

    def source() -> AsyncGenerator[_Carrier, None]:
        return transport.stream(transport.executions.StreamExecute, request, deadline=deadline)

    async for event in _resumed(transport, source, deadline=deadline):
        yield event


async def watched_events(
    transport: Transport, execution_id: str, *, after_sequence: int, deadline: float | None
) -> AsyncIterator[events.Event]:
    """The events of an execution that was started elsewhere, from any point on."""

    def source() -> AsyncGenerator[_Carrier, None]:
        return _watch(transport, execution_id, after_sequence, deadline)

    async for event in _resumed(transport, source, deadline=deadline):
        yield event


def _watch(
    transport: Transport, execution_id: str, after_sequence: int, deadline: float | None
) -> AsyncGenerator[_Carrier, None]:
    request = execution_service_pb2.WatchExecutionRequest(
        execution_id=execution_id, after_sequence=after_sequence
    )
    return transport.stream(transport.executions.WatchExecution, request, deadline=deadline)


async def _resumed(
    transport: Transport, source: _Source, *, deadline: float | None
) -> AsyncIterator[events.Event]:
    decoders = Decoders()
    execution_id, sequence, resumes = "", 0, 0
    while True:
        try:
            async with aclosing(source()) as answers:
                async for answer in answers:
                    execution_id, sequence = answer.event.execution_id, answer.event.sequence
                    event = events.event_of(answer.event, decoders)
                    if event is not None:
                        yield event
                    if isinstance(event, events.Finished):
                        return
        except errors.Unavailable:
            resumes += 1
            if not execution_id or resumes > _MOST_RESUMES:
                raise
        else:
            raise errors.SandboxdError("the server ended the stream without its last event")
        # The execution exists: ask for the rest of it rather than for another one.
        last_id, last_sequence = execution_id, sequence

        def source(
            execution_id: str = last_id, sequence: int = last_sequence
        ) -> AsyncGenerator[_Carrier, None]:
            return _watch(transport, execution_id, sequence, deadline)
