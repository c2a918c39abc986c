"""Row M: the users' database is gone, silent, talks nonsense or has too much to say."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from sandboxd.database.sample import load_postgres
from tests.chaos.ledger import Ledger
from tests.chaos.model import Bar, Case, NotRun, Watch
from tests.chaos.watching import checked_server, since, until
from tests.database.postgres_server import PostgresServer
from tests.store.postgres import control, find_binaries, running_server
from tests.support.serving import Serving

_READER = "chaos_reader"
_LIMIT_SECONDS = 5.0
"""Of a query, by default."""
_ASK = """
try:
    rows = await db_query({sql!r})
    print('rows', len(rows), rows.truncated)
except Exception as error:
    print(getattr(error, 'reason', type(error).__name__))
"""


def _ask(server: Serving, ledger: Ledger, sandbox: str, sql: str = "SELECT name FROM users") -> str:
    """What a guest's query comes to: its rows or the reason of its error."""
    told = ledger.execute(server, sandbox, _ASK.format(sql=sql))
    return told.stdout.splitlines()[-1] if told.state == "SUCCEEDED" else f"{told.state} {told.failure}"


def _gone(watch: Watch) -> None:
    binaries = find_binaries()
    if binaries is None:
        raise NotRun("no PostgreSQL binaries on this machine")
    with running_server() as directory:
        url = _hardened(PostgresServer(binaries, Path(directory)))
        with checked_server(watch, databases={"main": {"url": url, "default": True}}) as (server, ledger):
            sandbox = server.create()
            for _ in watch.rounds():
                watch.expect(_ask(server, ledger, sandbox).startswith("rows"), "a healthy database fails")
                control(directory, "-m", "immediate", "stop")
                with watch.timed("told"):
                    told = _ask(server, ledger, sandbox)
                watch.expect(told == "DATABASE_UNAVAILABLE", f"of a database that is gone: {told}")
                _others_run(watch, server, ledger)
                control(directory, "start")
                with watch.timed("recovered"):
                    until(lambda: _ask(server, ledger, sandbox).startswith("rows"), what="queries work again")
            server.delete(sandbox)


def _hardened(postgres: PostgresServer) -> str:
    async def prepare() -> None:
        connection = await asyncpg.connect(postgres.url("postgres"))
        await load_postgres(connection)
        await connection.close()
        await postgres.harden("postgres", _READER)

    asyncio.run(prepare())
    return postgres.url(_READER)


def _others_run(watch: Watch, server: Serving, ledger: Ledger) -> None:
    asked = time.monotonic()
    state = ledger.quick(server, "print(1)").state
    watch.expect(
        state == "SUCCEEDED" and since(asked) < 2.0, f"another sandbox: {state}, {since(asked):.1f} s"
    )


# --- a server that is none -----------------------------------------------------------------------


class _Impostor:
    """Listens where PostgreSQL should: says nothing, or nonsense."""

    def __init__(self, *, nonsense: bool) -> None:
        self._nonsense = nonsense
        self._held: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._held.append(connection)
                if self._nonsense:
                    threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(4096):
                connection.sendall(os.urandom(4096))

    def close(self) -> None:
        """Hangs up on everyone."""
        self._listener.close()
        for connection in self._held:
            connection.close()


@contextlib.contextmanager
def _impostor(*, nonsense: bool) -> Iterator[str]:
    impostor = _Impostor(nonsense=nonsense)
    try:
        yield f"postgresql://someone@127.0.0.1:{impostor.port}/x"
    finally:
        impostor.close()


def _impostor_answers(watch: Watch, *, nonsense: bool) -> None:
    databases = {"fake": {"default": True}}
    with _impostor(nonsense=nonsense) as url:
        databases["fake"]["url"] = url  # type: ignore[assignment]
        started = time.monotonic()
        with checked_server(watch, databases=databases) as (server, ledger):
            watch.remark(f"a server whose database is so starts within {since(started):.0f} s")
            sandbox = server.create()
            for _ in watch.rounds():
                others = threading.Thread(target=_others_run, args=(watch, server, ledger))
                others.start()
                with watch.timed("told"):
                    told = _ask(server, ledger, sandbox)
                watch.expect(told in ("DATABASE_UNAVAILABLE", "QUERY_TIME_LIMIT"), f"a guest is told {told}")
                others.join()
            server.delete(sandbox)


def _too_much(watch: Watch) -> None:
    """Billions of rows: the row cap, and with wide rows the byte cap."""
    crowd = "SELECT {what} FROM users a, users b, users c, users d, users e, users f, users g, users h"
    with checked_server(watch) as (server, ledger):
        sandbox = server.create()
        for number in watch.rounds():
            what = "a.name" if number % 2 else "a.name || b.name || hex(zeroblob(20000)) AS wide"
            with watch.timed("told"):
                told = _ask(server, ledger, sandbox, crowd.format(what=what))
            capped = told.startswith("rows") and told.endswith("True")
            watch.expect(capped or told == "QUERY_TIME_LIMIT", f"of too many rows a guest is told {told}")
            _others_run(watch, server, ledger)
        server.delete(sandbox)


CASES = (
    Case(
        row="M", what="the database server stops", rounds=20, quick_rounds=3,
        bars=(Bar(name="told", most=_LIMIT_SECONDS), Bar(name="recovered", most=5.0)),
        run=_gone,
    ),
    Case(
        row="M", what="the database says nothing", rounds=20, quick_rounds=2,
        bars=(Bar(name="told", most=2 * _LIMIT_SECONDS),),
        run=lambda watch: _impostor_answers(watch, nonsense=False),
    ),
    Case(
        row="M", what="the database talks nonsense", rounds=20, quick_rounds=3,
        bars=(Bar(name="told", most=_LIMIT_SECONDS + 1),),
        run=lambda watch: _impostor_answers(watch, nonsense=True),
    ),
    Case(
        row="M", what="the database has too much to say", rounds=20, quick_rounds=4,
        bars=(Bar(name="told", most=_LIMIT_SECONDS + 1),),
        run=_too_much,
    ),
)  # fmt: skip
