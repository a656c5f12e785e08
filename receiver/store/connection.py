"""Opening the SQLite file so that a commit is durable, and knowing which SQLite that is."""

import ctypes
import importlib
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from receiver.errors import CopyWithoutBodies, ForeignDatabase, NotStored
from receiver.store import sql

if TYPE_CHECKING:
    import sqlite3 as sqlite3
else:
    # pysqlite3 where it is installed, else the standard library: the same choice as Datasette's.
    from sqlite_utils.utils import sqlite3


# Numbers of SQLite's limits. Source: https://www.sqlite.org/c3ref/c_limit_attached.html
_LENGTH, _SQL_LENGTH, _VDBE_OP, _ATTACHED = 0, 1, 5, 7
_MAX_SQL_BYTES = 250_000
_MAX_PROGRAM_STEPS = 250_000

# A number of glibc's malloc.h, and the threshold that is its default.
_MMAP_THRESHOLD, _MMAP_BYTES = -3, 128 * 1024

# Called by SQLite with a new connection's handle, a place for a message, and its functions.
_EXTENSION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
# `limits`: those of the connection that this thread is opening.
_opening = threading.local()
_installing = threading.Lock()
# How many steps of SQLite pass between two looks at the clock.
_STEPS = 1000


class Connection(sqlite3.Connection):
    """A connection as `receiver/store/protocols.py` has it."""

    # Nearly no event needs its savepoint, which makes SQLite copy each page that it changes.
    has_savepoints = True

    def upsert(self, table: str, rows: Iterable[tuple[Any, ...]], /) -> None:
        """Insert rows of a call or chat, or update those with their keys."""
        self.executemany(sql.UPSERT[table], rows)

    def savepoint(self) -> None:
        """Set a savepoint; they nest."""
        if self.has_savepoints:
            self.execute("SAVEPOINT part")

    def release_savepoint(self) -> None:
        """Keep what was done since the last savepoint."""
        if self.has_savepoints:
            self.execute("RELEASE part")

    def roll_back_to_savepoint(self) -> None:
        """Undo what was done since the last savepoint, and release it. Raises SavepointNeeded."""
        if not self.has_savepoints:
            raise SavepointNeeded
        self.execute("ROLLBACK TO part")
        self.execute("RELEASE part")

    def lock_hour(self, _at: int, /) -> None:
        """No-op: BEGIN IMMEDIATE already locks the database."""

    def lock_reasons(self, *, shared: bool) -> None:
        """No-op: BEGIN IMMEDIATE already locks the database."""


class SavepointNeeded(Exception):
    """Part of a transaction without savepoints failed for its content."""


# Two writers can hit a bug in resetting the write-ahead log from 3.7.0 up to before this version.
# Source: https://www.sqlite.org/wal.html
FIXED_SQLITE = (3, 51, 3)

# Written into the file, so that no other program's database is taken for ours, and no copy without
# raw bodies for a whole one. Source: https://www.sqlite.org/pragma.html#pragma_application_id
WAREHOUSE_ID = int.from_bytes(b"chse")
COPY_ID = int.from_bytes(b"chsc")
# The set of our migrations in the table of sqlite-utils.
MIGRATION_SET = "callhouse"

# Result codes for which neither a query nor a program is at fault, but the machine or the file.
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

# Errors of a backup come without a code.
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


# Free pages at the end of the file are cut off when that is asked for (cleaning.py).
INCREMENTAL = 2


class FileKind(Enum):
    """What a database file holds."""

    EMPTY = "empty"
    WAREHOUSE = "warehouse"
    COPY = "copy without raw bodies"
    FOREIGN = "another program's"
    NO_SQLITE = "no SQLite database"


def file_kind(connection: Connection) -> FileKind:
    """What the open file is. Raises sqlite3.Error."""
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
        # Before anything is set: setting the journal mode writes to the file.
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


def connect_bounded(path: Path, *, max_value_bytes: int) -> sqlite3.Connection:
    """Open `path` for reading by any thread, for values up to this size. Raises sqlite3.Error."""
    limits = {
        _LENGTH: max_value_bytes,
        _SQL_LENGTH: _MAX_SQL_BYTES,
        _VDBE_OP: _MAX_PROGRAM_STEPS,
        _ATTACHED: 0,
    }
    uri = f"file:{quote(str(path))}?mode=ro"
    if hasattr(sqlite3.Connection, "setlimit"):
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        for number, value in limits.items():
            connection.setlimit(number, value)
        return connection
    with _installing:
        _install_limiter()
    _opening.limits = limits
    try:
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    finally:
        del _opening.limits


def limit_memory(max_bytes: int) -> None:
    """Let all connections of this process together allocate no more; beyond it statements fail."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA hard_heap_limit = {max_bytes:d}")
    connection.close()


def return_freed_memory() -> None:
    """Let the C library return each large block to the system as soon as it is freed.

    glibc allocates blocks from 128 KiB on outside of the heap, until the first one is freed: then
    those up to its size, at most 32 MiB, come from the heap, where small ones keep them from being
    returned. Source: mallopt(3)
    """
    # Other systems have no mallopt.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)


@cache
def _install_limiter() -> object:
    """Let connections have the limits in `_opening`; return what must not be freed.

    pysqlite3 has no setlimit, but exports the library's functions. SQLite calls an automatic
    extension with the handle of each new connection, which is all that sqlite3_limit needs. The
    extension stays for good: another thread that opens a connection may be about to call it.
    """
    library = ctypes.CDLL(importlib.import_module("pysqlite3._sqlite3").__file__)
    library.sqlite3_limit.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]

    def limit(handle: int, _message: int, _api: int) -> int:
        for number, value in getattr(_opening, "limits", {}).items():
            library.sqlite3_limit(handle, number, value)
        return 0

    extension = _EXTENSION(limit)
    library.sqlite3_auto_extension(extension)
    return extension


def damage(connection: Connection, *, seconds: float) -> str | None:
    """What `PRAGMA quick_check` finds; None if it finds nothing within `seconds`.

    Of a large file it checks a part; health scans all of it. The message names tables and pages,
    never values.
    """
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
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
    """Whether an error is caused by the content of the file, and so will not go away."""
    return result_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
