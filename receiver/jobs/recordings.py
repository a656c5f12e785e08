"""Download the recordings and logs that calls link to.

In: links of calls that are over. Out: files in a directory or bucket, and rows of media_files with
location, size and hash, or the problem. A dead link is replaced by the one that get-call returns. A
file gets its final name before its row is written. Until then, a file in the folder for unfinished
downloads names the call, so that after a kill the remains of an erased call are deleted.
"""

import fcntl
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from receiver.config import DEFAULT_ACCOUNT
from receiver.errors import (
    DiskReserved,
    LinkDead,
    NotAtRetell,
    RecordingNotKept,
    RetellError,
    SettingsError,
    StorageUnavailable,
)
from receiver.jobs.downloads import Downloader, Fetched
from receiver.jobs.storage import EXTENSIONS, Storage, folder_of, make_private, storage_of
from receiver.jobs.worker import Run, Stopped
from receiver.retell.client import Retell
from receiver.store import AnyStore
from receiver.store.media import (
    DueFile,
    Outcome,
    due_files,
    find_new,
    media_state,
    write_outcome,
)
from schema.rows import MEDIA_KINDS

# Files of one pass of the worker.
PASS_FILES = 200
# How far back a pass searches for new calls, how often passes search all calls, and the number of
# files that such a pass finds.
RECENT_MS, ALL_CALLS_MS = 3_600_000, 3_600_000
FOUND_FILES = 10_000
FIRST_RETRY_MS, LAST_RETRY_MS = 30_000, 6 * 3_600_000
# About a week.
MAX_ATTEMPTS = 36
# Retell may store a recording some time after the call: until then, a dead link is retried.
SETTLING_MS = 3_600_000
# Keys in a run's memory: when this process began to search all calls, and where it continues.
_ALL_CALLS_AT, _CONTINUE_UNTIL = "all_calls_at", "continue_until"


@dataclass(slots=True)
class Counts:
    """Numbers of files by result. `stopped` is why the pass ended early; `has_more`: there are
    calls that were not searched yet."""

    kept: int = 0
    failed: int = 0
    gone: int = 0
    bytes: int = 0
    stopped: str | None = None
    has_more: bool = False

    @property
    def done(self) -> int:
        """The number of attempted files."""
        return self.kept + self.failed + self.gone

    @property
    def problem(self) -> str | None:
        """What is incomplete, in a line; None if nothing is."""
        if self.stopped:
            return self.stopped
        files = "1 file" if self.failed == 1 else f"{self.failed:,} files"
        return f"{files} could not be fetched" if self.failed else None


def keep_recordings(run: Run) -> str | None:
    """The job of the worker: one bounded pass; returns what is incomplete."""
    storage = storage_of(run.settings)
    if storage is None:
        return None
    return keep_pass(run, storage, limit=PASS_FILES).problem


def keep_pass(
    run: Run,
    storage: Storage,
    *,
    limit: int,
    since: int = 0,
    progress: Callable[[Counts], None] = lambda _: None,
) -> Counts:
    """Find new files, and fetch up to `limit` that are due.

    With `since`, only files that became due since then. Raises StoreUnavailable.
    """
    counts = Counts()
    try:
        make_private(storage.partial)
        with _alone(storage.partial) as is_alone:
            if not is_alone:
                counts.stopped = "another process is keeping recordings"
                return counts
            _sweep(run.store, storage)
            counts.has_more = _find(run)
            files = due_files(run.store, now_ms=run.now_ms(), limit=limit, since=since)
            if files:
                with _Fetching(run, storage) as fetching:
                    fetching.keep(files, counts, progress)
    except OSError as error:
        counts.stopped = f"the directory of recordings cannot be written: {error.strerror}"
    return counts


def _find(run: Run) -> bool:
    """Find files of recently changed calls, and at times of all calls, some in each pass. Return
    whether there are more calls to search."""
    now_ms, memory = run.now_ms(), run.memory
    find_new(run.store, since=now_ms - RECENT_MS, now_ms=now_ms)
    until = memory.get(_CONTINUE_UNTIL)
    if until is None and now_ms - memory.get(_ALL_CALLS_AT, 0) >= ALL_CALLS_MS:
        memory[_ALL_CALLS_AT] = until = now_ms
    if until is not None:
        memory[_CONTINUE_UNTIL] = find_new(
            run.store, since=0, until=until, limit=FOUND_FILES, now_ms=now_ms
        )
    return memory.get(_CONTINUE_UNTIL) is not None


@contextmanager
def _alone(partial: Path) -> Iterator[bool]:
    """Whether no other process of this machine fetches into this folder meanwhile."""
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


class _Unfinished:
    """The files of one download in the folder for unfinished ones."""

    def __init__(self, storage: Storage, call_id: str, kind: str) -> None:
        self.call_id, self.kind = call_id, kind
        self.folder = folder_of(call_id)
        self.part = storage.partial / f"{self.folder}.{kind}.part"
        self._call = self.part.with_suffix(".call")

    def begin(self) -> None:
        """Write the file that names the call, before the download."""
        text = self.call_id.encode("utf-8", "surrogatepass")
        if not self._call.exists() or self._call.read_bytes() != text:
            self._call.touch(mode=0o600)
            self._call.write_bytes(text)

    def remove(self) -> None:
        """Delete the files, the one that names the call last."""
        for path in (self.part.with_suffix(".etag"), self.part, self._call):
            path.unlink(missing_ok=True)

    def name(self, content_type: str) -> str:
        """The name of the complete file."""
        return f"{self.folder}/{self.kind}.{EXTENSIONS[content_type]}"


def _sweep(store: AnyStore, storage: Storage) -> None:
    """Delete remains of killed processes whose downloads are no longer wanted."""
    for path in storage.partial.glob("*.call"):
        call_id = path.read_bytes().decode("utf-8", "surrogatepass")
        kind = path.name.split(".")[-2]
        state, next_attempt_at = media_state(store, call_id, kind)
        if next_attempt_at is not None:
            continue
        unfinished = _Unfinished(storage, call_id, kind)
        if state != "kept" and kind in MEDIA_KINDS:
            for content_type in EXTENSIONS:
                storage.delete(unfinished.name(content_type))
        unfinished.remove()
        path.unlink(missing_ok=True)
    for path in (*storage.partial.glob("*.part"), *storage.partial.glob("*.etag")):
        if not path.with_suffix(".call").exists():
            path.unlink(missing_ok=True)


@dataclass
class _Stopping:
    """Whether downloads must end, and the file system's or the bucket's reason."""

    run: Run
    event: Event = field(default_factory=Event)

    def check(self) -> None:
        """Raise if the run or this pass must stop."""
        if self.event.is_set():
            raise _Abandoned
        self.run.check()


class _Abandoned(Exception):
    """The pass ended before this file did; it stays due."""


class _Fetching:
    """Fetches several files at a time; only the calling thread writes to the database."""

    def __init__(self, run: Run, storage: Storage) -> None:
        self._run, self._storage = run, storage
        self._stopping = _Stopping(run)
        limits = run.settings.media
        self._downloader = Downloader(limits, check=self._stopping.check, sleep=run.sleep)
        self._pool = ThreadPoolExecutor(limits.downloads, thread_name_prefix="recordings")
        self._retell: dict[str | None, Retell | None] = {}
        # Call -> its links by kind.
        self._fresh: dict[str, dict[str, str]] = {}
        self._lock = Lock()

    def __enter__(self) -> "_Fetching":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.event.set()
        self._pool.shutdown(cancel_futures=True)
        self._downloader.close()
        for client in self._retell.values():
            if client is not None:
                client.close()

    def keep(
        self, files: list[DueFile], counts: Counts, progress: Callable[[Counts], None]
    ) -> None:
        """Fetch files and write each outcome; stop at once if nothing can be kept now."""
        futures = {self._pool.submit(self._outcome, file): file for file in files}
        for future in as_completed(futures):
            try:
                outcome = future.result()
            except (DiskReserved, StorageUnavailable) as error:
                counts.stopped = str(error)
                return
            except (_Abandoned, Stopped, OSError):
                raise
            except Exception as error:
                # An error of one file must not stop the others, in this pass and the next.
                problem = f"it could not be fetched: {type(error).__name__}"
                outcome = self._failed(futures[future], problem, retry=True)
            self._write(futures[future], outcome, counts)
            progress(counts)
            self._run.check()

    def _write(self, file: DueFile, outcome: Outcome, counts: Counts) -> None:
        is_wanted = write_outcome(self._run.store, file, outcome, now_ms=self._run.now_ms())
        if not is_wanted and outcome.location is not None:
            self._storage.delete(outcome.location)
        if not is_wanted or outcome.next_attempt_at is None:
            _Unfinished(self._storage, file.call_id, file.kind).remove()
        if is_wanted:
            setattr(counts, outcome.state, getattr(counts, outcome.state) + 1)
            counts.bytes += outcome.bytes or 0

    def _outcome(self, file: DueFile) -> Outcome:
        """Fetch a file; runs in a thread of the pool."""
        self._stopping.check()
        unfinished = _Unfinished(self._storage, file.call_id, file.kind)
        try:
            unfinished.begin()
            url, fetched = self._fetch(file, unfinished.part)
            name = unfinished.name(fetched.content_type)
            self._storage.put(name, unfinished.part)
        except (DiskReserved, StorageUnavailable):
            raise
        except LinkDead as error:
            return Outcome("gone", str(error))
        except RecordingNotKept as error:
            return self._failed(file, str(error), retry=error.retry)
        return Outcome(
            "kept",
            url=url.partition("?")[0],
            location=name,
            bytes=fetched.bytes,
            sha256=fetched.sha256,
            content_type=fetched.content_type,
            fetched_at=self._run.now_ms(),
        )

    def _failed(self, file: DueFile, problem: str, *, retry: bool) -> Outcome:
        attempts = file.attempts + 1
        if not retry or attempts >= MAX_ATTEMPTS:
            return Outcome("failed", problem)
        wait_ms = min(FIRST_RETRY_MS * 2 ** min(file.attempts, 20), LAST_RETRY_MS)
        # Files that failed together are not retried at the same moment.
        wait_ms = round(wait_ms * random.uniform(0.75, 1))
        return Outcome("failed", problem, self._run.now_ms() + wait_ms)

    def _fetch(self, file: DueFile, part: Path) -> tuple[str, Fetched]:
        """Fetch by the stored link, or by a new one. Raises LinkDead if the file has gone."""
        is_audio = "recording" in file.kind
        url = file.url
        try:
            return url, self._downloader.fetch(url, part, is_audio=is_audio)
        except LinkDead as error:
            problem = str(error)
        fresh = self._fresh_url(file)
        if fresh is None:
            raise LinkDead(f"{problem}, and Retell has no other")
        try:
            if fresh != url:
                return fresh, self._downloader.fetch(fresh, part, is_audio=is_audio)
        except LinkDead as error:
            problem = str(error)
        if file.ended_at is None or self._run.now_ms() - file.ended_at < SETTLING_MS:
            raise RecordingNotKept(f"{problem} yet")
        raise LinkDead(f"{problem}, not even a fresh one")

    def _fresh_url(self, file: DueFile) -> str | None:
        """The link that get-call returns now; None if it has none. One request per call.

        Raises RecordingNotKept.
        """
        with self._lock:
            if file.account not in self._retell:
                self._retell[file.account] = self._client(file.account)
            retell = self._retell[file.account]
        if retell is None:
            raise RecordingNotKept("the link no longer works, and no API key is set to renew it")
        if file.call_id not in self._fresh:
            try:
                call = retell.get_call(file.call_id).value
            except NotAtRetell:
                call = None
            except RetellError as error:
                raise RecordingNotKept(f"the link could not be renewed: {error}") from None
            self._fresh[file.call_id] = _links(call)
        return self._fresh[file.call_id].get(file.kind)

    def _client(self, account: str | None) -> Retell | None:
        """The API of an account; None without its key."""
        settings, run = self._run.settings, self._run
        try:
            key = settings.require_api_key(account or DEFAULT_ACCOUNT)
        except SettingsError:
            return None
        return Retell(settings.base_url, key, sleep=run.sleep, now_ms=run.now_ms)


def _links(call: Any) -> dict[str, str]:
    """The links of a call object by kind."""
    found = (
        {kind: call.get(f"{kind}_url") for kind in MEDIA_KINDS} if isinstance(call, dict) else {}
    )
    return {kind: url for kind, url in found.items() if isinstance(url, str) and url}
