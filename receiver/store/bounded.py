"""Connections for SQL that other people write: read-only, and with SQLite's own limits lowered."""

import ctypes
import importlib
import threading
from functools import cache
from pathlib import Path
from urllib.parse import quote

from receiver.store.connection import sqlite3

# Numbers of SQLite's limits. Source: https://www.sqlite.org/c3ref/c_limit_attached.html
_LENGTH, _SQL_LENGTH, _VDBE_OP, _ATTACHED = 0, 1, 5, 7
_MAX_SQL_BYTES = 250_000
_MAX_PROGRAM_STEPS = 250_000

# Called by SQLite with a new connection's handle, a place for a message, and its functions.
_EXTENSION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
# `limits`: those of the connection that this thread is opening.
_opening = threading.local()
_installing = threading.Lock()


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
