"""SQLite: one file, one writer at a time."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver.errors import (
    DatabaseUnreadable,
    SchemaMismatch,
    SettingsError,
    StoreUnavailable,
)
from receiver.store import protocols, sql
from receiver.store.cleaning import clean, shrink, vacuum
from receiver.store.connection import (
    FAULTS,
    Connection,
    connect,
    connect_readonly,
    file_kind,
    is_busy,
    is_damage,
    no_database,
    refuse,
    require_readable,
    result_code,
    sqlite3,
)
from receiver.store.exporting import FileSnapshot, snapshot
from receiver.store.jobs import job_rows
from receiver.store.migrate import applied, check, migrate, views_match
from receiver.store.store import Store
from schema.tables import ALL_TABLES
from schema.transcript import Row

# How long a step of cleaning waits for the write lock.
CLEANING_SECONDS = 30.0
# The time that one health check scans for damage; requests of the same worker wait as long.
DAMAGE_SECONDS = 0.1
# The pause between two scans, as a multiple of the scan: it takes at most 2 % of the time.
DAMAGE_REST = 50

_looked: dict[Path, tuple[float, str | None]] = {}
_scans: dict[Path, "Scan"] = {}
# The tables that the scan for damage reads: all except the full-text index, which can be rebuilt.
_SCANNED = ALL_TABLES


@dataclass(frozen=True, slots=True)
class Sqlite:
    """The file at `path`."""

    path: Path

    def open(self, *, busy_seconds: float, **_connections: int) -> Store:
        """The writer of the file."""
        return Store(self.path, busy_seconds=busy_seconds)

    def migrate(self, *, timezone: str) -> list[str]:
        """Create or update the file."""
        return migrate(self.path, timezone=timezone)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent snapshot of the file.

        Raises NotStored without a file, DatabaseUnreadable, ForeignDatabase.
        """
        if not self.path.exists():
            raise no_database(self.path)
        try:
            with closing(connect_readonly(self.path)) as connection:
                require_readable(connection, self.path)
                connection.execute("BEGIN")
                yield connection
        except sqlite3.Error as error:
            if result_code(error) not in FAULTS:
                raise
            raise DatabaseUnreadable(f"{self.path} cannot be read: {error}") from error

    def require_bodies(self) -> None:
        """Raise CopyWithoutBodies for a copy without the bodies, and what `reading` raises."""
        with self.reading() as connection:
            refuse(file_kind(connection), self.path)

    def views_match(self, connection: protocols.Connection, timezone: str, /) -> bool:
        """Whether the views belong to this version and time zone."""
        return views_match(connection, timezone)

    def snapshot(
        self, *, timezone: str | None, private: bool
    ) -> AbstractContextManager[FileSnapshot]:
        """A read-only snapshot for users' queries."""
        return snapshot(self.path, timezone=timezone, private=private)

    def check(self, problems: list[str]) -> dict[str, Any]:
        """The state of the file, without waiting for the write lock.

        Includes the rows of jobs if the schema belongs to this version.
        """
        found: dict[str, Any] = {"writable": False, "schema": None, "quarantined": None}
        try:
            connection = connect(self.path, busy_timeout_ms=0)
        except (sqlite3.Error, SettingsError) as error:
            problems.append(f"the database cannot be opened: {error}")
            return found
        try:
            found["schema"] = max(applied(connection), default=None)
            check(connection)
            if damaged := _damage(self.path, connection):
                problems.append(f"the database is damaged: {damaged}")
            found["jobs"] = job_rows(connection)
            found["quarantined"] = connection.execute(sql.QUARANTINED).fetchone()[0]
            found["writable"] = _is_writable(connection)
        except SchemaMismatch as error:
            problems.append(str(error))
        except sqlite3.DatabaseError as error:
            state = "is damaged" if is_damage(error) else "cannot be read"
            problem = f"the database {state}: {error}"
            if problem not in problems:
                problems.append(problem)
        finally:
            connection.close()
        return found

    def clean(self, *, pause: Callable[[float], None]) -> str | None:
        """Remove the remains of deleted rows from the file, the log and the full-text index."""
        with self._cleaning() as store:
            return clean(store, pause=pause)

    def shrink(self, *, repack: bool, pause: Callable[[float], None]) -> int:
        """Remove free pages; return the bytes of free pages of an older file, which has to be
        rewritten once."""
        with self._cleaning() as store:
            return shrink(store, repack=repack, pause=pause)

    def vacuum(self) -> str | None:
        """Rewrite the file."""
        with self._cleaning() as store:
            vacuum(self.path, busy_seconds=CLEANING_SECONDS)
            return clean(store, pause=lambda _seconds: None)

    @contextmanager
    def _cleaning(self) -> Iterator[Store]:
        try:
            with closing(Store(self.path, busy_seconds=CLEANING_SECONDS)) as store:
                yield store
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the database could not be cleaned: {error}") from error

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file and of the log beside it."""
        return _size(self.path), _size(self.path.with_name(self.path.name + "-wal"))


def _size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


@dataclass(slots=True)
class Scan:
    """Reads every row of every table by primary key, repeatedly, for a bounded time per call."""

    _table: int = 0
    _after: Row = ()

    def resume(self, connection: Connection, *, seconds: float) -> str | None:
        """Continue for `seconds`, at most until the end of the last table; return SQLite's message
        if a page is damaged. The next call continues there."""
        deadline = time.monotonic() + seconds
        # Text that is not UTF-8 is not damage.
        connection.text_factory = bytes
        try:
            for _ in _SCANNED:
                if not self._read_table(connection, deadline):
                    break
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return str(error)
        finally:
            connection.text_factory = str
        return None

    def _read_table(self, connection: Connection, deadline: float) -> bool:
        """Read to the end of the current table; False if the time ends before."""
        table = _SCANNED[self._table]
        statement = sql.rows_after(table, is_first=not self._after)
        for row in connection.execute(statement, self._after):
            # Keys are text, read as bytes.
            self._after = tuple(
                key.decode(errors="replace") if isinstance(key, bytes) else key
                for key in row[: len(table.key)]
            )
            if time.monotonic() >= deadline:
                return False
        self._table, self._after = (self._table + 1) % len(_SCANNED), ()
        return True


def _damage(path: Path, connection: Connection) -> str | None:
    """The result of the last scan, which is resumed after its pause."""
    due, found = _looked.get(path, (0.0, None))
    began = time.monotonic()
    if began >= due:
        scan = _scans.setdefault(path, Scan())
        found = scan.resume(connection, seconds=DAMAGE_SECONDS)
        ended = time.monotonic()
        _looked[path] = ended + DAMAGE_REST * (ended - began), found
    return found


def _is_writable(connection: Connection) -> bool:
    """Check that the file can be written. Raises sqlite3.Error. If another process is writing, it
    can."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
    else:
        connection.execute("ROLLBACK")
    return True
