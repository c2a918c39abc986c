"""A debug session over gRPC as a script."""

import itertools
import queue
from typing import Any

from sandboxd_api.v1 import debug_pb2
from sandboxd_api.v1 import debug_session_pb2 as wire
from sandboxd_api.v1 import execution_service_pb2 as pb

from tests.support.serving import Serving, options_of


class Talk:
    """A session as a script writes it: send a command, wait for its answer."""

    def __init__(
        self, server: Serving, sandbox: str, code: str, *, seconds: float = 20, **start: Any
    ) -> None:
        self._commands: queue.SimpleQueue[pb.DebugSessionRequest | None] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        first = wire.StartDebugging(sandbox_id=sandbox, code=code, options=options_of(seconds), **start)
        self._send(start=first)
        self.call = server.executions.DebugSession(
            iter(self._commands.get, None), metadata=server.metadata, timeout=60
        )
        self.events: list[pb.DebugSessionResponse] = []

    def until(self, kind: str) -> Any:
        """Reads on to the next message of a kind."""
        for response in self.call:
            self.events.append(response)
            if response.WhichOneof("event") == kind:
                return getattr(response, kind)
        raise AssertionError(f"the session ended without {kind}")

    def ask(self, kind: str, **command: Any) -> Any:
        """Sends a command and reads on to the answer of a kind."""
        self._send(**command)
        return self.until(kind)

    def send(self, **command: Any) -> None:
        """Sends a command."""
        self._send(**command)

    def resume(self, mode: str) -> wire.Stopped:
        """Goes on to the next stop."""
        found = self.ask("stopped", resume=wire.Resume(mode=wire.Resume.Mode.Value(f"MODE_{mode}")))
        assert isinstance(found, wire.Stopped)
        return found

    def end(self) -> debug_pb2.DebugFinished:
        """Continues to the end."""
        found = self.ask("finished", resume=wire.Resume(mode=wire.Resume.MODE_CONTINUE))
        assert isinstance(found, debug_pb2.DebugFinished)
        return found

    def _send(self, **command: Any) -> None:
        self._commands.put(pb.DebugSessionRequest(command_id=next(self._numbers), **command))
