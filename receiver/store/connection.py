"""Connections to the SQLite file whose commits are durable, and detection of a replaced file or
log."""

import os
import shutil
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from receiver.errors import CopyWithoutBodies, ForeignDatabase, NotStored
from receiver.files import atomic_write
from receiver.store import sql

if TYPE_CHECKING:
    import sqlite3 as sqlite3
else:
    # pysqlite3 where it is installed, else the standard library: the same choice as Datasette's.
    from sqlite_utils.utils import sqlite3


# Steps of SQLite between two reads of the clock.
STEPS = 1000


class Connection(sqlite3.Connection):
    """Implements `receiver/store/protocols.py`."""

    # Savepoints are off in the first attempt: few events need one, and SQLite copies each page that
    # changes within one.
    has_savepoints = True

    def upsert(self, table: str, rows: Iterable[tuple[Any, ...]], /) -> None:
        """Insert rows of a call or chat, or update those with their keys."""
        self.executemany(sql.UPSERT[table], rows)

    def savepoint(self) -> None:
        """Set a savepoint; they nest."""
        if self.has_savepoints:
            self.execute("SAVEPOINT part")

    def release_savepoint(self) -> None:
        """Release the last savepoint and keep its changes."""
        if self.has_savepoints:
            self.execute("RELEASE part")

    def roll_back_to_savepoint(self) -> None:
        """Undo the changes since the last savepoint, and release it. Raises SavepointNeeded."""
        if not self.has_savepoints:
            raise SavepointNeeded
        self.execute("ROLLBACK TO part")
        self.execute("RELEASE part")

    def lock_hour(self, _at: int, /) -> None:
        """No-op: BEGIN IMMEDIATE already locks the database."""

    def lock_reasons(self, *, shared: bool) -> None:
        """No-op: BEGIN IMMEDIATE already locks the database."""


class SavepointNeeded(Exception):
    """A transaction without savepoints failed because of an event's content."""


# From 3.7.0 until this version, resetting the write-ahead log has a bug that two writers can hit.
# Source: https://www.sqlite.org/wal.html
FIXED_SQLITE = (3, 51, 3)

# Written into the file to distinguish it from another program's database, and a complete database
# from a copy without raw bodies. Source: https://www.sqlite.org/pragma.html#pragma_application_id
WAREHOUSE_ID = int.from_bytes(b"chse")
COPY_ID = int.from_bytes(b"chsc")
# The name of our migrations in the table of sqlite-utils.
MIGRATION_SET = "callhouse"

# Result codes caused by the machine or the file, not by a query or the program.
FAULTS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
}

# Errors of a backup have no code.
_FAULTS_BY_MESSAGE = {
    "database or disk is full": sqlite3.SQLITE_FULL,
    "disk I/O error": sqlite3.SQLITE_IOERR,
    "unable to open database file": sqlite3.SQLITE_CANTOPEN,
    "database is locked": sqlite3.SQLITE_BUSY,
    "database disk image is malformed": sqlite3.SQLITE_CORRUPT,
}

# Set and checked on every connection: synchronous=NORMAL loses acknowledged events in a power cut,
# and without secure_delete an erased transcript stays readable in the file.
_PRAGMAS: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": 2,
    "secure_delete": 1,
    "foreign_keys": 1,
    "journal_size_limit": 32 * 1024 * 1024,
}


# Free pages at the end of the file are removed only by cleaning.py.
INCREMENTAL = 2


class FileKind(Enum):
    """The kind of a database file."""

    EMPTY = "empty"
    WAREHOUSE = "warehouse"
    COPY = "copy without raw bodies"
    FOREIGN = "another program's"
    NO_SQLITE = "no SQLite database"


def file_kind(connection: Connection) -> FileKind:
    """The kind of the open file. Raises sqlite3.Error."""
    try:
        (found,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if result_code(error) == sqlite3.SQLITE_NOTADB:
            return FileKind.NO_SQLITE
        raise
    if found in (WAREHOUSE_ID, COPY_ID):
        return FileKind.WAREHOUSE if found == WAREHOUSE_ID else FileKind.COPY
    if found:
        return FileKind.FOREIGN
    # Files of older versions have no id.
    if connection.execute(sql.HAS_MIGRATIONS_TABLE).fetchone():
        columns = connection.execute("PRAGMA table_info(_sqlite_migrations)").fetchall()
        if "migration_set" not in {column[1] for column in columns}:
            return FileKind.FOREIGN
        if not connection.execute(sql.HAS_OUR_MIGRATIONS, (MIGRATION_SET,)).fetchone():
            return FileKind.FOREIGN
        (lacks_bodies,) = connection.execute(sql.LACKS_ALL_BODIES).fetchone()
        return FileKind.COPY if lacks_bodies else FileKind.WAREHOUSE
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return FileKind.FOREIGN if tables else FileKind.EMPTY


def refuse(kind: FileKind, path: Path) -> None:
    """Raise ForeignDatabase or CopyWithoutBodies unless the file is a warehouse, or empty."""
    if kind is FileKind.FOREIGN:
        raise ForeignDatabase(f"{path} is a database of another program")
    if kind is FileKind.NO_SQLITE:
        raise ForeignDatabase(f"{path} is not a SQLite database")
    if kind is FileKind.COPY:
        raise CopyWithoutBodies(f"{path} is a copy without raw bodies")


def require_readable(connection: Connection, path: Path) -> None:
    """Raise NotStored for an empty file, ForeignDatabase for another program's."""
    kind = file_kind(connection)
    if kind is FileKind.EMPTY:
        raise no_database(path)
    if kind is not FileKind.COPY:
        refuse(kind, path)


def no_database(path: Path) -> NotStored:
    """The error for a file that does not exist or is empty."""
    return NotStored(f"there is no database at {path}", hint="Run `callhouse serve` first.")


def connect(
    path: Path, *, busy_timeout_ms: int, create: bool = False, vfs: str | None = None
) -> Connection:
    """Open `path` for writing, in autocommit: transactions are begun by hand.

    `vfs` names another of SQLite's layers between it and the disk. Source:
    https://www.sqlite.org/vfs.html

    Raises sqlite3.Error if it cannot be opened, or does not exist and `create` is False;
    ForeignDatabase and CopyWithoutBodies for a file that must not be written to.
    """
    mode = "rwc" if create else "rw"
    layer = f"&vfs={vfs}" if vfs else ""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}{layer}",
        uri=True,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,
        # One lock in the store lets one thread at a time use it.
        check_same_thread=False,
        # Every statement of one event stays prepared.
        cached_statements=256,
        factory=Connection,
    )
    try:
        # Before the settings: setting the journal mode writes to the file.
        kind = file_kind(connection)
        refuse(kind, path)
        if create and kind is FileKind.EMPTY:
            # Only possible before the first page is written.
            connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        for pragma, value in (_PRAGMAS | {"busy_timeout": busy_timeout_ms}).items():
            connection.execute(f"PRAGMA {pragma} = {value}")
            found = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            if found != value:
                raise sqlite3.OperationalError(f"PRAGMA {pragma} is {found}, not {value}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_readonly(path: Path) -> Connection:
    """Open `path` for reading. Raises sqlite3.Error."""
    uri = f"file:{quote(str(path))}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, factory=Connection)


def result_code(error: Exception) -> int:
    """SQLite's primary result code, 0 if there is none."""
    # It is in the low byte. Source: https://www.sqlite.org/rescode.html
    code = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
    return code or _FAULTS_BY_MESSAGE.get(str(error), 0)


def is_busy(error: sqlite3.DatabaseError) -> bool:
    """Whether another connection held a lock."""
    return result_code(error) == sqlite3.SQLITE_BUSY


def sqlite_warning() -> str | None:
    """What is wrong with the SQLite in use, or None."""
    if sqlite3.sqlite_version_info >= FIXED_SQLITE:
        return None
    fixed = ".".join(map(str, FIXED_SQLITE))
    return (
        f"SQLite {sqlite3.sqlite_version} has a write-ahead-log bug that was fixed in {fixed}; "
        "install pysqlite3, or run one worker (CALLHOUSE_WORKERS=1)."
    )


def sqlite_version() -> str:
    """The version of SQLite in use."""
    return str(sqlite3.sqlite_version)


def damage(connection: Connection, *, seconds: float) -> str | None:
    """The first problem that `PRAGMA quick_check` finds within `seconds`, or None.

    It checks only a part of a large file; the health check scans all of it. The message names
    tables and pages, never values.
    """
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if result_code(error) == sqlite3.SQLITE_INTERRUPT:
            return None
        if not is_damage(error):
            raise
        return str(error)
    finally:
        connection.set_progress_handler(None, 0)
    return None if found == "ok" else " ".join(found.split())


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether an error is caused by the content of the file, so that a retry cannot help."""
    return result_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


# -- the write-ahead log ---------------------------------------------------------------------------

# Processes that have a deleted log open continue to write to it, and their commits are lost when
# they are killed. A process that then opens the database creates an empty log, while the shared
# index still belongs to the deleted one. So the log is copied back from the open file before
# anything else is written. Source of the formats: https://www.sqlite.org/walformat.html

Identity = tuple[int, int] | None
# Count, offset -> bytes, fewer at the end of the file.
Reader = Callable[[int, int], bytes]

_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
# A checkpoint may restart the log between two reads.
_READS = 5
# Closing a file drops every lock that the process has on it, SQLite's included. So an index that
# was opened here stays open.
_indexes: dict[tuple[int, int], int] = {}


def identity(path: Path) -> Identity:
    """Device and inode of the file at `path`; None if there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


class Log:
    """The log that the newest connection to a database has opened, and its index.

    Subclasses read the files: this log, the log now at its path, and the index.
    """

    def read(self, _count: int, _offset: int) -> bytes:
        """Bytes of this log."""
        raise NotImplementedError

    def read_present(self, _count: int, _offset: int) -> bytes:
        """Read bytes of the log that is now at its path; empty if there is none."""
        raise NotImplementedError

    def read_index(self, _count: int) -> bytes:
        """The first bytes of the index."""
        raise NotImplementedError

    def copy_back(self) -> None:
        """Copy this log to its path durably. Raises OSError."""
        raise NotImplementedError

    @property
    def identity(self) -> Identity:
        """Device and inode of this log."""
        raise NotImplementedError

    @property
    def is_gone(self) -> bool:
        """Whether the log or its index was deleted or replaced since."""
        raise NotImplementedError

    @property
    def is_index_gone(self) -> bool:
        """Whether its index was deleted or replaced since, so that processes lock different
        files."""
        return False

    def close(self) -> None:
        """Close the log."""

    @property
    def is_complete(self) -> bool:
        """Whether this log has all frames of the index; otherwise another process has a deleted log
        open."""
        return any(self._has_all(self.read) for _ in range(_READS))

    def restore(self) -> None:
        """Copy the log back if it is the missing one. Requires the write lock.

        Raises OSError.
        """
        present = self.read_present(_HEADER_BYTES, 0)
        is_there = self._has_all(self.read_present) or self._is_newer(present)
        if not is_there and self._has_all(self.read):
            self.copy_back()

    def _has_all(self, read: Reader) -> bool:
        """Whether a log has the last frame of the index."""
        index = self.read_index(40)
        if len(index) < 40:
            return True
        page_bytes, frames = struct.unpack_from("=HI", index, 14)
        salts = index[32:40]
        if frames == 0:
            return True
        frame_bytes = _FRAME_HEADER_BYTES + (65536 if page_bytes == 1 else page_bytes)
        last = _HEADER_BYTES + (frames - 1) * frame_bytes
        return bool(read(8, 16) == salts and read(8, last + 8) == salts)

    def _is_newer(self, header: bytes) -> bool:
        """Whether a log was created after this one: each new log increments the first salt."""
        mine = self.read(_HEADER_BYTES, 0)
        if len(header) < _HEADER_BYTES or len(mine) < _HEADER_BYTES or header[:4] not in _MAGIC:
            return False
        theirs, ours = (int.from_bytes(found[16:20]) for found in (header, mine))
        return 0 < (theirs - ours) % 2**32 < 2**31


class FileLog(Log):
    """The log of a file on disk."""

    def __init__(self, path: Path) -> None:
        """Open the log and the index of the database at `path`. Raises OSError."""
        self._path = path.with_name(path.name + "-wal")
        self._index_path = path.with_name(path.name + "-shm")
        self._log = os.open(self._path, os.O_RDONLY)
        self._log_identity = _identity_of(self._log)
        try:
            index = os.open(self._index_path, os.O_RDONLY)
        except OSError:
            os.close(self._log)
            raise
        self._index_identity = _identity_of(index)
        self._index = _indexes.setdefault(self._index_identity, index)

    def read(self, count: int, offset: int) -> bytes:
        """Bytes of this log, which may be deleted."""
        return os.pread(self._log, count, offset)

    def read_present(self, count: int, offset: int) -> bytes:
        """Read bytes of the log that is now at its path."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(offset)
            return file.read(count)
        return b""

    def read_index(self, count: int) -> bytes:
        """The first bytes of the index."""
        return os.pread(self._index, count, 0)

    def copy_back(self) -> None:
        """Copy this log to its path."""
        with (
            atomic_write(self._path) as part,
            open(os.dup(self._log), "rb") as source,
            part.open("wb") as target,
        ):
            source.seek(0)
            shutil.copyfileobj(source, target)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @property
    def identity(self) -> Identity:
        """Device and inode of this log."""
        return self._log_identity

    @property
    def is_gone(self) -> bool:
        """Whether the log or its index was deleted or replaced since."""
        return identity(self._path) != self._log_identity or self.is_index_gone

    @property
    def is_index_gone(self) -> bool:
        """Whether its index was deleted or replaced since."""
        return identity(self._index_path) != self._index_identity

    def close(self) -> None:
        """Close the log; SQLite has no locks on it."""
        os.close(self._log)


def _identity_of(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino
