"""What nobody reads by browsing: raw bodies, with keys to web calls and all that was scrubbed."""

from receiver.store.connection import sqlite3
from schema.tables import PRIVATE


def authorize(
    action: int, table: str | None, column: str | None, _database: str | None, _view: str | None
) -> int:
    """SQLite's authorizer: private columns read as NULL, in pages, views and SQL alike."""
    if action == sqlite3.SQLITE_READ and (table, column) in PRIVATE:
        return sqlite3.SQLITE_IGNORE
    return sqlite3.SQLITE_OK
