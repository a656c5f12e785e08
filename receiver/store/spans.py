"""What two databases have of the same calls: portions of ids, what was observed, what is newer."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from receiver.addresses import Location
from receiver.store import copy_sql, sql
from receiver.store.engine import reading
from receiver.store.protocols import Connection
from schema.tables import COVERAGE, ERASURES, OBSERVATIONS, SYNCS, UPSTREAM_CALLS, Table
from schema.transcript import Row

# How many calls a portion has: as many bodies are held in memory.
PORTION = 500
# Few rows that are about no call alone.
ALONE = (SYNCS, COVERAGE)


class Kept(NamedTuple):
    """A row of observations; `body` is a truth value where bodies are not read."""

    entity_id: str
    body_sha256: str
    source: str
    entity_type: str
    event: str | None
    level: int | None
    observed_at: int
    first_received_at: int
    last_received_at: int
    times_received: int
    key_id: str | None
    body_bytes: int | None
    problem: str | None
    body: Any

    @property
    def key(self) -> Row:
        """What tells it from the others of its call."""
        return self[1:3]


class Portion(ABC):
    """Some ids of calls, chats and others."""

    @abstractmethod
    def rows(self, connection: Connection, table: Table, *, bodies: bool = False) -> list[Row]:
        """A table's rows of the calls, chats and others with these ids."""

    def seen(self, connection: Connection) -> defaultdict[str, "Seen"]:
        """What was observed of each of them, without the bodies."""
        found: defaultdict[str, Seen] = defaultdict(Seen)
        for row in (Kept(*r) for r in self.rows(connection, OBSERVATIONS)):
            found[row.entity_id].kept[row.key] = row
        for erasure in self.rows(connection, ERASURES):
            found[erasure[0]].erasure = erasure
        return found


@dataclass(frozen=True, slots=True)
class Span(Portion):
    """Every id after one, up to and with another; up to the end if that is None."""

    after: str
    upto: str | None

    def rows(self, connection: Connection, table: Table, *, bodies: bool = False) -> list[Row]:
        """A table's rows of the span."""
        statement = copy_sql.span(table, is_last=self.upto is None, bodies=bodies)
        bounds = (self.after,) if self.upto is None else (self.after, self.upto)
        found: list[Row] = connection.execute(statement, bounds).fetchall()
        return found


@dataclass(frozen=True, slots=True)
class Named(Portion):
    """A few ids."""

    ids: list[str]

    def rows(self, connection: Connection, table: Table, *, bodies: bool = False) -> list[Row]:
        """A table's rows, id by id."""
        statement = copy_sql.named(table, bodies=bodies)
        return [row for id in self.ids for row in connection.execute(statement, (id,)).fetchall()]


class Seen:
    """What is known of one call, chat or other entity: observations by key, tombstone."""

    def __init__(self) -> None:
        self.kept: dict[Row, Kept] = {}
        self.erasure: Row | None = None

    def lacks(self, other: "Seen") -> bool:
        """Whether `other` has something that is not here."""
        if other.erasure and (not self.erasure or _erased_at(other) < _erased_at(self)):
            return True
        erased = self.erasure is not None
        for key, row in other.kept.items():
            here = self.kept.get(key)
            if here is None or merged(row, here, erased=erased)[:-1] != here[:-1]:
                return True
        # With the same observations, both need the same bodies.
        return (
            not erased
            and self.kept.keys() == other.kept.keys()
            and any(row.body and not self.kept[key].body for key, row in other.kept.items())
        )

    def exceeds(self, other: "Seen") -> bool:
        """Whether something is here that `other` does not have."""
        return bool(self.kept.keys() - other.kept.keys() or (self.erasure and not other.erasure))


def _erased_at(seen: Seen) -> int:
    return (seen.erasure and seen.erasure[1]) or 0


def bare(row: Kept) -> Kept:
    """What stays of an observation of an erased call: hash and times."""
    return row._replace(
        event=None, level=None, key_id=None, body_bytes=None, problem=None, body=None
    )


def merged(row: Kept, stored: Kept | None, *, erased: bool) -> Kept:
    """A row that is carried to where `stored` is. To merge it twice is to merge it once.

    So `times_received` is the larger number: it is not known which deliveries both have counted.
    """
    if stored is None:
        return bare(row) if erased else row
    pick = max if row.source == "api" else min
    keys = [key for key in (row.key_id, stored.key_id) if key is not None]
    return stored._replace(
        observed_at=pick(row.observed_at, stored.observed_at),
        first_received_at=min(row.first_received_at, stored.first_received_at),
        last_received_at=max(row.last_received_at, stored.last_received_at),
        times_received=max(row.times_received, stored.times_received),
        key_id=None if erased else min(keys, default=None),
        body=None if erased else row.body,
    )


def rank(table: Table, row: Row) -> tuple[Any, ...]:
    """When a row was written that no observation speaks of: the newer one counts."""
    cells = dict(zip(table.names, row, strict=True))
    if table is UPSTREAM_CALLS:
        return (max(cells["asked_at"] or 0, cells["gone_at"] or 0),)
    if table is SYNCS:
        return (cells["started_at"] or 0, cells["finished_at"] or 0, cells["next_day"] or "")
    return (cells["checked_at"] or 0,)


def spans(source: Location, target: Location) -> Iterator[Span]:
    """All ids of both databases in portions, none of them open meanwhile. Raises DatabaseAway."""
    after: str | None = ""
    while after is not None:
        with reading(source) as here, reading(target) as there:
            found = [_next(connection, after) for connection in (here, there)]
            upto = min((last for last in found if last is not None), default=None)
        yield Span(after, upto)
        after = upto


def _next(connection: Connection, after: str) -> str | None:
    """The last id of a portion; None if no full one is left."""
    found = connection.execute(sql.ENTITIES_AFTER, (after, PORTION)).fetchall()
    last: str | None = found[-1][0] if len(found) == PORTION else None
    return last
