"""Retention: remove data that is older than CALLHOUSE_KEEP_..._DAYS, and return the space.

In: settings. Out: tombstones and receipts. It runs in small transactions beside a receiver, and the
next run completes a killed one. schema/retention.py defines what each scope removes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from receiver.config import Settings
from receiver.jobs.erase import Files, Pause, erase_unit, new_receipt, units
from receiver.store import AnyStore
from receiver.store.engine import engine
from receiver.store.erasing import (
    Receipt,
    body_bytes,
    count_calls,
    due,
    file_bytes,
    finish,
    read_receipt,
    unfinished,
    write_receipt,
)
from schema.retention import ALL, KEEP, PERSONAL, RECORDINGS

if TYPE_CHECKING:
    from receiver.jobs.worker import Run

_DAY_MS = 86_400_000
# More days would not fit into 64 bits of milliseconds.
_MOST_DAYS = 1_000_000
# Tables are rewritten, in small steps, if a run removed more than this share.
_MANY = 10
# Ids per query.
_FOUND = 500


@dataclass(frozen=True, slots=True)
class Rule:
    """A retention setting: its scope, and the time before which calls are removed."""

    setting: str
    scope: str
    days: int
    before_ms: int


@dataclass(frozen=True, slots=True)
class Due:
    """What a setting would remove now: calls, chats and other entities, bodies and files.

    `is_complete` is False if the time for counting ended.
    """

    setting: str
    scope: str
    days: int
    before_ms: int
    entities: int
    bodies: int
    body_bytes: int
    files: int
    file_bytes: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed. `left` is what could not be cleaned, and `free_bytes` the free space that
    only rewriting the file can return."""

    receipts: list[Receipt]
    left: str | None
    free_bytes: int


def rules(settings: Settings, *, now_ms: int) -> list[Rule]:
    """The settings that are not empty; the one that removes most comes first."""
    return [
        Rule(f"CALLHOUSE_KEEP_{name}_DAYS", scope, days, now_ms - min(days, _MOST_DAYS) * _DAY_MS)
        for name, (scope, _) in KEEP.items()
        if (days := settings.keep.get(scope)) is not None
    ]


def preview(
    store: AnyStore, settings: Settings, *, now_ms: int, seconds: float = math.inf
) -> list[Due]:
    """What each setting alone would remove now. Counting stops after so many seconds each.

    Raises StoreUnavailable.
    """
    return [_due(store, rule, seconds) for rule in rules(settings, now_ms=now_ms)]


def _due(store: AnyStore, rule: Rule, seconds: float) -> Due:
    deadline, is_complete = time.monotonic() + seconds, True
    entities = bodies = total = files = files_total = 0
    for ids in due(store, rule.scope, rule.before_ms, count=_FOUND):
        if time.monotonic() > deadline:
            is_complete = False
            break
        entities += len(ids)
        if rule.scope != RECORDINGS:
            count, size = store.read(partial(body_bytes, ids))
            bodies, total = bodies + count, total + size
        if rule.scope in (RECORDINGS, PERSONAL, ALL):
            count, size = store.read(partial(file_bytes, ids))
            files, files_total = files + count, files_total + size
    counts = (entities, bodies, total, files, files_total)
    return Due(rule.setting, rule.scope, rule.days, rule.before_ms, *counts, is_complete)


def prune_all(
    settings: Settings,
    store: AnyStore,
    *,
    author: str,
    now_ms: Callable[[], int],
    rewrite: bool = False,
    progress: Callable[[str, int], None] = lambda _setting, _done: None,
    pause: Pause = time.sleep,
) -> Pruned:
    """Apply every setting. Raises StoreUnavailable, StorageUnavailable and SettingsError.

    `progress` is called with a setting and how many calls and chats are done.
    """
    files = Files(settings)
    receipts = [
        receipt
        for rule in rules(settings, now_ms=now_ms())
        if (receipt := _apply(store, rule, files, author, now_ms, progress, pause))
    ]
    left, free_bytes = None, 0
    # Includes killed runs.
    removed = unfinished(store)
    if rewrite or removed:
        database = engine(settings.database)
        left = database.vacuum() if rewrite else database.clean(pause=pause)
        repack = sum(removed) * _MANY > store.read(count_calls)
        free_bytes = database.shrink(repack=repack, pause=pause)
        finish(store)
    stored = [read_receipt(store, receipt.receipt_id) for receipt in receipts]
    return Pruned(stored, left, free_bytes)


def _apply(
    store: AnyStore,
    rule: Rule,
    files: Files,
    author: str,
    now_ms: Callable[[], int],
    progress: Callable[[str, int], None],
    pause: Pause,
) -> Receipt | None:
    """Apply a setting; return the receipt, None if nothing was due."""
    receipt: Receipt | None = None
    for ids in _portions(store, rule, pause):
        if receipt is None:
            receipt = new_receipt(
                "prune", rule.scope, author=author, reason=rule.setting, now_ms=now_ms()
            )
            write_receipt(store, receipt)
        receipt = erase_unit(store, files, ids, receipt, now_ms=now_ms())
        progress(rule.setting, receipt.entities)
    return receipt


def _portions(store: AnyStore, rule: Rule, pause: Pause) -> Iterator[list[str]]:
    for found in due(store, rule.scope, rule.before_ms, count=_FOUND):
        for ids in units(found, pause=pause):
            yield list(ids)


def prune(run: "Run") -> str | None:
    """Apply every setting, as a job of `callhouse work`; return what is incomplete."""

    def pause(seconds: float) -> None:
        run.check()
        run.sleep(seconds)

    done = prune_all(
        run.settings, run.store, author="callhouse work", now_ms=run.now_ms, pause=pause
    )
    return done.left
