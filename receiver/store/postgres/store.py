"""The only writer: a transaction for each event, several of them at a time."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import StoreBusy, StoreUnavailable
from receiver.store import protocols
from receiver.store.observing import Outcome, Received, observe
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.connection import BUSY, RETRIED, Session, connect, said
from receiver.store.postgres.migrate import check
from receiver.store.postgres.views import figures_are_ours

# A connection that is not used for so long is closed: another process may need it, and gets it
# before an event there has waited too long.
IDLE_SECONDS = 2.0
# A connection that the server refused is asked for again after about so long.
_PAUSE_SECONDS = 0.1
# An id that no index could hold is no id.
_MAX_ID_BYTES = 1000
_LONGEST_PAUSE_SECONDS = 0.05
# How much longer a silent server is waited for than a lock: the server says itself that it is busy.
_SILENCE_SECONDS = 0.5

# Insert or nothing, then wait for the row: what follows sees all that was committed before. There
# is nothing in a call itself that could be locked before its first event is stored.
_MAKE_LOCK = "INSERT INTO entity_locks (entity_id) VALUES (?) ON CONFLICT DO NOTHING"
_LOCK = "SELECT FROM entity_locks WHERE entity_id = ? FOR UPDATE"

T = TypeVar("T")


class PostgresStore:
    """Adds received bodies to a PostgreSQL database that `migrate` has made.

    Statements of a transaction travel together (libpq's pipeline), reads excepted. Should one of
    them fail for its content, the transaction is done again one statement at a time.
    """

    def __init__(self, where: PostgresUrl, *, busy_seconds: float, connections: int) -> None:
        self._where = where
        self._busy_seconds = busy_seconds
        self._idle: deque[Session] = deque()
        self._free = threading.Semaphore(connections)
        # Closes what is idle; None while nothing is.
        self._closing: threading.Timer | None = None

    def add(self, received: Received) -> Outcome:
        """Store one body; return once the server has it on disk. Raises StoreUnavailable."""
        received = _with_short_id(received)

        def unit(connection: protocols.Connection) -> Outcome:
            self.lock(connection, [received.event.entity_id])
            return observe(connection, received)

        return self._carry_out(unit, in_time=True)

    def run(self, unit: Callable[[protocols.Connection], T]) -> T:
        """Carry out `unit` in a transaction, more than once if need be. Raises StoreUnavailable."""
        return self._carry_out(unit, in_time=False)

    def read(self, unit: Callable[[protocols.Connection], T]) -> T:
        """Carry out `unit`, as any other. Raises StoreUnavailable."""
        return self.run(unit)

    def settle(
        self, connection: protocols.Connection, timezone: str, since: int, last: int
    ) -> bool:
        """Wait for everybody who has written a call of these hours, and let the next ones wait."""
        if connection.execute(advisory_locks.TRY_ROLL_UP).fetchone() == (False,):
            return False
        for key in advisory_locks.hour_keys(since, last):
            connection.execute(advisory_locks.LOCK_HOUR, (key,))
        return figures_are_ours(connection, timezone)

    def lock(self, connection: protocols.Connection, entity_ids: Iterable[str]) -> None:
        """Wait for each call or chat, in an order in which two cannot wait for each other."""
        keys = [(entity_id,) for entity_id in sorted(entity_ids)]
        for statement in (_MAKE_LOCK, _LOCK):
            for key in keys:
                connection.execute(statement, key)

    def reindex(self, connection: protocols.Connection) -> None:
        """Nothing: the server keeps its indexes."""

    def close(self) -> None:
        """Hang up."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        while self._idle:
            self._idle.pop().close()

    def _carry_out(self, unit: Callable[[protocols.Connection], T], *, in_time: bool) -> T:
        deadline = time.monotonic() + self._busy_seconds
        if not self._free.acquire(timeout=self._busy_seconds):
            raise StoreBusy("every connection of this process is in use")
        try:
            return self._attempts(unit, deadline, in_time=in_time)
        except psycopg.Error as error:
            kind = StoreBusy if error.sqlstate in (*BUSY, *RETRIED) else StoreUnavailable
            raise kind(f"the event could not be stored: {said(error)}") from None
        finally:
            self._free.release()

    def _attempts(
        self, unit: Callable[[protocols.Connection], T], deadline: float, *, in_time: bool
    ) -> T:
        together = True
        while True:
            session, is_used = self._take(deadline)
            session.raw.deadline = deadline + _SILENCE_SECONDS if in_time else None
            work = _Work(session)
            try:
                result = work.together(unit) if together else work.one_by_one(unit)
            except psycopg.Error as error:
                self._give_back(session)
                if error.sqlstate in RETRIED and time.monotonic() < deadline:
                    time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))
                elif session.raw.closed:
                    # The server may have been restarted since this connection was used last.
                    if not is_used or work.is_committing:
                        raise
                    self.close()
                elif together and error.sqlstate not in (*RETRIED, *BUSY):
                    together = False
                else:
                    raise
            except BaseException:
                self._give_back(session)
                raise
            else:
                self._give_back(session)
                return result

    def _take(self, deadline: float) -> tuple[Session, bool]:
        """A connection, and whether it has been used before. Raises psycopg.Error.

        What the server refuses, as when it has too many or is just starting, is tried again until
        the deadline; meanwhile another event may have given one back.
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

    def _give_back(self, session: Session) -> None:
        session.raw.deadline = None
        if not session.is_sound:
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
        """Close what has not been used for a while: the least used ones are first."""
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


class _Work:
    """One try of a unit in a session. `is_committing` from when its outcome may be for good."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.is_committing = False

    def together(self, unit: Callable[[protocols.Connection], T]) -> T:
        """Send statements without waiting for the answers to those before."""
        try:
            with self.session.pipeline():
                return self._carry_out(unit)
        except BaseException:
            self.session.undo()
            raise

    def one_by_one(self, unit: Callable[[protocols.Connection], T]) -> T:
        """Wait for each answer: an error comes from the statement that it is about."""
        try:
            return self._carry_out(unit)
        except BaseException:
            self.session.undo()
            raise

    def _carry_out(self, unit: Callable[[Any], T]) -> T:
        # READ COMMITTED: each statement sees what was committed before it, such as the rows behind
        # a lock, once it is had.
        self.session.begin()
        result = unit(self.session)
        self.is_committing = True
        self.session.commit()
        return result


def _with_short_id(received: Received) -> Received:
    event = received.event
    if len(event.entity_id.encode()) <= _MAX_ID_BYTES:
        return received
    event = replace(
        event, entity_id=f"sha:{event.body_sha256}", problem=event.problem or "its id is too long"
    )
    return replace(received, event=event)
