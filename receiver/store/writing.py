"""Rows -> tables: what changed of a call or chat is written, nothing else is touched."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from receiver.store import sql
from receiver.store.protocols import Connection
from schema import merge, retention
from schema.disconnection_reasons import REASONS, UNKNOWN
from schema.rows import Rows
from schema.sql import rollups
from schema.tables import CALLS
from schema.transcript import Row

_COLUMNS = CALLS.names
_START, _OBSERVED = CALLS.names.index("start_timestamp"), CALLS.names.index("observed_at")


def read_rows(
    connection: Connection, entity_id: str, tables: Iterable[str]
) -> dict[str, list[Row]]:
    """All rows of an entity in some tables. A server is asked for all before the first answer."""
    asked = {table: connection.execute(sql.SELECT[table], (entity_id,)) for table in tables}
    return {table: cursor.fetchall() for table, cursor in asked.items()}


def write(
    connection: Connection,
    entity_id: str,
    rows: Rows,
    stored: Mapping[str, list[Row]] | None,
    *,
    is_whole: bool = False,
) -> None:
    """Make the slices named in `rows` hold exactly these rows.

    Parents come before children in the order of `sql.ENTITY_TABLES`. `stored` are all rows of the
    tables that were read already; None if nothing of the entity is stored yet. `is_whole`: `rows`
    are all of it, so other rows of its tables are deleted.
    """
    wanted: dict[str, list[Row]] = {}
    parts: dict[str, set[str | None]] = {}
    for (table, part), some in rows.items():
        if some or stored is not None:
            wanted.setdefault(table, []).extend(some)
            parts.setdefault(table, set()).add(part)
    if stored is not None:
        unread = [table for table in wanted if table not in stored]
        stored = {**stored, **read_rows(connection, entity_id, unread)}
    for table, after in wanted.items():
        before = stored[table] if stored else []
        index = sql.DISCRIMINATOR_INDEX.get(table)
        if before and index is not None and not is_whole:
            before = [row for row in before if row[index] in parts[table]]
        if before:
            _replace(connection, table, before, after)
        elif after:
            connection.upsert(table, after)
        if table == CALLS.name:
            invalidate_hours(connection, [*before, *after])


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
    times = (merge.began_at(call[_START], call[_OBSERVED]) for call in calls)
    for at in sorted({at for at in times if at is not None}):
        # No number leaves the 64 bits that every engine has.
        since = max(at - rollups.HOUR_MS + 1, -(2**63))
        connection.lock_hour(at)
        connection.execute(rollups.INVALIDATE_HOUR, {"since": since, "at": at})
        connection.execute(rollups.INVALIDATE_DAY, {"at": at})


def note_reason(connection: Connection, reason: str | None, *, before: str | None) -> None:
    """Keep disconnection_reasons to the known ones and those that a call has."""
    if before == reason:
        # The reason was added with the row, and no reason of a call is deleted.
        return
    if _is_unknown(before):
        connection.lock_reasons(shared=False)
        if not _finds(connection, sql.CALL_WITH_REASON, before):
            connection.execute(sql.DROP_REASON, (before,))
    if _is_unknown(reason):
        connection.lock_reasons(shared=True)
        # In a cluster, an insertion is written to every node, also one that changes nothing.
        if not _finds(connection, sql.HAS_REASON, reason):
            connection.execute(sql.ADD_REASON, (reason, *UNKNOWN))


def _is_unknown(reason: str | None) -> bool:
    return reason is not None and reason not in REASONS


def _finds(connection: Connection, query: str, value: str | None) -> bool:
    return connection.execute(query, (value,)).fetchone() is not None
