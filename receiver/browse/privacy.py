"""What nobody reads by browsing, and what one sees who must see no personal data.

On each connection, temporary views stand in front of the tables. A name without a schema means the
temporary one to SQLite, so that pages and SQL get what the view shows; `goes_past` refuses the
names that would go past it. An authorizer alone does not hold: SQLite asks it nothing about a
column of FULL JOIN … USING, and takes the name of a CTE for that of a view.
"""

import re
from collections.abc import Callable

from receiver.browse.functions import FUNCTIONS, PRAGMAS, TABLE_FUNCTIONS, replace_costly
from receiver.store.connection import sqlite3
from receiver.store.sql import quoted
from schema.personal import shown
from schema.tables import PRIVATE, ROLLUP_TABLES, TABLES

# Modules that some builds of SQLite have without listing them.
_LATE_MODULES = frozenset(
    {"dbstat", "sqlite_dbpage", "sqlite_stmt", "bytecode", "tables_used", "generate_series"}
)
Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]

_KNOWN = {table.name: table for table in (*TABLES, *ROLLUP_TABLES)}
_READING = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_PRAGMA,
    }
)
_SCHEMA = re.compile(r"\bmain\b", re.IGNORECASE | re.ASCII)
# Statistics of an index are samples of its values, and no view can stand in front of them.
# Datasette itself asks for their names, and for tables made USING FTS.
_STATISTICS = re.compile(r"sqlite_stat", re.IGNORECASE)
_SHARED_COLUMN = re.compile(r"\busing\b(?!\s+fts)|\bnatural\b", re.IGNORECASE | re.ASCII)


def goes_past(sql: str) -> bool:
    """Whether SQL could reach past the temporary views. It is not parsed: a literal counts too."""
    of_statistics = _STATISTICS.search(sql) and _SHARED_COLUMN.search(sql)
    return bool(_SCHEMA.search(sql) or of_statistics)


def guard(connection: sqlite3.Connection, *, is_masked: bool) -> None:
    """Put the views in front of the tables, and let the connection do nothing but read."""
    for statement in _masks(connection) if is_masked else _covers(connection):
        connection.execute(statement)
    replace_costly(connection)
    connection.set_authorizer(_authorizer(connection, is_masked=is_masked))


def _authorizer(connection: sqlite3.Connection, *, is_masked: bool) -> Authorizer:
    """What SQLite asks about each statement before it runs."""
    modules = _modules(connection) - TABLE_FUNCTIONS
    decide = _authorize_masked if is_masked else _authorize

    def authorize(
        action: int, first: str | None, second: str | None, schema: str | None, inside: str | None
    ) -> int:
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in FUNCTIONS:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() not in PRAGMAS:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_READ and _is_module(first or "", modules):
            return sqlite3.SQLITE_DENY
        return decide(action, first, second, schema, inside)

    return authorize


def _modules(connection: sqlite3.Connection) -> frozenset[str]:
    """Modules of virtual tables, each of which may be a table-valued function too."""
    rows = connection.execute("SELECT name FROM pragma_module_list").fetchall()
    return frozenset(name.lower() for (name,) in rows) | _LATE_MODULES


def _is_module(name: str, modules: frozenset[str]) -> bool:
    name = name.lower()
    return name in modules or (name.startswith("pragma_") and name not in TABLE_FUNCTIONS)


def _covers(connection: sqlite3.Connection) -> list[str]:
    """Tables without their private columns; nothing of the full-text index's own tables, which
    keep words of erased calls for a while."""
    covered = [
        _view(table, [f"NULL AS {n}" if (table, n) in PRIVATE else n for n in _KNOWN[table].names])
        for table in {table for table, _ in PRIVATE}
    ]
    return [*covered, *map(_nothing, _tables(connection, "shadow"))]


def _masks(connection: sqlite3.Connection) -> list[str]:
    """Every table without personal data, nothing of tables that are not known, and every view
    anew, so that it reads the tables like this."""
    views = connection.execute("SELECT sql FROM main.sqlite_master WHERE type = 'view'").fetchall()
    return [
        *(
            _view(name, shown(_KNOWN[name])) if name in _KNOWN else _nothing(name)
            for name in _tables(connection, "table", "virtual", "shadow")
        ),
        *(re.sub("^CREATE VIEW", "CREATE TEMP VIEW", sql) for (sql,) in views),
    ]


def _tables(connection: sqlite3.Connection, *types: str) -> list[str]:
    found = connection.execute("PRAGMA main.table_list").fetchall()
    return [
        name for _, name, type_, *_ in found if type_ in types and not name.startswith("sqlite_")
    ]


def _view(name: str, columns: list[str]) -> str:
    view = f"CREATE TEMP VIEW {quoted(name)} AS"
    return f"{view} SELECT {', '.join(columns)} FROM main.{quoted(name)}"


def _nothing(name: str) -> str:
    # Datasette orders a table without a primary key by its rowid, which a view does not have.
    return f"CREATE TEMP VIEW {quoted(name)} AS SELECT NULL AS rowid WHERE 0"


def _authorize(
    action: int, table: str | None, column: str | None, _schema: str | None, _inside: str | None
) -> int:
    """SQLite's authorizer, behind the views: nothing but reading, and nothing private."""
    if action not in _READING:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and (table, column) in PRIVATE:
        return sqlite3.SQLITE_IGNORE
    return sqlite3.SQLITE_OK


def _authorize_masked(
    action: int, table: str | None, column: str | None, schema: str | None, inside: str | None
) -> int:
    """The same, and of the file's tables what the view of the same name reads of them."""
    # Without a column, rows are counted and nothing of them is read.
    if action == sqlite3.SQLITE_READ and schema == "main" and table and column:
        is_schema = table in ("sqlite_master", "sqlite_schema")
        is_function = table in TABLE_FUNCTIONS
        if not is_schema and not is_function and (inside or "").lower() != table.lower():
            return sqlite3.SQLITE_DENY
    return _authorize(action, table, column, schema, inside)
