"""The only writer of a SQLite file. Requests share transactions and are answered after the
commit."""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from receiver.errors import LogDeleted, SettingsError, StoreBusy, StoreReplaced, StoreUnavailable
from receiver.store import protocols, sql
from receiver.store.connection import (
    FAULTS,
    STEPS,
    Connection,
    FileLog,
    Log,
    SavepointNeeded,
    connect,
    connect_readonly,
    identity,
    is_busy,
    result_code,
    sqlite3,
)
from receiver.store.ingest import Outcome, Received, observe
from receiver.store.migrate import check, views_match
from receiver.store.protocols import BUSY_SECONDS
from receiver.store.snapshots import Row, too_slow

# The maximum number of events in a transaction, which limits how long the first one waits.
BATCH = 128
_POLL_SECONDS = 0.0005
# Attempts to open: the first connection to a file creates its log, the second finds it.
_OPENINGS = 3

T = TypeVar("T")


class Machine:
    """Clock, locks and files that a store uses; a simulation has its own.

    Names are looked up at each call, because gevent replaces them after this module was imported.
    """

    def monotonic(self) -> float:
        """Seconds of a clock that cannot be set back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep, so that other requests run."""
        time.sleep(seconds)

    def lock(self) -> threading.Lock:
        """A new lock between the threads of this process."""
        return threading.Lock()

    def connect(self, path: Path) -> Connection:
        """Open a connection for writing that does not wait for locks. Raises sqlite3.Error."""
        return connect(path, busy_timeout_ms=0)

    def identity(self, path: Path) -> tuple[int, int] | None:
        """Device and inode of the file at `path`; None if there is none."""
        return identity(path)

    def log(self, path: Path) -> Log:
        """The write-ahead log of the newest connection. Raises OSError if it was deleted
        already."""
        return FileLog(path)


class _Waiting:
    """A received body between its request and the commit."""

    __slots__ = ("deadline", "received", "result", "wake")

    def __init__(self, received: Received, deadline: float, wake: threading.Lock) -> None:
        self.received, self.deadline = received, deadline
        self.result: Outcome | StoreUnavailable | None = None
        # Held until the body is stored or rejected, or its request becomes the leader.
        self.wake = wake
        self.wake.acquire()


class Store:
    """Adds received bodies to the SQLite file at `path`, which `migrate` has made.

    Group commit without a writer thread: the first waiting request is the leader and commits for
    all. Requests that arrive meanwhile share the next transaction, and the first of them is its
    leader.
    """

    def __init__(
        self, path: Path, *, busy_seconds: float = BUSY_SECONDS, machine: Machine | None = None
    ) -> None:
        self.path = path
        self._machine = machine or Machine()
        self._busy_seconds = busy_seconds
        self._queue: deque[_Waiting] = deque()
        self._leader: _Waiting | None = None
        # Protects the two above.
        self._queueing = self._machine.lock()
        # Protects the connection during a transaction.
        self._writing = self._machine.lock()
        self._connection: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._log: Log | None = None
        self._log_path = path.with_name(path.name + "-wal")
        self._turn_path = f"{path}.turn"

    def add(self, received: Received) -> Outcome:
        """Store one body; return once it is on disk. Raises StoreUnavailable."""
        waiting = _Waiting(received, self._deadline(), self._machine.lock())
        with self._queueing:
            self._queue.append(waiting)
            self._leader = self._leader or waiting
            leads = self._leader is waiting
        try:
            if not leads:
                waiting.wake.acquire()
            if waiting.result is None:
                self._lead(waiting)
        except BaseException:
            # A killed greenlet or a timeout: other requests must not wait for this one.
            self._withdraw(waiting)
            self._hand_over(waiting)
            raise
        if isinstance(waiting.result, StoreUnavailable):
            raise waiting.result
        assert waiting.result is not None
        return waiting.result

    def close(self) -> None:
        """Close the file."""
        with self._writing:
            self._disconnect()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of the caller.

        Raises StoreUnavailable.
        """
        with self._writing:
            try:
                connection = self._begin(self._deadline())
                yield connection
                connection.execute("COMMIT")
                self._check_files()
            except BaseException as error:
                self._disconnect_after(error)
                if isinstance(error, sqlite3.Error | OSError | SettingsError):
                    raise _unavailable(error, "the database could not be written") from error
                raise

    def run(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` in a transaction of its own. Raises StoreUnavailable."""
        with self.transaction() as connection:
            return unit(connection)

    def read(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` on a connection of its own. Raises StoreUnavailable."""
        try:
            with closing(connect_readonly(self.path)) as connection:
                return unit(connection)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database could not be read: {error}") from error

    def first_row(
        self, query: str, parameters: Mapping[str, Any], *, seconds: float
    ) -> tuple[list[str], Row | None]:
        """The columns and the first row of a SELECT, on a connection that cannot write."""
        deadline = time.monotonic() + seconds
        try:
            with closing(connect_readonly(self.path)) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
                found = connection.execute(sql.first_row(query), parameters)
                return [column[0] for column in found.description], found.fetchone()
        except (sqlite3.Error, sqlite3.Warning) as error:
            code = result_code(error)
            if code == sqlite3.SQLITE_INTERRUPT:
                raise too_slow(seconds) from None
            kind = StoreUnavailable if code in FAULTS else SettingsError
            raise kind(f"SQLite: {error}") from None

    def lock_hours(self, connection: protocols.Connection, timezone: str, *_span: int) -> bool:
        """Return whether the views match. No lock is needed: BEGIN IMMEDIATE already locks the
        database."""
        return views_match(connection, timezone)

    def lock(self, connection: protocols.Connection, entity_ids: Iterable[str]) -> None:
        """No-op: BEGIN IMMEDIATE already locks the database."""

    def reindex(self, connection: protocols.Connection) -> None:
        """Rebuild the full-text indexes."""
        for statement in sql.REINDEX:
            connection.execute(statement)

    def _lead(self, leader: _Waiting) -> None:
        """Commit the leader and all requests that are waiting when it gets the write lock."""
        batch: list[_Waiting] = []
        try:
            with self._writing:
                try:
                    # Lets requests that have arrived join the queue before the transaction begins.
                    self._machine.sleep(0)
                    connection = self._begin(leader.deadline)
                    with self._queueing:
                        count = min(len(self._queue), BATCH)
                        batch = [self._queue.popleft() for _ in range(count)]
                    try:
                        connection.has_savepoints = False
                        outcomes = [observe(connection, waiting.received) for waiting in batch]
                    except SavepointNeeded:
                        # The content of an event cannot be projected: repeat with savepoints.
                        connection.execute("ROLLBACK")
                        connection = self._begin(leader.deadline)
                        outcomes = [observe(connection, waiting.received) for waiting in batch]
                    connection.execute("COMMIT")
                    self._check_files()
                except BaseException as error:
                    self._disconnect_after(error)
                    raise
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.result = outcome
        except BaseException as error:
            if not batch:
                # Only the leader fails: the others wait until their own deadlines.
                self._withdraw(leader)
                batch = [leader]
            for waiting in batch:
                waiting.result = _unavailable(error)
            if not isinstance(error, Exception):
                raise
        finally:
            for waiting in batch:
                waiting.wake.release()
            self._hand_over(leader)

    def _withdraw(self, waiting: _Waiting) -> None:
        """Remove a request from the queue if it is still there."""
        with self._queueing, suppress(ValueError):
            self._queue.remove(waiting)

    def _hand_over(self, leader: _Waiting) -> None:
        """Make the next request in the queue the leader, if `leader` still is.

        A lock could not wake the followers whose bodies are stored.
        """
        with self._queueing:
            if self._leader is not leader:
                return
            successor = self._leader = self._queue[0] if self._queue else None
        if successor is not None:
            successor.wake.release()

    def _begin(self, deadline: float) -> Connection:
        """Begin a transaction, waiting for other processes in steps that let other requests run."""
        while True:
            try:
                with self._writer_lock(deadline):
                    return self._lock_file(deadline)
            except LogDeleted as error:
                # Without the writer lock, because the process that can restore the log needs it.
                self._wait(deadline, error)

    def _lock_file(self, deadline: float) -> Connection:
        while True:
            try:
                connection = self._connect()
                # Immediate: a deferred transaction that reads and then writes fails at once if
                # another process has written meanwhile, whatever the timeout says.
                connection.execute("BEGIN IMMEDIATE")
                connection.has_savepoints = True
                # The write lock is held, so nobody appends to the log while it is copied.
                if self._log is None or not self._log.is_gone:
                    return connection
                # Not if the database file was replaced.
                self._check_identity()
                self._log.restore()
                connection.execute("ROLLBACK")
                self._reopen()
            except sqlite3.DatabaseError as error:
                if is_busy(error):
                    self._wait(deadline)
                elif self._log_is_gone:
                    # The index belongs to the log that another process has restored.
                    self._reopen()
                else:
                    raise

    @contextmanager
    def _writer_lock(self, deadline: float) -> Iterator[None]:
        """Lock the file that a process holds while it waits for SQLite's write lock, so that the
        process that has just released the write lock cannot acquire it again at once."""
        file = os.open(self._turn_path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._wait(deadline)
            yield
        finally:
            # Releases the lock.
            os.close(file)

    def _connect(self) -> Connection:
        """The open connection, or a new one. Opening can fail because of locks of other
        processes."""
        if self._connection is None:
            self._identity = self._machine.identity(self.path)
            self._connection, self._log = self._open()
        self._check_identity()
        return self._connection

    def _open(self) -> tuple[Connection, Log]:
        """A new connection and its log.

        Raises LogDeleted while another process has a deleted log open: events in a new log would be
        lost.
        """
        connections: list[Connection] = []
        try:
            for _ in range(_OPENINGS):
                before = self._machine.identity(self._log_path)
                connections.append(self._machine.connect(self.path))
                check(connections[-1])
                with suppress(OSError):
                    log = self._machine.log(self.path)
                    # It is certainly the one that SQLite opened only if it existed before.
                    if log.identity == before and log.is_complete:
                        return connections.pop(), log
                    log.close()
            raise LogDeleted("the write-ahead log was deleted while another process had it open")
        finally:
            # Closed last, because the last connection to close deletes the log.
            for connection in connections:
                connection.close()

    @property
    def _log_is_gone(self) -> bool:
        """Whether the write-ahead log was deleted or replaced since the connection was opened."""
        return self._log is not None and self._log.is_gone

    def _check_files(self) -> None:
        """After a commit: make sure that its files are still at their paths, or restore them."""
        self._check_identity()
        if self._log_is_gone:
            self._begin(self._deadline()).execute("ROLLBACK")

    def _reopen(self) -> None:
        """Open the log that is now at its path.

        The new connection is opened before the old one is closed, because the last one to close
        writes a checkpoint from a log that may be outdated. If the index is gone, the old one is
        closed first: all connections of a process share one index. Raises LogDeleted.
        """
        if self._log is not None and self._log.is_index_gone:
            self._disconnect()
        connection, log = self._connection, self._log
        self._connection, self._log = self._open()
        if connection is not None and log is not None:
            connection.close()
            log.close()

    def _check_identity(self) -> None:
        """Raise StoreReplaced if the file was replaced: events would go into a deleted file."""
        if self._machine.identity(self.path) != self._identity:
            raise StoreReplaced("the database file was moved, deleted or replaced")

    def _disconnect_after(self, error: BaseException) -> None:
        """Close the connection after an error, unless it is usable or the only one with a deleted
        log."""
        is_idle = self._connection is None or not self._connection.in_transaction
        if not (isinstance(error, StoreBusy) and is_idle):
            self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection and roll back any open transaction; the next event opens a new
        connection."""
        connection, self._connection = self._connection, None
        log, self._log = self._log, None
        if connection is not None:
            connection.close()
        if log is not None:
            log.close()

    def _deadline(self) -> float:
        return self._machine.monotonic() + self._busy_seconds

    def _wait(self, deadline: float, reason: StoreBusy | None = None) -> None:
        if self._machine.monotonic() >= deadline:
            raise reason or StoreBusy("another process holds the database's write lock")
        self._machine.sleep(_POLL_SECONDS)


def _unavailable(
    error: BaseException, what: str = "the event could not be stored"
) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, SettingsError):
        return StoreUnavailable(str(error), hint=error.hint)
    # Messages of SQLite contain no values; those of other errors could.
    detail = str(error) if isinstance(error, sqlite3.Error) else type(error).__name__
    return StoreUnavailable(f"{what}: {detail}")
