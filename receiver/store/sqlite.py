"""SQLite: one file, one writer at a time."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver.errors import (
    DatabaseUnreadable,
    SchemaMismatch,
    SettingsError,
)
from receiver.store import sql
from receiver.store.connection import (
    FAULTS,
    Connection,
    connect,
    connect_readonly,
    damage,
    file_kind,
    is_busy,
    no_database,
    refuse,
    require_readable,
    result_code,
    sqlite3,
)
from receiver.store.exporting import FileSnapshot, snapshot
from receiver.store.migrate import applied, check, migrate
from receiver.store.store import Store

# How long one answer may look for damage; requests of the same worker wait that long.
DAMAGE_SECONDS = 0.2
# How many times as long nobody looks again: 2% of the time at most is spent on it.
DAMAGE_REST = 50

_looked: dict[Path, tuple[float, str | None]] = {}


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
        """One moment of the file: what is read hangs together.

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
        """Raise CopyWithoutBodies for a copy that lacks them, and what `reading` raises."""
        with self.reading() as connection:
            refuse(file_kind(connection), self.path)

    def snapshot(
        self, *, timezone: str | None, private: bool
    ) -> AbstractContextManager[FileSnapshot]:
        """One moment of the file for queries that anybody wrote."""
        return snapshot(self.path, timezone=timezone, private=private)

    def look(self, problems: list[str]) -> dict[str, Any]:
        """What a look into the file tells, without ever waiting for the write lock."""
        found: dict[str, Any] = {"writable": False, "schema": None, "quarantined": None}
        try:
            connection = connect(self.path, busy_timeout_ms=0)
        except (sqlite3.Error, SettingsError) as error:
            problems.append(f"the database cannot be opened: {error}")
            return found
        try:
            if damaged := _damage(self.path, connection):
                problems.append(f"the database is damaged: {damaged}")
            found["schema"] = max(applied(connection), default=None)
            check(connection)
            found["quarantined"] = connection.execute(sql.QUARANTINED).fetchone()[0]
            found["writable"] = _is_writable(connection)
        except SchemaMismatch as error:
            problems.append(str(error))
        except sqlite3.Error as error:
            problems.append(f"the database cannot be read: {error}")
        finally:
            connection.close()
        return found

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file and of the log beside it."""
        return _size(self.path), _size(self.path.with_name(self.path.name + "-wal"))


def _size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _damage(path: Path, connection: Connection) -> str | None:
    """What was found at the last look; a new one is taken when the rest is over."""
    due, found = _looked.get(path, (0.0, None))
    began = time.monotonic()
    if began >= due:
        found = damage(connection, seconds=DAMAGE_SECONDS)
        ended = time.monotonic()
        _looked[path] = ended + DAMAGE_REST * (ended - began), found
    return found


def _is_writable(connection: Connection) -> bool:
    """Raises sqlite3.Error if not. Somebody else writing just now is a good sign."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
    else:
        connection.execute("ROLLBACK")
    return True
