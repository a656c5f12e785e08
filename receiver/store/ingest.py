"""One received body -> its observation -> its call's or chat's rows, inside one transaction.

`receive` parses a body before the transaction. `observe` inserts its observation first; then
`project_entity` folds the observations, and `write` writes the rows that change. If the content
cannot be projected, the body is still stored, with its problem, and the answer can be 2xx.
"""

import threading
from collections import Counter, OrderedDict
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
from schema.rows import Read, Rows, Stamp, changes, is_undecided, project, read, transfer_rows
from schema.sql import rollups
from schema.tables import CALL_TABLES, CALLS, CHAT_TABLES
from schema.transcript import Row

P = ParamSpec("P")

# What has rows of its own; everything else is kept as an observation only.
TABLES = {"call": [t.name for t in CALL_TABLES], "chat": [t.name for t in CHAT_TABLES]}
# What is read of a call before it is known what changes.
_READ_FIRST = ("calls", "unknowns")
# Reading a body of this length takes tens of milliseconds.
_LARGE_BYTES = 256 * 1024
# Up to so many observations of an entity are all looked at when one more comes.
MANY = 64
# Of more, so many of the highest are looked at; so many when the call reaches a higher level, where
# their bodies may become superfluous.
FEW, SOME = 16, 200
# Bytes of fields that a process has in memory.
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
    # What it probably changes, read before the transaction so that no other request waits.
    ready: Read | None = None
    forward: Forward | None = None


class Outcome(Enum):
    """What became of a received body."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class ObservationRow(Observation):
    """An observation with its other columns; `event` once its body was loaded."""

    entity_type: str
    first_received_at: int
    problem: str | None
    has_body: bool
    key_id: str | None = None
    account: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it takes part in the merge."""
        return is_usable(self.problem) and self.entity_type in TABLES


class RecentEvents:
    """The events of calls and chats that arrived in this process lately, so that their bodies need
    not be read again. They are never stale: an event is a function of its body and source."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        # Entity -> (hash, source) -> event, the entity that was used last at the end.
        self._events: OrderedDict[str, dict[tuple[str, str], Event]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, event: Event, source: str) -> Event | None:
        """Add an event, forget those of other calls if there are too many, and return the event of
        the same call or chat that was added before."""
        with self._lock:
            events = self._events.setdefault(event.entity_id, {})
            self._events.move_to_end(event.entity_id)
            before = next(reversed(events.values()), None)
            if (event.body_sha256, source) not in events:
                self._bytes += event.size
            events[event.body_sha256, source] = event
            while self._bytes > self.max_bytes:
                _, forgotten = self._events.popitem(last=False)
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
    """Parse, rank, read and compress a body: all the work that needs no database."""
    event = parse(body, source=source)
    level = merge.level(event, source=source)
    before = ready = None
    if is_mergeable := event.entity_type in TABLES and is_usable(event.problem):
        before = RECENT.add(event, source)
    # Of an analysed call, most fields are probably stored: what differs is known later.
    is_likely_new = level < 3 or len(body) > _LARGE_BYTES
    if is_mergeable and event.entity_type == "call" and (before or is_likely_new):
        # The projection raises it again and stores it as the problem.
        with suppress(Exception):
            ready = read(event.entity_id, changes(before.fields if before else {}, event.fields))
    return Received(
        event=event,
        source=source,
        level=level,
        observed_at=observed_at,
        received_at=received_at,
        key_id=key_id,
        body_bytes=len(body),
        body=zstandard.compress(body),
        ready=ready,
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
        newest = row if twin is None else None
        if newest is None:
            # It may have another place in the order now: all of them are folded again.
            others = observation_rows(connection, event.entity_id)
        entity = (event.entity_id, event.entity_type)
        problem = run_in_savepoint(
            connection, project_entity, *entity, others, newest, ready=received.ready
        )
        if problem:
            connection.execute(sql.SET_PROBLEM, (problem, *key))
            return Outcome.QUARANTINED
        if scopes:
            retain(connection, event.entity_id, scopes)
    return Outcome.STORED if twin is None else Outcome.DUPLICATE


def _insert(
    connection: Connection, received: Received, account: str | None, *, erased: bool
) -> ObservationRow:
    """Insert the observation; of an erased entity only its hash and times."""
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
    """Count one more delivery of a body; return its observation as it is then."""
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
    """The observations of an entity, all in no order or those of a query; bodies not loaded."""
    found = connection.execute(query, (entity_id, *parameters)).fetchall()
    return [ObservationRow(*row) for row in found]


def usable_rows(rows: Iterable[ObservationRow], entity_type: str) -> list[ObservationRow]:
    """Those that take part in the merge of a call or chat."""
    return [row for row in rows if row.is_usable and row.entity_type == entity_type]


def load(
    connection: Connection, entity_id: str, row: ObservationRow, *, verbatim: bool = False
) -> ObservationRow:
    """The observation with what its body carries; with nothing if the body is gone."""
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

    Only its class: a message could repeat what the call says. Raises the driver's error if the
    disk, the file or the server fails.
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
    ready: Read | None = None,
    is_new: bool = False,
) -> None:
    """Fold the observations of a call or chat, and write the rows that change.

    `others` are those beside `newest`, which has just arrived, or None if there are many. Without
    `newest`, all rows are compared with what is stored. `ready` are fields of `newest` that were
    read before. `is_new`: the call or chat has no rows yet.
    """
    known = None if others is None else usable_rows(others, entity_type)
    if not newest and not known:
        return
    # The first observation finds no rows.
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
        rows = project(entity_id, fields, now, envelope, ready=ready)
        rows["transfers", None] = transfer_rows(entity_id, observations)
    else:
        changed = changes(merge.fold(deciding), fields)
        now = replace(now, updated_at=max(now.updated_at, call[_UPDATED_AT]))
        rows = project(entity_id, changed, now, envelope, ready=ready, stored=stored)
        if newest.is_transfer:
            stored |= read_rows(connection, entity_id, ["transfers"])
            rows["transfers", None] = transfer_rows(entity_id, [newest], stored["transfers"])
    write(connection, entity_id, rows, stored, is_whole=is_whole)
    retired = [(entity_id, o.body_sha256, o.source) for o in merge.compactable(observations)]
    connection.executemany(sql.DROP_BODY, retired)
    if entity_type == "call":
        before = call[_REASON] if call else None
        note_reason(connection, rows["calls", None][0][_REASON], before=before)


def _deciding(
    connection: Connection,
    entity_id: str,
    others: Iterable[ObservationRow] | None,
    newest: ObservationRow,
    *,
    level: int,
) -> list[ObservationRow] | None:
    """The highest of the others, down to the one that had the last word on what the newest changes.

    Down to the lowest if the newest may make bodies below its level superfluous. None if only all
    observations tell what it changes. `level` is that of the call before it.
    """
    is_partial = others is None
    if others is None:
        query = sql.HIGHEST_OPEN_BODIES if level < 3 else sql.HIGHEST_BODIES
        # One more: the newest, which is stored already, may be among them.
        count = (SOME if newest.level > level else FEW) + 1
        found = observation_rows(connection, entity_id, query, newest.entity_type, count)
        others = [row for row in found if row.rank != newest.rank]
    ranked = sorted((o for o in others if o.has_body), key=lambda o: o.rank, reverse=True)
    # Its fields that no higher one has, those that are new at its level, and the fields of all.
    open_fields, added, carried = (set(newest.fields) for _ in range(3))
    deciding, is_decided = [], False
    for row in ranked:
        one = load(connection, entity_id, row)
        deciding.append(one)
        carried |= one.fields.keys()
        if one.level >= newest.level:
            added -= one.fields.keys()
        if one.rank > newest.rank:
            open_fields -= one.fields.keys()
            is_decided = not open_fields
        else:
            is_decided = not is_undecided(open_fields, carried)
        if is_decided and not (added and ranked[-1].level < newest.level):
            break
    return deciding if is_decided or not is_partial else None


def _stamp(observations: Sequence[ObservationRow]) -> Stamp:
    """What a row tells of its observations."""
    highest = max(observations, key=lambda o: o.rank)
    updated_at = max(o.first_received_at for o in observations)
    return Stamp(highest.level, highest.observed_at, updated_at, highest.account)


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
        # Only the columns that change: of the indexes of calls, only theirs are written.
        pairs = zip(_COLUMNS, stored[0], changed[0], strict=True)
        new = {name: after for name, before, after in pairs if before != after}
        statement = sql.UPDATE_CALL.format(", ".join(f"{name} = ?" for name in new))
        connection.execute(statement, (*new.values(), changed[0][0]))
    elif changed:
        connection.upsert(table, changed)


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
    if before is not None and before not in REASONS:
        connection.lock_reasons(shared=False)
        if connection.execute(sql.CALL_WITH_REASON, (before,)).fetchone() is None:
            connection.execute(sql.DROP_REASON, (before,))
    if reason is not None and reason not in REASONS:
        connection.lock_reasons(shared=True)
        # In a cluster, an insertion is written to every node, also one that changes nothing.
        if connection.execute(sql.HAS_REASON, (reason,)).fetchone() is None:
            connection.execute(sql.ADD_REASON, (reason, *UNKNOWN))
