"""One received body -> its observation -> its call's or chat's rows, inside one transaction.

`receive` parses a body before the transaction. `observe` inserts its observation first; then
`try_project` updates the rows under a savepoint. If the content cannot be projected, the body is
still stored, with its problem, and the answer can be 2xx.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, partial
from typing import Any

import zstandard

from receiver.store import sql
from receiver.store.observations import (
    ENTITY_TYPES,
    FEW,
    RECENT,
    SOME,
    ObservationRow,
    few_observation_rows,
    highest_bodies,
    load,
    observation_rows,
    stamp,
    twin_of,
)
from receiver.store.outbox import Forward, enqueue
from receiver.store.protocols import Connection
from receiver.store.writing import read_call, retain, write
from schema import merge, retention
from schema.chats import project_chat
from schema.disconnection_reasons import REASONS, UNKNOWN
from schema.events import Event, is_usable, parse
from schema.merge import Observation
from schema.rows import (
    Read,
    Rows,
    Stored,
    deciding,
    project,
    read,
    transfer_rows,
    with_transfer,
)
from schema.tables import CALLS

# Reading a body of this length takes tens of milliseconds.
_LARGE_BYTES = 256 * 1024
_REASON = CALLS.names.index("disconnection_reason")


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


def receive(
    body: bytes, *, source: str, observed_at: int, received_at: int, key_id: str | None = None
) -> Received:
    """Parse, rank, read and compress a body: all the work that needs no database."""
    event = parse(body, source=source)
    level = merge.level(event, source=source)
    return Received(
        event=event,
        source=source,
        level=level,
        observed_at=observed_at,
        received_at=received_at,
        key_id=key_id,
        body_bytes=len(body),
        body=zstandard.compress(body),
        # Of an analysed call, most fields are probably stored: what differs is known later.
        ready=_read(event, source, is_likely_new=level < 3 or len(body) > _LARGE_BYTES),
    )


def _read(event: Event, source: str, *, is_likely_new: bool) -> Read | None:
    """What a call's event says beyond the one before it, if that arrived here lately."""
    if event.entity_type not in ENTITY_TYPES or not is_usable(event.problem):
        return None
    before = RECENT.last(event.entity_id)
    RECENT.add(event, source)
    if event.entity_type != "call" or not (before or is_likely_new):
        return None
    try:
        fields = merge.differing(event.fields, before.fields) if before else event.fields
        return read(event.entity_id, fields)
    except Exception:
        # The projection raises it again and stores it as the problem.
        return None


def observe(connection: Connection, received: Received) -> Outcome:
    """Store a body and update the rows of its call or chat. Raises the driver's errors."""
    event = received.event
    key = (event.entity_id, event.body_sha256, received.source)
    # The queries are sent before the first result is read: one round trip to a server.
    tombstones = connection.execute(sql.SCOPES, (event.entity_id,))
    owner = connection.execute(sql.ACCOUNT_OF_KEY, (received.key_id,))
    known = few_observation_rows(connection, event.entity_id)
    scopes = {scope for (scope,) in tombstones.fetchall()}
    erased = bool(scopes) and retention.is_closed(scopes)
    (account,) = owner.fetchone() or (None,)
    is_partial = known is None
    if known is None:
        twin = twin_of(connection, key)
    else:
        twin = next((k for k in known if (k.body_sha256, k.source) == key[1:]), None)
    if twin is None:
        _insert(connection, received, erased=erased)
        known = [*(known or ()), _row_of(received, account)]
    else:
        moved = _repeated(received, twin, account)
        repeated = {
            "entity_id": event.entity_id,
            "body_sha256": event.body_sha256,
            "source": received.source,
            "observed_at": moved.observed_at,
            "received_at": received.received_at,
            "key_id": None if erased else received.key_id,
        }
        connection.execute(sql.REPEAT_OBSERVATION, repeated)
        if known is not None:
            known[known.index(twin)] = moved
    if erased:
        return Outcome.ERASED
    if twin is not None and (moved == twin or not twin.is_usable):
        return Outcome.DUPLICATE
    if twin is None and not is_usable(event.problem):
        return Outcome.QUARANTINED
    if known is None:
        known, is_partial = observation_rows(connection, event.entity_id), False
    newest = event if twin is None else None
    ready = received.ready if newest else None
    if problem := try_project(
        connection,
        event.entity_id,
        event.entity_type,
        known,
        newest,
        ready=ready,
        is_partial=is_partial,
    ):
        connection.execute(sql.SET_PROBLEM, (problem, *key))
        return Outcome.QUARANTINED
    if scopes:
        retain(connection, event.entity_id, scopes)
    return Outcome.STORED if twin is None else Outcome.DUPLICATE


def _row_of(received: Received, account: str | None) -> ObservationRow:
    event = received.event
    return ObservationRow(
        event.body_sha256,
        received.source,
        event.entity_type,
        event.event,
        received.level,
        received.observed_at,
        received.received_at,
        event.problem,
        True,
        received.key_id,
        account,
    )


def _repeated(received: Received, twin: ObservationRow, account: str | None) -> ObservationRow:
    """`twin` after one more delivery: a webhook's smallest time counts, an API fetch's largest."""
    moved = replace(
        twin,
        observed_at=_observed_at(received, twin),
        first_received_at=min(received.received_at, twin.first_received_at),
    )
    # Of two keys the smaller, so that no order of arrival decides.
    if received.key_id and (not twin.key_id or received.key_id < twin.key_id):
        moved = replace(moved, key_id=received.key_id, account=account)
    return moved


def _observed_at(received: Received, twin: ObservationRow) -> int:
    pick = max if received.source == "api" else min
    return pick(received.observed_at, twin.observed_at)


def _insert(connection: Connection, received: Received, *, erased: bool) -> None:
    """Insert the observation; of an erased entity only its hash and times."""
    event = received.event
    connection.execute(
        sql.INSERT_OBSERVATION,
        (
            event.entity_id,
            event.body_sha256,
            received.source,
            event.entity_type,
            None if erased else event.event,
            None if erased else received.level,
            received.observed_at,
            received.received_at,
            received.received_at,
            None if erased else received.key_id,
            None if erased else received.body_bytes,
            None if erased else event.problem,
            None if erased else received.body,
        ),
    )
    if received.forward and not erased:
        enqueue(connection, received, received.forward)


def project_entity(
    connection: Connection,
    entity_id: str,
    entity_type: str,
    known: Iterable[ObservationRow],
    newest: Event | None = None,
    *,
    ready: Read | None = None,
    is_new: bool = False,
    is_partial: bool = False,
) -> None:
    """Update the rows of a call or chat from its observations.

    `newest` is the event that just arrived, the last of `known`: of a call, only what it changes is
    written, unless all observations must be folded to know that. `ready` are fields of it that were
    read before. `is_new`: the call or chat has no rows yet. `is_partial`: it has many observations,
    and `known` is only the newest of them.
    """
    parts = [k for k in known if k.is_usable and k.entity_type == entity_type]
    if not parts:
        return
    # The first event of a call finds no row.
    is_first = newest is not None and len(parts) == 1 and not is_partial
    has_row = entity_type == "call" and not is_new and not is_first
    stored = read_call(connection, entity_id) if has_row else None
    rows = None
    if newest and stored:
        others = _highest(connection, entity_id, parts[-1], stored) if is_partial else parts[:-1]
        if others:
            rows = _project_change(connection, entity_id, others, parts[-1], newest, stored, ready)
    if rows is None:
        if is_partial:
            every = observation_rows(connection, entity_id)
            parts = [k for k in every if k.is_usable and k.entity_type == entity_type]
        is_new = is_new or is_first
        rows = _project_all(connection, entity_id, entity_type, parts, ready, is_new=is_new)
    if entity_type == "call":
        reason = rows["calls", None][0][_REASON]
        before = stored["disconnection_reason"] if stored else None
        note_reason(connection, reason, before=before)


def try_project(
    connection: Connection,
    entity_id: str,
    entity_type: str,
    known: Iterable[ObservationRow],
    newest: Event | None = None,
    *,
    ready: Read | None = None,
    is_new: bool = False,
    is_partial: bool = False,
) -> str | None:
    """Run `project_entity` in a savepoint; roll back if the content cannot be projected.

    Returns the problem of the content, or None. Raises the driver's errors.
    """
    args = (connection, entity_id, entity_type, known, newest)
    work = partial(project_entity, *args, ready=ready, is_new=is_new, is_partial=is_partial)
    name = run_in_savepoint(connection, work)
    return f"not projected: {name}" if name else None


def run_in_savepoint(connection: Connection, work: Callable[[], None]) -> str | None:
    """Run `work` in a savepoint. If the content causes an error, roll back and return its class.

    Only the class: a message could repeat what the call says. Raises the driver's error if the
    disk, the file or the server fails.
    """
    connection.savepoint()
    try:
        work()
    except (connection.OperationalError, connection.InternalError):
        raise
    except Exception as error:
        if type(error) is connection.DatabaseError:  # a corrupt file
            raise
        connection.roll_back_to_savepoint()
        return type(error).__name__
    connection.release_savepoint()
    return None


def _highest(
    connection: Connection, entity_id: str, last: ObservationRow, stored: Mapping[str, Any]
) -> list[ObservationRow]:
    """Of many observations the highest with a body; none if these do not decide."""
    level, observed_at = stored["level"], stored["observed_at"]
    # One more: the newest, which is stored already, may be among them.
    count = (SOME if last.level > level else FEW) + 1
    found = highest_bodies(connection, entity_id, level=level, count=count)
    others = [k for k in found if k != last]
    # The highest observation has its body: only a higher one makes it superfluous.
    if not others or (others[0].level, others[0].observed_at) != (level, observed_at):
        return []
    return others


def _project_change(
    connection: Connection,
    entity_id: str,
    others: Sequence[ObservationRow],
    last: ObservationRow,
    event: Event,
    stored: Mapping[str, Any],
    ready: Read | None,
) -> Rows | None:
    """Write what the newest observation, `last`, changes: the fields that no higher one has.

    None if a lower one may have a field that decides in place of one of them.
    """
    newest = replace(last.bare(), event=event)
    load_body = cache(partial(load, connection, entity_id))
    lower = sorted((k for k in others if k.has_body), key=lambda k: k.bare().rank, reverse=True)
    higher, fields, carried = [], event.fields, set(event.fields)
    while lower and fields and lower[0].bare().rank > newest.rank:
        higher.append(load_body(lower.pop(0)))
        carried |= higher[-1].fields.keys()
        fields = {name: said for name, said in fields.items() if name not in higher[-1].fields}
    if fields and not lower and len(others) >= FEW:
        # Of many observations, more may be higher.
        return None
    changed, added = deciding(fields, carried), set(fields)
    if changed is None:
        return None
    if lower and fields:
        # The one below had the last word on its fields: what is spelled the same stays.
        below = load_body(lower[0]).fields
        changed = merge.differing(changed, below)
        added -= below.keys() if lower[0].level == last.level else set()
    now = replace(
        stamp([*others, last]), updated_at=max(stored["updated_at"], last.first_received_at)
    )
    unknown = connection.execute(sql.SELECT["unknowns"], (entity_id,)).fetchall()
    known = Stored(stored, [row[1:-1] for row in unknown])
    rows = project(entity_id, changed, now, event.envelope, ready=ready, stored=known)
    rows |= _transfers(connection, entity_id, newest)
    before = {"calls": [tuple(stored.values())], "unknowns": unknown}
    write(connection, entity_id, rows, before=before)
    # What has no field beyond those of its level retires no other body.
    if added and any(k.level < last.level for k in lower):
        every = [*higher, *map(load_body, lower), newest]
        _drop_bodies(connection, entity_id, merge.compactable(every))
    elif merge.retired(newest, higher):
        _drop_bodies(connection, entity_id, [newest])
    return rows


def _transfers(connection: Connection, entity_id: str, newest: Observation) -> Rows:
    """The slice of `transfers` with what the newest observation reports; empty if it is none."""
    event = newest.event
    if event is None or event.entity_type != "call" or not merge.is_transfer(event.event):
        return {}
    found = connection.execute(sql.SELECT["transfers"], (entity_id,)).fetchall()
    return {("transfers", None): with_transfer(found, *transfer_rows(entity_id, [newest]))}


def _project_all(
    connection: Connection,
    entity_id: str,
    entity_type: str,
    parts: Sequence[ObservationRow],
    ready: Read | None,
    *,
    is_new: bool,
) -> Rows:
    """Fold every observation and write the whole call or chat."""
    observations = [load(connection, entity_id, known) for known in parts]
    envelope = [key for o in observations if o.event for key in o.event.envelope]
    fields, now = merge.fold(observations), stamp(parts)
    if entity_type == "call":
        ready = ready if len(parts) == 1 else None
        rows = project(entity_id, fields, now, envelope, ready=ready)
        rows["transfers", None] = transfer_rows(entity_id, observations)
    else:
        rows = project_chat(entity_id, fields, now, envelope)
    write(connection, entity_id, rows, is_new=is_new, is_whole=True)
    _drop_bodies(connection, entity_id, merge.compactable(observations))
    return rows


def _drop_bodies(
    connection: Connection, entity_id: str, observations: Iterable[Observation]
) -> None:
    keys = [(entity_id, o.body_sha256, o.source) for o in observations]
    if keys:
        connection.executemany(sql.DROP_BODY, keys)


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
