"""Builds the sample database: users, user_activities, documents and pipeline_input with plausible rows.

The rows are the same on every run and on both engines, apart from the activities, whose times lie in the
days before the build, so that questions about the last week have answers.
"""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SAMPLE_NAME = "sample"
SAMPLE_TABLES = ("users", "user_activities", "documents", "pipeline_input")
USERS = 120
ACTIVITIES = 2400
DOCUMENTS = 60
PIPELINE_ROWS = 40

_SQLITE_SCHEMA = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL DEFAULT 'free',
    is_active BOOLEAN NOT NULL DEFAULT 1,
    created_at TIMESTAMP NOT NULL
);
CREATE TABLE user_activities (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id),
    action TEXT NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    details JSON
);
CREATE INDEX user_activities_by_time ON user_activities (timestamp);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    owner_id INTEGER REFERENCES users(id),
    title TEXT NOT NULL,
    content TEXT NOT NULL,
    processed BOOLEAN NOT NULL DEFAULT 0,
    updated_at TIMESTAMP
);
CREATE TABLE pipeline_input (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    content TEXT,
    score REAL,
    received_at TIMESTAMP NOT NULL
);
CREATE VIEW active_users AS SELECT id, name, email FROM users WHERE is_active;
"""

_POSTGRES_SCHEMA = """
CREATE TABLE users (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    plan text NOT NULL DEFAULT 'free',
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamp NOT NULL
);
COMMENT ON TABLE users IS 'People with an account';
COMMENT ON COLUMN users.plan IS 'free, team or enterprise';
CREATE TABLE user_activities (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users(id),
    action text NOT NULL,
    timestamp timestamp NOT NULL,
    details jsonb
);
CREATE INDEX user_activities_by_time ON user_activities (timestamp);
CREATE TABLE documents (
    id bigint PRIMARY KEY,
    owner_id bigint REFERENCES users(id),
    title text NOT NULL,
    content text NOT NULL,
    processed boolean NOT NULL DEFAULT false,
    updated_at timestamp
);
CREATE TABLE pipeline_input (
    id bigint PRIMARY KEY,
    source text NOT NULL,
    content text,
    score double precision,
    received_at timestamp NOT NULL
);
CREATE VIEW active_users AS SELECT id, name, email FROM users WHERE is_active;
"""

_FIRST = (
    "Ada",
    "Grace",
    "Alan",
    "Edsger",
    "Barbara",
    "Donald",
    "Radia",
    "Ken",
    "Frances",
    "Dennis",
    "Margaret",
)
_LAST = ("Okafor", "Lindgren", "Moreau", "Tanaka", "Silva", "Novak", "Haddad", "Kowalski", "Rossi", "Nguyen")
_DOMAINS = ("example.com", "example.org", "example.net")
_ACTIONS = ("login", "search", "open_document", "export", "share", "logout")
_TOPICS = (
    "quarterly report",
    "onboarding guide",
    "incident review",
    "price list",
    "research notes",
    "road map",
)
_SENTENCES = (
    "The team agreed on the next steps and will meet again on Monday.",
    "Revenue grew in the second quarter while support requests fell.",
    "See https://example.com/handbook for the current version of the handbook.",
    "Questions go to help@example.org or to 555-010-4477 during office hours.",
    "The migration finished without an outage and all checks were green.",
    "A summary for the board is attached; numbers are still preliminary.",
)


def rows_of(now: datetime) -> Iterator[tuple[str, Sequence[str], list[tuple[Any, ...]]]]:
    """Each table with its columns and rows, in an order that foreign keys allow. `now` is in UTC, naive."""
    chance = random.Random(20240101)  # noqa: S311  # the same rows every time
    yield "users", ("id", "name", "email", "plan", "is_active", "created_at"), list(_users(chance))
    yield (
        "user_activities",
        ("id", "user_id", "action", "timestamp", "details"),
        list(_activities(chance, now)),
    )
    yield (
        "documents",
        ("id", "owner_id", "title", "content", "processed", "updated_at"),
        list(_documents(chance)),
    )
    yield "pipeline_input", ("id", "source", "content", "score", "received_at"), list(_pipeline(chance))


def _users(chance: random.Random) -> Iterator[tuple[Any, ...]]:
    start = datetime(2023, 1, 9, 8, 30)  # noqa: DTZ001  # the column has no zone
    for number in range(1, USERS + 1):
        name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
        email = f"{name.lower().replace(' ', '.')}{number}@{chance.choice(_DOMAINS)}"
        created = start + timedelta(days=number * 6, minutes=chance.randrange(600))
        plan = chance.choices(("free", "team", "enterprise"), (70, 25, 5))[0]
        yield number, name, email, plan, chance.random() < 0.85, created


def _activities(chance: random.Random, now: datetime) -> Iterator[tuple[Any, ...]]:
    for number in range(1, ACTIVITIES + 1):
        user = min(USERS, int(chance.expovariate(1 / 25)) + 1)
        moment = (now - timedelta(minutes=chance.randrange(1, 30 * 24 * 60))).replace(microsecond=0)
        details = (
            f'{{"duration_ms": {chance.randrange(20, 5000)}, "device": "{chance.choice(("web", "phone"))}"}}'
        )
        yield number, user, chance.choice(_ACTIONS), moment, details


def _documents(chance: random.Random) -> Iterator[tuple[Any, ...]]:
    start = datetime(2024, 3, 4, 9, 0)  # noqa: DTZ001  # the column has no zone
    for number in range(1, DOCUMENTS + 1):
        topic = chance.choice(_TOPICS)
        content = " ".join(chance.sample(_SENTENCES, 4))
        yield (
            number,
            chance.randrange(1, USERS + 1),
            f"{topic.capitalize()} {number}",
            f"{topic.capitalize()}. {content}",
            number % 3 == 0,
            start + timedelta(days=number),
        )


def _pipeline(chance: random.Random) -> Iterator[tuple[Any, ...]]:
    start = datetime(2024, 6, 3, 7, 15)  # noqa: DTZ001  # the column has no zone
    for number in range(1, PIPELINE_ROWS + 1):
        content = None if number % 4 == 3 else chance.choice(_SENTENCES)
        score = round(chance.random(), 3)
        yield (
            number,
            chance.choice(("mail", "upload", "crawler")),
            content,
            score,
            start + timedelta(hours=number),
        )


def build_sqlite(path: Path) -> None:
    """Writes the sample to a new SQLite file; an existing one is replaced whole, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with sqlite3.connect(partial) as connection:
        connection.executescript(_SQLITE_SCHEMA)
        for table, columns, rows in rows_of(datetime.now(UTC).replace(tzinfo=None)):
            places = ", ".join("?" * len(columns))
            stored = [tuple(_sqlite_value(cell) for cell in row) for row in rows]
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608
                stored,
            )
        connection.execute("ANALYZE")
    connection.close()
    partial.replace(path)


def _sqlite_value(cell: Any) -> Any:
    return cell.isoformat(" ") if isinstance(cell, datetime) else cell


async def load_postgres(connection: Any) -> None:
    """Creates and fills the tables over an asyncpg connection of their owner."""
    await connection.execute(_POSTGRES_SCHEMA)
    for table, columns, rows in rows_of(datetime.now(UTC).replace(tzinfo=None)):
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        await connection.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608
            rows,
        )
    await connection.execute("ANALYZE users, user_activities, documents, pipeline_input")
