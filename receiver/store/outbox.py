"""The table outbox: events to forward, added in the transaction that stores them.

For each target and call or chat, only the oldest waiting event is due, so that the events of a call
are delivered in the order of their arrival. `received_at` is that order: if the clock was set back,
it is one millisecond later than the newest waiting event of the call.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from receiver.store.protocols import Connection

if TYPE_CHECKING:
    from receiver.store.engine import AnyStore
    from receiver.store.ingest import Received

_ENQUEUE = (
    "INSERT INTO outbox (entity_id, body_sha256, target, received_at, signature, body, state, "
    "attempts, next_attempt_at) VALUES (:entity_id, :body_sha256, :target, "
    "(SELECT max(at) FROM (SELECT CAST(:at AS BIGINT) AS at UNION ALL SELECT received_at + 1 "
    "FROM outbox WHERE entity_id = :entity_id AND target = :target AND state = 'waiting') x), "
    ":signature, :body, 'waiting', 0, :at) "
    "ON CONFLICT (entity_id, body_sha256, target, received_at) DO NOTHING"
)
_DUE = (
    "SELECT entity_id, body_sha256, target, received_at, signature, body, attempts "
    "FROM outbox o WHERE target = :target "
    "AND next_attempt_at > :after AND next_attempt_at <= :until AND NOT EXISTS ("
    "SELECT 1 FROM outbox e WHERE e.entity_id = o.entity_id AND e.target = o.target "
    "AND e.state = 'waiting' AND (e.received_at < o.received_at "
    "OR (e.received_at = o.received_at AND e.body_sha256 < o.body_sha256))) "
    "ORDER BY next_attempt_at LIMIT :limit"
)
_DELETE = (
    "DELETE FROM outbox WHERE entity_id = ? AND body_sha256 = ? AND target = ? AND received_at = ?"
)
_POSTPONE = (
    "UPDATE outbox SET state = ?, attempts = ?, next_attempt_at = ?, problem = ? "
    "WHERE entity_id = ? AND body_sha256 = ? AND target = ? AND received_at = ?"
)
_COUNTS = (
    "SELECT target, state, count(*), min(received_at), min(next_attempt_at) FROM outbox "
    "GROUP BY target, state ORDER BY target, state"
)
_DEAD = (
    "SELECT entity_id, body_sha256, target, received_at, attempts, problem FROM outbox "
    "WHERE state = 'dead' AND (CAST(? AS TEXT) IS NULL OR target = ?) "
    "ORDER BY received_at, entity_id, body_sha256 LIMIT ?"
)
# `{known}` is replaced by a placeholder for each configured target.
_DISCARDED = (
    "SELECT entity_id, body_sha256, target, received_at FROM outbox "
    "WHERE (state = 'dead' OR target NOT IN ({known})) "
    "AND (CAST(? AS TEXT) IS NULL OR target = ?) LIMIT ?"
)
_REPLAY = (
    "UPDATE outbox SET state = 'waiting', attempts = 0, next_attempt_at = ? "
    "WHERE entity_id = ? AND body_sha256 = ? AND target = ? AND received_at = ?"
)
_LAST_MS = 2**63 - 1
# Rows that a command changes in one transaction: the write lock is held for some milliseconds.
_BATCH = 200


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event that waits for a target; `body` as it arrived, `signature` its header."""

    entity_id: str
    body_sha256: str
    target: str
    received_at: int
    signature: str | None
    body: bytes
    attempts: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Its primary key."""
        return self.entity_id, self.body_sha256, self.target, self.received_at


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt.

    `next_attempt_at` is None if the event is given up. `is_refused`: the target answered that it
    does not accept the event.
    """

    row: OutboxRow
    attempts: int
    next_attempt_at: int | None
    problem: str
    is_refused: bool


@dataclass(frozen=True, slots=True)
class QueueCount:
    """The number of a target's events in a state; times in milliseconds."""

    target: str
    state: str
    events: int
    oldest_ms: int
    next_attempt_ms: int | None


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that was given up."""

    entity_id: str
    body_sha256: str
    target: str
    received_at: int
    attempts: int
    problem: str | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Its primary key."""
        return self.entity_id, self.body_sha256, self.target, self.received_at


@dataclass(frozen=True, slots=True)
class Forward:
    """The names of an event's targets, and its signature header."""

    targets: tuple[str, ...]
    signature: str | None


def enqueue(connection: Connection, received: "Received", forward: Forward) -> None:
    """Add the event to the outbox of each of its targets. Raises the driver's errors."""
    values = {
        "entity_id": received.event.entity_id,
        "body_sha256": received.event.body_sha256,
        "at": received.received_at,
        "signature": forward.signature,
        "body": received.body,
    }
    for target in forward.targets:
        connection.execute(_ENQUEUE, values | {"target": target})


def due(
    connection: Connection, target: str, *, now_ms: int, latest_ms: int, limit: int
) -> list[OutboxRow]:
    """The next events to send, of different calls and chats. An attempt planned for after
    `latest_ms` was planned while the clock was ahead, and is due."""
    found: list[Any] = []
    # Two queries, because one with OR would sort the outbox instead of reading it by its index.
    for after, until in ((0, now_ms), (latest_ms, _LAST_MS)):
        params = {"target": target, "after": after, "until": until, "limit": limit - len(found)}
        found += connection.execute(_DUE, params).fetchall()
    return [
        OutboxRow(entity_id, body_sha256, name, at, signature, zstandard.decompress(body), attempts)
        for entity_id, body_sha256, name, at, signature, body, attempts in found
    ]


def write_attempts(
    store: "AnyStore", delivered: Sequence[OutboxRow], failures: Sequence[Failure]
) -> None:
    """Delete delivered events, and store failures. Raises StoreUnavailable."""

    def unit(connection: Connection) -> None:
        connection.executemany(_DELETE, [row.key for row in delivered])
        connection.executemany(
            _POSTPONE,
            [
                (
                    "dead" if failure.next_attempt_at is None else "waiting",
                    failure.attempts, failure.next_attempt_at, failure.problem, *failure.row.key,
                )
                for failure in failures
            ],
        )  # fmt: skip

    store.run(unit)


def queue_counts(connection: Connection) -> list[QueueCount]:
    """The numbers of waiting and dead events, by target."""
    return [QueueCount(*row) for row in connection.execute(_COUNTS).fetchall()]


def dead_events(connection: Connection, target: str | None, *, limit: int) -> list[DeadEvent]:
    """Events that were given up, of one target or of all, the oldest first."""
    found = connection.execute(_DEAD, (target, target, limit)).fetchall()
    return [DeadEvent(*row) for row in found]


def replay(store: "AnyStore", target: str | None, *, now_ms: int) -> int:
    """Send dead events again; return their number. Raises StoreUnavailable."""

    def unit(connection: Connection) -> int:
        found = dead_events(connection, target, limit=_BATCH)
        connection.executemany(_REPLAY, [(now_ms, *event.key) for event in found])
        return len(found)

    return _in_batches(store, unit)


def discard(store: "AnyStore", target: str | None, *, known: Collection[str]) -> int:
    """Delete dead events, and all events for targets that are not `known`, which nobody sends;
    return their number. Raises StoreUnavailable."""
    query = _DISCARDED.format(known=", ".join("?" * len(known)) or "''")

    def unit(connection: Connection) -> int:
        found = connection.execute(query, (*known, target, target, _BATCH)).fetchall()
        connection.executemany(_DELETE, [tuple(key) for key in found])
        return len(found)

    return _in_batches(store, unit)


def _in_batches(store: "AnyStore", unit: Callable[[Connection], int]) -> int:
    changed, count = 0, _BATCH
    while count == _BATCH:
        count = store.run(unit)
        changed += count
    return changed
