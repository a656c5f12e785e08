"""One received body -> its observation -> its call's or chat's rows, inside one transaction.

`receive` parses a body before the transaction. `observe` inserts its observation first; then
`try_project` updates the rows under a savepoint. If the content cannot be projected, the body is
still stored, with its problem, and the answer can be 2xx.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, partial
from typing import Any

import zstandard

from receiver.store import sql
from receiver.store.observations import (
    FEW,
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
from schema import drift, limits, merge, retention
from schema.chats import project_chat
from schema.disconnection_reasons import REASONS, UNKNOWN
from schema.events import Event, Fields, parse
from schema.merge import Observation
from schema.rows import (
    Read,
    Rows,
    Stamp,
    Stored,
    project,
    project_newest,
    read,
    touched,
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
    # What a large body says, read before the transaction so that no other request waits.
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
    """Parse, rank and compress a body: all the work that needs no database."""
    event = parse(body, source=source)
    return Received(
        event=event,
        source=source,
        level=merge.level(event, source=source),
        observed_at=observed_at,
        received_at=received_at,
        key_id=key_id,
        body_bytes=len(body),
        body=zstandard.compress(body),
        ready=_read(event) if len(body) > _LARGE_BYTES else None,
    )


def _read(event: Event) -> Read | None:
    if event.entity_type != "call" or not limits.is_usable(event.problem):
        return None
    try:
        return read(event.entity_id, event.fields)
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
    erased = retention.is_closed(scopes)
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
    if twin is None and not limits.is_usable(event.problem):
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

    `newest` is the event that just arrived, the last of `known`. If it is the highest observation,
    its fields win and no older body is read. If higher ones carry all of its fields, it changes
    nothing. Otherwise all are folded. `ready` are its fields, if they were read before. `is_new`:
    the call or chat has no rows yet. `is_partial`: it has many observations, and `known` is only
    the newest of them.
    """
    parts = [k for k in known if k.is_usable and k.entity_type == entity_type]
    if not parts:
        return
    # The first event of a call finds no row.
    has_row = entity_type == "call" and not is_new
    has_row = has_row and (newest is None or is_partial or len(parts) > 1)
    stored = read_call(connection, entity_id) if has_row else None
    rows = None
    if newest and is_partial:
        rows = _project_one_of_many(connection, entity_id, parts[-1], newest, stored, ready)
    elif newest:
        now = stamp(parts)
        rows = _project_one(connection, entity_id, parts, newest, now, stored, ready)
    if rows is None:
        if is_partial:
            every = observation_rows(connection, entity_id)
            parts = [k for k in every if k.is_usable and k.entity_type == entity_type]
        rows = _project_all(connection, entity_id, entity_type, parts, is_new=is_new)
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


def _project_one_of_many(
    connection: Connection,
    entity_id: str,
    last: ObservationRow,
    event: Event,
    stored: dict[str, Any] | None,
    ready: Read | None,
) -> Rows | None:
    """`_project_one` of a call with many observations; reads only the highest of them."""
    if stored is None:
        return None
    level, observed_at = stored["level"], stored["observed_at"]
    # One more: the newest, which is stored already, may be among them.
    count = (SOME if last.level > level else FEW) + 1
    found = highest_bodies(connection, entity_id, level=level, count=count)
    parts = [k for k in found if k != last]
    # The highest observation has its body: only a higher one makes it superfluous.
    if not parts or (parts[0].level, parts[0].observed_at) != (level, observed_at):
        return None
    now = stamp([*parts, last])
    now = replace(now, updated_at=max(stored["updated_at"], last.first_received_at))
    return _project_one(connection, entity_id, [*parts, last], event, now, stored, ready)


def _project_one(
    connection: Connection,
    entity_id: str,
    parts: Sequence[ObservationRow],
    event: Event,
    now: Stamp,
    stored: dict[str, Any] | None,
    ready: Read | None,
) -> Rows | None:
    """Write what the last of `parts` changes; None if all must be folded."""
    rows = _project_newest(connection, entity_id, parts, event, now, stored, ready)
    if rows is None and stored:
        rows = _project_superseded(connection, entity_id, parts, event, now, stored)
    return rows


def _project_newest(
    connection: Connection,
    entity_id: str,
    parts: Sequence[ObservationRow],
    event: Event,
    now: Stamp,
    stored: dict[str, Any] | None,
    ready: Read | None,
) -> Rows | None:
    """Write the newest observation's fields if it is the highest; None if all must be folded."""
    *others, last = parts
    newest = replace(last.bare(), event=event)
    if not others:
        rows = rows_of(entity_id, event.entity_type, event.fields, now, event.envelope, ready)
        rows |= _transfers(connection, entity_id, newest)
        write(connection, entity_id, rows, is_new=True)
        return rows
    highest = max(others, key=lambda k: k.bare().rank)
    if stored is None or highest.bare().rank > newest.rank:
        return None
    load_body = cache(partial(load, connection, entity_id))
    lower = [k for k in others if k.has_body and k.level < last.level]
    before = load_body(highest).fields if lower else {}
    unknown = connection.execute(sql.SELECT["unknowns"], (entity_id,)).fetchall()
    known = Stored(stored, [row[1:-1] for row in unknown])
    said = project_newest(entity_id, event.fields, now, known, before, event.envelope, ready)
    if said is None:
        return None
    said |= _transfers(connection, entity_id, newest)
    if said["unknowns", None] == unknown:
        del said["unknowns", None]
    write(connection, entity_id, said, is_new=False)
    # With no field beyond those of the highest of its level, it retires no body.
    if lower and (highest.level < last.level or not event.fields.keys() <= before.keys()):
        dropped = merge.compactable([*map(load_body, lower), newest])
        if len(dropped) < len(lower):
            equal = [k for k in others if k.has_body and k.level == last.level]
            dropped = merge.compactable([*map(load_body, [*lower, *equal]), newest])
        _drop_bodies(connection, entity_id, dropped)
    return said


def _project_superseded(
    connection: Connection,
    entity_id: str,
    parts: Sequence[ObservationRow],
    event: Event,
    now: Stamp,
    stored: dict[str, Any],
) -> Rows | None:
    """Update only the time if higher observations carry every field; None if they do not.

    Such a body changes no field and retires no other body.
    """
    *others, last = parts
    newest = replace(last.bare(), event=event)
    if drift.in_envelope(event.envelope):
        return None
    higher: list[Observation] = []
    above = [k for k in others if k.has_body and k.bare().rank > newest.rank]
    # Highest first: an observation that retires it is read before the rest of its level.
    for known in sorted(above, key=lambda k: k.bare().rank, reverse=True):
        higher.append(load(connection, entity_id, known))
        if not merge.adds_fields(newest, higher):
            break
    else:
        return None
    rows: Rows = {("calls", None): [touched(stored, now)]}
    rows |= _transfers(connection, entity_id, newest)
    write(connection, entity_id, rows, is_new=False)
    if merge.retired(newest, higher):
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
    *,
    is_new: bool,
) -> Rows:
    """Fold every observation and write the whole call or chat."""
    observations = [load(connection, entity_id, known) for known in parts]
    envelope = [key for o in observations if o.event for key in o.event.envelope]
    fields = merge.fold(observations)
    rows = rows_of(entity_id, entity_type, fields, stamp(parts), envelope)
    if entity_type == "call":
        rows["transfers", None] = transfer_rows(entity_id, observations)
    write(connection, entity_id, rows, is_new=is_new, is_whole=True)
    _drop_bodies(connection, entity_id, merge.compactable(observations))
    return rows


def rows_of(
    entity_id: str,
    entity_type: str,
    fields: Fields,
    stamp: Stamp,
    envelope: Iterable[str],
    ready: Read | None = None,
) -> Rows:
    """The rows of a whole call or chat; `envelope` are the keys beside it."""
    if entity_type == "chat":
        return project_chat(entity_id, fields, stamp, envelope)
    return project(entity_id, fields, stamp, envelope, ready)


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
