"""Reading back what was observed."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import zstandard

from receiver.store import sql
from receiver.store.protocols import Connection
from schema.events import Event, is_usable, parse
from schema.merge import Observation
from schema.rows import Stamp

# What has rows of its own; everything else is kept as an observation only.
ENTITY_TYPES = ("call", "chat")
# Up to so many observations of an entity are all looked at when one more comes.
MANY = 64
# Of more, so many of the highest are looked at; so many when the call reaches a higher level, where
# their bodies may become superfluous.
FEW, SOME = 16, 200
# Bytes of fields that a process has in memory.
_RECENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ObservationRow:
    """An observation's columns, its body not read."""

    body_sha256: str
    source: str
    entity_type: str
    event: str | None
    level: int
    observed_at: int
    first_received_at: int
    problem: str | None
    has_body: bool
    key_id: str | None = None
    account: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it takes part in the merge."""
        return is_usable(self.problem) and self.entity_type in ENTITY_TYPES

    def bare(self) -> Observation:
        """The observation without what it carries."""
        return Observation(self.level, self.observed_at, self.source, self.body_sha256)


class RecentEvents:
    """The events of calls and chats that arrived in this process lately, so that their bodies need
    not be read again. They are never stale: an event is a function of its body and source."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        # Entity -> (hash, source) -> event, the entity that was used last at the end.
        self._events: OrderedDict[str, dict[tuple[str, str], Event]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, event: Event, source: str) -> None:
        """Add an event, and forget those of other calls if there are too many."""
        with self._lock:
            events = self._events.setdefault(event.entity_id, {})
            self._events.move_to_end(event.entity_id)
            if (event.body_sha256, source) not in events:
                self._bytes += _size(event)
            events[event.body_sha256, source] = event
            while self._bytes > self.max_bytes:
                _, forgotten = self._events.popitem(last=False)
                self._bytes -= sum(map(_size, forgotten.values()))

    def last(self, entity_id: str) -> Event | None:
        """The event of a call or chat that arrived last."""
        with self._lock:
            return next(reversed(self._events.get(entity_id, {}).values()), None)

    def find(self, entity_id: str, body_sha256: str, source: str) -> Event | None:
        """The event of a body from a source."""
        with self._lock:
            return self._events.get(entity_id, {}).get((body_sha256, source))


def _size(event: Event) -> int:
    return sum(map(len, event.fields.values()))


RECENT = RecentEvents(_RECENT_BYTES)


def observation_rows(connection: Connection, entity_id: str) -> list[ObservationRow]:
    """The observations of an entity in no order, their bodies not read."""
    return [ObservationRow(*row) for row in connection.execute(sql.KNOWN, (entity_id,)).fetchall()]


def few_observation_rows(connection: Connection, entity_id: str) -> list[ObservationRow] | None:
    """The observations of an entity as `observation_rows`; None if there are many."""
    found = connection.execute(sql.SOME_KNOWN.format(MANY + 1), (entity_id,)).fetchall()
    return [ObservationRow(*row) for row in found] if len(found) <= MANY else None


def highest_bodies(
    connection: Connection, call_id: str, *, level: int, count: int
) -> list[ObservationRow]:
    """The highest observations whose bodies are stored, highest first, of a call of this level."""
    query = sql.HIGHEST_OPEN_BODIES if level < 3 else sql.HIGHEST_BODIES
    found = connection.execute(query, (call_id, "call", count)).fetchall()
    return [ObservationRow(*row) for row in found]


def twin_of(connection: Connection, key: tuple[str, str, str]) -> ObservationRow | None:
    """The observation of this entity, hash and source."""
    row = connection.execute(sql.TWIN_KNOWN, key).fetchone()
    return ObservationRow(*row) if row else None


def is_known(connection: Connection, event: Event) -> bool:
    """Whether this very body has been received before."""
    known = observation_rows(connection, event.entity_id)
    return any(k.body_sha256 == event.body_sha256 for k in known)


def load(
    connection: Connection, entity_id: str, known: ObservationRow, *, verbatim: bool = False
) -> Observation:
    """The observation with what its body carries; with nothing if the body is gone."""
    if not known.has_body:
        return known.bare()
    key = (entity_id, known.body_sha256, known.source)
    if not verbatim and (recent := RECENT.find(*key)):
        return replace(known.bare(), event=recent)
    (body,) = connection.execute(sql.BODY, key).fetchone()
    if body is None:
        return known.bare()
    event = parse(zstandard.decompress(body), source=known.source, verbatim=verbatim)
    return replace(known.bare(), event=event)


def stamp(known: Sequence[ObservationRow]) -> Stamp:
    """What a row tells of its observations."""
    highest = max(known, key=lambda k: k.bare().rank)
    return Stamp(
        level=highest.level,
        observed_at=highest.observed_at,
        updated_at=max(k.first_received_at for k in known),
        account=highest.account,
    )
