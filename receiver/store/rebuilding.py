"""Rebuild all tables from the observations while the receiver is running."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from receiver.store import sql
from receiver.store.engine import AnyStore
from receiver.store.ingest import (
    TABLES,
    ObservationRow,
    invalidate_hours,
    load,
    observation_rows,
    project_entity,
    read_rows,
    retain,
    run_in_savepoint,
    scopes_of,
    update_reasons,
    usable_rows,
)
from receiver.store.protocols import Connection
from schema import retention
from schema.disconnection_reasons import REASONS, UNKNOWN
from schema.sql import rollups
from schema.tables import CALLS

# Calls per transaction: few, so that a webhook does not wait long for the write lock.
BATCH = 100

_REASON = CALLS.names.index("disconnection_reason")


def rebuild(store: AnyStore, *, progress: Callable[[int, int], None]) -> int:
    """Rebuild every derived row; return the number of entities.

    `progress` is called with the numbers of entities done and in total. Each batch is one
    transaction, and rows that do not change are not written. Afterwards no hour is rolled up.
    Raises StoreUnavailable.
    """
    total = store.run(_begin)
    done, last = 0, ""
    while batch := store.run(partial(_rebuild_batch, store, last)):
        done, last = done + len(batch), batch[-1]
        progress(done, max(done, total))
    store.run(partial(_rebuild_rest, store))
    return done


def _begin(connection: Connection) -> int:
    connection.execute(rollups.INVALIDATE_HOURS)
    connection.execute(rollups.INVALIDATE_DAYS)
    (total,) = connection.execute(sql.COUNT_ENTITIES).fetchone()
    return int(total)


def _rebuild_batch(store: AnyStore, last: str, connection: Connection) -> list[str]:
    found = connection.execute(sql.ENTITIES_AFTER, (last, BATCH)).fetchall()
    batch = [entity_id for (entity_id,) in found]
    store.lock(connection, batch)
    for entity_id in batch:
        _rebuild_entity(connection, entity_id)
    return batch


def _rebuild_entity(connection: Connection, entity_id: str) -> None:
    known = [_reparse(connection, entity_id, k) for k in observation_rows(connection, entity_id)]
    reproject(connection, entity_id, known)


def reproject(
    connection: Connection, entity_id: str, known: Sequence[ObservationRow], *, is_new: bool = False
) -> None:
    """Rebuild the rows of an entity from all its observations; `is_new` if it has none yet."""
    scopes = scopes_of(connection, entity_id)
    erased = retention.ALL in scopes
    if retention.is_closed(scopes) and not erased:
        # Without bodies it cannot be folded, so its rows are kept.
        retain(connection, entity_id, scopes)
        return
    for entity_type, tables in TABLES.items():
        parts = usable_rows(known, entity_type)
        if erased or not parts:
            if not is_new:
                calls = read_rows(connection, entity_id, [CALLS.name])[CALLS.name]
                remove(connection, entity_id, tables)
                if calls and entity_type == "call":
                    update_reasons(connection, None, before=calls[0][_REASON])
        elif run_in_savepoint(
            connection, project_entity, entity_id, entity_type, parts, is_new=is_new
        ):
            _rebuild_sound_parts(connection, entity_id, entity_type, parts)
    if scopes and not erased:
        retain(connection, entity_id, scopes)


def _rebuild_sound_parts(
    connection: Connection, entity_id: str, entity_type: str, parts: list[ObservationRow]
) -> None:
    """Quarantine observations that this version cannot project, and project the others."""
    sound = []
    for known in parts:
        if problem := run_in_savepoint(connection, project_entity, entity_id, entity_type, [known]):
            _set_problem(connection, entity_id, known, problem)
        else:
            sound.append(known)
    remove(connection, entity_id, TABLES[entity_type])
    if problem := run_in_savepoint(connection, project_entity, entity_id, entity_type, sound):
        # Each can be projected alone, but not all together.
        for known in sound:
            _set_problem(connection, entity_id, known, problem)


def remove(connection: Connection, entity_id: str, tables: Iterable[str]) -> None:
    """Delete every row of an entity, children before parents."""
    tables = list(tables)
    if CALLS.name in tables:
        invalidate_hours(connection, read_rows(connection, entity_id, [CALLS.name])[CALLS.name])
    for table in reversed(tables):
        connection.execute(sql.DELETE_ALL[table], (entity_id,))


def _reparse(connection: Connection, entity_id: str, known: ObservationRow) -> ObservationRow:
    """Parse a quarantined body again: this version may understand it."""
    if known.problem is None or not known.has_body:
        return known
    event = load(connection, entity_id, known).event
    if event is None or (event.entity_id, event.entity_type) != (entity_id, known.entity_type):
        return known
    if event.problem != known.problem:
        _set_problem(connection, entity_id, known, event.problem)
    return replace(known, problem=event.problem)


def _set_problem(
    connection: Connection, entity_id: str, known: ObservationRow, problem: str | None
) -> None:
    key = (entity_id, known.body_sha256, known.source)
    connection.execute(sql.SET_PROBLEM, (problem, *key))


def _rebuild_rest(store: AnyStore, connection: Connection) -> None:
    """Delete rows without observations, and rebuild the tables that depend on all observations."""
    for entity_type, table in (("call", "calls"), ("chat", "chats")):
        unfounded = [row[0] for row in connection.execute(sql.UNFOUNDED[table]).fetchall()]
        store.lock(connection, unfounded)
        for entity_id in unfounded:
            # It may have been received while this transaction waited for the lock.
            if not observation_rows(connection, entity_id):
                remove(connection, entity_id, TABLES[entity_type])
    connection.lock_reasons(shared=False)
    used = [reason for (reason,) in connection.execute(sql.USED_REASONS).fetchall()]
    reasons = dict.fromkeys(used, UNKNOWN) | REASONS
    connection.executemany(sql.SEED_REASON, [(r, *meaning) for r, meaning in reasons.items()])
    stored = connection.execute(sql.REASONS).fetchall()
    connection.executemany(sql.DROP_REASON, [row for row in stored if row[0] not in reasons])
    store.reindex(connection)
