"""Looking for damage in a database file, for a bounded time."""

import time

from receiver.store.connection import Connection, result_code, sqlite3

_STEPS = 1000


def damage(connection: Connection, *, seconds: float) -> str | None:
    """What SQLite finds wrong with the file, or None if it finds nothing within `seconds`.

    A large file is looked at in part: better than not at all, and cheap at any size. The finding
    names tables and pages, never values.
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
    """Whether the file's content is at fault: not a moment's trouble, it stays."""
    return result_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
