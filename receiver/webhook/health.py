"""Log lines, counters, /healthz and /metrics of the receiver.

The log has one line per webhook with ids and numbers, never the content of a call: JSON, or columns
on a terminal.

Counters are exact across workers and restarts. They are in a memory-mapped file beside the
database: if rejected requests were counted in the database, anybody on the internet could cause
disk syncs.
"""

import fcntl
import json
import logging
import mmap
import os
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO, TypeVar

from receiver.addresses import Location
from receiver.jobs.schedule import FAILING, OVERDUE, JobState, job_states
from receiver.store.engine import engine
from receiver.store.jobs import JobRow

T = TypeVar("T")

# One slot each. The order is fixed: append new names, never move one.
NAMES = (
    "stored",
    "duplicate",
    "quarantined",
    "erased",
    "missing",
    "malformed",
    "forged",
    "stale",
    "too_large",
    "busy",
    "unavailable",
    "last_event_ms",
    "last_stale_ms",
    "last_forged_ms",
    "last_refused_ms",
    "forged_since_event",
    "refused_since_event",
    "too_slow",
    "unreadable",
    "overloaded",
    "inbound_failed",
    "last_inbound_failed_ms",
)
# Times and counts since an event, and of answers; all other names count requests by outcome.
STATE = frozenset((*NAMES[11:17], "inbound_failed", "last_inbound_failed_ms"))
# A time further ahead was written while the clock was wrong.
_AHEAD_MS = 60_000
_SLOTS = struct.Struct(f"<{len(NAMES)}q")
_BYTES = mmap.PAGESIZE


def is_future(at_ms: int, now_ms: int) -> bool:
    """Whether a time was written while the clock was ahead."""
    return at_ms > now_ms + _AHEAD_MS


class Counters:
    """Counters by name, shared by all processes that open the same path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # With a database on a server, the folder may not exist.
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._lock = threading.Lock()
        self._file.truncate(_BYTES)
        # Writing to a mapped page kills the process if the disk is full; an error now is better.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, _BYTES)
        self._map = mmap.mmap(self._file.fileno(), _BYTES)

    @contextmanager
    def change(self) -> Iterator[dict[str, int]]:
        """All counters, to be changed until the block ends; nobody else changes them meanwhile."""
        # The file lock is between processes, the other one between threads of this process.
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                values = self.read()
                yield values
                _SLOTS.pack_into(self._map, 0, *(values[name] for name in NAMES))
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def read(self) -> dict[str, int]:
        """All counters."""
        return dict(zip(NAMES, _SLOTS.unpack_from(self._map), strict=True))

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        self._file.close()


# Less may not be enough for the next burst of events.
MIN_FREE_BYTES = 64 * 1024 * 1024
# How long a problem is reported, so that monitors can see it.
RECENT_MS = 15 * 60 * 1000
# With this many forged requests and no authentic event, the key is probably wrong.
MIN_FORGED = 5

NEARLY_FULL = "the disk is nearly full"
STALE = "authentic events arrived too old: check this machine's clock"
FORGED = "only forged events arrive: check the webhook key"
REFUSED = "events were refused and none was stored since"
INBOUND = "inbound calls or chats were answered without the rules"
_EVENTS = ("stored", "duplicate", "quarantined", "erased")
_REFUSED = ("busy", "unavailable")

# The beginning of each problem; docs/reference/health.md has a remedy for each.
PROBLEMS = (
    "the database cannot be opened",
    "the database is damaged",
    "the database cannot be read",
    "the database does not have this version's schema",
    "the database has migrations this version does not know",
    "the database is read-only",
    NEARLY_FULL,
    STALE,
    FORGED,
    REFUSED,
    INBOUND,
    OVERDUE,
    FAILING,
)


def note(counters: Counters, outcome: str, *, now_ms: int) -> None:
    """Count the outcome of a request to /webhook."""
    with counters.change() as counts:
        counts[outcome] += 1
        if outcome in _EVENTS:
            _raise(counts, "last_event_ms", now_ms)
            counts["forged_since_event"] = counts["refused_since_event"] = 0
        elif outcome == "stale":
            _raise(counts, "last_stale_ms", now_ms)
        elif outcome == "forged":
            is_first = not _is_recent(counts["last_forged_ms"], now_ms)
            counts["forged_since_event"] = 1 if is_first else counts["forged_since_event"] + 1
            _raise(counts, "last_forged_ms", now_ms)
        elif outcome in _REFUSED:
            counts["refused_since_event"] += 1
            _raise(counts, "last_refused_ms", now_ms)


def count_inbound_failure(counters: Counters, *, now_ms: int) -> None:
    """Count an inbound call or chat whose answer is empty because of a problem."""
    with counters.change() as counts:
        counts["inbound_failed"] += 1
        _raise(counts, "last_inbound_failed_ms", now_ms)


def _raise(counts: dict[str, int], name: str, at_ms: int) -> None:
    """Raise a time; a stored time in the future is replaced."""
    if is_future(counts[name], at_ms) or counts[name] < at_ms:
        counts[name] = at_ms


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """The state of the database, its jobs and its disk."""

    problems: Sequence[str]
    found: Mapping[str, Any]
    jobs: Mapping[str, JobRow]
    database_bytes: int
    wal_bytes: int
    free_disk_bytes: int


class DatabaseWatch:
    """Checks the database at `where` at most once in `seconds`.

    A check takes milliseconds, and anybody on the internet can request it.
    """

    def __init__(self, where: Location, counters_path: Path, *, seconds: float) -> None:
        self._engine, self._path, self._seconds = engine(where), counters_path, seconds
        self._lock = threading.Lock()
        self._state: DatabaseState | None = None
        self._due = 0.0

    def check(self) -> DatabaseState:
        """The state; one check at a time."""
        with self._lock:
            if self._state is None or time.monotonic() >= self._due:
                self._state = self._read_state()
                self._due = time.monotonic() + self._seconds
            return self._state

    def _read_state(self) -> DatabaseState:
        problems: list[str] = []
        found = self._engine.check(problems)
        free = free_bytes(self._path)
        if free < MIN_FREE_BYTES:
            problems.append(NEARLY_FULL)
        jobs = found.pop("jobs", {})
        return DatabaseState(problems, found, jobs, *self._engine.sizes(), free)


def health(
    state: DatabaseState,
    counters: Counters,
    *,
    intervals_ms: Mapping[str, int] = MappingProxyType({}),
    now_ms: int,
) -> dict[str, Any]:
    """The response of /healthz; `problems` is empty if there are none.

    `intervals_ms` are the intervals of the jobs.
    """
    counts = counters.read()
    jobs = [
        job
        for job in job_states(state.jobs, intervals_ms, now_ms=now_ms)
        if job.row.started_at is not None
    ]
    problems = [
        *state.problems,
        *traffic_problems(counts, now_ms),
        *(job.problem for job in jobs if job.problem),
    ]
    last_event_ms = counts["last_event_ms"]
    return {
        "status": "error" if problems else "ok",
        "problems": problems,
        **state.found,
        "last_event_ms": None if is_future(last_event_ms, now_ms) else last_event_ms or None,
        "stale": counts["stale"],
        "wal_bytes": state.wal_bytes,
        "free_disk_bytes": state.free_disk_bytes,
        "jobs": [job.as_json() for job in jobs],
    }


def traffic_problems(counts: Mapping[str, int], now_ms: int) -> list[str]:
    """The problems seen in the requests of the last 15 minutes. Times in the future are ignored."""
    problems = []
    recent = {name for name, at in counts.items() if _is_recent(at, now_ms)}
    if "last_stale_ms" in recent:
        problems.append(STALE)
    # If authentic events arrive too, the key is correct.
    is_forged = counts["forged_since_event"] >= MIN_FORGED and "last_forged_ms" in recent
    if is_forged and "last_event_ms" not in recent:
        problems.append(FORGED)
    if counts["refused_since_event"] and "last_refused_ms" in recent:
        problems.append(REFUSED)
    if "last_inbound_failed_ms" in recent:
        problems.append(INBOUND)
    return problems


def _is_recent(at_ms: int, now_ms: int) -> bool:
    return now_ms - RECENT_MS < at_ms and not is_future(at_ms, now_ms)


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of `path`; 0 if its folder is missing."""
    return shutil.disk_usage(path.parent).free if path.parent.exists() else 0


def prometheus(
    state: DatabaseState,
    counters: Counters,
    *,
    intervals_ms: Mapping[str, int] = MappingProxyType({}),
    now_ms: int,
) -> str:
    """Counters and gauges in Prometheus' text format; `intervals_ms` as for `health`."""
    counts = counters.read()
    last_event_ms = counts["last_event_ms"]
    lines = [
        "# HELP callhouse_events_total Requests to /webhook by outcome.",
        "# TYPE callhouse_events_total counter",
        *(
            f'callhouse_events_total{{outcome="{name}"}} {n}'
            for name, n in counts.items()
            if name not in STATE
        ),
    ]
    lines += [
        "# HELP callhouse_inbound_failures_total Inbound calls or chats answered without rules.",
        "# TYPE callhouse_inbound_failures_total counter",
        f"callhouse_inbound_failures_total {counts['inbound_failed']}",
    ]
    gauges = {
        "last_event_timestamp_seconds": (last_event_ms / 1000, "When the last event was stored."),
        "database_bytes": (state.database_bytes, "Size of the database."),
        "wal_bytes": (state.wal_bytes, "Size of the write-ahead log."),
        "free_disk_bytes": (state.free_disk_bytes, "Free space on this machine's disk."),
    }
    for name, (value, meaning) in gauges.items():
        lines += [
            f"# HELP callhouse_{name} {meaning}",
            f"# TYPE callhouse_{name} gauge",
            f"callhouse_{name} {value}",
        ]
    jobs = job_states(state.jobs, intervals_ms, now_ms=now_ms)
    return "\n".join([*lines, *_job_lines(jobs)]) + "\n"


def _job_lines(jobs: Iterable[JobState]) -> list[str]:
    gauges: dict[str, tuple[str, Callable[[JobState], float | None]]] = {
        "job_started_timestamp_seconds": (
            "When the job last started.",
            lambda job: _seconds(job.row.started_at),
        ),
        "job_ended_timestamp_seconds": (
            "When the job last ended.",
            lambda job: _seconds(job.row.ended_at),
        ),
        "job_next_run_timestamp_seconds": (
            "When the job runs next, or its lease ends if it runs; of a job that is on.",
            lambda job: None if job.state == "off" else _seconds(job.expected_ms),
        ),
        "job_failures": (
            "How often the job has failed in a row; of a job that is on.",
            lambda job: None if job.state == "off" else job.row.failures,
        ),
    }
    lines = []
    for name, (meaning, value_of) in gauges.items():
        lines += [f"# HELP callhouse_{name} {meaning}", f"# TYPE callhouse_{name} gauge"]
        for job in jobs:
            if (value := value_of(job)) is not None:
                lines.append(f'callhouse_{name}{{job="{job.row.name}"}} {value}')
    return lines


def _seconds(at_ms: int | None) -> float | None:
    return None if at_ms is None else at_ms / 1000


# -- log lines -------------------------------------------------------------------------------------

# Longer values are cut.
MAX_CHARACTERS = 200

# name -> width on a terminal.
_COLUMNS = {
    "outcome": 11,
    "event": 18,
    "entity_id": 34,
    "level": 1,
    "bytes": 7,
    "ms": 6,
    "rule": 0,
    "error": 0,
}


def log(*, now_ms: int, stream: TextIO | None = None, **fields: str | int | float | None) -> None:
    """Write one line: the time and the fields that are not None."""
    stream = stream or sys.stderr
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    values = {name: _cut(value) for name, value in fields.items() if value is not None}
    line = _columns(at, values) if stream.isatty() else json.dumps({"at": at, **values})
    # One write per line, so that lines of several processes do not mix. The event is stored even if
    # the log's disk is full.
    with suppress(OSError):
        stream.write(line + "\n")
        stream.flush()


class ShortMessages(logging.Filter):
    """Cuts messages of other loggers, which may contain a header of 8 KB."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept every record, cut, and without the traceback of a failed connection."""
        message = record.getMessage()
        if record.exc_info and isinstance(record.exc_info[1], OSError):
            message = f"{message} {type(record.exc_info[1]).__name__}"
            record.exc_info = None
        record.msg, record.args = _cut(message), None
        return True


def _cut(value: T) -> T | str:
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        return value[: MAX_CHARACTERS - 1] + "…"
    return value


def _columns(at: str, values: dict[str, str | int | float]) -> str:
    cells = []
    for name, width in _COLUMNS.items():
        value = values.get(name, "")
        align = "<" if isinstance(value, str) else ">"
        cells.append(f"{value:{align}{width}}")
    # Ids come from the sender: no control characters may reach the terminal.
    text = "  ".join([at[11:23], *cells]).rstrip()
    return "".join(c if c.isprintable() else "?" for c in text)
