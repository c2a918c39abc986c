"""The databases of a worker, each with its planner: one class an engine behind one interface."""

import asyncio
import signal
import socket
import time
from abc import ABC, abstractmethod
from typing import Protocol

from sandboxd.database import protocol
from sandboxd.database.worker.parameters import unpack
from sandboxd.database.worker.planner import Catalog, Plan, Planner, values_of
from sandboxd.database.worker.postgres_engine import PostgresCatalog, PostgresDatabase
from sandboxd.database.worker.refusal import Layer, Reason, Refusal
from sandboxd.database.worker.results import RowCollector, Sink
from sandboxd.database.worker.sqlite_engine import Run, SqliteDatabase
from sandboxd.database.worker.sqlite_parameters import for_sqlite

_PARSE_CPU_SECONDS = 0.4
"""CPU time for parsing one statement. The kernel ends the process at it: a parser cannot refuse a signal
whose action is the default one, however long it holds the interpreter."""
_CATALOG_SECONDS = 60.0


class HostSink(Sink, Protocol):
    """A sink that can tell whether the host has lost interest."""

    @property
    def host_socket(self) -> socket.socket:
        """Readable when the host has said anything: while a statement runs, that is Cancel or its end."""

    def is_cancelled(self) -> bool:
        """Whether it is."""


class Served(ABC):
    """A database with its planner."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    @abstractmethod
    def catalog(self, *, fresh: bool = False) -> Catalog:
        """What the database shows, read anew at need or when `fresh`."""

    @abstractmethod
    def check(self) -> tuple[str, list[str]]:
        """The engine's version and what is to be said about its role; raises `Refusal`."""

    @abstractmethod
    def run(self, plan: Plan, request: protocol.RunStatement, sink: HostSink) -> tuple[RowCollector, int]:
        """Runs a statement; the collector and the count of changed rows. Raises `Refusal`."""

    @abstractmethod
    def settle(self) -> None:
        """Does what a statement leaves to do once the host has its answer."""

    def plan(self, request: protocol.RunStatement, catalog: Catalog) -> Plan:
        """The plan of a statement, made within the CPU time for it; raises `Refusal`."""
        try:
            return self._plan_within_time(request, catalog)
        except Refusal as refusal:
            if refusal.reason is not Reason.UNDEFINED:
                raise
            renewed = self.catalog(fresh=True)
            if renewed is catalog:
                raise
        return self._plan_within_time(request, renewed)

    def _plan_within_time(self, request: protocol.RunStatement, catalog: Catalog) -> Plan:
        signal.setitimer(signal.ITIMER_VIRTUAL, _PARSE_CPU_SECONDS)
        try:
            return self._planner.plan(request, catalog)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class ServedSqlite(Served):
    """A SQLite file."""

    def __init__(self, spec: protocol.DatabaseSpec, planner: Planner) -> None:
        super().__init__(planner)
        self._database = SqliteDatabase(spec)
        self._catalog: Catalog | None = None

    def catalog(self, *, fresh: bool = False) -> Catalog:
        tables = self._database.schema().tables
        if self._catalog is None or self._catalog.tables is not tables:
            self._catalog = Catalog("sqlite", "main", tables, self._database.functions)
        return self._catalog

    def check(self) -> tuple[str, list[str]]:
        version = self._database.server_version()
        self._database.schema()
        return version, []

    def run(self, plan: Plan, request: protocol.RunStatement, sink: HostSink) -> tuple[RowCollector, int]:
        types = plan.parameter_types
        values = [
            for_sqlite(name, unpack(name, value), types.get(f"p{number}", ""))
            for number, (name, value) in enumerate(values_of(plan, request), 1)
        ]
        run = Run(
            text=plan.text,
            values=values,
            readable=plan.readable,
            write=plan.write,
            max_affected_rows=request.max_affected_rows,
            max_rows=request.max_rows,
            max_bytes=request.max_bytes,
            chunk_bytes=request.chunk_bytes,
            deadline=time.monotonic() + request.timeout_ms / 1000,
            is_cancelled=sink.is_cancelled,
        )
        ran = self._database.run(run, sink)
        return ran.collector, ran.affected

    def settle(self) -> None:
        """Nothing is left: the connection is disarmed with the statement."""


class ServedPostgres(Served):
    """A PostgreSQL server. Its driver's loop runs only while the worker has something to ask."""

    def __init__(self, spec: protocol.DatabaseSpec, planner: Planner) -> None:
        super().__init__(planner)
        self._database = PostgresDatabase(spec)
        self._loop = asyncio.new_event_loop()
        self._read: PostgresCatalog | None = None
        self._catalog: Catalog | None = None

    def catalog(self, *, fresh: bool = False) -> Catalog:
        age = time.monotonic() - self._read.read_at if self._read is not None else _CATALOG_SECONDS
        if self._catalog is None or fresh or age >= _CATALOG_SECONDS:
            self._read = self._loop.run_until_complete(self._database.catalog())
            found = Catalog(
                "postgres",
                self._database.schemas[0],
                self._read.tables,
                self._read.functions,
                self._read.row_types,
            )
            if found != self._catalog:
                self._catalog = found
        assert self._catalog is not None
        return self._catalog

    def check(self) -> tuple[str, list[str]]:
        version = self._loop.run_until_complete(self._database.server_version())
        return version, self._database.warnings

    def run(self, plan: Plan, request: protocol.RunStatement, sink: HostSink) -> tuple[RowCollector, int]:
        return self._loop.run_until_complete(self._run(plan, request, sink))

    def settle(self) -> None:
        """Ends the transaction and scrubs the session."""
        self._loop.run_until_complete(self._database.settle())

    async def _run(
        self, plan: Plan, request: protocol.RunStatement, sink: HostSink
    ) -> tuple[RowCollector, int]:
        work = asyncio.ensure_future(self._database.run(plan, values_of(plan, request), request, sink))
        # Whatever the host says now is Cancel, or that it is gone.
        sock = sink.host_socket

        def cancel() -> None:
            self._loop.remove_reader(sock)  # it stays readable: one cancellation is enough
            work.cancel()

        self._loop.add_reader(sock, cancel)
        try:
            result: tuple[RowCollector, int] = await work
        except asyncio.CancelledError:
            raise Refusal(Reason.CANCELLED, Layer.LIMIT, "the statement was cancelled") from None
        finally:
            self._loop.remove_reader(sock)
        return result
