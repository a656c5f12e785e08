"""Erase calls and chats permanently: rows, bodies, files, search index.

In: ids. Out: tombstones and a receipt. Each transaction erases a few calls and updates the receipt,
so that it can run beside a receiver, and the next run completes a killed one. `units` and
`erase_unit` serve retention too (prune.py).
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from receiver.config import DEFAULT_ACCOUNT, Settings
from receiver.errors import KeyRefused, RetellError, SettingsError
from receiver.jobs.backup import list_erasures
from receiver.jobs.storage import Storage, folder_of, open_storage
from receiver.retell.client import Retell
from receiver.retell.fetching import is_not_found
from receiver.store import AnyStore
from receiver.store.engine import engine, reading
from receiver.store.erasing import (
    Receipt,
    accounts_of,
    calls_with_files,
    count_rows,
    erase_entities,
    erased_among,
    finish,
    read_receipt,
    stop_fetching,
    write_receipt,
)
from schema.retention import ALL, PERSONAL, RECORDINGS

# The maximum duration of a transaction, and its maximum number of calls and chats.
_UNIT_SECONDS, _MOST = 0.025, 50

Pause = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure would remove: ids, rows by table, and the number of calls with files.
    `erased` ids were erased before."""

    ids: list[str]
    counts: Counter[str]
    with_files: int
    erased: int


@dataclass(frozen=True, slots=True)
class Erased:
    """The result of an erasure; without a receipt if there was nothing. `refused` are the calls
    that Retell did not delete, with the reason; they are still stored. `left` is what could not be
    cleaned."""

    receipt: Receipt | None
    refused: dict[str, str]
    left: str | None


def plan(settings: Settings, ids: Sequence[str]) -> Plan:
    """What erasing these ids would remove. Raises what `reading` raises."""
    with reading(settings.database) as connection:
        erased = erased_among(connection, ids)
        left = [id for id in ids if id not in erased]
        files = calls_with_files(connection, left)
        return Plan(left, count_rows(connection, left), len(files), len(erased))


def erase(
    settings: Settings,
    store: AnyStore,
    ids: Sequence[str],
    *,
    author: str,
    reason: str | None,
    now_ms: Callable[[], int],
    at_retell: "AtRetell | None" = None,
    rewrite: bool = False,
    progress: Callable[[int], None] = lambda _done: None,
    pause: Pause = time.sleep,
) -> Erased:
    """Erase ids permanently; with `at_retell`, first at Retell. `rewrite` rewrites the whole
    database afterwards, while nobody else can write. Raises StoreUnavailable, StorageUnavailable
    and SettingsError.

    Also completes earlier runs that were killed, even without ids.
    """
    files = Files(settings)
    receipt = new_receipt("erase", ALL, author=author, reason=reason, now_ms=now_ms())
    if ids:
        write_receipt(store, receipt)
    refused: dict[str, str] = {}
    done = 0
    for some in units(ids, pause=pause):
        kept = list(some)
        if at_retell is not None:
            problems = at_retell.delete(store, some)
            refused |= problems
            kept = [id for id in some if id not in problems]
        if kept:
            receipt = erase_unit(store, files, kept, receipt, now_ms=now_ms())
        done += len(some)
        progress(done)
    database = engine(settings.database)
    left = database.vacuum() if rewrite else database.clean(pause=pause)
    finish(store)
    reasons = [reason for reason in (left, list_erasures(settings)) if reason]
    stored = read_receipt(store, receipt.receipt_id) if ids else None
    return Erased(stored, refused, "; ".join(reasons) or None)


def new_receipt(
    action: str, scope: str, *, author: str, reason: str | None, now_ms: int
) -> Receipt:
    """A new, empty receipt."""
    return Receipt(secrets.token_hex(8), action, scope, now_ms, author, reason)


def units(ids: Sequence[str], *, pause: Pause) -> Iterator[Sequence[str]]:
    """Yield ids in batches that take about `_UNIT_SECONDS` each, with a pause of the same length
    after each."""
    size, at = 4, 0
    while at < len(ids):
        some = ids[at : at + size]
        began = time.monotonic()
        yield some
        took = max(time.monotonic() - began, 1e-6)
        at += len(some)
        size = max(1, min(_MOST, 2 * size, int(len(some) * _UNIT_SECONDS / took)))
        pause(took)


def erase_unit(
    store: AnyStore, files: "Files", ids: Sequence[str], receipt: Receipt, *, now_ms: int
) -> Receipt:
    """Erase the receipt's scope of a few entities, their files first; return the receipt.

    Raises StoreUnavailable, StorageUnavailable and SettingsError.
    """
    without_files = set[str]() if receipt.scope in (RECORDINGS, PERSONAL, ALL) else None
    count = 0
    while True:
        if without_files is not None:
            found = stop_fetching(store, ids)
            count += files.delete(found)
            without_files |= found
        done = erase_entities(
            store, ids, receipt, now_ms=now_ms, files=count, without_files=without_files
        )
        # None if a worker found files of these calls meanwhile.
        if done is not None:
            return done


class AtRetell:
    """Deletes calls and chats at Retell, each with the key of its account. `chats` are ids of
    chats, stored or not. Raises SettingsError without a key."""

    def __init__(self, settings: Settings, chats: Collection[str] = ()) -> None:
        settings.require_accounts()
        self._settings, self._chats = settings, frozenset(chats)
        self._retells: dict[str, Retell] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for retell in self._retells.values():
            retell.close()

    def delete(self, store: AnyStore, ids: Sequence[str]) -> dict[str, str]:
        """Delete calls and chats; return the ids that could not be deleted, with the reason. One
        that Retell does not have counts as deleted. Raises KeyRefused and StoreUnavailable."""
        calls, chats = store.read(
            lambda c: (accounts_of(c, ids, table="calls"), accounts_of(c, ids, table="chats"))
        )
        refused: dict[str, str] = {}
        for id in ids:
            if id.startswith("sha:"):
                continue
            try:
                retell = self._retell(calls.get(id) or chats.get(id))
                if id in chats or id in self._chats:
                    retell.delete_chat(id)
                else:
                    retell.delete_call(id)
            except KeyRefused:
                raise
            except RetellError as error:
                if not is_not_found(error):
                    refused[id] = str(error)
            except SettingsError as error:
                refused[id] = str(error)
        return refused

    def _retell(self, account: str | None) -> Retell:
        name = account or DEFAULT_ACCOUNT
        if name not in self._retells:
            key = self._settings.require_api_key(name)
            self._retells[name] = Retell(self._settings.base_url, key)
        return self._retells[name]


class Files:
    """The stored files of calls. The storage is opened when the first file is deleted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._storage: Storage | None = None

    def delete(self, call_ids: Iterable[str]) -> int:
        """Delete the files of calls; return their number. Raises StorageUnavailable, and
        SettingsError if their location is not configured."""
        return sum(self._open().delete_folder(folder_of(id)) for id in sorted(call_ids))

    def _open(self) -> Storage:
        media = self._settings.media
        if media.location is None:
            raise SettingsError(
                "calls to erase have files, and CALLHOUSE_MEDIA_URL is empty",
                hint="Set it to the directory or bucket that has them.",
            )
        if self._storage is None:
            self._storage = open_storage(media.location, partial=self._settings.media_partial_path)
        return self._storage
