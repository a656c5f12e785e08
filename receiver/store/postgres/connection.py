"""Opening a session in which a commit is durable, and how values are handed over in it."""

import logging
import time
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Dumper
from psycopg.types.string import BytesBinaryDumper
from psycopg.waiting import Ready

from receiver.addresses import PostgresUrl
from receiver.store.postgres import turns
from receiver.store.postgres.dialect import together, translate

T = TypeVar("T")

# More than the parts that a statement is sent in.
_TOLD_READY = 8

# How long a start of a conversation may take, and how long one side may be silent in it.
CONNECT_SECONDS = 3
_SILENT_MS = 10_000

# Retried as a whole: the server gave this transaction up in favour of another one.
RETRIED = ("40001", "40P01")
# lock_timeout, statement_timeout: the server is there, and too busy.
BUSY = ("55P03", "57014")


# It warns of errors with the server's own words, and those can hold what a call says.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class _Plain(Dumper):
    """Numbers as SQLite takes them: the column decides, a boolean is 0 or 1.

    Without a type of their own, a statement stays the same prepared one whatever is null in it.
    """

    oid = 0

    def dump(self, obj: float) -> Buffer:
        return repr(obj + 0).encode()


class _Raw(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up at `deadline`: a server that is stopped says nothing at all."""

    deadline: float | None = None

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.deadline is not None:
            options["timeout"] = max(0.0, self.deadline - time.monotonic())
        try:
            return super().wait(_sent_at_once(gen), *arguments, **options)
        except psycopg.OperationalError:
            # Left alone, one that is given up would try to end properly once it is collected.
            with suppress(RuntimeError):
                gen.close()
            raise


def _sent_at_once(gen: PQGen[T]) -> PQGen[T]:
    """Say a few times that the socket can be written to, without asking the system.

    It nearly always can, and if not, libpq keeps the statement and asks again. To ask costs more
    than to send, at each of an event's forty statements, and most of all under gevent.
    """
    try:
        wanted = next(gen)
        for _ in range(_TOLD_READY):
            wanted = gen.send(Ready.W if wanted & Ready.W else (yield wanted))
        while True:
            wanted = gen.send((yield wanted))
    except StopIteration as done:
        result: T = done.value
        return result


class Session:
    """A connection as `receiver/store/protocols.py` has it, in autocommit."""

    DatabaseError = psycopg.DatabaseError
    OperationalError = psycopg.OperationalError
    InternalError = psycopg.InternalError

    def __init__(self, raw: _Raw) -> None:
        self.raw = raw

    def execute(self, statement: str, parameters: Any = (), /) -> psycopg.Cursor[Any]:
        """Carry out a statement of SQLite's. Raises psycopg.Error."""
        try:
            if turn := turns.before(statement, parameters):
                self.raw.execute(*turn)
            if statement.startswith("ROLLBACK TO "):
                return self._back_to(statement)
            return self.raw.execute(translate(statement), parameters)
        except errors.ProgramLimitExceeded as error:
            # A value is too long for an index: the content's fault, not the server's.
            raise psycopg.DataError("too long for an index") from error

    def executemany(self, statement: str, parameters: Any, /) -> None:
        """The same for each of several parameters, insertions many rows at a time."""
        rows = list(parameters)
        try:
            for several, values in together(statement, rows):
                psycopg.RawCursor(self.raw).execute(several, values)
                rows = []
            if rows:
                with self.raw.cursor() as cursor:
                    cursor.executemany(translate(statement), rows)
        except errors.ProgramLimitExceeded as error:
            raise psycopg.DataError("too long for an index") from error

    def _back_to(self, statement: str) -> psycopg.Cursor[Any]:
        """Undo what came after a savepoint.

        psycopg forgets its prepared statements when it reads the answer, and lets the server forget
        them after the next statement. In a pipeline that one must not be prepared: it would be
        forgotten by the server alone.
        """
        self.raw.execute(statement, prepare=False)
        self.raw.execute("SELECT 1", prepare=False).fetchone()
        return self.raw.execute("SELECT 1", prepare=False)

    @property
    def is_sound(self) -> bool:
        """Whether another transaction can be begun in it."""
        return self.raw.pgconn.transaction_status == pq.TransactionStatus.IDLE

    def close(self) -> None:
        """Hang up, and with it end any open transaction."""
        self.raw.close()


def connect(where: PostgresUrl, *, lock_seconds: float) -> Session:
    """A session in autocommit: transactions are begun by hand. Raises psycopg.Error."""
    raw = _Raw.connect(
        where.url,
        autocommit=True,
        prepare_threshold=0,
        connect_timeout=CONNECT_SECONDS,
        tcp_user_timeout=_SILENT_MS,
        application_name="callhouse",
        client_encoding="utf-8",
    )
    try:
        # As many statements as one event can need stay prepared.
        raw.prepared_max = 256
        for number in (int, bool, float):
            raw.adapters.register_dumper(number, _Plain)
        raw.adapters.register_dumper(bytes, BytesBinaryDumper)
        # Set and looked at on every connection: with `off`, a crash of the server loses
        # acknowledged events. A role or a database can have it off by default.
        raw.execute("SET synchronous_commit = on")
        # A time zone is a long expression: to compile it takes longer than to evaluate it.
        raw.execute("SET jit = off")
        raw.execute(f"SET lock_timeout = {round(lock_seconds * 1000)}")
        found = raw.execute("SHOW synchronous_commit").fetchone()
        if found != ("on",):
            raise psycopg.OperationalError(f"synchronous_commit is {found}, not on")
    except BaseException:
        raw.close()
        raise
    return Session(raw)


def said(error: psycopg.Error) -> str:
    """What went wrong, without what the server says of it: that may hold values."""
    if error.sqlstate is None:
        return f"no connection to the server ({type(error).__name__})"
    return f"the server answered {type(error).__name__} ({error.sqlstate})"
