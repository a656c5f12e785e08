"""Opening the SQLite file so that a commit is durable, and knowing which SQLite that is."""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import sqlite3 as sqlite3
else:
    # pysqlite3 where it is installed, else the standard library: the same choice as Datasette's.
    from sqlite_utils.utils import sqlite3

Connection = sqlite3.Connection

# Two writers can hit a bug in resetting the write-ahead log from 3.7.0 up to before this version.
# Source: https://www.sqlite.org/wal.html
FIXED_SQLITE = (3, 51, 3)

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

# Set and checked on every connection: synchronous=NORMAL loses acknowledged events in a power cut,
# and without secure_delete an erased transcript stays readable in the file.
_PRAGMAS: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": 2,
    "secure_delete": 1,
    "foreign_keys": 1,
    "journal_size_limit": 32 * 1024 * 1024,
}


def connect(path: Path, *, busy_timeout_ms: int, create: bool = False) -> Connection:
    """Open `path` for writing, in autocommit: transactions are begun by hand.

    Raises sqlite3.Error if it cannot be opened, or does not exist and `create` is False.
    """
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=busy_timeout_ms / 1000,
        isolation_level=None,
        # One lock in the store lets one thread at a time use it.
        check_same_thread=False,
        # Every statement of one event stays prepared.
        cached_statements=256,
    )
    try:
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
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at `path`; None if there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def result_code(error: Exception) -> int:
    """SQLite's primary result code, 0 if there is none."""
    # It is in the low byte. Source: https://www.sqlite.org/rescode.html
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.OperationalError) -> bool:
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
