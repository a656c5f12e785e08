"""Copying a database into another, once or continuously, while events arrive at either.

`copy` passes over all ids until nothing is left to copy. `mirror` repeats the pass for as long as
it is asked to, and copies what was received lately after each portion. Nothing is remembered
between two runs: what the target lacks is found by reading both databases.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from receiver.addresses import Location
from receiver.store import copying as store_copying
from receiver.store import sql
from receiver.store.copying import Copied as Copied
from receiver.store.copying import Named, copy_portion, copy_shared_tables, prepare, spans
from receiver.store.engine import AnyStore, engine, open_store, reading
from receiver.store.protocols import Connection
from schema.tables import ACCOUNT_KEYS
from schema.transcript import Row

# How long a batch waits for receivers that write to the target.
BUSY_SECONDS = 30.0
# Times are the receivers', taken before their row is committed: so much is read again, as far as a
# clock may be wrong. Source: CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS.
_OVERLAP_MS = 300_000
# What is older is found by the pass over all ids.
_RECENT_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Step:
    """What a step has copied and how many the target refused, and how far the pass over all ids is.

    `is_exact`: what the source no longer has is deleted.
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
    """Copy what `source` has into `target`, which is created if it does not exist.

    Passes are repeated until one copies nothing, or no less than the one before: events may arrive
    for ever. `progress` is called with the number of the pass, how many entities are done and of
    how many. Raises NotStored without a source, SchemaMismatch for one of another version, and
    StoreUnavailable.
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
    """Create `target`, and copy into it for as long as steps are asked for.

    Each step reads a portion of all ids, from the first again after the last, and then copies what
    was received since the step before. So new events arrive with the next step, and what came
    another way than through a receiver, such as a copy, with the next pass over all ids. A pass
    also deletes what the source no longer has, if only mirrors have written the target. Raises
    NotStored without a source, SchemaMismatch and StoreUnavailable.
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
    """Whether only mirrors have written the file. An empty one is marked as theirs; in any other,
    something may have come another way and is not to be deleted."""
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
    """Once over all ids, by portions; with `recent`, after each also what was received lately."""
    with reading(source) as ours:
        (total,) = ours.execute(sql.COUNT_ENTITIES).fetchone()
    done = erased = 0
    for span in spans(source, target):
        # Before the calls, whose rows have the account of a key.
        copy_shared_tables(source, target, store, tables=(ACCOUNT_KEYS,))
        counts = [copy_portion(span, source, target, store, is_exact=is_exact)]
        done += counts[0].seen
        is_last = span.upto is None
        if recent is not None:
            counts += recent.copy(source, target, store)
        if recent is not None or is_last:
            copy_shared_tables(source, target, store, is_exact=is_exact)
        erased += counts[0].erased
        if any(count.erased for count in counts[1:]) or (is_last and erased):
            # As at the source: nothing is left in the files.
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
    """What was received lately and not copied yet."""

    def __init__(self, target: Connection, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        (newest,) = target.execute(store_copying.NEWEST).fetchone()
        now = now_ms()
        self._since = max(min(newest or now, now), now - _RECENT_MS) - _OVERLAP_MS
        self._known: set[Row] = set()

    def copy(self, source: Location, target: Location, store: AnyStore) -> list[Copied]:
        """Copy it, in portions."""
        now = self._now_ms()
        with reading(source) as ours:
            found = set(ours.execute(store_copying.RECENT, {"since": self._since}).fetchall())
        ids = sorted({row[0] for row in found - self._known})
        size = store_copying.PORTION
        portions = [Named(ids[n : n + size]) for n in range(0, len(ids), size)]
        counts = [copy_portion(portion, source, target, store) for portion in portions]
        self._since, self._known = now - _OVERLAP_MS, found
        return counts
