"""Hide private columns from a user's query: a guard against accidents.

A WITH clause in front of the query redefines the names of the tables, with NULL in private columns,
and of the views that read such a table. The plan shows whether the query reads a table in another
way, by its schema's name or by a view elsewhere. All of it needs no right but to read.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any

from receiver.errors import SettingsError, docs
from receiver.store.postgres.connection import Session
from schema.tables import ALL_TABLES, PRIVATE, Table

_TABLES = {t.name: t for t in ALL_TABLES if t.name in {name for name, _ in PRIVATE}}
# Citus numbers the shards of a table.
_PRIVATE_TABLE = re.compile(rf"({'|'.join(_TABLES)})(_\d+)?")
# Functions of the server that read what a text names: a query, a table or a file.
_BY_TEXT = re.compile(r"\b(\w+_to_xml\w*|ts_stat|ts_rewrite|pg_read_(binary_)?file)\(")
_OF_A_TABLE = ("Relation Name", "Schema", "Alias")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
# The views of this schema that read one of some tables, directly or not, each after those that it
# reads.
_VIEWS_ON = """
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


class Redaction:
    """Hides private columns from queries. `selects`: each name to redefine, with its SELECT."""

    def __init__(self, session: Session) -> None:
        # Marks what the query reads by these SELECTs in its plan. No query can know it.
        self._alias = f"callhouse_{secrets.token_hex(8)}"
        self.selects = {name: _nulled(table, self._alias) for name, table in _TABLES.items()}
        for name, text in session.raw.execute(_VIEWS_ON, ([*_TABLES],)):
            self.selects[name] = text.rstrip().rstrip(";")

    def check(self, plan: object) -> None:
        """Raise SettingsError if the plan reads private columns by other names."""
        for node in _nodes(plan):
            name, schema, alias = (node.get(key, "") for key in _OF_A_TABLE)
            if _PRIVATE_TABLE.fullmatch(name) and not alias.startswith(self._alias):
                raise _refusal(f"reads {name} by another name", "Leave out the schema's name")
            if name and schema.startswith("pg_"):
                raise _refusal(f"reads {schema}.{name}, the server's own", "Leave it out")
            for text in _texts(node):
                if found := _BY_TEXT.search(_LITERAL.sub("", text)):
                    raise _refusal(f"calls {found[1]}", "Read the table itself")


def _nodes(plan: object) -> Iterator[dict[str, Any]]:
    if isinstance(plan, dict):
        yield plan
        plan = [*plan.values()]
    if isinstance(plan, list):
        for part in plan:
            yield from _nodes(part)


def _texts(node: dict[str, Any]) -> Iterator[str]:
    for value in node.values():
        yield from (v for v in (value if isinstance(value, list) else [value]) if type(v) is str)


def _refusal(what: str, instead: str) -> SettingsError:
    return SettingsError(
        f"without --private, raw bodies are closed, and this {what}",
        hint=f"{instead}, or add --private. See {docs('explanation/postgres.md')}",
    )


def _nulled(table: Table, alias: str) -> str:
    """A table's rows with NULL in private columns."""
    columns = (
        f"NULL::bytea AS {name}" if (table.name, name) in PRIVATE else name for name in table.names
    )
    return f"SELECT {', '.join(columns)} FROM {table.name} AS {alias}"
