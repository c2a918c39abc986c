"""The worker's loop: one request at a time, any of which the host may end by killing the process."""

import ctypes
import gc
import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

import msgspec

from sandboxd.channel.query import ResultColumn
from sandboxd.database import protocol
from sandboxd.database.protocol import OpenDatabases, RunStatement, WorkerReply
from sandboxd.database.worker.lexer import Dialect
from sandboxd.database.worker.parser import parse
from sandboxd.database.worker.planner import Plan, Planner, microseconds_since
from sandboxd.database.worker.refusal import Layer, Reason, Refusal
from sandboxd.database.worker.served import Served, ServedPostgres, ServedSqlite

_UNSENT_BYTES = 64 * 1024
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


class HostGone(Exception):
    """The host closed the socket."""


class WorkerService:
    """Answers the host on `sock` until it closes."""

    def __init__(self, sock: socket.socket) -> None:
        self.host_socket = sock
        self._databases: dict[str, Served] = {}
        self._unsent = bytearray()

    def serve(self) -> None:
        """Runs until the host is gone."""
        _harden()
        logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
        try:
            opened = protocol.receive_request(self.host_socket)
            if not isinstance(opened, OpenDatabases):
                return
            self._open(opened)
            gc.collect()
            gc.freeze()
            self.send(protocol.WorkerReady(pid=os.getpid()))
            while (request := protocol.receive_request(self.host_socket)) is not None:
                self._answer(request)
        except (HostGone, BrokenPipeError, ConnectionResetError):
            return

    def _open(self, opened: OpenDatabases) -> None:
        for spec in opened.databases:
            kind = ServedSqlite if spec.engine == "sqlite" else ServedPostgres
            self._databases[spec.name] = kind(spec, Planner(guarded=opened.guard))
        dialects: tuple[Dialect, ...] = ("postgres", "sqlite")
        for dialect in dialects:
            parse("SELECT 1", dialect)  # the first statement takes 20 ms longer
        if opened.memory_bytes:
            with open("/proc/self/statm") as statm:  # one line of a kernel file
                used = int(statm.read().split()[0]) * resource.getpagesize()
            limit = used + opened.memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def _answer(self, request: protocol.HostRequest) -> None:
        match request:
            case RunStatement():
                self._run(request)
            case protocol.ReadSchema(request_id=request_id, database=name):
                self._guarded(request_id, lambda: self._read_schema(request_id, name))
            case protocol.CheckDatabase(request_id=request_id, database=name):
                self._guarded(request_id, lambda: self._check(request_id, name))
            case _:
                pass  # a Cancel or Decide that came too late

    def _read_schema(self, request_id: int, name: str) -> None:
        catalog = self._databases[name].catalog(fresh=True)
        self.send(protocol.SchemaRead(request_id=request_id, tables=list(catalog.tables.values())))

    def _check(self, request_id: int, name: str) -> None:
        version, warnings = self._databases[name].check()
        self.send(protocol.DatabaseChecked(request_id=request_id, server_version=version, warnings=warnings))

    def _run(self, request: RunStatement) -> None:
        timing = _Timing()
        self._guarded(request.request_id, lambda: self._run_timed(request, timing), timing)
        self._databases[request.database].settle()

    def _run_timed(self, request: RunStatement, timing: "_Timing") -> None:
        served = self._databases[request.database]
        catalog = served.catalog()
        start = time.perf_counter()
        try:
            plan = served.plan(request, catalog)
        finally:
            timing.parse_us = microseconds_since(start)
        timing.fingerprint = plan.fingerprint
        self.send(_judged(request, plan, timing.parse_us))
        start = time.perf_counter()
        gc.disable()  # rows are a hundred thousand new tuples and no cycle
        try:
            collector, affected = served.run(plan, request, _SocketSink(self, request.request_id))
        finally:
            gc.enable()
            timing.engine_us = microseconds_since(start)
        warnings = [f"bridged to SQLite: {', '.join(plan.bridged)}"] if plan.bridged else []
        self.send(
            protocol.StatementDone(
                request_id=request.request_id,
                rows=collector.rows,
                size_bytes=collector.size_bytes,
                truncated_by=collector.truncated_by,
                affected=affected,
                warnings=warnings,
                engine_us=timing.engine_us,
            )
        )

    def _guarded(self, request_id: int, action: Any, timing: "_Timing | None" = None) -> None:
        """Runs `action`; what it raises becomes the answer."""
        timing = timing or _Timing()
        try:
            action()
        except Refusal as refusal:
            self._refuse(request_id, refusal, timing)
        except MemoryError:
            problem = "the result needs more memory than a query may use"
            self._refuse(request_id, Refusal(Reason.LIMIT_BYTES, Layer.LIMIT, problem), timing)
        except (HostGone, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001  # the worker's boundary: hostile text may break anything
            print(f"database worker: {type(error).__name__}", file=sys.stderr, flush=True)
            problem = "the statement could not be run"
            self._refuse(request_id, Refusal(Reason.DATA, Layer.ENGINE, problem), timing)

    def _refuse(self, request_id: int, refusal: Refusal, timing: "_Timing") -> None:
        mark = refusal.detail.pop("fingerprint", timing.fingerprint)
        self.send(
            protocol.StatementRefused(
                request_id=request_id,
                reason=refusal.reason,
                layer=refusal.layer,
                problem=refusal.problem[:2000],
                hint=refusal.hint[:1000],
                detail=refusal.detail,
                fingerprint=mark,
                parse_us=timing.parse_us,
                engine_us=timing.engine_us,
            )
        )

    def send(self, reply: WorkerReply) -> None:
        """Blocks while the host does not read: that is how a slow reader slows the engine."""
        self._unsent += protocol.encode(reply)
        self.host_socket.sendall(self._unsent)
        self._unsent.clear()

    def send_soon(self, reply: WorkerReply) -> None:
        """Sends with what follows, unless it is large: a small result wakes the host once."""
        self._unsent += protocol.encode(reply)
        if len(self._unsent) > _UNSENT_BYTES:
            self.host_socket.sendall(self._unsent)
            self._unsent.clear()

    def decision(self, request_id: int) -> bool:
        """The host's answer to a pending commit."""
        answer = protocol.receive_request(self.host_socket)
        if answer is None:
            raise HostGone
        return isinstance(answer, protocol.Decide) and answer.request_id == request_id and answer.commit


class _Timing:
    def __init__(self) -> None:
        self.parse_us = 0
        self.engine_us = 0
        self.fingerprint = ""


class _SocketSink:
    """Sends a result's parts to the host as they come."""

    def __init__(self, service: WorkerService, request_id: int) -> None:
        self._service = service
        self._request_id = request_id

    @property
    def host_socket(self) -> socket.socket:
        return self._service.host_socket

    def is_cancelled(self) -> bool:
        return bool(select.select([self.host_socket], [], [], 0)[0])

    def header(self, columns: list[ResultColumn]) -> None:
        self._service.send_soon(protocol.ResultHeader(request_id=self._request_id, columns=columns))

    def chunk(self, rows: int, data: msgspec.Raw) -> None:
        self._service.send_soon(protocol.ResultChunk(request_id=self._request_id, rows=rows, data=data))

    def confirm(self, affected: int) -> bool:
        self._service.send(protocol.CommitPending(request_id=self._request_id, affected=affected))
        return self._service.decision(self._request_id)


def _judged(request: RunStatement, plan: Plan, parse_us: int) -> protocol.Judged:
    return protocol.Judged(
        request_id=request.request_id,
        kind=plan.kind,
        tables=list(plan.tables),
        functions=list(plan.functions),
        written_table=plan.write.table if plan.write else "",
        written_columns=list(plan.write.columns) if plan.write else [],
        fingerprint=plan.fingerprint,
        final_sql=plan.text if plan.bridged else "",
        parse_us=parse_us,
    )


def _harden() -> None:
    """Dies with the host, dumps no core with a password in it, gains no rights."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in (
        (_PR_SET_PDEATHSIG, signal.SIGKILL),
        (_PR_SET_DUMPABLE, 0),
        (_PR_SET_NO_NEW_PRIVS, 1),
    ):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(2000)
