"""Copy a batch of ids from one database into another, and find the differences of two databases.

In: a source and a target on any engine, and a batch of ids. Out: the target has everything that the
source has of them. Observations are copied and projected in the same transaction, so a copy can be
interrupted anywhere and resumed. The target loses nothing, unless the copy is exact.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from receiver.addresses import Location
from receiver.errors import DatabaseUnreadable, SchemaMismatch
from receiver.store import sql
from receiver.store.engine import AnyStore, engine, migrate, reading, require_bodies
from receiver.store.erasing import WORDLESS_KINDS, erase_own
from receiver.store.ingest import (
    observation_rows,
    read_rows,
    run_in_savepoint,
    scopes_of,
    update_reasons,
    write,
)
from receiver.store.protocols import Connection
from receiver.store.rebuilding import BATCH, reproject
from schema import retention
from schema.rows import Rows
from schema.tables import (
    ACCOUNT_KEYS,
    ALERTS,
    ANNOTATIONS,
    CALLS,
    COVERAGE,
    ERASURES,
    MEDIA_FILES,
    OBSERVATIONS,
    RECEIPTS,
    RETELL_ALERTS,
    SAVED_VIEWS,
    SHARE_LINKS,
    STATEMENTS,
    SYNCS,
    UPSTREAM_CALLS,
    Table,
)
from schema.transcript import Row

_REASON = CALLS.names.index("disconnection_reason")
# Ids in a batch: the rows of so many calls are in memory at once.
BATCH_IDS = 500
# Small tables whose rows do not belong to one call.
SHARED_TABLES = (
    ACCOUNT_KEYS,
    SYNCS,
    COVERAGE,
    RECEIPTS,
    SAVED_VIEWS,
    STATEMENTS,
    ALERTS,
    RETELL_ALERTS,
)
# Rows of a call that are not projected from observations: the newer one wins.
CALLS_OWN_TABLES = (UPSTREAM_CALLS, MEDIA_FILES, ANNOTATIONS, SHARE_LINKS)

# The columns of observations; of the body only whether there is one.
_WITHOUT_BODY = (*OBSERVATIONS.names[:-1], "body IS NOT NULL")
STORED_OBSERVATIONS = f"SELECT {', '.join(_WITHOUT_BODY)} FROM observations WHERE entity_id = ?"
OBSERVATIONS_WITH_BODIES = sql.select(OBSERVATIONS)
# The target keeps a body that the source has compacted; the projection decides whether it is
# needed.
PUT_OBSERVATION = sql.upsert(OBSERVATIONS).replace(
    "body = excluded.body", "body = coalesce(excluded.body, observations.body)"
)
# The older of two tombstones is kept.
PUT_ERASURE = (
    f"{sql.upsert(ERASURES)} "
    "WHERE coalesce(excluded.erased_at, 0) < coalesce(erasures.erased_at, 0)"
)
# An exact copy deletes an entity before it writes the rows of the source.
DELETE_ENTITY = [
    f"DELETE FROM {table} WHERE entity_id = ?" for table in ("observations", "erasures")
]
# Marks a file that only mirrors have written.
IS_MIRROR = "PRAGMA user_version"
MARK_MIRROR = "PRAGMA user_version = 1"
# Ids that changed recently, with the changed value: a pair that was seen before is not a change.
RECENT = (
    "SELECT entity_id, body_sha256, source, last_received_at, times_received FROM observations "
    "WHERE last_received_at >= :since "
    "UNION ALL SELECT entity_id, 'erased', scope, erased_at, 0 FROM erasures "
    "WHERE erased_at >= :since "
    "UNION ALL SELECT call_id, 'asked', '', asked_at, gone_at FROM upstream_calls "
    "WHERE asked_at >= :since OR gone_at >= :since "
    "UNION ALL SELECT call_id, 'media', kind, changed_at, 0 FROM media_files "
    "WHERE changed_at >= :since "
    "UNION ALL SELECT entity_id, 'annotation', annotation_id, changed_at, 0 FROM annotations "
    "WHERE changed_at >= :since "
    "UNION ALL SELECT call_id, 'link', link_id, changed_at, 0 FROM share_links "
    "WHERE changed_at >= :since"
)
NEWEST = "SELECT max(updated_at) FROM calls"


def select_all(table: Table) -> str:
    """Every row."""
    return f"SELECT {', '.join(table.names)} FROM {table.name}"


def _select_row(table: Table) -> str:
    """The row with a key."""
    return sql.delete(table).replace("DELETE", f"SELECT {', '.join(table.names)}", 1)


def _select_batch(table: Table, condition: str, *, bodies: bool) -> str:
    """Rows whose first key column, `{}` in the condition, matches."""
    columns = table.names if bodies or table is not OBSERVATIONS else _WITHOUT_BODY
    where = condition.replace("{}", table.key[0])
    return f"SELECT {', '.join(columns)} FROM {table.name} WHERE {where}"


class ObservationRow(NamedTuple):
    """A row of observations; `body` is a truth value where bodies are not read."""

    entity_id: str
    body_sha256: str
    source: str
    entity_type: str
    event: str | None
    level: int | None
    observed_at: int
    first_received_at: int
    last_received_at: int
    times_received: int
    key_id: str | None
    body_bytes: int | None
    problem: str | None
    body: Any

    @property
    def key(self) -> Row:
        """Its key within its entity."""
        return self[1:3]


class EntityState:
    """The stored state of one call, chat or other entity: observations by key, and tombstones."""

    def __init__(self) -> None:
        self.observations: dict[Row, ObservationRow] = {}
        self.erasures: dict[str, Row] = {}

    def is_behind(self, other: "EntityState") -> bool:
        """Whether `other` has something that is missing here."""
        for scope, erasure in other.erasures.items():
            mine = self.erasures.get(scope)
            if mine is None or (erasure[2] or 0) < (mine[2] or 0):
                return True
        scopes = self.erasures.keys()
        for key, row in other.observations.items():
            stored = self.observations.get(key)
            if stored is None or merged(row, stored, scopes)[:-1] != stored[:-1]:
                return True
        # Equal observations need the same bodies.
        return (
            not retention.is_closed(scopes)
            and self.observations.keys() == other.observations.keys()
            and any(
                row.body and not self.observations[key].body
                for key, row in other.observations.items()
            )
        )

    def has_extra(self, other: "EntityState") -> bool:
        """Whether it has an observation or a tombstone that `other` does not have."""
        extra = self.observations.keys() - other.observations.keys()
        return bool(extra or self.erasures.keys() - other.erasures.keys())

    def as_erased(self, row: ObservationRow) -> ObservationRow:
        """An observation as its tombstones leave it."""
        return merged(row, None, self.erasures)

    @property
    def is_frozen(self) -> bool:
        """Whether its bodies were pruned and its rows stay."""
        return retention.is_closed(self.erasures) and retention.ALL not in self.erasures


class IdBatch(ABC):
    """Some ids of calls, chats and other entities."""

    @abstractmethod
    def rows(self, connection: Connection, table: Table, *, bodies: bool = False) -> list[Row]:
        """A table's rows of these ids."""

    def states(self, connection: Connection) -> defaultdict[str, EntityState]:
        """The state of each entity, without bodies."""
        found: defaultdict[str, EntityState] = defaultdict(EntityState)
        for row in (ObservationRow(*r) for r in self.rows(connection, OBSERVATIONS)):
            found[row.entity_id].observations[row.key] = row
        for erasure in self.rows(connection, ERASURES):
            found[erasure[0]].erasures[erasure[1]] = erasure
        return found


@dataclass(frozen=True, slots=True)
class IdRange(IdBatch):
    """Every id after `after`, up to and including `upto`; up to the end if that is None."""

    after: str
    upto: str | None

    def rows(self, connection: Connection, table: Table, *, bodies: bool = False) -> list[Row]:
        """A table's rows of the span."""
        bounds = (self.after,) if self.upto is None else (self.after, self.upto)
        condition = "{} > ?" if self.upto is None else "{} > ? AND {} <= ?"
        statement = _select_batch(table, condition, bodies=bodies)
        found: list[Row] = connection.execute(statement, bounds).fetchall()
        return found


@dataclass(frozen=True, slots=True)
class IdList(IdBatch):
    """A list of ids."""

    ids: list[str]

    def rows(self, connection: Connection, table: Table, *, bodies: bool = False) -> list[Row]:
        """A table's rows, id by id."""
        statement = _select_batch(table, "{} = ?", bodies=bodies)
        return [row for id in self.ids for row in connection.execute(statement, (id,)).fetchall()]


def spans(source: Location, target: Location) -> Iterator[IdRange]:
    """All ids of both databases in batches. No database stays open between two batches. Raises
    DatabaseAway."""
    after: str | None = ""
    while after is not None:
        with reading(source) as from_source, reading(target) as from_target:
            found = [_batch_end(connection, after) for connection in (from_source, from_target)]
            upto = min((last for last in found if last is not None), default=None)
        yield IdRange(after, upto)
        after = upto


def _batch_end(connection: Connection, after: str) -> str | None:
    """The last id of a batch; None if fewer are left."""
    found = connection.execute(sql.ENTITIES_AFTER, (after, BATCH_IDS)).fetchall()
    last: str | None = found[-1][0] if len(found) == BATCH_IDS else None
    return last


def without_content(row: ObservationRow) -> ObservationRow:
    """The columns of an erased entity's observation that are kept: hash and times."""
    return row._replace(
        event=None, level=None, key_id=None, body_bytes=None, problem=None, body=None
    )


def merged(
    row: ObservationRow, stored: ObservationRow | None, scopes: Collection[str]
) -> ObservationRow:
    """The merge of a row with the `stored` one, for an entity with tombstones of these scopes.
    Idempotent.

    `times_received` is the larger number, because it is not known which deliveries both have
    counted.
    """
    erased = retention.ALL in scopes
    if retention.is_closed(scopes):
        row = row._replace(body=None)
    if stored is None:
        return without_content(row) if erased else row
    pick = max if row.source == "api" else min
    keys = [key for key in (row.key_id, stored.key_id) if key is not None]
    return stored._replace(
        observed_at=pick(row.observed_at, stored.observed_at),
        first_received_at=min(row.first_received_at, stored.first_received_at),
        last_received_at=max(row.last_received_at, stored.last_received_at),
        times_received=max(row.times_received, stored.times_received),
        key_id=None if erased else min(keys, default=None),
        body=None if erased else row.body,
    )


def rank(table: Table, row: Row) -> tuple[Any, ...]:
    """The order of rows that are not projected from observations: the newer one wins."""
    cells = dict(zip(table.names, row, strict=True))
    if table is UPSTREAM_CALLS:
        return (max(cells["asked_at"] or 0, cells["gone_at"] or 0),)
    if table is SYNCS:
        return (cells["started_at"] or 0, cells["finished_at"] or 0, cells["next_day"] or "")
    if table is ACCOUNT_KEYS:
        return ()
    if "changed_at" in cells:
        return (cells["changed_at"] or 0,)
    if table is STATEMENTS:
        # The first closing of a month is kept.
        return (-(cells["closed_at"] or 0),)
    if table is RECEIPTS:
        return (cells["created_at"] or 0,)
    return (cells["checked_at"] or 0,)


def is_allowed(table: Table, row: Row, scopes: Collection[str]) -> bool:
    """Whether a row of CALLS_OWN_TABLES may be written for an entity with these tombstones."""
    cells = dict(zip(table.names, row, strict=True))
    forbidding = {retention.ALL}
    if table is MEDIA_FILES and cells["state"] != "pruned":
        forbidding |= {retention.RECORDINGS, retention.PERSONAL}
    if table is ANNOTATIONS and cells["value"] and cells["kind"] not in WORDLESS_KINDS:
        forbidding.add(retention.PERSONAL)
    return forbidding.isdisjoint(scopes)


def prepare(source: Location, target: Location, *, timezone: str) -> None:
    """Create or migrate `target`. Raises NotStored, CopyWithoutBodies, and StoreUnavailable if the
    source cannot be read or has another schema."""
    with reading(source):
        require_bodies(source)
    problems: list[str] = []
    schema = engine(source).check(problems)["schema"]
    if schema is None and problems:
        raise DatabaseUnreadable(f"{source} cannot be read: {problems[0]}")
    migrate(target, timezone=timezone)
    if schema != engine(target).check([])["schema"]:
        raise SchemaMismatch(
            "the database to copy from does not have this version's schema",
            hint="Run `callhouse migrate` on it first.",
        )


@dataclass(frozen=True, slots=True)
class Copied:
    """Counts of calls, chats and other entities: how many the source has, how many were copied, how
    many the target refused, and of how many something was erased."""

    seen: int
    entities: int
    refused: int
    erased: int = 0


def copy_batch(
    ids: IdBatch,
    source: Location,
    target: Location,
    store: AnyStore,
    *,
    is_exact: bool = False,
) -> Copied:
    """Copy what is missing in the target, open as `store`, of a batch.

    `is_exact` deletes what the source does not have. The target is read before the first row is
    written: its log (WAL) grows as long as it is read.
    """
    with reading(source) as from_source:
        with reading(target) as from_target:
            stored = ids.states(from_target)
            target_own = [(t, set(ids.rows(from_target, t))) for t in CALLS_OWN_TABLES]
        wanted = ids.states(from_source)
        extra = {id for id in stored if stored[id].has_extra(wanted[id])} if is_exact else set()
        behind = [id for id in wanted if id in extra or stored[id].is_behind(wanted[id])]
        refused = 0
        for n in range(0, len(behind), BATCH):
            batch = {
                entity_id: _Entity(
                    _observations(from_source, OBSERVATIONS_WITH_BODIES, entity_id),
                    [*wanted[entity_id].erasures.values()],
                    entity_id in extra,
                    _rows(from_source, entity_id) if wanted[entity_id].is_frozen else {},
                )
                for entity_id in behind[n : n + BATCH]
            }
            refused += store.run(partial(_write, store, batch))
        for table, rows in target_own:
            _copy_rows(store, table, set(ids.rows(from_source, table)), rows, is_exact=is_exact)
    seen = sum(bool(state.observations or state.erasures) for state in wanted.values())
    erased = sum(bool(wanted[id].erasures.keys() - stored[id].erasures.keys()) for id in behind)
    return Copied(seen, len(behind) - refused, refused, erased)


def copy_shared_tables(
    source: Location,
    target: Location,
    store: AnyStore,
    *,
    tables: Iterable[Table] = SHARED_TABLES,
    is_exact: bool = False,
) -> None:
    """Copy tables whose rows do not belong to one call."""
    for table in tables:
        with reading(source) as from_source, reading(target) as from_target:
            wanted, stored = (
                set(c.execute(select_all(table)).fetchall()) for c in (from_source, from_target)
            )
        _copy_rows(store, table, wanted, stored, is_exact=is_exact)


def _copy_rows(
    store: AnyStore, table: Table, wanted: set[Row], stored: set[Row], *, is_exact: bool
) -> None:
    """Write rows that are not projected from observations: the newer ones, or exactly those of the
    source."""
    width = len(table.key)
    gone = {row[:width] for row in stored - wanted} if is_exact else set()
    new_rows = list(wanted - stored)

    def unit(connection: Connection) -> None:
        connection.executemany(sql.delete(table), sorted(gone))
        rows = new_rows
        if table in CALLS_OWN_TABLES:
            # Excludes calls that are being erased.
            store.lock(connection, {row[0] for row in rows})
            rows = [r for r in rows if is_allowed(table, r, scopes_of(connection, r[0]))]
        for row in rows:
            _write_newer(connection, table, row)

    if gone or new_rows:
        store.run(unit)


def _write_newer(connection: Connection, table: Table, row: Row) -> None:
    found = connection.execute(_select_row(table), row[: len(table.key)]).fetchone()
    if found is None or (found != row and rank(table, found) <= rank(table, row)):
        connection.execute(sql.upsert(table), row)


class _Entity(NamedTuple):
    """An entity to write; `is_exact` if everything else of it is deleted. `rows` are set if its
    bodies were pruned, because they cannot be projected from its observations."""

    observations: list[ObservationRow]
    erasures: list[Row]
    is_exact: bool
    rows: Rows


def _rows(connection: Connection, entity_id: str) -> Rows:
    """Every row of a call or chat."""
    found = {
        (table, None): connection.execute(statement, (entity_id,)).fetchall()
        for table, statement in sql.SELECT.items()
    }
    return {part: rows for part, rows in found.items() if rows}


def _observations(connection: Connection, statement: str, entity_id: str) -> list[ObservationRow]:
    return [ObservationRow(*row) for row in connection.execute(statement, (entity_id,)).fetchall()]


def _write(store: AnyStore, entities: dict[str, _Entity], connection: Connection) -> int:
    """Write entities; return how many were refused."""
    refused = 0
    # Every writer locks ids in this order.
    for entity_id in sorted(entities):
        problem = run_in_savepoint(connection, _write_entity, store, entity_id, entities[entity_id])
        refused += problem is not None
    return refused


def _write_rows(connection: Connection, entity_id: str, rows: Rows) -> None:
    """Replace all rows of a call or chat."""
    stored = read_rows(connection, entity_id, [CALLS.name])
    write(connection, entity_id, rows, stored, is_whole=True)
    found = (stored[CALLS.name], rows.get((CALLS.name, None), []))
    before, after = (calls[0][_REASON] if calls else None for calls in found)
    update_reasons(connection, after, before=before)


def _write_entity(connection: Connection, store: AnyStore, entity_id: str, entity: _Entity) -> None:
    store.lock(connection, [entity_id])
    if entity.is_exact:
        for statement in DELETE_ENTITY:
            connection.execute(statement, (entity_id,))
    was_closed = retention.is_closed(scopes_of(connection, entity_id))
    connection.executemany(PUT_ERASURE, entity.erasures)
    scopes = scopes_of(connection, entity_id)
    stored = {row.key: row for row in _observations(connection, STORED_OBSERVATIONS, entity_id)}
    rows = [merged(row, stored.get(row.key), scopes) for row in entity.observations]
    connection.executemany(PUT_OBSERVATION, rows)
    if retention.ALL in scopes:
        connection.execute(sql.ERASE_OBSERVATIONS, (entity_id,))
    elif retention.is_closed(scopes):
        if entity.rows and not was_closed:
            _write_rows(connection, entity_id, entity.rows)
        connection.execute(sql.DROP_BODIES_OF, (entity_id,))
    known = observation_rows(connection, entity_id)
    reproject(connection, entity_id, known, is_new=not stored and not entity.is_exact)
    for _, scope, erased_at, *_ in entity.erasures:
        erase_own(connection, entity_id, scope, erased_at or 0)
