"""One received body -> its observation -> its call's or chat's rows, inside one transaction.

`receive` parses a body before the transaction. `observe` inserts its observation first; then
`project_entity` folds the observations, and `write` writes the rows that change. If the content
cannot be projected, the body is still stored, with its problem, and the answer can be 2xx.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Concatenate, ParamSpec

import zstandard

from receiver.store import sql
from receiver.store.outbox import Forward, enqueue
from receiver.store.protocols import Connection
from schema import merge, retention
from schema.chats import project_chat
from schema.disconnection_reasons import REASONS, UNKNOWN
from schema.events import Event, is_usable, parse
from schema.merge import Observation
from schema.rows import Decoded, Rows, Stamp, changes, decode, is_undecided, project, transfer_rows
from schema.sql import rollups
from schema.tables import CALL_TABLES, CALLS, CHAT_TABLES
from schema.transcript import Row

P = ParamSpec("P")

# Entities with rows of their own; other entities are stored as observations only.
TABLES = {"call": [t.name for t in CALL_TABLES], "chat": [t.name for t in CHAT_TABLES]}
# The tables that are read before the changes of a call are known.
_READ_FIRST = ("calls", "unknowns")
# Decoding a body of this length takes tens of milliseconds.
_LARGE_BYTES = 256 * 1024
# With at most this many observations of an entity, all are read for each new one.
MANY = 64
# With more, so many of the highest are read, and so many if the call reaches a higher level,
# because their bodies may be retired then.
FEW, SOME = 16, 200
# The maximum size of recent events in memory.
_RECENT_BYTES = 16 * 1024 * 1024
_COLUMNS = CALLS.names
_START, _OBSERVED, _LEVEL, _UPDATED_AT, _REASON = map(
    _COLUMNS.index,
    ("start_timestamp", "observed_at", "level", "updated_at", "disconnection_reason"),
)


@dataclass(frozen=True, slots=True)
class Received:
    """A body that arrived, parsed before the transaction. Times in milliseconds."""

    event: Event
    source: str
    level: int
    observed_at: int
    received_at: int
    key_id: str | None
    body_bytes: int
    body: bytes
    # The fields that it probably changes, decoded before the transaction.
    decoded: Decoded | None = None
    forward: Forward | None = None


class Outcome(Enum):
    """The result of storing a received body."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class ObservationRow(Observation):
    """An observation with its other columns; `event` is set after its body was loaded."""

    entity_type: str
    first_received_at: int
    problem: str | None
    has_body: bool
    key_id: str | None = None
    account: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it takes part in the merge. After an erasure, it has no level."""
        return self.level is not None and is_usable(self.problem) and self.entity_type in TABLES


class RecentEvents:
    """Recent events of calls and chats, so that their bodies need not be parsed again. They are
    never stale: an event is a function of its body and source."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        # Entity -> (hash, source) -> event, the most recently used entity last.
        self._events: dict[str, dict[tuple[str, str], Event]] = {}
        self._lock = threading.Lock()

    def add(self, event: Event, source: str) -> Event | None:
        """Add an event and remove the least recently used ones beyond the limit; return the
        previous event of the same call or chat."""
        with self._lock:
            events = self._events[event.entity_id] = self._events.pop(event.entity_id, {})
            before = next(reversed(events.values()), None)
            if (event.body_sha256, source) not in events:
                self._bytes += event.size
            events[event.body_sha256, source] = event
            while self._bytes > self.max_bytes:
                forgotten = self._events.pop(next(iter(self._events)))
                self._bytes -= sum(old.size for old in forgotten.values())
        return before

    def find(self, entity_id: str, body_sha256: str, source: str) -> Event | None:
        """The event of a body from a source."""
        with self._lock:
            return self._events.get(entity_id, {}).get((body_sha256, source))


RECENT = RecentEvents(_RECENT_BYTES)


def receive(
    body: bytes, *, source: str, observed_at: int, received_at: int, key_id: str | None = None
) -> Received:
    """Parse, rank, decode and compress a body: all the work that needs no database."""
    event = parse(body, source=source)
    level = merge.level(event, source=source)
    last = decoded = None
    if is_mergeable := event.entity_type in TABLES and is_usable(event.problem):
        last = RECENT.add(event, source)
    # Most fields of an analysed call are probably stored already.
    is_likely_new = level < 3 or len(body) > _LARGE_BYTES
    if is_mergeable and event.entity_type == "call" and (last or is_likely_new):
        # The projection raises the same error and stores it as the problem.
        with suppress(Exception):
            decoded = decode(event.entity_id, changes(last.fields if last else {}, event.fields))
    return Received(
        event=event,
        source=source,
        level=level,
        observed_at=observed_at,
        received_at=received_at,
        key_id=key_id,
        body_bytes=len(body),
        body=zstandard.compress(body),
        decoded=decoded,
    )


# -- observation -----------------------------------------------------------------------------------


def observe(connection: Connection, received: Received) -> Outcome:
    """Store a body and update the rows of its call or chat. Raises the driver's errors."""
    event, others = received.event, None
    key = (event.entity_id, event.body_sha256, received.source)
    # The queries are sent before the first result is read: one round trip to a server.
    tombstones = connection.execute(sql.SCOPES, (event.entity_id,))
    owner = connection.execute(sql.ACCOUNT_OF_KEY, (received.key_id,))
    found = observation_rows(connection, event.entity_id, sql.SOME_KNOWN.format(MANY + 1))
    scopes = {scope for (scope,) in tombstones.fetchall()}
    erased = bool(scopes) and retention.is_closed(scopes)
    (account,) = owner.fetchone() or (None,)
    if len(found) <= MANY:
        others = found
    else:
        found = observation_rows(connection, event.entity_id, sql.ONE_KNOWN, *key[1:])
    twin = next((o for o in found if (o.body_sha256, o.source) == key[1:]), None)
    if twin is None:
        row = _insert(connection, received, account, erased=erased)
    else:
        row = _repeat(connection, received, key, erased=erased)
    if erased:
        return Outcome.ERASED
    if twin is None and not is_usable(event.problem):
        return Outcome.QUARANTINED
    if row.is_usable and row != twin:
        if twin is not None:
            # Its rank may have changed: all observations are folded again.
            others = observation_rows(connection, event.entity_id)
        problem = run_in_savepoint(
            connection, project_entity, event.entity_id, event.entity_type, others,
            None if twin else row, decoded=received.decoded,
        )  # fmt: skip
        if problem:
            connection.execute(sql.SET_PROBLEM, (problem, *key))
            return Outcome.QUARANTINED
        if scopes:
            retain(connection, event.entity_id, scopes)
    return Outcome.STORED if twin is None else Outcome.DUPLICATE


def _insert(
    connection: Connection, received: Received, account: str | None, *, erased: bool
) -> ObservationRow:
    """Insert the observation; for an erased entity only its hash and times."""
    event = received.event
    key = (event.entity_id, event.body_sha256, received.source, event.entity_type)
    times = (received.observed_at, received.received_at, received.received_at)
    content = (event.event, received.level, received.key_id, received.body_bytes, event.problem)
    kept = (None,) * 6 if erased else (*content, received.body)
    connection.execute(sql.INSERT_OBSERVATION, (*key, *times, *kept))
    if received.forward and not erased:
        enqueue(connection, received, received.forward)
    rank = (received.level, received.observed_at, received.source, event.body_sha256)
    facts = (event.entity_type, received.received_at, event.problem)
    return ObservationRow(
        *rank, *facts, has_body=True, key_id=received.key_id, account=account, event=event
    )


def _repeat(
    connection: Connection, received: Received, key: tuple[str, str, str], *, erased: bool
) -> ObservationRow:
    """Count one more delivery of a body; return the updated observation."""
    repeated = dict(zip(("entity_id", "body_sha256", "source"), key, strict=True)) | {
        "observed_at": received.observed_at,
        "received_at": received.received_at,
        "key_id": None if erased else received.key_id,
    }
    connection.execute(sql.REPEAT_OBSERVATION, repeated)
    [row] = observation_rows(connection, key[0], sql.ONE_KNOWN, *key[1:])
    return row


def observation_rows(
    connection: Connection, entity_id: str, query: str = sql.KNOWN, *parameters: str | int
) -> list[ObservationRow]:
    """The observations of an entity that a query selects; unordered, without bodies."""
    found = connection.execute(query, (entity_id, *parameters)).fetchall()
    return [ObservationRow(*row) for row in found]


def usable_rows(rows: Iterable[ObservationRow], entity_type: str) -> list[ObservationRow]:
    """The observations that take part in the merge of a call or chat."""
    return [row for row in rows if row.is_usable and row.entity_type == entity_type]


def load(
    connection: Connection, entity_id: str, row: ObservationRow, *, verbatim: bool = False
) -> ObservationRow:
    """Load the body of an observation; if it was deleted, the observation has no event."""
    if not row.has_body:
        return row
    key = (entity_id, row.body_sha256, row.source)
    event = None if verbatim else RECENT.find(*key)
    if event is None:
        (body,) = connection.execute(sql.BODY, key).fetchone()
        if body is not None:
            event = parse(zstandard.decompress(body), source=row.source, verbatim=verbatim)
    return replace(row, event=event)


# -- fold and rows ---------------------------------------------------------------------------------


def run_in_savepoint(
    connection: Connection,
    work: Callable[Concatenate[Connection, P], None],
    *args: P.args,
    **options: P.kwargs,
) -> str | None:
    """Run `work` in a savepoint; roll back if the content causes an error, and return the problem.

    The problem is only the error's class: a message could contain words of the call. Raises the
    driver's error if the disk, the file or the server fails.
    """
    connection.savepoint()
    try:
        work(connection, *args, **options)
    except (connection.OperationalError, connection.InternalError):
        raise
    except Exception as error:
        if type(error) is connection.DatabaseError:  # a corrupt file
            raise
        connection.roll_back_to_savepoint()
        return f"not projected: {type(error).__name__}"
    connection.release_savepoint()
    return None


def project_entity(
    connection: Connection,
    entity_id: str,
    entity_type: str,
    others: Iterable[ObservationRow] | None,
    newest: ObservationRow | None = None,
    *,
    decoded: Decoded | None = None,
    is_new: bool = False,
) -> None:
    """Fold the observations of a call or chat, and write the rows that change.

    `others` are the observations except `newest`, which has just arrived; None if there are many.
    Without `newest`, all rows are compared with what is stored. `decoded` are fields of `newest`
    that were decoded before. `is_new`: the call or chat has no rows yet.
    """
    known = None if others is None else usable_rows(others, entity_type)
    if not newest and not known:
        return
    # Before the first observation there are no rows.
    is_new = is_new or (newest is not None and known == [])
    tables = _READ_FIRST if entity_type == "call" else ()
    stored = None if is_new else read_rows(connection, entity_id, tables)
    call = next(iter(stored["calls"]), None) if stored else None
    deciding = None
    if newest and call:
        deciding = _deciding(connection, entity_id, known, newest, level=call[_LEVEL])
    is_whole = deciding is None
    if deciding is None:
        if known is None:
            known = usable_rows(observation_rows(connection, entity_id), entity_type)
        deciding = [load(connection, entity_id, row) for row in known]
    observations = [*deciding, newest] if newest else deciding
    fields, now = merge.fold(observations), _stamp(observations)
    envelope = {key for o in observations if o.event for key in o.event.envelope}
    if entity_type == "chat":
        rows = project_chat(entity_id, fields, now, envelope)
    elif is_whole or not (newest and call and stored):
        rows = project(entity_id, fields, now, envelope, decoded=decoded)
        rows["transfers", None] = transfer_rows(entity_id, observations)
    else:
        changed = changes(merge.fold(deciding), fields)
        now = replace(now, updated_at=max(now.updated_at, call[_UPDATED_AT]))
        rows = project(entity_id, changed, now, envelope, decoded=decoded, stored=stored)
        if newest.is_transfer:
            stored |= read_rows(connection, entity_id, ["transfers"])
            rows["transfers", None] = transfer_rows(entity_id, [newest], stored["transfers"])
    write(connection, entity_id, rows, stored, is_whole=is_whole)
    retired = [(entity_id, o.body_sha256, o.source) for o in merge.compactable(observations)]
    connection.executemany(sql.DROP_BODY, retired)
    if entity_type == "call":
        before = call[_REASON] if call else None
        update_reasons(connection, rows["calls", None][0][_REASON], before=before)


def _deciding(
    connection: Connection,
    entity_id: str,
    others: Iterable[ObservationRow] | None,
    newest: ObservationRow,
    *,
    level: int,
) -> list[ObservationRow] | None:
    """The highest others, down to the one that decides which fields the newest changes.

    All of them if the newest may retire bodies of lower levels. None if all observations must be
    loaded. `level` is the call's level before.
    """
    is_partial = others is None
    if others is None:
        query = sql.HIGHEST_OPEN_BODIES if level < 3 else sql.HIGHEST_BODIES
        # One more, because the newest is stored already and may be among them.
        count = (SOME if newest.level > level else FEW) + 1
        found = observation_rows(connection, entity_id, query, newest.entity_type, count)
        others = [row for row in found if row.rank != newest.rank]
    ranked = sorted((o for o in others if o.has_body), key=lambda o: o.rank, reverse=True)
    # The newest's fields that no higher one has, those new at its level, and all seen so far.
    open_fields, added, present = (set(newest.fields) for _ in range(3))
    deciding, is_decided = [], False
    for row in ranked:
        one = load(connection, entity_id, row)
        deciding.append(one)
        present |= one.fields.keys()
        if one.level >= newest.level:
            added -= one.fields.keys()
        if one.rank > newest.rank:
            open_fields -= one.fields.keys()
            is_decided = not open_fields
        else:
            is_decided = not is_undecided(open_fields, present)
        if is_decided and not (added and ranked[-1].level < newest.level):
            break
    return deciding if is_decided or not is_partial else None


def _stamp(observations: Sequence[ObservationRow]) -> Stamp:
    """The columns of a row that come from the observations."""
    highest = max(observations, key=lambda o: o.rank)
    updated_at = max(o.first_received_at for o in observations)
    return Stamp(highest.level, highest.observed_at, updated_at, highest.account)


def read_rows(
    connection: Connection, entity_id: str, tables: Iterable[str]
) -> dict[str, list[Row]]:
    """All rows of an entity in some tables; all queries are sent before the first result is
    read."""
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
    """Replace the slices in `rows` by these rows, and write only rows that change.

    Parents come before children in the order of `sql.ENTITY_TABLES`. `stored` are the tables that
    were already read; None if the entity has no rows yet. `is_whole`: `rows` has every slice of its
    tables, so all other rows are deleted.
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
        # Only columns that change, so that only their indexes are written.
        pairs = zip(_COLUMNS, stored[0], changed[0], strict=True)
        new = {name: after for name, before, after in pairs if before != after}
        statement = sql.UPDATE_CALL.format(", ".join(f"{name} = ?" for name in new))
        connection.execute(statement, (*new.values(), changed[0][0]))
    elif changed:
        connection.upsert(table, changed)


def scopes_of(connection: Connection, entity_id: str) -> frozenset[str]:
    """The scopes of the tombstones of an entity."""
    return frozenset(s for (s,) in connection.execute(sql.SCOPES, (entity_id,)).fetchall())


def retain(connection: Connection, entity_id: str, scopes: Collection[str]) -> Counter[str]:
    """Apply the scopes of tombstones to the rows of an entity; count the changed rows by table."""
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
    """Delete the rollups of the hours and days of these rows of calls."""
    # In order, so that two transactions cannot deadlock.
    times = (merge.began_at(call[_START], call[_OBSERVED]) for call in calls)
    for at in sorted({at for at in times if at is not None}):
        # Integers of every engine have 64 bits.
        since = max(at - rollups.HOUR_MS + 1, -(2**63))
        connection.lock_hour(at)
        connection.execute(rollups.INVALIDATE_HOUR, {"since": since, "at": at})
        connection.execute(rollups.INVALIDATE_DAY, {"at": at})


def update_reasons(connection: Connection, reason: str | None, *, before: str | None) -> None:
    """Add an unknown reason to disconnection_reasons, and delete one that no call has any more."""
    if before == reason:
        # The reason was added with the row, and is kept as long as a call has it.
        return
    if before is not None and before not in REASONS:
        connection.lock_reasons(shared=False)
        if connection.execute(sql.CALL_WITH_REASON, (before,)).fetchone() is None:
            connection.execute(sql.DROP_REASON, (before,))
    if reason is not None and reason not in REASONS:
        connection.lock_reasons(shared=True)
        # In a cluster, an insertion is written to every node even if it changes nothing.
        if connection.execute(sql.HAS_REASON, (reason,)).fetchone() is None:
            connection.execute(sql.ADD_REASON, (reason, *UNKNOWN))
