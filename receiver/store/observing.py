"""One received body -> its observation and its call's rows, inside a transaction that is open.

The raw body goes first; the projection follows under a savepoint, so that whatever is wrong with
the content, the body is kept and the answer can be 2xx.
"""

from dataclasses import dataclass, replace
from enum import Enum

import zstandard

from receiver.store import sql
from receiver.store.observations import Known, known_observations, some_known, twin_of
from receiver.store.projecting import attempt
from receiver.store.protocols import Connection
from schema import limits, merge
from schema.events import Event, parse
from schema.rows import Read, read

# Reading a body of this length takes tens of milliseconds.
_LARGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """A body that arrived, made ready outside the transaction. Times in milliseconds."""

    event: Event
    source: str
    level: int
    observed_at: int
    received_at: int
    key_id: str | None
    body_bytes: int
    body: bytes
    # What a large body says, read before anybody waits for the transaction.
    ready: Read | None = None


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
        # Whatever it is, it will be met again where it can be noted.
        return None


def observe(connection: Connection, received: Received) -> Outcome:
    """Store a body and bring its call or chat up to date. Raises the driver's errors."""
    event = received.event
    key = (event.entity_id, event.body_sha256, received.source)
    # A server is asked for both before the first answer is waited for.
    erasure = connection.execute(sql.IS_ERASED, (event.entity_id,))
    known = some_known(connection, event.entity_id)
    erased = erasure.fetchone() is not None
    is_partial = known is None
    if known is None:
        twin = twin_of(connection, key)
    else:
        twin = next((k for k in known if (k.body_sha256, k.source) == key[1:]), None)
    if twin is None:
        _insert(connection, received, erased=erased)
        known = [*(known or ()), _as_known(received)]
    else:
        moved = _repeated(received, twin)
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
        known, is_partial = known_observations(connection, event.entity_id), False
    newest = event if twin is None else None
    ready = received.ready if newest else None
    if problem := attempt(
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
    return Outcome.STORED if twin is None else Outcome.DUPLICATE


def _as_known(received: Received) -> Known:
    event = received.event
    return Known(
        event.body_sha256,
        received.source,
        event.entity_type,
        event.event,
        received.level,
        received.observed_at,
        received.received_at,
        event.problem,
        True,
    )


def _repeated(received: Received, twin: Known) -> Known:
    """`twin` after one more delivery: a webhook's smallest time counts, an API fetch's largest."""
    return replace(
        twin,
        observed_at=_observed_at(received, twin),
        first_received_at=min(received.received_at, twin.first_received_at),
    )


def _observed_at(received: Received, twin: Known) -> int:
    pick = max if received.source == "api" else min
    return pick(received.observed_at, twin.observed_at)


def _insert(connection: Connection, received: Received, *, erased: bool) -> None:
    """Keep the body; of an erased entity only its hash and times."""
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
