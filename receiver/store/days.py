"""A snapshot of the database by day: fingerprints of the days, and their rows.

Days are UTC. A call or chat belongs to the day on which it began or, without a start, was reported;
an observation to the day on which it first arrived. Anything without a valid time belongs to
UNKNOWN_DAY.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import zstandard

from schema.sql.macros import plain
from schema.tables import CALL_TABLES, CALLS, CHAT_TABLES, CHATS, OBSERVATIONS, TABLES, Table

UNKNOWN_DAY = "1970-01-01"
# Groups of tables that change together. The others have no day, and each is a group of its own.
DATED = {"observations": (OBSERVATIONS,), "calls": CALL_TABLES, "chats": CHAT_TABLES}
_HAS_DAY = {table.name for tables in DATED.values() for table in tables}
UNDATED = {table.name: (table,) for table in TABLES if table.name not in _HAS_DAY}
GROUPS: dict[str, tuple[Table, ...]] = DATED | UNDATED

_PROGRESS_ROWS = 1000
_encode = msgspec.msgpack.Encoder().encode
_BODY = OBSERVATIONS.names.index("body")

DAY_MS = 86_400_000
# The last day of year 9999.
_END_MS = 253_402_300_800_000

# The columns that determine the rows of a call or chat; a repeated delivery changes none of them.
CONTENT = (*OBSERVATIONS.names[:8], "problem")
_REST = tuple(name for name in OBSERVATIONS.names if name not in (*CONTENT, "body"))


def _began(alias: str) -> str:
    """SQL for the begin of a row of calls or chats; calls_at is an index on this expression of
    calls."""
    return plain(f"call_time({alias})")


def _day(time: str) -> str:
    """SQL for the day of a time; an invalid time has the first day of the calendar."""
    return (
        f"CASE WHEN {time} >= 0 AND {time} < {_END_MS} "
        f"THEN strftime('%Y-%m-%d', {time} / 1000, 'unixepoch') ELSE '1970-01-01' END"
    )


@dataclass(frozen=True, slots=True)
class ObservationSql:
    """SQL of an engine about a row `o` of observations.

    `number` is its place during a snapshot, `within` tests that the place is between :first and
    :last, `order` is a stable order, and `body` is the expression of the raw body.
    """

    number: str
    within: str
    order: str
    body: str


def observed(kept: ObservationSql) -> str:
    """SQL for each observation: its number, its day, the days of its call and chat, and its
    columns.

    Bodies are not read.
    """
    return (
        f"SELECT {kept.number}, {_day('o.first_received_at')}, "
        f"CASE WHEN c.call_id IS NOT NULL THEN {_day(_began('c'))} END, "
        f"CASE WHEN h.chat_id IS NOT NULL THEN {_day(_began('h'))} END, "
        f"{', '.join(f'o.{name}' for name in CONTENT)}, "
        # Tombstones are never deleted, and a new one may remove more columns.
        "(SELECT count(*) FROM erasures e WHERE e.entity_id = o.entity_id), "
        f"{', '.join(f'o.{name}' for name in _REST)}, "
        f"CASE WHEN {kept.body} IS NULL THEN 0 ELSE 1 END "
        "FROM observations o LEFT JOIN calls c ON c.call_id = o.entity_id "
        "LEFT JOIN chats h ON h.chat_id = o.entity_id"
    )


def _within(time: str, *, dated: bool) -> str:
    if dated:
        return f"{time} >= :since AND {time} < :until"
    return f"({time} IS NULL OR {time} < {DAY_MS} OR {time} >= {_END_MS})"


def _started(alias: str, *, dated: bool) -> str:
    """The condition that a chat belongs to a day. It uses the index on the start, because there is
    none on its time."""
    if not dated:
        return _within(_began(alias), dated=False)
    start, reported = f"{alias}.start_timestamp", f"{alias}.observed_at"
    return f"({_within(start, dated=True)} OR {start} IS NULL AND {_within(reported, dated=True)})"


def observations_of(kept: ObservationSql, *, dated: bool) -> str:
    """SQL for a day's observations, between :first and :last of their numbers and :since and
    :until."""
    columns = [kept.body if name == "body" else f"o.{name}" for name in OBSERVATIONS.names]
    return (
        f"SELECT {', '.join(columns)} FROM observations o WHERE {kept.within} "
        f"AND {_within('o.first_received_at', dated=dated)} ORDER BY {kept.order}"
    )


def entities_of(table: Table, *, dated: bool) -> str:
    """SQL for a table's rows of the calls or chats of a day, ordered by these and the key."""
    parent = CALLS if table.key[0] == CALLS.key[0] else CHATS
    time = _began("p")
    within = _within(time, dated=dated) if parent is CALLS else _started("p", dated=dated)
    keys = ", ".join(f"t.{name}" for name in table.key)
    # The join starts at the calls, so that their rows are found by key.
    return (
        f"SELECT {', '.join(f't.{name}' for name in table.names)} "
        f"FROM {parent.name} p CROSS JOIN {table.name} t "
        f"WHERE t.{parent.key[0]} = p.{parent.key[0]} AND {within} "
        f"ORDER BY {time} NULLS FIRST, {keys}"
    )


def undated(table: Table) -> str:
    """SQL for all rows of a table without days."""
    return f"SELECT {', '.join(table.names)} FROM {table.name} ORDER BY {', '.join(table.key)}"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """The rows of a group on one day; all rows of a group without days."""

    group: str
    day: str


class Fingerprint:
    """The fingerprint of a part's rows, independent of their order, and the range of their
    numbers."""

    def __init__(self) -> None:
        self._sum = 0
        self.first: int | None = None
        self.last = 0

    def add(self, row: object, number: int = 0) -> None:
        """Add a row; `number` is that of an observation."""
        digest = hashlib.blake2b(_encode(row), digest_size=16).digest()
        self._sum += int.from_bytes(digest)
        self.first = number if self.first is None else min(self.first, number)
        self.last = max(self.last, number)

    @property
    def fingerprint(self) -> str:
        """32 hex digits, the same for the same rows."""
        return f"{self._sum % 2**128:032x}"


# Executes a statement with parameters and yields rows one by one.
Read = Callable[[str, Mapping[str, int]], Iterable[tuple[Any, ...]]]


def fingerprints(
    read: Read, kept: ObservationSql, *, progress: Callable[[int], None]
) -> dict[Part, Fingerprint]:
    """All parts with their fingerprints. `progress` is called with the number of observations read.

    The rows of calls and chats are a function of the observations, so the fingerprints of these
    show whether a day has changed. No body is read.
    """
    days: dict[str, dict[str, Fingerprint]] = {group: defaultdict(Fingerprint) for group in GROUPS}
    for group in DATED:
        days[group][UNKNOWN_DAY] = Fingerprint()
    observations, calls, chats = (days[group] for group in DATED)
    content = len(CONTENT) + 1
    found = read(observed(kept), {})
    for done, (number, day, call_day, chat_day, *row) in enumerate(found, start=1):
        observations[day].add(row, number)
        if call_day is not None:
            calls[call_day].add(row[:content])
        if chat_day is not None:
            chats[chat_day].add(row[:content])
        if done % _PROGRESS_ROWS == 0:
            progress(done)
    for group, (table,) in UNDATED.items():
        days[group][""] = Fingerprint()
        for other in read(undated(table), {}):
            days[group][""].add(other)
    return {Part(group, day): of for group in GROUPS for day, of in days[group].items()}


def query(
    table: Table, part: Part, of: Fingerprint, kept: ObservationSql
) -> tuple[str, dict[str, int]]:
    """The SQL for a table's rows of a part in a stable order, and its parameters."""
    if not part.day:
        return undated(table), {}
    dated = part.day != UNKNOWN_DAY
    since = datetime.fromisoformat(part.day).replace(tzinfo=UTC)
    since_ms = int(since.timestamp()) * 1000
    bound = {"since": since_ms, "until": since_ms + DAY_MS} if dated else {}
    if table is OBSERVATIONS:
        bound |= {"first": of.first or 0, "last": of.last}
        return observations_of(kept, dated=dated), bound
    return entities_of(table, dated=dated), bound


def with_bodies(rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    """The same with the bodies as they arrived."""
    for row in rows:
        body = row[_BODY]
        yield (*row[:_BODY], zstandard.decompress(body) if isinstance(body, bytes) else None)
