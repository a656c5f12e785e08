"""The table media_files: the state of each recording, written by the job that fetches them.

A call's links are rows of media; each gets a row here once the call is over, unless the call was
erased or its recordings were pruned.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from receiver.addresses import Location
from receiver.store.engine import AnyStore, reading
from receiver.store.protocols import Connection
from schema.sql.macros import plain

# Rows per query, and rows per transaction.
_FOUND, _WRITTEN = 2000, 200
_MAX_MS = 2**63 - 1

_NOT_ERASED = """NOT EXISTS (
    SELECT 1 FROM erasures e
    WHERE e.entity_id = m.call_id AND e.scope IN ('all', 'recordings', 'personal')
)"""
# Calls that are over, the newest first, found by the index of updated_at.
_NEW = plain(f"""
SELECT m.call_id, m.kind, c.updated_at
FROM calls c
JOIN media m ON m.call_id = c.call_id
LEFT JOIN media_files f ON f.call_id = m.call_id AND f.kind = m.kind
WHERE c.updated_at BETWEEN ? AND ? AND is_over(c) AND m.url IS NOT NULL AND f.call_id IS NULL
    AND {_NOT_ERASED}
ORDER BY c.updated_at DESC LIMIT {_FOUND}
""")
_ADD = f"""
INSERT INTO media_files (call_id, kind, state, attempts, next_attempt_at, changed_at)
SELECT m.call_id, m.kind, 'pending', 0, ?, ? FROM media m
WHERE m.call_id = ? AND m.kind = ? AND {_NOT_ERASED}
ON CONFLICT DO NOTHING
"""
# The newest first: links expire.
_DUE = f"""
SELECT f.call_id, f.kind, m.url, f.attempts, c.end_timestamp, c.account
FROM media_files f
JOIN media m ON m.call_id = f.call_id AND m.kind = f.kind
JOIN calls c ON c.call_id = f.call_id
WHERE f.next_attempt_at BETWEEN ? AND ? AND {_NOT_ERASED}
ORDER BY f.next_attempt_at DESC LIMIT ?
"""
_COUNT_DUE = "SELECT count(*) FROM media_files WHERE next_attempt_at <= ?"
_IS_WANTED = """
SELECT state, next_attempt_at FROM media_files WHERE call_id = ? AND kind = ?
"""
# Does not replace a row that is kept or pruned, and does nothing after the link was deleted.
_OUTCOME = f"""
UPDATE media_files SET
    state = :state, attempts = attempts + 1, next_attempt_at = :next_attempt_at,
    problem = :problem, url = :url, location = :location, bytes = :bytes, sha256 = :sha256,
    content_type = :content_type, fetched_at = :fetched_at, changed_at = :changed_at
WHERE call_id = :call_id AND kind = :kind AND state IN ('pending', 'failed')
    AND EXISTS (
        SELECT 1 FROM media m
        WHERE m.call_id = media_files.call_id AND m.kind = media_files.kind AND {_NOT_ERASED}
    )
RETURNING call_id
"""
_RETRY = """
UPDATE media_files SET state = 'pending', attempts = 0, next_attempt_at = ?, changed_at = ?
WHERE call_id = ? AND kind = ? AND state IN ('failed', 'gone')
"""
_RETRIED = "SELECT call_id, kind FROM media_files WHERE state IN ('failed', 'gone')"
_STATES = """
SELECT state, count(*), coalesce(sum(bytes), 0) FROM media_files GROUP BY state ORDER BY state
"""
_PROBLEMS = """
SELECT state, problem, count(*) FROM media_files
WHERE problem IS NOT NULL AND state IN ('failed', 'gone')
GROUP BY state, problem ORDER BY count(*) DESC, problem LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class DueFile:
    """A file to fetch now; `ended_at` of its call in milliseconds."""

    call_id: str
    kind: str
    url: str
    attempts: int
    ended_at: int | None
    account: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt: kept, failed or gone. `problem` has no personal data."""

    state: str
    problem: str | None = None
    next_attempt_at: int | None = None
    url: str | None = None
    location: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    content_type: str | None = None
    fetched_at: int | None = None


def find_new(
    store: AnyStore, *, since: int, now_ms: int, until: int = _MAX_MS, limit: int = _MAX_MS
) -> int | None:
    """Add a pending row for each file of calls updated from `since` to `until`, the newest first.

    After about `limit` rows, return the time to continue until; None at the end. Raises
    StoreUnavailable.
    """
    added = 0
    while added < limit:
        found = store.read(partial(_rows, _NEW, (since, until)))
        for start in range(0, len(found), _WRITTEN):
            rows = [
                (min(updated_at or 0, now_ms), now_ms, call_id, kind)
                for call_id, kind, updated_at in found[start : start + _WRITTEN]
            ]
            store.run(partial(_add, store, rows))
        added += len(found)
        if len(found) < _FOUND:
            return None
        # Inclusive: other calls may have changed in the same millisecond.
        until = found[-1][2]
    return until


def due_files(store: AnyStore, *, now_ms: int, limit: int, since: int = 0) -> list[DueFile]:
    """Files to fetch now that became due after `since`, the newest calls first.

    Raises StoreUnavailable.
    """
    rows = store.read(lambda c: c.execute(_DUE, (since, now_ms, limit)).fetchall())
    return [DueFile(*row) for row in rows]


def count_due(store: AnyStore, *, now_ms: int) -> int:
    """The number of files to fetch now. Raises StoreUnavailable."""
    return int(store.read(lambda c: c.execute(_COUNT_DUE, (now_ms,)).fetchone())[0])


def media_state(store: AnyStore, call_id: str, kind: str) -> tuple[str | None, int | None]:
    """The state of a file, and when it is fetched next. Raises StoreUnavailable."""
    row = store.read(lambda c: c.execute(_IS_WANTED, (call_id, kind)).fetchone())
    return (row[0], row[1]) if row else (None, None)


def write_outcome(store: AnyStore, file: DueFile, outcome: Outcome, *, now_ms: int) -> bool:
    """Store the result of an attempt. False if the call was erased meanwhile.

    Raises StoreUnavailable.
    """
    values = {name: getattr(outcome, name) for name in Outcome.__slots__}
    values |= {"call_id": file.call_id, "kind": file.kind, "changed_at": now_ms}

    def unit(connection: Connection) -> bool:
        store.lock(connection, [file.call_id])
        return bool(connection.execute(_OUTCOME, values).fetchall())

    return store.run(unit)


def retry_failed(store: AnyStore, *, now_ms: int) -> int:
    """Fetch everything again that failed or is gone; return the number of files.

    Raises StoreUnavailable.
    """
    found = store.read(lambda c: c.execute(_RETRIED).fetchall())
    for start in range(0, len(found), _WRITTEN):
        rows = [(now_ms, now_ms, *key) for key in found[start : start + _WRITTEN]]
        store.run(partial(_execute_many, _RETRY, rows))
    return len(found)


def states(where: Location) -> list[tuple[str, int, int]]:
    """Files and bytes in each state. Raises NotStored without a database."""
    with reading(where) as connection:
        return [(str(s), int(n), int(b)) for s, n, b in connection.execute(_STATES).fetchall()]


def problems(where: Location, *, limit: int) -> list[tuple[str, str, int]]:
    """The most frequent problems: state, message, files. Raises NotStored without a database."""
    with reading(where) as connection:
        return [(s, p, int(n)) for s, p, n in connection.execute(_PROBLEMS, (limit,)).fetchall()]


def _add(store: AnyStore, rows: list[tuple[Any, ...]], connection: Connection) -> None:
    # Excludes calls that are being erased.
    store.lock(connection, {call_id for *_, call_id, _ in rows})
    connection.executemany(_ADD, rows)


def _rows(query: str, values: tuple[int, int], connection: Connection) -> list[Any]:
    return connection.execute(query, values).fetchall()


def _execute_many(statement: str, rows: Iterable[tuple[Any, ...]], connection: Connection) -> None:
    connection.executemany(statement, rows)
