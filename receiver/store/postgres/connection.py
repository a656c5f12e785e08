"""Opening a session in which a commit is durable, and how values are handed over in it."""

import logging
import time
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Buffer, Dumper
from psycopg.types.string import BytesBinaryDumper

from receiver.addresses import PostgresUrl
from receiver.store import sql
from receiver.store.postgres.dialect import translate

# How long a start of a conversation may take, and how long one side may be silent in it.
CONNECT_SECONDS = 3
_SILENT_MS = 10_000

# Retried as a whole: the server gave this transaction up in favour of another one.
RETRIED = ("40001", "40P01")
# lock_timeout, statement_timeout: the server is there, and too busy.
BUSY = ("55P03", "57014")


# Who adds an unknown reason, or drops one that no call has any more, looks at all calls: these take
# turns, which is rare enough to be a matter of the whole table.
_TURNS = {sql.ADD_REASON, sql.CALL_WITH_REASON, sql.USED_REASONS}
_TAKE_TURN = "LOCK TABLE disconnection_reasons IN SHARE ROW EXCLUSIVE MODE"


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

    def wait(self, *arguments: Any, **options: Any) -> Any:
        if self.deadline is not None:
            options["timeout"] = max(0.0, self.deadline - time.monotonic())
        return super().wait(*arguments, **options)


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
            if statement in _TURNS:
                self.raw.execute(_TAKE_TURN)
            return self.raw.execute(translate(statement), parameters)
        except errors.ProgramLimitExceeded as error:
            # A value is too long for an index: the content's fault, not the server's.
            raise psycopg.DataError("too long for an index") from error

    def executemany(self, statement: str, parameters: Any, /) -> None:
        """The same for each of several parameters."""
        try:
            with self.raw.cursor() as cursor:
                cursor.executemany(translate(statement), parameters)
        except errors.ProgramLimitExceeded as error:
            raise psycopg.DataError("too long for an index") from error

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
