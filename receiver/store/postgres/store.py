"""The store of a PostgreSQL server: each event is a transaction, and several run at a time."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any, TypeVar

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import StoreBusy, StoreUnavailable
from receiver.store import protocols, sql
from receiver.store.ingest import Outcome, Received, observe
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.connection import BUSY, RETRIED, Session, connect, message_of, numbered
from receiver.store.postgres.exporting import query_error
from receiver.store.postgres.migrate import check
from receiver.store.postgres.views import views_match
from receiver.store.snapshots import Row, too_slow

# An unused connection is closed after so long, so that other processes can have it before their
# events have waited too long.
IDLE_SECONDS = 2.0
# About how long to wait before connecting again after the server refused.
_PAUSE_SECONDS = 0.1
# A longer id would fit into no index.
_MAX_ID_BYTES = 1000
# The longest pause before a transaction is retried.
_RETRY_SECONDS = 0.05
# How much longer to wait for the server's answer than for a lock: a busy server answers itself.
_GRACE_SECONDS = 0.5

# Insert the row if it is missing, then lock it: the following statements see all that was committed
# before. Before its first event is stored, a call has no row of its own to lock.
_INSERT_LOCK = "INSERT INTO entity_locks (entity_id) VALUES (?) ON CONFLICT DO NOTHING"
_LOCK = "SELECT FROM entity_locks WHERE entity_id = ? FOR UPDATE"

_READ_ONLY = "SET TRANSACTION READ ONLY"
_STATEMENT_TIMEOUT = "SELECT set_config('statement_timeout', ?, true)"

T = TypeVar("T")


class PostgresStore:
    """Adds received bodies to a PostgreSQL database that `migrate` has created.

    A transaction is sent through a pipeline, which waits for the results of reads only. If part of
    it fails because of its content, the transaction is repeated one statement at a time.
    """

    def __init__(self, where: PostgresUrl, *, busy_seconds: float, connections: int) -> None:
        self._where = where
        self._busy_seconds = busy_seconds
        self._idle: deque[Session] = deque()
        self._free = threading.Semaphore(connections)
        # Closes idle connections; None while there are none.
        self._closing: threading.Timer | None = None

    def add(self, received: Received) -> Outcome:
        """Store one body; return once it is on the server's disk. Raises StoreUnavailable."""
        received = _with_short_id(received)

        def unit(connection: protocols.Connection) -> Outcome:
            self.lock(connection, [received.event.entity_id])
            return observe(connection, received)

        return self._execute(unit, seconds=self._busy_seconds)

    def run(self, unit: Callable[[protocols.Connection], T]) -> T:
        """Run `unit` in a transaction, more than once if necessary. Raises StoreUnavailable."""
        return self._execute(unit)

    def read(self, unit: Callable[[protocols.Connection], T]) -> T:
        """Run `unit` in a transaction like any other. Raises StoreUnavailable."""
        return self.run(unit)

    def first_row(
        self, query: str, parameters: Mapping[str, Any], *, seconds: float
    ) -> tuple[list[str], Row | None]:
        """The columns and the first row of a SELECT, in a transaction that cannot write."""
        statement = sql.first_row(query)
        values = parameters if numbered(statement)[1] else ()

        def unit(connection: protocols.Connection) -> tuple[list[str], Row | None]:
            connection.execute(_READ_ONLY)
            connection.execute(_STATEMENT_TIMEOUT, (f"{round(seconds * 1000)}ms",))
            try:
                found = connection.execute(statement, values)
                row = found.fetchone()
                return [column.name for column in found.description or ()], row
            except psycopg.errors.QueryCanceled:
                raise too_slow(seconds) from None
            except psycopg.Error as error:
                if error.sqlstate is None:
                    raise
                raise query_error(error) from None

        return self._execute(unit, seconds=seconds)

    def lock_hours(
        self, connection: protocols.Connection, timezone: str, since: int, last: int
    ) -> bool:
        """Lock these hours: wait for transactions that write their calls, and block later ones."""
        if connection.execute(advisory_locks.TRY_ROLL_UP).fetchone() == (False,):
            return False
        for key in advisory_locks.hour_keys(since, last):
            connection.execute(advisory_locks.LOCK_HOUR, (key,))
        return views_match(connection, timezone)

    def lock(self, connection: protocols.Connection, entity_ids: Iterable[str]) -> None:
        """Lock each call or chat, in an order that rules out deadlocks."""
        keys = [(entity_id,) for entity_id in sorted(entity_ids)]
        for statement in (_INSERT_LOCK, _LOCK):
            for key in keys:
                connection.execute(statement, key)

    def reindex(self, connection: protocols.Connection) -> None:
        """No-op: the server maintains its indexes."""

    def close(self) -> None:
        """Close the idle connections."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        while self._idle:
            self._idle.pop().close()

    def _execute(
        self, unit: Callable[[protocols.Connection], T], *, seconds: float | None = None
    ) -> T:
        """Run `unit` in a transaction; with `seconds`, the server must answer within this time."""
        wait = self._busy_seconds if seconds is None else seconds
        deadline = time.monotonic() + wait
        if not self._free.acquire(timeout=wait):
            raise StoreBusy("every connection of this process is in use")
        try:
            return self._retry(unit, deadline, has_deadline=seconds is not None)
        except psycopg.Error as error:
            kind = StoreBusy if error.sqlstate in (*BUSY, *RETRIED) else StoreUnavailable
            raise kind(f"the database could not be written: {message_of(error)}") from None
        finally:
            self._free.release()

    def _retry(
        self, unit: Callable[[protocols.Connection], T], deadline: float, *, has_deadline: bool
    ) -> T:
        is_pipelined = True
        while True:
            session, is_used = self._acquire(deadline)
            session.raw.deadline = deadline + _GRACE_SECONDS if has_deadline else None
            attempt = _Attempt(session)
            try:
                result = attempt.run(unit, is_pipelined=is_pipelined)
            except psycopg.Error as error:
                self._release(session)
                if error.sqlstate in RETRIED and time.monotonic() < deadline:
                    time.sleep(random.uniform(0, _RETRY_SECONDS))
                elif session.raw.closed:
                    # The server may have been restarted since this connection was used last.
                    if not is_used or attempt.is_committing:
                        raise
                    self.close()
                elif is_pipelined and error.sqlstate not in (*RETRIED, *BUSY):
                    is_pipelined = False
                else:
                    raise
            except BaseException:
                self._release(session)
                raise
            else:
                self._release(session)
                return result

    def _acquire(self, deadline: float) -> tuple[Session, bool]:
        """A connection, and whether it has been used before. Raises psycopg.Error.

        If the server refuses one, because it has too many or is starting, connecting is retried
        until the deadline. Meanwhile another event may release one.
        """
        while True:
            with suppress(IndexError):
                return self._idle.pop(), True
            try:
                session = connect(self._where, lock_seconds=self._busy_seconds)
            except psycopg.errors.ConnectionTimeout:
                raise
            except psycopg.OperationalError:
                pause = random.uniform(0.5, 1.5) * _PAUSE_SECONDS
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                continue
            try:
                check(session)
            except BaseException:
                session.close()
                raise
            return session, False

    def _release(self, session: Session) -> None:
        session.raw.deadline = None
        if not session.is_idle:
            session.close()
            return
        session.used_at = time.monotonic()
        self._idle.append(session)
        if self._closing is None:
            self._close_later()

    def _close_later(self) -> None:
        self._closing = threading.Timer(IDLE_SECONDS / 2, self._close_idle)
        self._closing.daemon = True
        self._closing.start()

    def _close_idle(self) -> None:
        """Close connections that have not been used for a while; the oldest come first."""
        since = time.monotonic() - IDLE_SECONDS
        with suppress(IndexError):
            while self._idle[0].used_at < since:
                session = self._idle.popleft()
                if session.used_at < since:
                    session.close()
                else:
                    self._idle.append(session)
        self._closing = None
        if self._idle:
            self._close_later()


class _Attempt:
    """One attempt at a transaction. `is_committing` once its changes may be permanent."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.is_committing = False

    def run(self, unit: Callable[[protocols.Connection], T], *, is_pipelined: bool) -> T:
        """Run `unit` and commit. Without a pipeline, an error comes from the statement at fault."""
        try:
            with self.session.pipeline() if is_pipelined else nullcontext():
                # READ COMMITTED: each statement sees what was committed before it, such as the rows
                # behind a lock once it is acquired.
                self.session.begin()
                result = unit(self.session)
                self.is_committing = True
                self.session.commit()
                return result
        except BaseException:
            self.session.roll_back()
            raise


def _with_short_id(received: Received) -> Received:
    event = received.event
    if len(event.entity_id.encode()) <= _MAX_ID_BYTES:
        return received
    event = replace(event, entity_id=f"sha:{event.body_sha256}", problem="its id is too long")
    return replace(received, event=event)
