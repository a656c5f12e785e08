"""Copy a database into another, once or continuously, while events arrive at either.

`copy` repeats passes over all ids until nothing is left to copy. `mirror` repeats passes without
end, and copies recent events after each batch. No state is stored between two runs: the differences
are found by reading both databases.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from receiver.addresses import Location
from receiver.store import copying as store_copying
from receiver.store import sql
from receiver.store.copying import Copied as Copied
from receiver.store.copying import IdList, copy_batch, copy_shared_tables, prepare, spans
from receiver.store.engine import AnyStore, engine, open_store, reading
from receiver.store.protocols import Connection
from schema.tables import ACCOUNT_KEYS
from schema.transcript import Row

# How long a batch waits for receivers that write to the target.
BUSY_SECONDS = 30.0
# Receivers set times before they commit, and their clocks may differ: the last rows are read again
# for this long. Source: CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS.
_OVERLAP_MS = 300_000
# Older events are found by the pass over all ids.
_RECENT_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Step:
    """The numbers of entities that a step copied and that the target rejected, and the progress of
    the pass over all ids.

    `is_exact`: entities that the source no longer has are deleted.
    """

    copied: int
    refused: int
    done: int
    total: int
    is_last: bool
    is_exact: bool


def copy(
    source: Location,
    target: Location,
    *,
    timezone: str,
    progress: Callable[[int, int, int], None],
) -> Copied:
    """Copy `source` into `target`, which is created if it does not exist.

    Passes are repeated until one copies nothing, or not less than the one before, because events
    may keep arriving. `progress` is called with the number of the pass, and the numbers of entities
    done and in total. Raises NotStored without a source, SchemaMismatch for one of another version,
    and StoreUnavailable.
    """
    prepare(source, target, timezone=timezone)
    store = open_store(target, busy_seconds=BUSY_SECONDS)
    try:
        counts: list[int] = []
        while not counts or (counts[-1] and (len(counts) < 2 or counts[-1] < counts[-2])):
            number, copied, refused = len(counts) + 1, 0, 0
            for step in _pass(source, target, store):
                copied, refused = copied + step.copied, refused + step.refused
                progress(number, step.done, step.total)
            counts.append(copied)
        return Copied(step.done, sum(counts), refused)
    finally:
        store.close()


def mirror(
    source: Location, target: Location, *, timezone: str, now_ms: Callable[[], int]
) -> Generator[Step]:
    """Create `target`, and copy into it with each step of the iteration.

    Each step reads a batch of all ids, cyclically, and then copies what was received since the step
    before. So new events arrive with the next step, and data that did not arrive through a
    receiver, such as a copy, with the next pass. A pass also deletes entities that the source no
    longer has, if only mirrors have written the target. Raises NotStored without a source,
    SchemaMismatch and StoreUnavailable.
    """
    prepare(source, target, timezone=timezone)
    store = open_store(target, busy_seconds=BUSY_SECONDS)
    try:
        with reading(target) as theirs:
            recent = _Recent(theirs, now_ms)
        is_exact = _is_own(target, store)
        while True:
            yield from _pass(source, target, store, recent, is_exact=is_exact)
    finally:
        store.close()


def _is_own(target: Location, store: AnyStore) -> bool:
    """Whether only mirrors have written the file. An empty one is marked so; any other may contain
    data from elsewhere, which must not be deleted."""
    with reading(target) as theirs:
        (mark,), (count,) = (
            theirs.execute(query).fetchone()
            for query in (store_copying.IS_MIRROR, sql.COUNT_ENTITIES)
        )
    is_marked, is_empty = bool(mark), count == 0
    if is_empty and not is_marked:
        store.run(lambda connection: connection.execute(store_copying.MARK_MIRROR) and None)
    return is_marked or is_empty


def _pass(
    source: Location,
    target: Location,
    store: AnyStore,
    recent: "_Recent | None" = None,
    *,
    is_exact: bool = False,
) -> Iterator[Step]:
    """Copy all ids in batches; with `recent`, after each batch also recent events."""
    with reading(source) as ours:
        (total,) = ours.execute(sql.COUNT_ENTITIES).fetchone()
    done = erased = 0
    for span in spans(source, target):
        # Before the calls, because their rows contain the account of a key.
        copy_shared_tables(source, target, store, tables=(ACCOUNT_KEYS,))
        counts = [copy_batch(span, source, target, store, is_exact=is_exact)]
        done += counts[0].seen
        is_last = span.upto is None
        if recent is not None:
            counts += recent.copy(source, target, store)
        if recent is not None or is_last:
            copy_shared_tables(source, target, store, is_exact=is_exact)
        erased += counts[0].erased
        if any(count.erased for count in counts[1:]) or (is_last and erased):
            # As in the source, nothing of deleted rows is left in the files.
            engine(target).clean(pause=time.sleep)
        yield Step(
            copied=sum(count.entities for count in counts),
            refused=sum(count.refused for count in counts),
            done=done,
            total=max(done, total),
            is_last=is_last,
            is_exact=is_exact,
        )


class _Recent:
    """Recent events that are not copied yet."""

    def __init__(self, target: Connection, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        (newest,) = target.execute(store_copying.NEWEST).fetchone()
        now = now_ms()
        self._since = max(min(newest or now, now), now - _RECENT_MS) - _OVERLAP_MS
        self._known: set[Row] = set()

    def copy(self, source: Location, target: Location, store: AnyStore) -> list[Copied]:
        """Copy them in batches."""
        now = self._now_ms()
        with reading(source) as ours:
            found = set(ours.execute(store_copying.RECENT, {"since": self._since}).fetchall())
        ids = sorted({row[0] for row in found - self._known})
        size = store_copying.BATCH_IDS
        batches = [IdList(ids[n : n + size]) for n in range(0, len(ids), size)]
        counts = [copy_batch(batch, source, target, store) for batch in batches]
        self._since, self._known = now - _OVERLAP_MS, found
        return counts
