"""Rows of a call, and all rows of a database."""

from schema.rows import Stamp, project
from schema.tables import OBSERVATIONS, TABLES
from tests.support.raw_fields import raw_fields

# Each key begins with one of these, by which a cluster distributes the rows.
_SHARED = {"agent_id", "day", "reason", "key_id", "receipt_id", "view_id", "month"}
_SHARED |= {"alert_id", "message_id"}
FIRST_COLUMNS = {"call_id", "chat_id", "entity_id"} | _SHARED


def call_rows(table: str, part: str | None = None, **fields) -> list[dict]:
    """The rows of one table, or of one part of it, that a call with these fields has."""
    names = next(t.names for t in TABLES if t.name == table)
    rows = project("call_a", raw_fields(fields), Stamp(level=2, observed_at=1000, updated_at=2000))
    return [dict(zip(names, row, strict=True)) for row in rows[table, part]]


# Columns that may depend on the order of arrival: times and counts of deliveries.
def dump(connection, *, observations: bool = True) -> dict[str, list[tuple]]:
    """Every row of every table, sorted; of observations whether there is a body, not its bytes."""
    tables = {}
    for table in TABLES:
        if table is OBSERVATIONS and not observations:
            continue
        columns = ", ".join(
            "body IS NOT NULL" if column == "body" else column for column in table.names
        )
        rows = connection.execute(f"SELECT {columns} FROM {table.name}").fetchall()
        tables[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return tables
