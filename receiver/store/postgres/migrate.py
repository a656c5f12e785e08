"""Migrate a PostgreSQL database to this version's schema, once, however many processes start."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import ForeignDatabase, SchemaMismatch, docs
from receiver.store import sql
from receiver.store.migrate import newer, require, scripts
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.citus_layout import PARENTS, is_distributed, reference
from receiver.store.postgres.connection import Session, connect
from receiver.store.postgres.views import refresh
from schema.disconnection_reasons import REASONS
from schema.sql.views import read, views
from schema.tables import ALL_TABLES

# How long a start waits for another one that migrates.
LOCK_SECONDS = 30.0
_MIGRATIONS = (
    'CREATE TABLE callhouse_migrations (name TEXT COLLATE "C" PRIMARY KEY, '
    "applied_at TEXT NOT NULL)"
)
_APPLIED = "SELECT name FROM callhouse_migrations"
_NOTE = "INSERT INTO callhouse_migrations (name, applied_at) VALUES (?, ?)"
_REASONS = "SELECT reason, category, description FROM disconnection_reasons"
_RELATIONS = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"

# Name of each table or index of PostgreSQL's own -> the statement that creates it.
OWN = {
    name: statement
    for statement, name in re.findall(
        r"^(CREATE \w+ (\w+) .*?);$", read("postgres/tables.sql"), re.MULTILINE | re.DOTALL
    )
}
# Datasette's pages search calls in a file by these indexes, and nothing that asks a server does.
# Each event of a call would have to write to all of them: each contains a time that it changes.
_OF_PAGES = {
    "calls_start_timestamp",
    "calls_agent",
    "calls_agent_name",
    "calls_direction",
    "calls_customer",
    "calls_account",
    "analyses_judged",
    "calls_duration",
    "calls_figures",
    "chats_figures",
    "chats_agent",
    "chats_user_number",
    "chat_messages_tool",
    "tool_calls_failed",
    "tool_calls_no_success",
}
# SQLite's type -> PostgreSQL's. Text is compared byte by byte, as SQLite does.
_TYPES = {
    "TEXT": 'TEXT COLLATE "C"',
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    " STRICT": "",
    " STRICT, WITHOUT ROWID": "",
}
_TYPE = re.compile(r"\b(?:TEXT|INTEGER|REAL|BLOB)\b| STRICT(?:, WITHOUT ROWID)?")
# Pages search a file.
_OF_SEARCH = re.compile(r"^(?:CREATE VIRTUAL TABLE|INSERT INTO) \w+(?:_fts|_terms)\b", re.MULTILINE)
_CREATED = re.compile(r"^CREATE (?:VIRTUAL )?(\w+) (\w+)", re.MULTILINE)


def migrate(where: PostgresUrl, timezone: str) -> list[str]:
    """Create or update the tables and views; return the migrations applied.

    Only what is lacking is made, so that a role without the right to change tables can start where
    nothing is. Raises psycopg.Error, SchemaMismatch for a database of a newer version, and
    ForeignDatabase if another program's tables have the names of ours.
    """
    session = connect(where, lock_seconds=LOCK_SECONDS)
    try:
        with session.transaction():
            session.execute(advisory_locks.CHANGE_TABLES)
            if "callhouse_migrations" not in _relations(session):
                _refuse_others(session)
                session.raw.execute(_MIGRATIONS)
            before = applied(session)
            if newer(before):
                # Reasons and views are the newer version's.
                require(before)
                return []
            new = _migrate(session, before)
            _seed_reasons(session)
            refresh(session, timezone)
            return new
    finally:
        session.close()


def _relations(session: Session) -> set[str]:
    return {name for (name,) in session.execute(_RELATIONS)}


def _refuse_others(session: Session) -> None:
    # Views too: `refresh` drops what has their names.
    ours = {table.name for table in ALL_TABLES} | {*views(), "entity_locks"}
    if taken := sorted(ours & _relations(session)):
        raise ForeignDatabase(
            f"the database has tables or views of another program: {', '.join(taken)}",
            hint=f"Create a database for callhouse alone. See {docs('how-to/postgres.md')}",
        )


def _migrate(session: Session, before: set[str]) -> list[str]:
    new = {name: script for name, script in scripts().items() if name not in before}
    in_cluster = bool(new) and is_distributed(session)
    for name, script in new.items():
        for statement in tables(script, in_cluster=in_cluster):
            session.raw.execute(statement, prepare=False)
        session.execute(_NOTE, (name, datetime.now(UTC).isoformat()))
    found = _relations(session)
    for name, statement in OWN.items():
        if name not in found:
            session.raw.execute(statement, prepare=False)
    # Older versions created them.
    for name in _OF_PAGES & found:
        session.raw.execute(f"DROP INDEX {name}")
    return list(new)


def tables(script: str, *, in_cluster: bool = False) -> Iterator[str]:
    """The statements of a migration as PostgreSQL takes them, without those that are SQLite's.

    A cluster takes no foreign key from a new table to one that it holds: `distribute` adds it.
    """
    for statement in _statements(script):
        created = _CREATED.search(statement)
        is_of_sqlite = created and (created[1] == "TRIGGER" or created[2] in OWN.keys() | _OF_PAGES)
        if is_of_sqlite or _OF_SEARCH.search(statement):
            continue
        for parent in PARENTS.values() if in_cluster else ():
            statement = statement.replace(f" {reference(parent)}", "")
        yield _TYPE.sub(lambda match: _TYPES[match[0]], statement)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _seed_reasons(session: Session) -> None:
    """Write what is not there as it should be: a cluster writes each of them to every node."""
    wanted = [(reason, *meaning) for reason, meaning in REASONS.items()]
    stored = set(session.execute(_REASONS).fetchall())
    session.executemany(sql.SEED_REASON, [row for row in wanted if row not in stored])


def applied(session: Session) -> set[str]:
    """Names of the migrations in the database. Raises SchemaMismatch if it has none at all."""
    try:
        return {name for (name,) in session.execute(_APPLIED)}
    except psycopg.errors.UndefinedTable:
        raise SchemaMismatch("the database does not have this version's schema") from None


def check(session: Session) -> None:
    """Raise SchemaMismatch unless this version can work with the database."""
    require(applied(session))
