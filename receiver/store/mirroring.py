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
from schema.transcript import Row

# Times are the receivers', taken before a row can be seen: as far back is looked at again, which is
# how far a clock may be wrong. Source: CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS.
_OVERLAP_MS = 300_000
# After a longer rest the look through all ids finds what is older.
_MOST_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a step has carried, and how far the look through all ids is.

    `is_exact`: remove what the source no longer has.
    """

    carried: int
    refused: int
    done: int
    total: int
    is_through: bool
    is_exact: bool


def mirror(
    source: Location, target: Location, *, timezone: str, now_ms: Callable[[], int]
) -> Generator[Mirrored]:
    """Make `target`, and keep it current for as long as steps are asked for.

    Each step looks through a portion of all ids, from the beginning again after the last, and then
    carries what was received since the step before. So news are there after one step, and what came
    another way than through a receiver, such as a copy, after one look through all of it. That look
    also removes what the source no longer has, if the target is a file that a mirror has made.
    Raises NotStored without a source, SchemaMismatch and StoreUnavailable.
    """
    make_ready(source, target, timezone=timezone)
    store = open_store(target, busy_seconds=BUSY_SECONDS)
    try:
        with reading(target) as there:
            recent = _Recent(there, now_ms)
        is_exact = _is_own(target, store)
        while True:
            yield from _look_through(source, target, store, recent, is_exact=is_exact)
    finally:
        store.close()


def _is_own(target: Location, store: AnyStore) -> bool:
    """Whether a mirror has made the file. An empty one is marked; in any other, something may have
    come another way, which is not to be removed."""
    with reading(target) as there:
        (mark,), (count,) = (
            there.execute(query).fetchone() for query in (copy_sql.IS_MIRROR, sql.COUNT_ENTITIES)
        )
    is_marked, is_empty = bool(mark), count == 0
    if is_empty and not is_marked:
        store.run(lambda connection: connection.execute(copy_sql.MARK_MIRROR) and None)
    return is_marked or is_empty


def _look_through(
    source: Location, target: Location, store: AnyStore, recent: "_Recent", *, is_exact: bool
) -> Iterator[Mirrored]:
    with reading(source) as here:
        (total,) = here.execute(sql.COUNT_ENTITIES).fetchone()
    done = 0
    for span in spans(source, target):
        seen, old = bring(span, source, target, store, is_exact=is_exact)
        done += seen
        carried, refused = recent.bring(source, target, store)
        bring_alone(source, target, store, is_exact=is_exact)
        yield Mirrored(
            carried=old.entities + carried,
            refused=old.refused + refused,
            done=done,
            total=max(done, total),
            is_through=span.upto is None,
            is_exact=is_exact,
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
        with reading(source) as here:
            found = set(here.execute(copy_sql.RECENT, {"since": self._since}).fetchall())
        ids = sorted({row[0] for row in found - self._known})
        for n in range(0, len(ids), PORTION):
            _, count = bring(Named(ids[n : n + PORTION]), source, target, store)
            carried, refused = carried + count.entities, refused + count.refused
        self._since, self._known = now - _OVERLAP_MS, found
        return carried, refused
