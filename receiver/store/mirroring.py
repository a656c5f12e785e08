"""Keeping a file current with a database on a server, so that Datasette shows what is there.

Nothing is remembered between two runs: what is lacking is found by looking at both.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from receiver.addresses import Location
from receiver.store import copy_sql, sql
from receiver.store.copying import BUSY_SECONDS, bring, bring_alone, make_ready
from receiver.store.engine import AnyStore, open_store, reading
from receiver.store.protocols import Connection
from receiver.store.spans import PORTION, Named, spans
from schema.conversation import Row

# Times are the receivers', taken before a row can be seen: as far back is looked at again, which is
# how far a clock may be wrong. Source: CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS.
_OVERLAP_MS = 300_000
# After a longer rest the look through all ids finds what is older.
_MOST_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a step has carried, and how far the look through all ids is."""

    carried: int
    refused: int
    done: int
    total: int
    is_through: bool


def mirror(
    source: Location, target: Location, *, timezone: str, now_ms: Callable[[], int]
) -> Generator[Mirrored]:
    """Make `target`, and keep it current for as long as steps are asked for.

    Each step looks through a portion of all ids, from the beginning again after the last, and then
    carries what was received since the step before. So news are there after one step, and what came
    another way than through a receiver, such as a copy, after one look through all of it.
    Raises NotStored without a source, SchemaMismatch and StoreUnavailable.
    """
    make_ready(source, target, timezone=timezone)
    store = open_store(target, busy_seconds=BUSY_SECONDS)
    try:
        with reading(target) as there:
            recent = _Recent(there, now_ms)
        while True:
            yield from _look_through(source, target, store, recent)
    finally:
        store.close()


def _look_through(
    source: Location, target: Location, store: AnyStore, recent: "_Recent"
) -> Iterator[Mirrored]:
    with reading(source) as here:
        (total,) = here.execute(sql.COUNT_ENTITIES).fetchone()
    done = 0
    for span, here, there in spans(source, target):
        seen, old = bring(span, here, there, store)
        done += seen
        carried, refused = recent.bring(source, target, store)
        yield Mirrored(
            carried=old.entities + carried,
            refused=old.refused + refused,
            done=done,
            total=max(done, total),
            is_through=span.upto is None,
        )


class _Recent:
    """What was received lately, as far as it has not been carried yet."""

    def __init__(self, there: Connection, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        (newest,) = there.execute(copy_sql.NEWEST).fetchone()
        now = now_ms()
        self._since = max(min(newest or now, now), now - _MOST_MS) - _OVERLAP_MS
        self._known: set[Row] = set()

    def bring(self, source: Location, target: Location, store: AnyStore) -> tuple[int, int]:
        """Carry it; return how many entities were carried and refused."""
        now = self._now_ms()
        carried = refused = 0
        with reading(source) as here, reading(target) as there:
            found = set(here.execute(copy_sql.RECENT, {"since": self._since}).fetchall())
            ids = sorted({row[0] for row in found - self._known})
            for n in range(0, len(ids), PORTION):
                _, count = bring(Named(ids[n : n + PORTION]), here, there, store)
                carried, refused = carried + count.entities, refused + count.refused
            bring_alone(here, there, store)
        self._since, self._known = now - _OVERLAP_MS, found
        return carried, refused
