"""Statements that read a server for an export. Names are quoted, or come from schema.tables."""

from collections.abc import Mapping
from datetime import datetime

from receiver.store import sql
from receiver.store.snapshots import increment
from schema.tables import PRIVATE, Table

READABLE = (
    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') "
    "AND relnamespace = current_schema()::regnamespace ORDER BY relname"
)
# The views of this schema that read one of some tables, directly or not, each after those that it
# reads.
VIEWS_ON = """
WITH RECURSIVE readers (oid, depth) AS (
    SELECT oid, 0 FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relname = ANY(%s)
    UNION
    SELECT r.ev_class, depth + 1
    FROM readers
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = readers.oid
        AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> readers.oid
)
SELECT c.relname, pg_get_viewdef(c.oid)
FROM readers JOIN pg_class c USING (oid)
WHERE c.relkind = 'v' AND c.relnamespace = current_schema()::regnamespace
GROUP BY c.oid, c.relname
ORDER BY max(depth)
"""
PLAN = "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) "
# OID of a type -> the type in files, and the cast of a column to it.
_TYPES = {
    16: ("INTEGER", "::integer"),  # boolean: 0 and 1, as SQLite has it
    17: ("BLOB", ""),  # bytea
    20: ("INTEGER", ""),  # bigint
    21: ("INTEGER", ""),  # smallint
    23: ("INTEGER", ""),  # integer
    25: ("TEXT", ""),  # text
    700: ("REAL", ""),  # real
    701: ("REAL", ""),  # double precision
    1700: ("REAL", ""),  # numeric
}


def type_of(oid: int) -> tuple[str, str]:
    """The type in files and the cast to it; other types are cast to text."""
    return _TYPES.get(oid, ("TEXT", "::text"))


def nulled(table: Table, alias: str) -> str:
    """A table's rows with NULL in private columns."""
    columns = (
        f"NULL::bytea AS {name}" if (table.name, name) in PRIVATE else name for name in table.names
    )
    return f"SELECT {', '.join(columns)} FROM {table.name} AS {alias}"


def with_clause(selects: Mapping[str, str]) -> str:
    """A WITH clause that gives these names to SELECTs, each of which may use those before it."""
    return "".join(
        f"{',' if n else 'WITH'} {sql.quoted(name)} AS NOT MATERIALIZED (\n{text}\n)\n"
        for n, (name, text) in enumerate(selects.items())
    )


def unique(names: list[str]) -> list[str]:
    """Number columns of one name as SQLite does: a, a:1, a:2."""
    return [
        f"{name}:{again}" if (again := names[:n].count(name)) else name
        for n, name in enumerate(names)
    ]


def cast(query: str, names: list[str], casts: list[str]) -> str:
    """The rows of a query with these names, as values of the types in files."""
    columns = ", ".join(f"{sql.quoted(n)}{to}" for n, to in zip(names, casts, strict=False))
    return f"SELECT {columns} FROM ({query}) exported ({', '.join(map(sql.quoted, names))})"


def changed_since(query: str, names: list[str], casts: list[str], since: datetime) -> str:
    """The rows of `since` and later in the query's order, which the search for changes would lose.

    Raises SettingsError.
    """
    *_, place = unique([*names, "place"])
    numbered = f"SELECT *, row_number() OVER () FROM ({query}) numbered"
    rows = increment(cast(numbered, [*names, place], casts), names, since)
    return f"{rows} ORDER BY {sql.quoted(place)}"
