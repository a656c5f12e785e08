"""Limits of SQLite for users' SQL: lengths of values and statements, and memory."""

import ctypes
import importlib
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

from receiver.store.connection import sqlite3

# Numbers of SQLite's limits. Source: https://www.sqlite.org/c3ref/c_limit_attached.html
_LENGTH, _SQL_LENGTH, _VDBE_OP, _ATTACHED = 0, 1, 5, 7
_MAX_SQL_BYTES = 250_000
_MAX_PROGRAM_STEPS = 250_000

# A constant of glibc's malloc.h, and the default threshold.
_MMAP_THRESHOLD, _MMAP_BYTES = -3, 128 * 1024

# SQLite calls it with a new connection's handle, a pointer to a message, and its functions.
_EXTENSION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
# `limits`: those of the connection that this thread is opening.
_opening = threading.local()
_installing = threading.Lock()


def connect_bounded(path: Path, *, max_value_bytes: int) -> sqlite3.Connection:
    """Open `path` for reading by any thread, with values up to this size. Raises sqlite3.Error."""
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
    """Limit the memory of all connections of this process together; beyond it statements fail."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA hard_heap_limit = {max_bytes:d}")
    connection.close()


def return_freed_memory() -> None:
    """Make the C library return each large block to the system as soon as it is freed.

    glibc allocates blocks of 128 KiB and more outside of the heap. After the first one is freed, it
    allocates blocks up to that size, at most 32 MiB, on the heap, where small blocks prevent it
    from returning them. Source: mallopt(3)
    """
    # Other systems have no mallopt.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)


@cache
def _install_limiter() -> object:
    """Apply the limits in `_opening` to new connections; return the objects that must not be freed.

    pysqlite3 has no setlimit, but exports the library's functions. SQLite calls an automatic
    extension with the handle of each new connection, which is all that sqlite3_limit needs. The
    extension is never removed, because another thread may be about to call it.
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
