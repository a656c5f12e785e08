"""Erase calls, chats and other entities, completely or by retention scope, with receipts.

In: ids, and the scope of their tombstones (schema/retention.py). Out: each transaction erases a few
entities and updates the receipt that counts them. So a killed run has erased whole entities, its
receipt has their number, and the next run erases the rest.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import zstandard

from receiver.store import sql
from receiver.store.engine import AnyStore
from receiver.store.ingest import invalidate_hours, retain, update_reasons
from receiver.store.protocols import Connection
from schema import retention
from schema.sql.macros import plain
from schema.tables import CALL_TABLES, CALLS, CHAT_TABLES, OBSERVATIONS, RECEIPTS

# Tables with rows of a call or chat that are not projected, and the column with its id.
OWN_TABLES = {
    "media_files": "call_id",
    "upstream_calls": "call_id",
    "annotations": "entity_id",
    "share_links": "call_id",
    "outbox": "entity_id",
    "retell_alerts": "entity_id",
}
# Children before parents.
_TABLES = {table.name: table.key[0] for table in (*reversed(CALL_TABLES), *reversed(CHAT_TABLES))}
_REASON = CALLS.names.index("disconnection_reason")
# Ids in one statement.
_CHUNK = 200

_DELETE = {
    table: f"DELETE FROM {table} WHERE {column} = ? RETURNING 1"
    for table, column in (_TABLES | OWN_TABLES).items()
}
_PUT_TOMBSTONE = (
    "INSERT INTO erasures (entity_id, scope, erased_at, reason, receipt_id) "
    "VALUES (?, ?, ?, ?, ?) ON CONFLICT (entity_id, scope) DO NOTHING RETURNING 1"
)
# Deleted and inserted again, because SQLite does not merge pages when a row becomes smaller.
_TAKE_OBSERVATIONS = (
    f"DELETE FROM observations WHERE entity_id = ? AND level IS NOT NULL "
    f"RETURNING {', '.join(OBSERVATIONS.names[:-1])}, NULL"
)
_TAKE_BODIES = _TAKE_OBSERVATIONS.replace("level IS", "body IS")
_PUT_OBSERVATION = (
    f"INSERT INTO observations ({', '.join(OBSERVATIONS.names)}) "
    f"VALUES ({', '.join('?' * len(OBSERVATIONS.names))})"
)
# The columns of an erased call's observation that become null.
_CONTENT = {"event", "level", "key_id", "body_bytes", "problem"}
_PRUNE_FILES = (
    "UPDATE media_files SET state = 'pruned', url = NULL, location = NULL, sha256 = NULL, "
    "next_attempt_at = NULL, problem = NULL, changed_at = ? "
    "WHERE call_id = ? AND coalesce(state, '') <> 'pruned' RETURNING 1"
)
# Annotations of other kinds may repeat a caller's words. Usage is the cost of a model's answer.
WORDLESS_KINDS = ("verdict", "assignee", "usage")
_PRUNE_ANNOTATIONS = (
    "UPDATE annotations SET value = NULL, changed_at = ? WHERE entity_id = ? "
    f"AND kind NOT IN {WORDLESS_KINDS} AND value IS NOT NULL RETURNING 1"
)
# A download that finishes after this is discarded.
_STOP_FETCHING = (
    "UPDATE media_files SET state = 'gone', next_attempt_at = NULL "
    "WHERE call_id = ? AND state IN ('pending', 'failed')"
)
_PUT_RECEIPT = sql.upsert(RECEIPTS)
_RECEIPTS = f"SELECT {', '.join(RECEIPTS.names)} FROM receipts"
_RECEIPT = f"{_RECEIPTS} WHERE receipt_id = ?"
_NEWEST_RECEIPTS = f"{_RECEIPTS} ORDER BY created_at DESC, receipt_id LIMIT ?"
_UNFINISHED = "SELECT receipt_id, entities FROM receipts WHERE ids_sha256 IS NULL"
_FINISH_RECEIPT = "UPDATE receipts SET ids_sha256 = ? WHERE receipt_id = ?"
_IDS_OF_RECEIPT = "SELECT entity_id FROM erasures WHERE receipt_id = ?"
_LISTED_IDS = (
    "SELECT day, agent_id, missing_call_ids, incomplete_call_ids FROM coverage "
    "WHERE missing_call_ids <> '[]' OR incomplete_call_ids <> '[]'"
)
_SET_LISTED_IDS = (
    "UPDATE coverage SET missing = ?, missing_call_ids = ?, incomplete = ?, "
    "incomplete_call_ids = ? WHERE day = ? AND agent_id = ? AND missing_call_ids = ? "
    "AND incomplete_call_ids = ?"
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a run removed: numbers of calls, chats, rows by table, and files. No personal data."""

    receipt_id: str
    action: str
    scope: str
    created_at: int
    author: str
    reason: str | None
    entities: int = 0
    rows: int = 0
    files: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    ids_sha256: str | None = None

    def plus(self, counts: Counter[str], *, entities: int, files: int = 0) -> "Receipt":
        """Add what one more transaction removed."""
        total = Counter(dict(self.counts)) + counts
        return replace(
            self,
            entities=self.entities + entities,
            rows=total.total(),
            files=self.files + files,
            counts=tuple(sorted(total.items())),
        )

    def row(self) -> tuple[Any, ...]:
        """Its row of receipts."""
        values = {name: getattr(self, name) for name in RECEIPTS.names}
        return tuple((values | {"counts": json.dumps(dict(self.counts))}).values())


def write_receipt(store: AnyStore, receipt: Receipt) -> None:
    """Write a receipt. Raises StoreUnavailable."""
    store.run(partial(_run, _PUT_RECEIPT, [receipt.row()]))


def stop_fetching(store: AnyStore, ids: Sequence[str]) -> set[str]:
    """Stop downloads of the calls' files; return the calls that may have files.

    Raises StoreUnavailable.
    """
    found, fetching = store.read(
        lambda c: (calls_with_files(c, ids), calls_with_files(c, ids, fetching=True))
    )

    def unit(connection: Connection) -> None:
        store.lock(connection, fetching)
        connection.executemany(_STOP_FETCHING, [(id,) for id in sorted(fetching)])

    if fetching:
        store.run(unit)
    return found


def erase_entities(
    store: AnyStore,
    ids: Sequence[str],
    receipt: Receipt,
    *,
    now_ms: int,
    files: int = 0,
    without_files: Collection[str] | None = None,
) -> Receipt | None:
    """Erase the receipt's scope of some entities and add to the receipt, in one transaction; return
    the receipt.

    `files` is the number of files deleted before, and `without_files` are the calls whose files
    they were. If there may be new files, it does nothing and returns None. Raises StoreUnavailable.
    """

    def unit(connection: Connection) -> Receipt | None:
        store.lock(connection, ids)
        if without_files is not None and (
            calls_with_files(connection, ids) - set(without_files)
            or calls_with_files(connection, ids, fetching=True)
        ):
            return None
        done = receipt
        for entity_id in sorted(ids):
            tombstone = (entity_id, receipt.scope, now_ms, receipt.reason, receipt.receipt_id)
            is_new = bool(connection.execute(_PUT_TOMBSTONE, tombstone).fetchall())
            counts = _erase(connection, entity_id, receipt.scope, now_ms)
            done = done.plus(counts, entities=is_new)
        done = done.plus(Counter(), entities=0, files=files)
        connection.execute(_PUT_RECEIPT, done.row())
        return done

    return store.run(unit)


def apply_tombstones(store: AnyStore, tombstones: Sequence[tuple[Any, ...]]) -> None:
    """Apply rows of another database's `erasures`, in one transaction. Raises StoreUnavailable."""

    def unit(connection: Connection) -> None:
        store.lock(connection, {tombstone[0] for tombstone in tombstones})
        for tombstone in tombstones:
            entity_id, scope, erased_at = tombstone[:3]
            connection.execute(_PUT_TOMBSTONE, tombstone).fetchall()
            _erase(connection, entity_id, scope, erased_at or 0)

    store.run(unit)


def _erase(connection: Connection, entity_id: str, scope: str, now_ms: int) -> Counter[str]:
    """Remove rows and bodies of an entity; return rows by table."""
    if scope == retention.ALL:
        return _erase_all(connection, entity_id)
    counts = retain(connection, entity_id, {scope})
    if retention.is_closed({scope}):
        counts["observations"] = _strip(connection, _TAKE_BODIES, entity_id, frozenset())
    return counts + erase_own(connection, entity_id, scope, now_ms)


def erase_own(connection: Connection, entity_id: str, scope: str, now_ms: int) -> Counter[str]:
    """Remove what is not projected of an entity, such as annotations; return rows by table."""
    counts: Counter[str] = Counter()
    for table in OWN_TABLES:
        if scope == retention.ALL or (table == "outbox" and retention.is_closed({scope})):
            counts[table] = len(connection.execute(_DELETE[table], (entity_id,)).fetchall())
    if scope in (retention.RECORDINGS, retention.PERSONAL):
        found = connection.execute(_PRUNE_FILES, (now_ms, entity_id)).fetchall()
        counts["media_files"] = len(found)
    if scope == retention.PERSONAL:
        found = connection.execute(_PRUNE_ANNOTATIONS, (now_ms, entity_id)).fetchall()
        counts["annotations"] = len(found)
    return +counts


def _erase_all(connection: Connection, entity_id: str) -> Counter[str]:
    calls = connection.execute(sql.SELECT[CALLS.name], (entity_id,)).fetchall()
    invalidate_hours(connection, calls)
    # The queries are sent before the first result is read: one round trip to a server.
    deleted = {
        table: connection.execute(statement, (entity_id,)) for table, statement in _DELETE.items()
    }
    counts = Counter({table: len(found.fetchall()) for table, found in deleted.items()})
    counts["observations"] = _strip(connection, _TAKE_OBSERVATIONS, entity_id, _CONTENT)
    for call in calls:
        update_reasons(connection, None, before=call[_REASON])
    return +counts


def _strip(connection: Connection, take: str, entity_id: str, content: Collection[str]) -> int:
    """Remove bodies and `content` of observations; return the number of observations."""
    rows = connection.execute(take, (entity_id,)).fetchall()
    names = OBSERVATIONS.names
    stripped = [
        tuple(None if name in content else cell for name, cell in zip(names, row, strict=True))
        for row in rows
    ]
    connection.executemany(_PUT_OBSERVATION, stripped)
    return len(rows)


def unfinished(store: AnyStore) -> list[int]:
    """How many calls and chats each unfinished run has removed. Raises StoreUnavailable."""
    return [int(entities or 0) for _, entities in store.read(partial(_found, _UNFINISHED, ()))]


def finish(store: AnyStore) -> None:
    """Complete the receipts of all runs, including killed ones, and remove the ids of erased calls
    from the lists of coverage. Raises StoreUnavailable."""
    for receipt_id, _ in store.read(partial(_found, _UNFINISHED, ())):
        ids = store.read(partial(_found, _IDS_OF_RECEIPT, (receipt_id,)))
        done = (hash_of(id for (id,) in ids), receipt_id)
        store.run(partial(_run, _FINISH_RECEIPT, [done]))
    if changed := store.read(_listed_changes):
        store.run(partial(_run, _SET_LISTED_IDS, changed))


def _found(query: str, bound: Any, connection: Connection) -> list[Any]:
    return connection.execute(query, bound).fetchall()


def _run(statement: str, rows: Sequence[Any], connection: Connection) -> None:
    connection.executemany(statement, rows)


def hash_of(ids: Iterable[str]) -> str:
    """SHA-256 of the sorted ids, each followed by a newline, in hex."""
    return hashlib.sha256("".join(f"{id}\n" for id in sorted(ids)).encode()).hexdigest()


def read_receipt(store: AnyStore, receipt_id: str) -> Receipt:
    """A stored receipt. Raises StoreUnavailable."""
    [row] = store.read(partial(_found, _RECEIPT, (receipt_id,)))
    return _receipt(row)


def newest_receipts(store: AnyStore, *, count: int) -> list[Receipt]:
    """The newest receipts, the last one first. Raises StoreUnavailable."""
    return [_receipt(row) for row in store.read(partial(_found, _NEWEST_RECEIPTS, (count,)))]


def _receipt(row: Sequence[Any]) -> Receipt:
    values = dict(zip(RECEIPTS.names, row, strict=True))
    return Receipt(**values | {"counts": tuple(sorted(json.loads(values["counts"]).items()))})


def _listed_changes(connection: Connection) -> list[tuple[Any, ...]]:
    """Rows of coverage that list erased calls, without these ids."""
    found = connection.execute(_LISTED_IDS).fetchall()
    lists = [(json.loads(missing), json.loads(incomplete)) for _, _, missing, incomplete in found]
    listed = {id for pair in lists for ids in pair for id in ids}
    erased = {
        id
        for ids in _chunks(sorted(listed))
        for (id,) in connection.execute(
            f"SELECT entity_id FROM erasures WHERE scope = 'all' AND entity_id IN ({_marks(ids)})",
            ids,
        ).fetchall()
    }
    changes = []
    for (day, agent_id, *before), pair in zip(found, lists, strict=True):
        after = [[id for id in ids if id not in erased] for ids in pair]
        if after != [*pair]:
            new = [value for ids in after for value in (len(ids), json.dumps(ids))]
            changes.append((*new, day, agent_id, *before))
    return changes


# -- what to erase ---------------------------------------------------------------------------------

# Bodies without a call, or in quarantine, can contain the number too.
_OF_NO_CALL = (
    "SELECT DISTINCT o.entity_id FROM observations o WHERE o.body IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.call_id = o.entity_id) "
    "AND NOT EXISTS (SELECT 1 FROM chats h WHERE h.chat_id = o.entity_id) "
    f"AND o.entity_id > ? ORDER BY o.entity_id LIMIT {_CHUNK}"
)
_WITH_NUMBER = (
    "SELECT call_id FROM calls WHERE from_number = :number OR to_number = :number "
    "UNION SELECT chat_id FROM chats WHERE agent_number = :number OR user_number = :number"
)


def ids_where(connection: Connection, table: str, condition: str) -> list[str]:
    """The ids of calls or chats that match a condition in SQL. Raises the driver's errors."""
    key = {"calls": "call_id", "chats": "chat_id"}[table]
    found = connection.execute(f"SELECT {key} FROM {table} WHERE (\n{condition}\n)").fetchall()
    return sorted(id for (id,) in found)


def ids_with_number(connection: Connection, number: str) -> list[str]:
    """Calls and chats from or to a number, and other entities whose bodies contain it."""
    found = {id for (id,) in connection.execute(_WITH_NUMBER, {"number": number}).fetchall()}
    # Within a longer number, it is another one.
    pattern, last = re.compile(rf"(?<![0-9]){re.escape(number)}(?![0-9])".encode()), ""
    while ids := [id for (id,) in connection.execute(_OF_NO_CALL, (last,)).fetchall()]:
        query = (
            "SELECT entity_id, body FROM observations WHERE body IS NOT NULL "
            f"AND entity_id IN ({_marks(ids)})"
        )
        for entity_id, body in connection.execute(query, ids).fetchall():
            if pattern.search(zstandard.decompress(body)):
                found.add(entity_id)
        last = ids[-1]
    return sorted(found)


def count_rows(connection: Connection, ids: Sequence[str]) -> Counter[str]:
    """Count the rows of entities by table, of observations only those with content."""
    tables = _TABLES | OWN_TABLES
    counts: Counter[str] = Counter()
    for some in _chunks(ids):
        for table, column in tables.items():
            query = f"SELECT count(*) FROM {table} WHERE {column} IN ({_marks(some)})"
            counts[table] += connection.execute(query, some).fetchone()[0]
        query = (
            "SELECT count(*) FROM observations WHERE level IS NOT NULL "
            f"AND entity_id IN ({_marks(some)})"
        )
        counts["observations"] += connection.execute(query, some).fetchone()[0]
    return +counts


def accounts_of(connection: Connection, ids: Sequence[str], *, table: str) -> dict[str, str | None]:
    """The account of each id in a table, calls or chats; None if it is not known."""
    found: dict[str, str | None] = {}
    for some in _chunks(ids):
        key = _TABLES[table]
        query = f"SELECT {key}, account FROM {table} WHERE {key} IN ({_marks(some)})"
        found |= connection.execute(query, some).fetchall()
    return found


def count_calls(connection: Connection) -> int:
    """The number of calls."""
    return int(connection.execute("SELECT count(*) FROM calls").fetchone()[0])


def erased_among(connection: Connection, ids: Sequence[str]) -> set[str]:
    """The entities that were completely erased before."""
    found = set[str]()
    for some in _chunks(ids):
        query = (
            f"SELECT entity_id FROM erasures e WHERE scope = 'all' AND entity_id IN "
            f"({_marks(some)}) AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.call_id = e.entity_id)"
            " AND NOT EXISTS (SELECT 1 FROM chats h WHERE h.chat_id = e.entity_id)"
        )
        found |= {id for (id,) in connection.execute(query, some).fetchall()}
    return found


def calls_with_files(
    connection: Connection, ids: Sequence[str], *, fetching: bool = False
) -> set[str]:
    """The calls that may have files; with `fetching`, those that may get more."""
    condition = " AND state IN ('pending', 'failed')" if fetching else ""
    found = set[str]()
    for some in _chunks(ids):
        query = f"SELECT DISTINCT call_id FROM media_files WHERE call_id IN ({_marks(some)})"
        found |= {id for (id,) in connection.execute(query + condition, some).fetchall()}
    return found


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for n in range(0, len(ids), _CHUNK):
        yield ids[n : n + _CHUNK]


def _marks(ids: Sequence[str]) -> str:
    return ", ".join("?" * len(ids))


# -- what is due -----------------------------------------------------------------------------------

# Scope -> the scopes whose tombstones mean that nothing is left to remove.
_DONE = {
    retention.ALL: (retention.ALL,),
    retention.PERSONAL: (retention.PERSONAL, retention.ALL),
    retention.TRANSCRIPTS: (retention.TRANSCRIPTS, retention.PERSONAL, retention.ALL),
    retention.RAW: (retention.RAW, retention.TRANSCRIPTS, retention.PERSONAL, retention.ALL),
    retention.RECORDINGS: (retention.RECORDINGS, retention.PERSONAL, retention.ALL),
}
# Calls, calls without a time, chats, and other entities. Each query returns ids after (:at, :id) in
# order.
_DUE = (
    "SELECT call_time(c), c.call_id FROM calls c WHERE call_time(c) >= :at "
    "AND (call_time(c) > :at OR c.call_id > :id) AND call_time(c) < :before AND {c.call_id} "
    "ORDER BY call_time(c), c.call_id LIMIT :count",
    "SELECT CAST(:at AS BIGINT), c.call_id FROM calls c WHERE call_time(c) IS NULL "
    "AND c.call_id > :id AND coalesce(c.updated_at, 0) < :before AND {c.call_id} "
    "ORDER BY c.call_id LIMIT :count",
    "SELECT CAST(:at AS BIGINT), h.chat_id FROM chats h WHERE h.chat_id > :id "
    "AND coalesce(call_time(h), h.updated_at, 0) < :before AND {h.chat_id} "
    "ORDER BY h.chat_id LIMIT :count",
    "SELECT CAST(:at AS BIGINT), o.entity_id FROM observations o WHERE o.entity_id > :id "
    "AND o.body IS NOT NULL AND NOT EXISTS (SELECT 1 FROM calls c WHERE c.call_id = o.entity_id) "
    "AND NOT EXISTS (SELECT 1 FROM chats h WHERE h.chat_id = o.entity_id) AND {o.entity_id} "
    "GROUP BY o.entity_id HAVING max(o.last_received_at) < :before "
    "ORDER BY o.entity_id LIMIT :count",
)
_FIRST_MS = -(2**63)


def due(store: AnyStore, scope: str, before_ms: int, *, count: int) -> Iterator[list[str]]:
    """Yield lists of entities that are older than a time and to which the scope was not applied
    yet.

    Raises StoreUnavailable.
    """
    done = ", ".join(f"'{each}'" for each in _DONE[scope])
    for pattern in _DUE[:2] if scope == retention.RECORDINGS else _DUE:
        query = plain(pattern)
        for column in ("c.call_id", "h.chat_id", "o.entity_id"):
            query = query.replace(
                f"{{{column}}}",
                f"NOT EXISTS (SELECT 1 FROM erasures e WHERE e.entity_id = {column} "
                f"AND e.scope IN ({done}))",
            )
        at, last = _FIRST_MS, ""
        bound = {"before": before_ms, "count": count}
        while found := store.read(partial(_found, query, {**bound, "at": at, "id": last})):
            yield [id for _, id in found]
            at, last = found[-1]


def body_bytes(ids: Sequence[str], connection: Connection) -> tuple[int, int]:
    """The number of bodies of some entities, and their compressed bytes."""
    return _totals(
        connection,
        "SELECT count(body), sum(length(body)) FROM observations WHERE entity_id IN ({})",
        ids,
    )


def file_bytes(ids: Sequence[str], connection: Connection) -> tuple[int, int]:
    """The number of stored files of some calls, and their bytes."""
    return _totals(
        connection,
        "SELECT count(*), sum(bytes) FROM media_files WHERE state = 'kept' AND call_id IN ({})",
        ids,
    )


def _totals(connection: Connection, query: str, ids: Sequence[str]) -> tuple[int, int]:
    count = total = 0
    for some in _chunks(ids):
        found = connection.execute(query.format(_marks(some)), some).fetchone()
        count, total = count + found[0], total + int(found[1] or 0)
    return count, total
