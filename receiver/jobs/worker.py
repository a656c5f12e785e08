"""`callhouse work`: run each job at its interval, one worker at a time.

Each job has a thread, which waits until the job is due, claims it with a lease in the table jobs,
runs it while another thread renews the lease, and stores the result. Jobs use small transactions
that can be repeated, so a worker may be killed at any point: the next one claims the job after the
lease and runs it again.

It does not use a scheduler library. It needs a lease in the database, on SQLite and PostgreSQL,
that a second worker respects. APScheduler 3 forbids two schedulers on one job store and has its own
tables with SQLAlchemy, APScheduler 4 is an alpha release, and cron expressions are not needed. The
loop below is shorter than an adapter for one of them.

The receiver (PostgreSQL) and `callhouse browse` (SQLite) roll up too, so that pages are fast
without a worker. Rolling up twice has no effect.
"""

import importlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from receiver import clock
from receiver.config import Settings
from receiver.errors import CallhouseError, JobIsRunning, StoreUnavailable
from receiver.jobs.schedule import due_at, intervals, retry_ms
from receiver.store import AnyStore, open_store
from receiver.store.engine import reading
from receiver.store.jobs import JobRow, claim, finish, job_rows, renew

# Job -> its function, which runs it once and returns what is incomplete, or None.
_FUNCTIONS = MappingProxyType(
    {
        "roll_up": "receiver.jobs.upkeep:roll_up",
        "recordings": "receiver.jobs.recordings:keep_recordings",
        "forward": "receiver.jobs.forward:forward",
        "alerts": "receiver.jobs.alerts:run_alerts",
        "digest": "receiver.jobs.digest:run_digest",
        "grade": "receiver.jobs.grading:run_grading",
        "sync": "receiver.jobs.upkeep:sync",
        "coverage": "receiver.jobs.upkeep:coverage",
        "prune": "receiver.jobs.prune:prune",
        "backup": "receiver.jobs.backup:backup",
    }
)
LEASE_SECONDS = 60.0
# A job with a shorter interval runs several times per claim, so that it writes to jobs less often.
CLAIM_SECONDS = 60.0
# How long a job waits for the write lock; the receiver waits for 4 seconds.
BUSY_SECONDS = 60.0
# The interval at which an idle job is checked, and the pause after the database was unavailable.
POLL_SECONDS = 5.0
# After SIGTERM, the time for jobs to complete their transaction.
STOP_SECONDS = 4.0


class Stopped(Exception):
    """The worker is stopping, or another worker has the job."""


class Run:
    """One run of a job: its settings, store and clock, and whether it should stop."""

    def __init__(
        self,
        settings: Settings,
        store: AnyStore,
        *,
        now_ms: Callable[[], int] = clock.now_ms,
        stop: threading.Event | None = None,
        memory: dict[str, Any] | None = None,
    ) -> None:
        self.settings, self.store, self.now_ms = settings, store, now_ms
        # The state of the job in this process.
        self.memory: dict[str, Any] = {} if memory is None else memory
        self._stop = stop or threading.Event()

    def check(self) -> None:
        """Call this between two units of work. Raises Stopped."""
        if self._stop.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Stopped."""
        if self._stop.wait(seconds):
            raise Stopped


Job = Callable[[Run], str | None]


class Worker:
    """Runs jobs. `owner` is its name in the table jobs."""

    def __init__(
        self,
        settings: Settings,
        jobs: Mapping[str, Job],
        *,
        owner: str | None = None,
        now_ms: Callable[[], int] = clock.now_ms,
        lease_seconds: float = LEASE_SECONDS,
        claim_seconds: float = CLAIM_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        say: Callable[..., None] = lambda **_: None,
    ) -> None:
        self._settings, self._now_ms, self._say = settings, now_ms, say
        self.owner = owner or own_name()
        every = intervals(settings)
        # Job -> its interval in milliseconds; those that are off are left out.
        self.intervals_ms = {name: every[name] for name in jobs if every[name]}
        self._jobs = jobs
        self._memories: dict[str, dict[str, Any]] = {name: {} for name in jobs}
        self._lease_ms = round(lease_seconds * 1000)
        self._claim_seconds, self._poll_seconds = claim_seconds, poll_seconds
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_running, args=(name,), name=name, daemon=True)
            for name in self.intervals_ms
        ]

    def start(self) -> None:
        """Run the jobs that are on, each in a thread, until `stop` is called."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> bool:
        """Stop every job after its current transaction; return whether all ended in time.

        Must not be called in a signal handler, which could interrupt its own thread while that has
        the lock of the event.
        """
        self._stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep_running(self, name: str) -> None:
        store = open_store(self._settings.database, busy_seconds=BUSY_SECONDS)
        try:
            while not self._stop.is_set():
                try:
                    seconds = self.step(name, store)
                except Exception as error:
                    # The row could not be read or written; health reports the problem.
                    problem = message_of(error)
                    self._say(now_ms=self._now_ms(), job=name, outcome="waiting", error=problem)
                    seconds = self._poll_seconds
                self._stop.wait(seconds)
        finally:
            store.close()

    def step(self, name: str, store: AnyStore) -> float:
        """Run a job if it is due; return how many seconds to wait. Raises CallhouseError."""
        interval_ms = self.intervals_ms[name]
        with reading(self._settings.database) as connection:
            row = job_rows(connection).get(name, JobRow(name))
        now_ms = self._now_ms()
        wait_ms = due_at(row, interval_ms, now_ms=now_ms) - now_ms
        if wait_ms > 0 and not (row.lease_until is not None and has_ended(row.owner)):
            return min(wait_ms / 1000, self._poll_seconds)
        with suppress(JobIsRunning):
            self._run(row, store, interval_ms)
        return 0.01

    def _run(self, row: JobRow, store: AnyStore, interval_ms: int) -> None:
        began = time.monotonic()
        with leased(
            row, store, owner=self.owner, now_ms=self._now_ms, lease_ms=self._lease_ms,
            interval_ms=interval_ms, stop=self._stop,
        ) as lease:  # fmt: skip
            memory = self._memories[row.name]
            run = Run(self._settings, store, now_ms=self._now_ms, stop=lease.stop, memory=memory)
            lease.incomplete = self._jobs[row.name](run)
            while (
                interval_ms / 1000 < self._claim_seconds
                and time.monotonic() - began + interval_ms / 1000 < self._claim_seconds
            ):
                run.sleep(interval_ms / 1000)
                lease.incomplete = self._jobs[row.name](run)
        ended = lease.ended
        if ended is not None:
            self._say(
                now_ms=self._now_ms(),
                job=row.name,
                outcome=ended.result,
                ms=round((time.monotonic() - began) * 1000),
                error=ended.problem,
            )


class _Lease:
    """A claimed job: `stop` is set when the run must end, `ended` is the row after the end."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.incomplete: str | None = None
        self.ended: JobRow | None = None


@contextmanager
def leased(
    row: JobRow,
    store: AnyStore,
    *,
    owner: str,
    now_ms: Callable[[], int],
    lease_ms: int,
    interval_ms: int,
    stop: threading.Event | None = None,
) -> Iterator[_Lease]:
    """Claim a job for the block, renew its lease meanwhile, and store how the block ended.

    `interval_ms` is 0 if there is no next run. An error of the block is stored as the job's problem
    and not raised, unless there is no next run. Raises JobIsRunning, StoreUnavailable.
    """
    started_at = now_ms()
    dead = row.owner if row.lease_until is not None and has_ended(row.owner) else None
    if not claim(store, row, owner=owner, now_ms=started_at, lease_ms=lease_ms, dead_owner=dead):
        raise JobIsRunning(f"{row.name} is running already")
    lease, done = _Lease(_EitherEvent(stop)), threading.Event()
    mine = replace(row, owner=owner, started_at=started_at)
    beat = threading.Thread(
        target=_keep_lease, args=(mine, store, now_ms, lease_ms, done, lease.stop), daemon=True
    )
    beat.start()
    failure: BaseException | None = None
    try:
        yield lease
    except BaseException as error:
        failure = error
    finally:
        done.set()
        beat.join()
    lease.ended = _ended(mine, lease, failure, ended_at=now_ms(), interval_ms=interval_ms)
    finish(store, lease.ended)
    if failure is not None and (not interval_ms or not isinstance(failure, Exception)):
        raise failure


class _EitherEvent(threading.Event):
    """An event that is also set if another one is."""

    def __init__(self, other: threading.Event | None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        """Whether one of the two is set."""
        return super().is_set() or (self._other is not None and self._other.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for one of the two, checking this one once a second."""
        if self._other is None:
            return super().wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
            if left <= 0:
                break
            self._other.wait(left)
        return self.is_set()


def _keep_lease(
    row: JobRow,
    store: AnyStore,
    now_ms: Callable[[], int],
    lease_ms: int,
    done: threading.Event,
    stop: threading.Event,
) -> None:
    """Renew the lease until `done`; set `stop` if another worker may have the job."""
    held_until = time.monotonic() + lease_ms / 1000
    while not done.wait(lease_ms / 4000):
        began = time.monotonic()
        try:
            is_mine = renew(
                store,
                row.name,
                owner=row.owner or "",
                started_at=row.started_at or 0,
                lease_until=now_ms() + lease_ms,
            )
        except StoreUnavailable:
            is_mine = began < held_until
        else:
            held_until = began + lease_ms / 1000
        if not is_mine:
            stop.set()
            return


def _ended(
    row: JobRow, lease: _Lease, failure: BaseException | None, *, ended_at: int, interval_ms: int
) -> JobRow:
    """The row of a run that ended. A command that is stopped or fails does not postpone the next
    run of the worker."""
    next_run_at = ended_at + interval_ms if interval_ms else None
    if failure is None:
        result = "incomplete" if lease.incomplete else "done"
        return replace(
            row, ended_at=ended_at, result=result, problem=lease.incomplete, failures=0,
            next_run_at=next_run_at,
        )  # fmt: skip
    if isinstance(failure, Stopped | KeyboardInterrupt):
        # It is due at once, for the next worker.
        return replace(
            row, ended_at=ended_at, result="stopped", problem=None, failures=row.failures or 0,
            next_run_at=ended_at if interval_ms else row.next_run_at,
        )  # fmt: skip
    failures = (row.failures or 0) + 1
    return replace(
        row,
        ended_at=ended_at,
        result="failed",
        problem=message_of(failure),
        failures=failures,
        next_run_at=ended_at + retry_ms(failures) if interval_ms else row.next_run_at,
    )


@contextmanager
def running(
    settings: Settings, name: str, store: AnyStore, *, now_ms: Callable[[], int] = clock.now_ms
) -> Iterator[_Lease]:
    """Claim a job for a command that runs it once. Raises JobIsRunning, StoreUnavailable."""
    with reading(settings.database) as connection:
        row = job_rows(connection).get(name, JobRow(name))
    with leased(
        row, store, owner=own_name(), now_ms=now_ms, lease_ms=round(LEASE_SECONDS * 1000),
        interval_ms=0,
    ) as lease:  # fmt: skip
        yield lease


def functions() -> dict[str, "Job"]:
    """The function of each job, imported now."""
    found = {}
    for name, place in _FUNCTIONS.items():
        module, _, function = place.partition(":")
        found[name] = getattr(importlib.import_module(module), function)
    return found


def message_of(error: BaseException) -> str:
    """The message of a CallhouseError, which has no values of a call; else the error's class."""
    return str(error) if isinstance(error, CallhouseError) else type(error).__name__


def own_name() -> str:
    """A unique name for this process: machine, process id, and a random part."""
    return f"{_machine()} {os.getpid()} {secrets.token_hex(2)}"


def has_ended(owner: str | None) -> bool:
    """Whether an owner is a process of this machine that has ended, so that its lease is void."""
    machine, _, rest = (owner or "").rpartition(" ")[0].rpartition(" ")
    if machine != _machine() or not rest.isdecimal():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        # Another user's process.
        return False
    return False


def _machine() -> str:
    """The host, its last start, and the namespace of process ids: containers have their own, and
    copies of a machine have one host name."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{started}/{namespace}"
