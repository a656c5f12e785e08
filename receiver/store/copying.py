"""Carrying a warehouse into another database, on whatever engines, while events arrive at either.

What was observed of a call is carried, and its rows are made from that in the same transaction, so
a copy may stop anywhere: another one carries what is lacking. Nothing the target has is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from receiver.addresses import Location
from receiver.errors import DatabaseUnreadable, SchemaMismatch
from receiver.store import copy_sql, sql
from receiver.store.engine import AnyStore, engine, migrate, open_store, reading, require_bodies
from receiver.store.observations import known_observations
from receiver.store.projecting import undone
from receiver.store.protocols import Connection
from receiver.store.rebuilding import BATCH, reproject
from receiver.store.spans import ALONE, Kept, Portion, merged, rank, spans
from schema.tables import UPSTREAM_CALLS, Table
from schema.transcript import Row

# How long a batch waits for receivers that write to the target.
BUSY_SECONDS = 30.0


class Whole(NamedTuple):
    """An entity to carry: observations with their bodies, tombstone; `is_exact` if nothing else may
    stay of it in the target."""

    observations: list[Kept]
    erasure: Row | None
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Carried:
    """How many calls, chats and other entities were carried, and how many the target refused."""

    entities: int
    refused: int


def carry(
    source: Location,
    target: Location,
    *,
    timezone: str,
    progress: Callable[[int, int, int], None],
) -> Carried:
    """Bring what `source` has into `target`, which is made if it is not there.

    Goes round until nothing is new, or not less than the last time: events may arrive for ever.
    `progress` is called with the round, how many entities are done and of how many. Raises
    NotStored without a source, SchemaMismatch for one of another version, and StoreUnavailable.
    """
    make_ready(source, target, timezone=timezone)
    store = open_store(target, busy_seconds=BUSY_SECONDS)
    try:
        counts: list[int] = []
        while not counts or (counts[-1] and (len(counts) < 2 or counts[-1] < counts[-2])):
            number = len(counts) + 1
            done = _round(source, target, store, partial(progress, number))
            counts.append(done.entities)
        return Carried(sum(counts), done.refused)
    finally:
        store.close()


def make_ready(source: Location, target: Location, *, timezone: str) -> None:
    """Make `target` one that takes all of `source`. Raises NotStored, CopyWithoutBodies and
    StoreUnavailable."""
    with reading(source):
        require_bodies(source)
    problems: list[str] = []
    schema = engine(source).look(problems)["schema"]
    if schema is None and problems:
        raise DatabaseUnreadable(f"{source} cannot be read: {problems[0]}")
    migrate(target, timezone=timezone)
    if schema != engine(target).look([])["schema"]:
        raise SchemaMismatch(
            "the database to copy from does not have this version's schema",
            hint="Run `callhouse migrate` on it first.",
        )


def _round(
    source: Location, target: Location, store: AnyStore, progress: Callable[[int, int], None]
) -> Carried:
    """Once through all ids."""
    with reading(source) as here:
        (total,) = here.execute(sql.COUNT_ENTITIES).fetchone()
    done = carried = refused = 0
    for span in spans(source, target):
        seen, count = bring(span, source, target, store)
        done, carried, refused = done + seen, carried + count.entities, refused + count.refused
        progress(done, max(done, total))
    bring_alone(source, target, store)
    return Carried(carried, refused)


def bring(
    portion: Portion,
    source: Location,
    target: Location,
    store: AnyStore,
    *,
    is_exact: bool = False,
) -> tuple[int, Carried]:
    """Carry what the target lacks of a portion; return how many entities the source has of it.

    `is_exact` removes what the source does not have. The target is read before the first row is
    written: its log (WAL) would grow for as long as it is read.
    """
    with reading(source) as here:
        with reading(target) as there:
            theirs, asked = portion.seen(there), set(portion.rows(there, UPSTREAM_CALLS))
        ours = portion.seen(here)
        extra = {id for id in theirs if theirs[id].exceeds(ours[id])} if is_exact else set()
        lacking = [id for id in ours if id in extra or theirs[id].lacks(ours[id])]
        refused = 0
        for n in range(0, len(lacking), BATCH):
            batch = {
                entity_id: Whole(
                    _observations(here, copy_sql.WHOLE, entity_id),
                    ours[entity_id].erasure,
                    entity_id in extra,
                )
                for entity_id in lacking[n : n + BATCH]
            }
            refused += store.run(partial(_put, store, batch))
        wanted = set(portion.rows(here, UPSTREAM_CALLS))
        _put_rows(store, UPSTREAM_CALLS, wanted, asked, is_exact=is_exact)
    is_here = [entity for entity in ours.values() if entity.kept or entity.erasure]
    return len(is_here), Carried(len(lacking) - refused, refused)


def bring_alone(
    source: Location, target: Location, store: AnyStore, *, is_exact: bool = False
) -> None:
    """Carry the rows that are about no call alone."""
    for table in ALONE:
        with reading(source) as here, reading(target) as there:
            ours, theirs = (
                set(c.execute(copy_sql.all_of(table)).fetchall()) for c in (here, there)
            )
        _put_rows(store, table, ours, theirs, is_exact=is_exact)


def _put_rows(
    store: AnyStore, table: Table, ours: set[Row], theirs: set[Row], *, is_exact: bool
) -> None:
    """Put rows that no observation speaks of: the newer ones, or exactly the source's."""
    width = len(table.key)
    gone = {row[:width] for row in theirs - ours} if is_exact else set()
    new_rows = list(ours - theirs)

    def unit(connection: Connection) -> None:
        connection.executemany(sql.delete(table), sorted(gone))
        for row in new_rows:
            _put_newer(connection, table, row)

    if gone or new_rows:
        store.run(unit)


def _observations(connection: Connection, statement: str, entity_id: str) -> list[Kept]:
    return [Kept(*row) for row in connection.execute(statement, (entity_id,)).fetchall()]


def _put(store: AnyStore, entities: dict[str, Whole], connection: Connection) -> int:
    """Put entities; return how many were refused."""
    refused = 0
    # In the order in which everybody locks them.
    for entity_id in sorted(entities):
        put = partial(_put_entity, store, connection, entity_id, entities[entity_id])
        refused += undone(connection, put) is not None
    return refused


def _put_entity(store: AnyStore, connection: Connection, entity_id: str, whole: Whole) -> None:
    store.lock(connection, [entity_id])
    if whole.is_exact:
        for statement in copy_sql.DROP:
            connection.execute(statement, (entity_id,))
    if whole.erasure:
        connection.execute(copy_sql.PUT_ERASURE, whole.erasure)
    erased = connection.execute(sql.IS_ERASED, (entity_id,)).fetchone() is not None
    stored = {row.key: row for row in _observations(connection, copy_sql.WITHOUT_BODY, entity_id)}
    put = [merged(row, stored.get(row.key), erased=erased) for row in whole.observations]
    connection.executemany(copy_sql.PUT_OBSERVATION, put)
    if erased:
        connection.execute(copy_sql.FORGET, (entity_id,))
    known = known_observations(connection, entity_id)
    reproject(connection, entity_id, known, is_new=not stored and not whole.is_exact)


def _put_newer(connection: Connection, table: Table, row: Row) -> None:
    found = connection.execute(copy_sql.one(table), row[: len(table.key)]).fetchone()
    if found is None or (found != row and rank(table, found) <= rank(table, row)):
        connection.execute(sql.upsert(table), row)
