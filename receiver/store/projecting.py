"""The observations of a call or chat -> its rows, inside a transaction that is open."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from receiver.store import sql
from receiver.store.observations import (
    FEW,
    SOME,
    Known,
    highest_bodies,
    known_observations,
    load,
    stamp,
)
from receiver.store.protocols import Connection
from receiver.store.writing import read_call, write
from schema import drift, merge
from schema.chats import project_chat
from schema.disconnection_reasons import REASONS, UNKNOWN
from schema.events import Event, Fields
from schema.merge import Observation
from schema.parts import Rows, transfer_rows, with_transfer
from schema.rows import Read, Stamp, Stored, project, project_newest, touched
from schema.tables import CALLS

_REASON = CALLS.names.index("disconnection_reason")


def project_entity(
    connection: Connection,
    entity_id: str,
    entity_type: str,
    known: Iterable[Known],
    newest: Event | None = None,
    *,
    ready: Read | None = None,
    is_new: bool = False,
    is_partial: bool = False,
) -> None:
    """Bring the rows of a call or chat up to date with its observations.

    `newest` is the event that just arrived, the last of `known`. If it is the highest, what it says
    decides and older bodies need not be read; if higher ones carry every field of it, it decides
    nothing; else all of them are folded. `ready` is what it says, if it was read before. `is_new`
    says that it has no rows yet; `is_partial` that it has many observations and that `known` is
    only the newest of them.
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
            every = known_observations(connection, entity_id)
            parts = [k for k in every if k.is_usable and k.entity_type == entity_type]
        rows = _project_all(connection, entity_id, entity_type, parts, is_new=is_new)
    if entity_type == "call":
        reason = rows["calls", None][0][_REASON]
        before = stored["disconnection_reason"] if stored else None
        _note_reason(connection, reason, before=before)


def attempt(
    connection: Connection,
    entity_id: str,
    entity_type: str,
    known: Iterable[Known],
    newest: Event | None = None,
    *,
    ready: Read | None = None,
    is_new: bool = False,
    is_partial: bool = False,
) -> str | None:
    """`project_entity`, undone if the content does not let itself be projected.

    Returns what is wrong with the content, if anything is. Raises the driver's error for the rest.
    """
    args = (connection, entity_id, entity_type, known, newest)
    work = partial(project_entity, *args, ready=ready, is_new=is_new, is_partial=is_partial)
    name = undone(connection, work)
    return f"not projected: {name}" if name else None


def undone(connection: Connection, work: Callable[[], None]) -> str | None:
    """Carry out `work`; if the content is at fault, undo it and return the error's class.

    The class alone: a message could repeat what the call says. Raises the driver's error if the
    disk, the file or the server is at fault.
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
    last: Known,
    event: Event,
    stored: dict[str, Any] | None,
    ready: Read | None,
) -> Rows | None:
    """`_project_one` after many observations, of which only the highest ones are looked at."""
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
    parts: Sequence[Known],
    event: Event,
    now: Stamp,
    stored: dict[str, Any] | None,
    ready: Read | None,
) -> Rows | None:
    """Write what the last of `parts` changes; None if only the fold of all can tell."""
    rows = _project_newest(connection, entity_id, parts, event, now, stored, ready)
    if rows is None and stored:
        rows = _project_superseded(connection, entity_id, parts, event, now, stored)
    return rows


def _project_newest(
    connection: Connection,
    entity_id: str,
    parts: Sequence[Known],
    event: Event,
    now: Stamp,
    stored: dict[str, Any] | None,
    ready: Read | None,
) -> Rows | None:
    """Write what the newest observation says, if that decides; None if older ones have a say."""
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
    read = cache(partial(load, connection, entity_id))
    lower = [k for k in others if k.has_body and k.level < last.level]
    before = read(highest).fields if lower else {}
    unknown = connection.execute(sql.SELECT["unknowns"], (entity_id,)).fetchall()
    known = Stored(stored, [row[1:-1] for row in unknown])
    said = project_newest(entity_id, event.fields, now, known, before, event.envelope, ready)
    if said is None:
        return None
    said |= _transfers(connection, entity_id, newest)
    if said["unknowns", None] == unknown:
        del said["unknowns", None]
    write(connection, entity_id, said, is_new=False)
    # What carries no other field than the highest of its own level makes no body superfluous.
    if lower and (highest.level < last.level or not event.fields.keys() <= before.keys()):
        dropped = merge.compactable([*map(read, lower), newest])
        if len(dropped) < len(lower):
            equal = [k for k in others if k.has_body and k.level == last.level]
            dropped = merge.compactable([*map(read, [*lower, *equal]), newest])
        _drop_bodies(connection, entity_id, dropped)
    return said


def _project_superseded(
    connection: Connection,
    entity_id: str,
    parts: Sequence[Known],
    event: Event,
    now: Stamp,
    stored: dict[str, Any],
) -> Rows | None:
    """Note that a body came of which higher ones carry every field; None if they do not.

    It decides nothing then, and nothing becomes superfluous by it.
    """
    *others, last = parts
    newest = replace(last.bare(), event=event)
    if drift.in_envelope(event.envelope):
        return None
    higher: list[Observation] = []
    above = [k for k in others if k.has_body and k.bare().rank > newest.rank]
    # Highest first: whatever retires a body is read before the rest of its own level.
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
    parts: Sequence[Known],
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


def _note_reason(connection: Connection, reason: str | None, *, before: str | None) -> None:
    """Keep disconnection_reasons to the known ones and those that a call has."""
    if before == reason:
        # Whoever stored it has added it, and nobody drops the reason of a call.
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
