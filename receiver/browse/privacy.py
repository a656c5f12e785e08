"""Hide private columns from every reader, personal data from masked readers, and from limited
readers the calls of others.

Each connection has temporary views with the names of the tables. SQLite resolves a name without a
schema to the temporary view, so pages and SQL read the views; `bypasses_views` detects SQL that
names the schema. An authorizer is not sufficient: SQLite does not call it for a column of FULL JOIN
… USING, and confuses the name of a CTE with that of a view.
"""

import re
from collections.abc import Callable
from functools import partial

from receiver.browse.functions import (
    FUNCTIONS,
    PRAGMAS,
    TABLE_FUNCTIONS,
    is_own_sql,
    replace_slow_functions,
)
from receiver.browse.limits import INDEXED, INDEXES, JOINED, LEFT_JOINED, ROLLED_UP, Limits
from receiver.store.connection import sqlite3
from receiver.store.sql import quoted
from schema.personal import HASHED, shown
from schema.tables import ALL_TABLES, PRIVATE, Table

# Modules that some builds of SQLite have but do not list.
_LATE_MODULES = frozenset(
    {"dbstat", "sqlite_dbpage", "sqlite_stmt", "bytecode", "tables_used", "generate_series"}
)
Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]

_KNOWN = {table.name: table for table in ALL_TABLES}
_NO_LIMITS = Limits()
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
# Statistics of an index contain samples of its values, and no view can hide them. Datasette itself
# reads their names, and looks for tables created USING FTS.
_STATISTICS = re.compile(r"sqlite_stat", re.IGNORECASE)
_SHARED_COLUMN = re.compile(r"\busing\b(?!\s+fts)|\bnatural\b", re.IGNORECASE | re.ASCII)


_INDEX_TABLES = tuple(f"{index}_" for index in INDEXES)
# Views of figures, the common table expressions in them, and the tables that these read.
_FIGURES = ("hourly_", "daily_", "counted", "remaining_")
_IN_FIGURES = LEFT_JOINED | ROLLED_UP | {"calls"}
_ROLLUP_VIEW = re.compile(r"CREATE TEMP VIEW (?:hourly|daily)_(\w+) AS\s+WITH\s+remaining_calls AS")
_LEFT_JOIN = re.compile(rf"LEFT JOIN ({'|'.join(sorted(LEFT_JOINED))}) ")


def has_statistics(connection: sqlite3.Connection) -> bool:
    """Whether somebody has run ANALYZE on the file."""
    sql = "SELECT 1 FROM main.sqlite_master WHERE name GLOB 'sqlite_stat[14]'"
    return connection.execute(sql).fetchone() is not None


def bypasses_views(sql: str) -> bool:
    """Whether SQL could bypass the temporary views. The SQL is not parsed: the word in a literal
    counts too."""
    joins_statistics = _STATISTICS.search(sql) and _SHARED_COLUMN.search(sql)
    return bool(_SCHEMA.search(sql) or joins_statistics)


def guard(connection: sqlite3.Connection, *, is_masked: bool, limits: Limits = _NO_LIMITS) -> None:
    """Create the temporary views, and restrict the connection to reading them."""
    if is_masked or limits:
        statements = _replacing_views(connection, is_masked=is_masked, limits=limits)
    else:
        statements = _reader_views(connection)
    for statement in statements:
        connection.execute(statement)
    replace_slow_functions(connection)
    connection.set_authorizer(_authorizer(connection, is_masked=is_masked, limits=limits))


def _authorizer(connection: sqlite3.Connection, *, is_masked: bool, limits: Limits) -> Authorizer:
    """The function that SQLite asks about each statement before it runs."""
    modules = _modules(connection) - TABLE_FUNCTIONS
    decide: Authorizer = _authorize_masked if is_masked else _authorize
    if limits:
        views = connection.execute("SELECT name FROM sqlite_temp_master WHERE type = 'view'")
        names = frozenset(name.lower() for (name,) in views.fetchall())
        decide = partial(_authorize_limited, names)

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
    """Modules of virtual tables; each may also be a table-valued function."""
    rows = connection.execute("SELECT name FROM pragma_module_list").fetchall()
    return frozenset(name.lower() for (name,) in rows) | _LATE_MODULES


def _is_module(name: str, modules: frozenset[str]) -> bool:
    name = name.lower()
    return name in modules or (name.startswith("pragma_") and name not in TABLE_FUNCTIONS)


def _reader_views(connection: sqlite3.Connection) -> list[str]:
    """Tables without their private columns; the full-text index's own tables empty, as they retain
    words of erased calls for a while."""
    views = [
        _view(table, [f"NULL AS {n}" if (table, n) in PRIVATE else n for n in _KNOWN[table].names])
        for table in {table for table, _ in PRIVATE}
    ]
    return [*views, *map(_empty_view, _tables(connection, "shadow"))]


def _replacing_views(
    connection: sqlite3.Connection, *, is_masked: bool, limits: Limits
) -> list[str]:
    """Every table with the rows and columns that the reader may see, unknown tables empty, and
    every view again, so that it reads these."""
    views = connection.execute("SELECT sql FROM main.sqlite_master WHERE type = 'view'").fetchall()
    return [
        *(
            _replacing_view(name, is_masked=is_masked, limits=limits)
            for name in _tables(connection, "table", "virtual", "shadow")
        ),
        *(_temporary(sql, limits) for (sql,) in views),
    ]


def _temporary(view: str, limits: Limits) -> str:
    """The same view for this connection."""
    view = re.sub("^CREATE VIEW", "CREATE TEMP VIEW", view)
    if limits and (match := _ROLLUP_VIEW.match(view)):
        # Of calls that are limited already: a view with a join on the right of a LEFT JOIN is read
        # once for each call.
        view = _LEFT_JOIN.sub(r"LEFT JOIN main.\1 ", view)
        if limits.reads_rollup(f"rollup_{match[1]}"):
            view = limits.read_rollups(view)
    return view


def _replacing_view(name: str, *, is_masked: bool, limits: Limits) -> str:
    rows = limits.rows_of(name) if limits else f"SELECT * FROM main.{quoted(name)}"
    if name in HASHED and is_masked and not limits:
        rows = _with_rowid(_KNOWN[name])
    if name in INDEXES and limits and rows and not is_masked:
        return f"CREATE TEMP VIEW {name} AS {rows}"
    if rows is None or name not in _KNOWN:
        return _empty_view(name, _KNOWN[name].names if name in _KNOWN else ())
    table = _KNOWN[name]
    if is_masked:
        columns = shown(table)
    else:
        columns = [f"NULL AS {n}" if (name, n) in PRIVATE else n for n in table.names]
        # By which the full-text index finds its rows.
        columns += ["rowid"] * (name in INDEXED)
    return f"CREATE TEMP VIEW {quoted(name)} AS SELECT {', '.join(columns)} FROM ({rows})"


def _with_rowid(table: Table) -> str:
    """The rows of a table that shows no hashes. Of an entity_id that is one, that of a body without
    an id, only `sha:` is shown. In two parts, so that those of a call are found by the index."""
    columns = ", ".join(table.names[1:])
    return (
        f"SELECT rowid, entity_id, {columns} FROM main.{table.name} "
        "WHERE entity_id < 'sha:' OR entity_id >= 'sha;' "
        f"UNION ALL SELECT rowid, CAST('sha:' AS TEXT), {columns} FROM main.{table.name} "
        "WHERE entity_id >= 'sha:' AND entity_id < 'sha;'"
    )


def _tables(connection: sqlite3.Connection, *types: str) -> list[str]:
    found = connection.execute("PRAGMA main.table_list").fetchall()
    return [
        name for _, name, type_, *_ in found if type_ in types and not name.startswith("sqlite_")
    ]


def _view(name: str, columns: list[str]) -> str:
    view = f"CREATE TEMP VIEW {quoted(name)} AS"
    return f"{view} SELECT {', '.join(columns)} FROM main.{quoted(name)}"


def _empty_view(name: str, columns: tuple[str, ...] = ()) -> str:
    # Datasette sorts a table without a primary key by rowid, which views lack.
    nulls = ", ".join(f"NULL AS {quoted(column)}" for column in columns or ("rowid",))
    return f"CREATE TEMP VIEW {quoted(name)} AS SELECT {nulls} WHERE 0"


def _authorize(
    action: int, table: str | None, column: str | None, _schema: str | None, _inside: str | None
) -> int:
    """Allow only reading; private columns read as NULL."""
    if action not in _READING:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and (table, column) in PRIVATE:
        return sqlite3.SQLITE_IGNORE
    return sqlite3.SQLITE_OK


def _authorize_masked(
    action: int, table: str | None, column: str | None, schema: str | None, inside: str | None
) -> int:
    """The same, and only the view of the same name may read a table of the file."""
    # An empty column name: rows are counted, and no value is read.
    if action == sqlite3.SQLITE_READ and schema == "main" and table and column:
        is_schema = table in ("sqlite_master", "sqlite_schema")
        is_function = table in TABLE_FUNCTIONS
        if not is_schema and not is_function and (inside or "").lower() != table.lower():
            return sqlite3.SQLITE_DENY
    return _authorize(action, table, column, schema, inside)


def _authorize_limited(
    views: frozenset[str],
    action: int,
    table: str | None,
    column: str | None,
    schema: str | None,
    inside: str | None,
) -> int:
    """The same, and views may also read the allowed calls. The full-text index, which only SQL of
    callhouse may use, may read its own tables, which SQLite reports without a view."""
    if action == sqlite3.SQLITE_READ and table in INDEXES and not is_own_sql():
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_READ and schema == "main" and table:
        view = (inside or "").lower()
        is_joined = table in JOINED and view in views
        is_joined |= table in _IN_FIGURES and view.startswith(_FIGURES)
        is_of_index = inside is None and (table in INDEXED or table.startswith(_INDEX_TABLES))
        if is_joined or is_of_index:
            return _authorize(action, table, column, schema, inside)
    return _authorize_masked(action, table, column, schema, inside)
