"""PostgreSQL as an `Engine` of `receiver/store/engine.py`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import DatabaseAway, NotStored, SchemaMismatch, docs
from receiver.store import sql
from receiver.store.jobs import job_rows
from receiver.store.postgres.connection import Session, connect, message_of, unusable
from receiver.store.postgres.exporting import ServerSnapshot, snapshot
from receiver.store.postgres.migrate import LOCK_SECONDS, applied, check, migrate
from receiver.store.postgres.store import PostgresStore
from receiver.store.postgres.views import views_match
from receiver.store.protocols import BUSY_SECONDS, Connection
from schema.tables import ALL_TABLES

_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_READ = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
_IS_READ_ONLY = (
    "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"
)
# Samples of columns have values of deleted rows. The log has what was inserted until its files are
# removed, which takes two checkpoints.
_LAST = (
    "VACUUM (FULL) pg_statistic",
    "SELECT pg_switch_wal()",
    "CHECKPOINT",
    "SELECT pg_switch_wal()",
    "CHECKPOINT",
)
# How long a statement that rewrites a table waits for its lock.
MAINTENANCE_SECONDS = 30.0
# The number of refusals in a message.
_NAMED = 5
_DATABASE_BYTES = "SELECT pg_database_size(current_database())"
# How much of the log a start after a crash would replay.
_WAL_BYTES = (
    "SELECT (pg_current_wal_lsn() - redo_lsn)::bigint FROM pg_control_checkpoint() "
    "WHERE NOT pg_is_in_recovery()"
)


@dataclass(frozen=True, slots=True)
class Postgres:
    """The database at an address."""

    where: PostgresUrl

    def open(self, *, busy_seconds: float, connections: int) -> PostgresStore:
        """The writer of the database."""
        return PostgresStore(self.where, busy_seconds=busy_seconds, connections=connections)

    def migrate(self, *, timezone: str) -> list[str]:
        """Create or update the tables and views. Raises DatabaseAway, DatabaseRefused."""
        try:
            return migrate(self.where, timezone)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseAway(
                "the tables or views have to be updated, and this role may not change them",
                hint="Run `callhouse migrate` as the role that owns them, with the same "
                f"CALLHOUSE_TIMEZONE. For the roles, see {docs('how-to/postgres.md')}",
            ) from error
        except psycopg.Error as error:
            raise unusable(error) from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent snapshot of the database. Raises NotStored without tables, DatabaseAway,
        DatabaseRefused."""
        try:
            session = connect(self.where, lock_seconds=LOCK_SECONDS)
            try:
                session.begin(_SNAPSHOT)
                check(session)
                yield session
            finally:
                session.close()
        except SchemaMismatch:
            raise NotStored(
                f"there are no tables of this version at {self.where}",
                hint="Run `callhouse migrate`.",
            ) from None
        except psycopg.Error as error:
            raise unusable(error) from error

    def views_match(self, connection: Connection, timezone: str, /) -> bool:
        """Whether the views belong to this version and time zone."""
        return views_match(connection, timezone)

    @contextmanager
    def snapshot(self, *, timezone: str | None, private: bool) -> Iterator[ServerSnapshot]:
        """A read-only snapshot for users' queries."""
        with (
            self.reading() as session,
            snapshot(session, timezone=timezone, private=private) as found,
        ):
            yield found

    def check(self, problems: list[str]) -> dict[str, Any]:
        """The state of the database; takes a few seconds at most."""
        found: dict[str, Any] = {"writable": False, "schema": None, "quarantined": None}
        try:
            session = connect(self.where, lock_seconds=BUSY_SECONDS)
        except psycopg.Error as error:
            problems.append(f"the database cannot be opened: {message_of(error)}")
            return found
        try:
            session.begin(_READ)
            found["schema"] = max(applied(session), default=None)
            check(session)
            found["jobs"] = job_rows(session)
            found["quarantined"] = _one(session, sql.QUARANTINED)
            found["writable"] = not _one(session, _IS_READ_ONLY)
        except SchemaMismatch as error:
            problems.append(str(error))
        except psycopg.Error as error:
            problems.append(f"the database cannot be read: {message_of(error)}")
        else:
            if not found["writable"]:
                problems.append("the database is read-only")
        finally:
            session.close()
        return found

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database, and of the log since the last checkpoint; 0 if unknown."""
        try:
            session = connect(self.where, lock_seconds=BUSY_SECONDS)
        except psycopg.Error:
            return 0, 0
        try:
            return _bytes(session, _DATABASE_BYTES), _bytes(session, _WAL_BYTES)
        finally:
            session.close()

    def clean(self, *, pause: Callable[[float], None]) -> str | None:
        """Make the space of deleted rows usable again, and sample the columns without them.

        Where this role may not, the server's autovacuum does it.
        """
        self._maintain("VACUUM (ANALYZE) {}", pause)
        return None

    def shrink(self, **_: object) -> int:
        """No-op: `clean` returns free space at the end of a table."""
        return 0

    def vacuum(self) -> str | None:
        """Rewrite every table, and remove the server's log if this role may."""
        return self._maintain("VACUUM (FULL, ANALYZE) {}", lambda _: None, last=_LAST)

    def _maintain(
        self, statement: str, pause: Callable[[float], None], *, last: Sequence[str] = ()
    ) -> str | None:
        """Run a statement for each table; return what this role may not do."""
        refused: list[str] = []

        def note(diagnostic: psycopg.errors.Diagnostic) -> None:
            # VACUUM skips what it may not touch; the message names the table.
            if diagnostic.severity_nonlocalized == "WARNING":
                refused.append(f"{diagnostic.message_primary}")

        try:
            with closing(connect(self.where, lock_seconds=MAINTENANCE_SECONDS)) as session:
                session.raw.add_notice_handler(note)
                session.raw.execute(f"SET lock_timeout = {MAINTENANCE_SECONDS * 1000:.0f}")
                for table in ALL_TABLES:
                    began = time.monotonic()
                    session.raw.execute(statement.format(table.name))
                    pause(time.monotonic() - began)
                for each in last:
                    try:
                        session.raw.execute(each)
                    except psycopg.errors.InsufficientPrivilege:
                        refused.append(each)
        except psycopg.Error as error:
            raise unusable(error, "the database could not be cleaned") from error
        if not refused:
            return None
        more = f", and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        return f"this role may not do all: {'; '.join(refused[:_NAMED])}{more}"


def _one(session: Session, statement: str) -> Any:
    row = session.raw.execute(statement).fetchone()
    return row[0] if row else None


def _bytes(session: Session, statement: str) -> int:
    try:
        return int(_one(session, statement) or 0)
    except psycopg.Error:
        # Some hosted servers do not permit this.
        return 0
