"""Rows -> tables: what changed of a call or chat is written, nothing else is touched."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from receiver.store import sql
from receiver.store.protocols import Connection
from schema import retention
from schema.rows import Rows
from schema.sql import rollups
from schema.tables import CALLS
from schema.transcript import Row

_COLUMNS = CALLS.names
_START, _OBSERVED = CALLS.names.index("start_timestamp"), CALLS.names.index("observed_at")

Stored = dict[str, dict[tuple[Any, ...], Row]]


def read_call(connection: Connection, call_id: str) -> dict[str, Any] | None:
    """The calls row as a dict; None if there is none."""
    row = connection.execute(sql.SELECT["calls"], (call_id,)).fetchone()
    return dict(zip(_COLUMNS, row, strict=True)) if row else None


def write(
    connection: Connection,
    entity_id: str,
    rows: Rows,
    *,
    before: Mapping[str, list[Row]] = MappingProxyType({}),
    is_new: bool = False,
    is_whole: bool = False,
) -> None:
    """Make the slices named in `rows` hold exactly these rows.

    Parents come before children in the order of `sql.ENTITY_TABLES`. `before` are the rows of
    tables that were read already. `is_new`: nothing of the entity is stored yet, so nothing is
    read. `is_whole`: `rows` are all of it, so other rows of its tables are deleted.
    """
    slices: dict[str, dict[str | None, list[Row]]] = {}
    for (table, discriminator), part in rows.items():
        slices.setdefault(table, {})[discriminator] = part
    # A server is asked for all before the first answer is waited for.
    asked = {
        table: connection.execute(sql.SELECT[table], (entity_id,))
        for table in slices
        if not is_new and table not in before
    }
    for table, parts in slices.items():
        wanted = [row for part in parts.values() for row in part]
        stored: list[Row] = []
        if is_new:
            if wanted:
                connection.upsert(table, wanted)
        else:
            stored = before[table] if table in before else asked[table].fetchall()
            stored = _of_parts(table, stored, None if is_whole else parts)
            _replace(connection, table, stored, wanted)
        if table == CALLS.name:
            invalidate_hours(connection, [*stored, *wanted])


def _of_parts(table: str, found: list[Row], parts: Iterable[str | None] | None) -> list[Row]:
    """Of a table's rows those of some parts, all of them if `parts` is None."""
    index = sql.DISCRIMINATOR_INDEX.get(table)
    return (
        found if index is None or parts is None else [row for row in found if row[index] in parts]
    )


def _replace(connection: Connection, table: str, stored: list[Row], wanted: list[Row]) -> None:
    key_length = len(sql.ENTITY_TABLES[table].key)
    before = {row[:key_length]: row for row in stored}
    after = {row[:key_length]: row for row in wanted}
    if gone := before.keys() - after.keys():
        connection.executemany(sql.DELETE[table], sorted(gone))
    changed = [row for key, row in after.items() if before.get(key) != row]
    if changed and table == CALLS.name and before:
        _update_call(connection, stored[0], changed[0])
    elif changed:
        connection.upsert(table, changed)


def _update_call(connection: Connection, before: Row, after: Row) -> None:
    """Update the columns that change: of the indexes of calls, only theirs are written."""
    pairs = zip(_COLUMNS, before, after, strict=True)
    changed = {name: new for name, old, new in pairs if old != new}
    columns = ", ".join(f"{name} = ?" for name in changed)
    connection.execute(sql.UPDATE_CALL.format(columns), (*changed.values(), after[0]))


def remove(connection: Connection, entity_id: str, tables: Iterable[str]) -> None:
    """Delete every row of an entity, children before parents."""
    tables = list(tables)
    if CALLS.name in tables:
        invalidate_hours(
            connection, connection.execute(sql.SELECT[CALLS.name], (entity_id,)).fetchall()
        )
    for table in reversed(tables):
        connection.execute(sql.DELETE_ALL[table], (entity_id,))


def scopes_of(connection: Connection, entity_id: str) -> frozenset[str]:
    """The scopes of the tombstones of an entity; nearly always none."""
    return frozenset(s for (s,) in connection.execute(sql.SCOPES, (entity_id,)).fetchall())


def retain(connection: Connection, entity_id: str, scopes: Collection[str]) -> Counter[str]:
    """Delete and blank what tombstones of these scopes leave nothing of; return rows by table."""
    tables = retention.touched(scopes)
    asked = [(table, connection.execute(sql.SELECT[table], (entity_id,))) for table in tables]
    changed: Counter[str] = Counter()
    for table, found in asked:
        stored = found.fetchall()
        wanted = [retention.kept(table, row, scopes) for row in stored]
        if count := sum(row != after for row, after in zip(stored, wanted, strict=True)):
            _replace(connection, table, stored, [row for row in wanted if row is not None])
            changed[table] = count
    return changed


def invalidate_hours(connection: Connection, calls: Iterable[Row]) -> None:
    """What is rolled up of the hours and days of these rows of calls no longer holds."""
    # In order: others may wait for the same hours.
    for at in sorted({at for row in calls if (at := _time(row)) is not None}):
        # No number leaves the 64 bits that every engine has.
        since = max(at - rollups.HOUR_MS + 1, -(2**63))
        connection.lock_hour(at)
        connection.execute(rollups.INVALIDATE_HOUR, {"since": since, "at": at})
        connection.execute(rollups.INVALIDATE_DAY, {"at": at})


def _time(call: Row) -> int | None:
    """`call_time` in schema/sql/macros.py; a call may have none."""
    at: int | None = call[_START] if call[_START] is not None else call[_OBSERVED] or None
    return at
