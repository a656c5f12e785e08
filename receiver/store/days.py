"""One moment of the database by day: what each day is made from, and its rows.

A day is UTC. A call or chat is of the day on which it began, or if it has no start, on which Retell
reported it; an observation is of the day on which it first arrived. What has no time, or one that
no calendar has, is of UNKNOWN_DAY.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import zstandard

from receiver.store import day_sql
from receiver.store.day_sql import Kept
from schema.tables import (
    CALL_TABLES,
    CHAT_TABLES,
    DISCONNECTION_REASONS,
    ERASURES,
    OBSERVATIONS,
    UPSTREAM_TABLES,
    Table,
)

UNKNOWN_DAY = "1970-01-01"
# What changes together. Tables of the second kind have no day, and each is a group of its own.
DATED = {"observations": (OBSERVATIONS,), "calls": CALL_TABLES, "chats": CHAT_TABLES}
UNDATED = {t.name: (t,) for t in (DISCONNECTION_REASONS, ERASURES, *UPSTREAM_TABLES)}
GROUPS: dict[str, tuple[Table, ...]] = DATED | UNDATED

_TOLD_ROWS = 1000
_encode = msgspec.msgpack.Encoder().encode
_BODY = OBSERVATIONS.names.index("body")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A group's rows of one day; of a group without days, all of them."""

    group: str
    day: str


class Made:
    """What a part is made from: a fingerprint that no order of rows changes, and where they lie."""

    def __init__(self) -> None:
        self._sum = 0
        self.first: int | None = None
        self.last = 0

    def add(self, row: object, number: int = 0) -> None:
        """Take a row in; of an observation, the number under which it lies."""
        digest = hashlib.blake2b(_encode(row), digest_size=16).digest()
        self._sum += int.from_bytes(digest)
        self.first = number if self.first is None else min(self.first, number)
        self.last = max(self.last, number)

    @property
    def fingerprint(self) -> str:
        """32 hex digits, the same for the same rows."""
        return f"{self._sum % 2**128:032x}"


# Reads a statement's rows one by one, with what it binds.
Read = Callable[[str, Mapping[str, int]], Iterable[tuple[Any, ...]]]


def made(read: Read, kept: Kept, *, progress: Callable[[int], None]) -> dict[Part, Made]:
    """Every part there is. `progress` gets the observations looked at.

    The rows of calls and chats are a function of the observations, so these say whether a day has
    changed, whichever clock stamped what arrived and whenever it was committed. No body is read.
    """
    days: dict[str, dict[str, Made]] = {group: defaultdict(Made) for group in GROUPS}
    for group in DATED:
        days[group][UNKNOWN_DAY] = Made()
    observations, calls, chats = (days[group] for group in DATED)
    says = len(day_sql.SAYS)
    found = read(day_sql.observed(kept), {})
    for done, (number, day, call_day, chat_day, *row) in enumerate(found, start=1):
        observations[day].add(row, number)
        if call_day is not None:
            calls[call_day].add(row[:says])
        if chat_day is not None:
            chats[chat_day].add(row[:says])
        if done % _TOLD_ROWS == 0:
            progress(done)
    for group, (table,) in UNDATED.items():
        days[group][""] = Made()
        for other in read(day_sql.undated(table), {}):
            days[group][""].add(other)
    return {Part(group, day): of for group in GROUPS for day, of in days[group].items()}


def query(table: Table, part: Part, of: Made, kept: Kept) -> tuple[str, dict[str, int]]:
    """The SQL of a table's rows of a part, and what it binds. Their order is always the same."""
    if not part.day:
        return day_sql.undated(table), {}
    dated = part.day != UNKNOWN_DAY
    since = datetime.fromisoformat(part.day).replace(tzinfo=UTC)
    since_ms = int(since.timestamp()) * 1000
    bound = {"since": since_ms, "until": since_ms + day_sql.DAY_MS} if dated else {}
    if table is OBSERVATIONS:
        bound |= {"first": of.first or 0, "last": of.last}
        return day_sql.observations_of(kept, dated=dated), bound
    return day_sql.entities_of(table, dated=dated), bound


def with_bodies(rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
    """Observations with their bodies as they arrived."""
    for row in rows:
        body = row[_BODY]
        yield (*row[:_BODY], zstandard.decompress(body) if isinstance(body, bytes) else None)
