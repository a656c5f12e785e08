"""Connections to the server: transactions whose commit is durable, and how values are sent."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.adapt import Buffer, Dumper
from psycopg.types.string import BytesBinaryDumper

from receiver.addresses import PostgresUrl
from receiver.errors import CallhouseError, DatabaseAway, DatabaseRefused
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.dialect import together, translate

# How long a start of a conversation may take, and how long one side may be silent in it.
CONNECT_SECONDS = 3
_SILENT_MS = 10_000

# Retried as a whole: the server gave this transaction up in favour of another one.
RETRIED = ("40001", "40P01")
# lock_timeout, statement_timeout: the server is there, and too busy.
BUSY = ("55P03", "57014")


# It warns of errors with the server's own words, and those can hold what a call says.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

# In every transaction, not once a connection: behind a pooler, each transaction may be on another
# connection of the server's. A role or a database can have synchronous_commit off by default, and
# then a crash of the server loses acknowledged events. A time zone is a long expression: to compile
# it (jit) takes longer than to evaluate it.
_SETTINGS = (
    "SELECT set_config('synchronous_commit', 'on', true), set_config('jit', 'off', true), "
    "set_config('lock_timeout', %s, true)"
)
_OF_SAVEPOINTS = ("SAVEPOINT ", "RELEASE ", "ROLLBACK TO ")
_READ_COMMITTED = "BEGIN ISOLATION LEVEL READ COMMITTED"


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
            return super().wait(gen, *arguments, **options)
        except psycopg.OperationalError:
            # Left alone, one that is given up would try to end properly once it is collected.
            with suppress(RuntimeError):
                gen.close()
            raise


class _Pipeline(psycopg.Pipeline):
    """Sends when an answer is waited for, or libpq has 64 kB to send: psycopg's own sends each
    statement by itself."""

    def _communicate_gen(self) -> PQGen[None]:
        while self.command_queue:
            self.command_queue.popleft()()
        return
        yield


class SavepointNeeded(psycopg.DataError):
    """A part of a pipelined transaction failed for its content, and is to be undone alone."""


class Session:
    """A connection as `receiver/store/protocols.py` has it, in autocommit."""

    DatabaseError = psycopg.DatabaseError
    OperationalError = psycopg.OperationalError
    InternalError = psycopg.InternalError

    def __init__(self, raw: _Raw, lock_seconds: float) -> None:
        self.raw = raw
        self._lock_timeout = f"{round(lock_seconds * 1000)}ms"
        self._settings: psycopg.Cursor[Any] | None = None
        # When it was used last, by the clock that only goes forward.
        self.used_at = time.monotonic()

    def begin(self, statement: str = _READ_COMMITTED) -> None:
        """Begin a transaction whose commit is durable. Raises psycopg.Error."""
        self.execute(statement)
        self._settings = self.raw.execute(_SETTINGS, (self._lock_timeout,))

    def commit(self) -> None:
        """Commit, unless the server has not taken the settings. Raises psycopg.Error."""
        found = self._settings.fetchone() if self._settings else None
        if found is None or found[0] != "on":
            raise psycopg.OperationalError("synchronous_commit is not on")
        self.execute("COMMIT")

    @contextmanager
    def transaction(self, statement: str = _READ_COMMITTED) -> Iterator[None]:
        """A transaction that is committed at the end, and undone by an error."""
        self.begin(statement)
        try:
            yield
            self.commit()
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Roll back what is open; hang up if that does not work."""
        if not self.raw.closed and not self.is_sound:
            try:
                self.raw.execute("ROLLBACK")
            except psycopg.Error:
                self.close()

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        """Send statements without waiting for the answers to those before. Raises psycopg.Error."""
        raw = self.raw
        raw._pipeline = _Pipeline(raw)
        try:
            with raw._pipeline:
                yield
        finally:
            raw._pipeline = None

    def execute(self, statement: str, parameters: Any = (), /) -> psycopg.Cursor[Any]:
        """Carry out a statement of SQLite's. Raises psycopg.Error."""
        try:
            if turn := advisory_locks.before(statement, parameters):
                self.raw.execute(*turn)
            if statement.startswith(_OF_SAVEPOINTS):
                return self._savepoint(statement)
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

    def _savepoint(self, statement: str) -> psycopg.Cursor[Any]:
        """No savepoints in a pipeline: they would cost two statements and a transaction id for each
        event, and an error ends the pipeline anyway."""
        if self.raw._pipeline is None:
            # psycopg forgets its prepared statements after a rollback: this must be none of them.
            return self.raw.execute(statement, prepare=False)
        if statement.startswith("ROLLBACK TO "):
            raise SavepointNeeded("this has to be done one statement at a time")
        return self.raw.cursor()

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
    except BaseException:
        raw.close()
        raise
    return Session(raw, lock_seconds)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there is no connection: what libpq or the server writes of it, and what we do."""

    pattern: str
    what: str
    hint: str
    is_setting: bool = True


_PASSWORD_HINT = (
    "Give the right one in ~/.pgpass, or in the file that PGPASSFILE names, and check the role in "
    "the database's URL; docs/how-to/postgres.md says how."
)
# The first that applies. libpq has no codes for these, and several hosts may each have a line.
_FAILURES = (
    _Failure("password authentication failed", "it refuses the password", _PASSWORD_HINT),
    _Failure("no password supplied", "it asks for a password, and there is none", _PASSWORD_HINT),
    _Failure(
        r'role "[^"]*" (does not exist|is not permitted to log in)',
        "it has no role of this name that may log in",
        "Create the role with LOGIN, or correct its name in the database's URL.",
    ),
    _Failure(
        "pg_hba.conf",
        "its pg_hba.conf has no line that lets this role in from here",
        "Add a line to pg_hba.conf, or, if there is one for TLS alone, ?sslmode=require to the "
        "database's URL.",
    ),
    _Failure(
        "authentication failed",
        "it does not accept this login",
        "Check the role in the database's URL, and what pg_hba.conf asks of it.",
    ),
    _Failure(
        r'database "[^"]*" does not exist',
        "it has no database of this name",
        "Create the database, as docs/how-to/postgres.md shows, or correct its name in the URL.",
    ),
    _Failure(
        "permission denied for database|is not currently accepting connections",
        "this role may not connect to the database",
        "As its owner: GRANT CONNECT ON DATABASE ... TO ..., and ALLOW_CONNECTIONS true.",
    ),
    _Failure(
        "does not support SSL",
        "it does not offer TLS",
        "Switch on `ssl` at the server; or, on a network that you trust, take sslmode out of the "
        "database's URL.",
    ),
    _Failure(
        "certificate|SSL error|SSL negotiation",
        "TLS cannot be agreed on with it",
        "Check sslmode and sslrootcert in the database's URL, and that the server's certificate is "
        "valid and has the host's name.",
    ),
    _Failure(
        "Temporary failure in name resolution",
        "its name cannot be looked up now",
        "Check the network and the name servers.",
        is_setting=False,
    ),
    _Failure(
        "failed to resolve host|could not translate host name",
        "no host of this name is known",
        "Correct the host in the database's URL, or check the name servers.",
    ),
    _Failure(
        "Connection refused|No such file or directory",
        "nothing listens there",
        "Start the server, or correct the host and port in the database's URL.",
        is_setting=False,
    ),
    _Failure(
        "timeout|No route to host|Network is unreachable",
        "it does not answer",
        "Check the network, the firewall, and the host and port in the database's URL.",
        is_setting=False,
    ),
    _Failure(
        "too many (clients|connections)|connection slots",
        "it has no connection left",
        "Lower CALLHOUSE_CONNECTIONS or CALLHOUSE_WORKERS, or raise the server's max_connections.",
        is_setting=False,
    ),
    _Failure(
        "starting up|shutting down|in recovery",
        "it is starting or stopping",
        "Try again in a moment.",
        is_setting=False,
    ),
    _Failure(
        "invalid",
        "a part of the database's URL is not understood",
        "Write it as postgresql://user@host:5432/database, with libpq's parameters after a ?.",
    ),
)


def unusable(error: psycopg.Error, what: str = "the database could not be used") -> CallhouseError:
    """The error for a server that could not be used: a setting's, or that it is away."""
    failure = _failure(error)
    if failure is None:
        return DatabaseAway(f"{what}: {said(error)}")
    kind = DatabaseRefused if failure.is_setting else DatabaseAway
    return kind(said(error), hint=failure.hint)


def said(error: psycopg.Error) -> str:
    """What went wrong, without what the server says of it: that may hold values."""
    if failure := _failure(error):
        return f"no connection to the server: {failure.what}"
    if error.sqlstate is None:
        return f"no connection to the server ({type(error).__name__})"
    return f"the server answered {type(error).__name__} ({error.sqlstate})"


def _failure(error: psycopg.Error) -> _Failure | None:
    """Why there is no connection; None if that is not known, or there was one."""
    if error.sqlstate is not None:
        return None
    return next((each for each in _FAILURES if re.search(each.pattern, str(error))), None)
