"""Connections to the server: durable transactions, statements, and messages for its errors."""

import itertools
import logging
import re
import select
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from gevent.monkey import get_original
from psycopg import errors, pq
from psycopg.adapt import Buffer, Dumper
from psycopg.types.string import BytesBinaryDumper
from psycopg.waiting import Ready, Wait

from receiver.addresses import PostgresUrl
from receiver.errors import CallhouseError, DatabaseAway, DatabaseRefused, docs
from receiver.store import sql
from receiver.store.postgres import advisory_locks

# How long connecting may take, and how long sent data may stay unacknowledged.
CONNECT_SECONDS = 3
_TCP_TIMEOUT_MS = 10_000

# Serialization failure and deadlock: the whole transaction is retried.
RETRIED = ("40001", "40P01")
# lock_timeout and statement_timeout: the server is too busy.
BUSY = ("55P03", "57014")


# psycopg logs the server's messages, which can contain values of a call.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

# In every transaction, not once per connection: behind a pooler, each transaction may be on another
# connection of the server. A role or database can have synchronous_commit off by default, and then
# a crash of the server loses acknowledged events. Compiling the long expression of a time zone
# (jit) takes longer than evaluating it.
_SETTINGS = (
    "SELECT set_config('synchronous_commit', 'on', true), set_config('jit', 'off', true), "
    "set_config('lock_timeout', ?, true)"
)
_READ_COMMITTED = "BEGIN ISOLATION LEVEL READ COMMITTED"

# Text in quotes, comments, and SQLite's placeholders. `::` is a cast.
_TOKEN = re.compile(r"'(?:[^']|'')*'|--[^\n]*|\?|(?<!:):([a-z_][a-z0-9_]*)")
# At most so many rows in a statement. Each number of rows is another prepared statement, so it is
# a power of two.
_MOST_ROWS = 64


# Not gevent's, which would run its loop.
_poll = get_original("select", "poll")


class _NumberDumper(Dumper):
    """Numbers without a type: the column decides, as in SQLite. A boolean is 0 or 1.

    So a prepared statement does not depend on which of its values are null.
    """

    oid = 0

    def dump(self, obj: float) -> Buffer:
        return repr(obj + 0).encode()


class _Raw(psycopg.Connection[tuple[Any, ...]]):
    """A connection that raises at `deadline`, as a server that is stopped never answers."""

    deadline: float | None = None

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        if self.deadline is not None:
            options["timeout"] = max(0.0, self.deadline - time.monotonic())
        try:
            return super().wait(self._skip_ready(gen), *arguments, **options)
        except psycopg.OperationalError:
            # Otherwise the generator would use the connection again when it is collected.
            with suppress(RuntimeError):
                gen.close()
            raise

    def _skip_ready(self, gen: Any) -> Generator[Wait, int, Any]:
        """The waits of `gen`, except those to send while the socket can send.

        In a pipeline it waits twice for each statement, and gevent's loop would take longer than
        the statement.
        """
        poll = _poll()
        poll.register(self.fileno(), select.POLLOUT)
        try:
            wait = next(gen)
            while True:
                can_send = wait & Wait.W and poll.poll(0)
                wait = gen.send(Ready.W if can_send else (yield wait))
        except StopIteration as end:
            return end.value


class SavepointNeeded(psycopg.DataError):
    """Part of a transaction failed because of its content, in a pipeline without savepoints."""


@cache
def numbered(statement: str) -> tuple[str, tuple[str, ...]]:
    """A statement with placeholders `$1`, and its names in their order, if it has any."""
    names: list[str] = []
    count = itertools.count(1)

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return f"${next(count)}" if match[0] == "?" else match[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _TOKEN.sub(number, statement), tuple(names)


@cache
def _upsert(table: str, rows: int) -> str:
    return sql.upsert(sql.ENTITY_TABLES[table], rows)


class Session:
    """A connection as `receiver/store/protocols.py` has it, in autocommit."""

    DatabaseError = psycopg.DatabaseError
    OperationalError = psycopg.OperationalError
    InternalError = psycopg.InternalError

    def __init__(self, raw: _Raw, lock_seconds: float) -> None:
        self.raw = raw
        self._lock_timeout = f"{round(lock_seconds * 1000)}ms"
        self._settings: psycopg.RawCursor[Any] | None = None
        self._is_pipelined = False
        # When it was used last, in seconds of the monotonic clock.
        self.used_at = time.monotonic()

    def begin(self, statement: str = _READ_COMMITTED) -> None:
        """Begin a transaction whose commit is durable. Raises psycopg.Error."""
        self.execute(statement)
        self._settings = self.execute(_SETTINGS, (self._lock_timeout,))

    def commit(self) -> None:
        """Commit, unless the settings did not take effect. Raises psycopg.Error."""
        found = self._settings.fetchone() if self._settings else None
        if found is None or found[0] != "on":
            raise psycopg.OperationalError("synchronous_commit is not on")
        self.execute("COMMIT")

    @contextmanager
    def transaction(self, statement: str = _READ_COMMITTED) -> Iterator[None]:
        """A transaction that is committed at the end, or rolled back by an error."""
        self.begin(statement)
        try:
            yield
            self.commit()
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """Roll back the open transaction; close the connection if that fails."""
        if not self.raw.closed and not self.is_idle:
            try:
                self.raw.execute("ROLLBACK")
            except psycopg.Error:
                self.close()

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        """Send statements without waiting for the answers to those before. Raises psycopg.Error."""
        self._is_pipelined = True
        try:
            with self.raw.pipeline():
                yield
        finally:
            self._is_pipelined = False

    def execute(self, statement: str, parameters: Any = (), /) -> psycopg.RawCursor[Any]:
        """Execute a statement with `?` or `:name`. Raises psycopg.Error."""
        text, names = numbered(statement)
        return self._execute(text, [parameters[name] for name in names] if names else parameters)

    def executemany(self, statement: str, parameters: Any, /) -> None:
        """The same for each of several parameters, which are sequences."""
        if rows := list(parameters):
            psycopg.RawCursor(self.raw).executemany(numbered(statement)[0], rows)

    def upsert(self, table: str, rows: Iterable[tuple[Any, ...]], /) -> None:
        """Insert rows of a call or chat, or update those with their keys, many in a statement."""
        width = len(sql.ENTITY_TABLES[table].key)
        # A statement may not change a row twice: of rows with one key the last counts.
        left = [*{row[:width]: row for row in rows}.values()]
        while left:
            count = min(_MOST_ROWS, 1 << len(left).bit_length() - 1)
            some, left = left[:count], left[count:]
            text, _ = numbered(_upsert(table, count))
            self._execute(text, [value for row in some for value in row])

    def _execute(self, text: str, values: Sequence[Any]) -> psycopg.RawCursor[Any]:
        try:
            return psycopg.RawCursor(self.raw).execute(text, values)
        except errors.ProgramLimitExceeded as error:
            # A value is too long for an index. Handled as an error of the content.
            raise psycopg.DataError("too long for an index") from error

    # A pipeline has no savepoints: they would cost two statements and a transaction id per event,
    # and an error ends the pipeline anyway. psycopg drops its prepared statements after ROLLBACK
    # TO, so these are not prepared.

    def savepoint(self) -> None:
        """Set a savepoint; they nest. No-op in a pipeline."""
        if not self._is_pipelined:
            self.raw.execute("SAVEPOINT part", prepare=False)

    def release_savepoint(self) -> None:
        """Release the last savepoint and keep its changes. No-op in a pipeline."""
        if not self._is_pipelined:
            self.raw.execute("RELEASE part", prepare=False)

    def roll_back_to_savepoint(self) -> None:
        """Undo the changes since the last savepoint, and release it. Raises SavepointNeeded in a
        pipeline."""
        if self._is_pipelined:
            raise SavepointNeeded("there is no savepoint in a pipeline")
        self.raw.execute("ROLLBACK TO part", prepare=False)
        self.raw.execute("RELEASE part", prepare=False)

    def lock_hour(self, at: int, /) -> None:
        """Lock the hour of a time, shared with others that write calls, until the transaction
        ends."""
        self.execute(advisory_locks.SHARE_HOUR, (advisory_locks.hour_key(at),))

    def lock_reasons(self, *, shared: bool) -> None:
        """Lock the list of unknown reasons until the transaction ends."""
        self.execute(advisory_locks.SHARE_REASONS if shared else advisory_locks.LOCK_REASONS)

    @property
    def is_idle(self) -> bool:
        """Whether no transaction is open, so that the connection can be used again."""
        return self.raw.pgconn.transaction_status == pq.TransactionStatus.IDLE

    def close(self) -> None:
        """Close the connection, which rolls back any open transaction."""
        self.raw.close()


def connect(where: PostgresUrl, *, lock_seconds: float) -> Session:
    """A session in autocommit: transactions begin explicitly. Raises psycopg.Error."""
    raw = _Raw.connect(
        where.url,
        autocommit=True,
        prepare_threshold=0,
        connect_timeout=CONNECT_SECONDS,
        tcp_user_timeout=_TCP_TIMEOUT_MS,
        application_name="callhouse",
        client_encoding="utf-8",
    )
    try:
        # Enough for every statement of an event.
        raw.prepared_max = 256
        for number in (int, bool, float):
            raw.adapters.register_dumper(number, _NumberDumper)
        raw.adapters.register_dumper(bytes, BytesBinaryDumper)
    except BaseException:
        raw.close()
        raise
    return Session(raw, lock_seconds)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A reason why connecting failed: how its message is recognised, and what to do."""

    pattern: str
    reason: str
    hint: str
    is_setting: bool = True


_PASSWORD_HINT = (
    "Give the right one in ~/.pgpass, or in the file that PGPASSFILE names, and check the role in "
    f"the database's URL. See {docs('how-to/postgres.md')}"
)
# The first match counts. libpq has no codes for these, and a message has a line for each host.
_FAILURES = (
    _Failure("password authentication failed", "it refuses the password", _PASSWORD_HINT),
    _Failure("no password supplied", "it requires a password, and there is none", _PASSWORD_HINT),
    _Failure(
        r'role "[^"]*" (does not exist|is not permitted to log in)',
        "it has no role of this name that may log in",
        "Create the role with LOGIN, or correct its name in the database's URL.",
    ),
    _Failure(
        "pg_hba.conf",
        "its pg_hba.conf has no line that allows this role from this machine",
        "Add a line to pg_hba.conf, or, if there is one for TLS alone, ?sslmode=require to the "
        "database's URL.",
    ),
    _Failure(
        "authentication failed",
        "it does not accept this login",
        "Check the role in the database's URL, and its line in pg_hba.conf.",
    ),
    _Failure(
        r'database "[^"]*" does not exist',
        "it has no database of this name",
        f"Create the database, or correct its name in the URL. See {docs('how-to/postgres.md')}",
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
    """DatabaseRefused for an error that a setting causes, DatabaseAway for any other."""
    failure = _failure(error)
    if failure is None:
        return DatabaseAway(f"{what}: {message_of(error)}")
    kind = DatabaseRefused if failure.is_setting else DatabaseAway
    return kind(message_of(error), hint=failure.hint)


def message_of(error: psycopg.Error) -> str:
    """A message without the server's own, which may contain values."""
    if failure := _failure(error):
        return f"no connection to the server: {failure.reason}"
    if error.sqlstate is None:
        return f"no connection to the server ({type(error).__name__})"
    return f"the server answered {type(error).__name__} ({error.sqlstate})"


def _failure(error: psycopg.Error) -> _Failure | None:
    """Why connecting failed; None if the reason is unknown, or there was a connection."""
    if error.sqlstate is not None:
        return None
    return next((each for each in _FAILURES if re.search(each.pattern, str(error))), None)
