"""Read a snapshot of a PostgreSQL database with queries that cannot write."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

import psycopg
from psycopg import pq
from psycopg.abc import AdaptContext
from psycopg.adapt import Buffer, Loader
from psycopg.types.numeric import NumericBinaryLoader

from receiver.errors import CallhouseError, ExportFailed, SettingsError
from receiver.store import days, sql
from receiver.store.days import Fingerprint, ObservationSql, Part
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.connection import Session, message_of, numbered
from receiver.store.postgres.redaction import Redaction
from receiver.store.postgres.views import selects
from receiver.store.snapshots import Result, Row, another_is_running, increment, select
from schema.tables import OBSERVATIONS, Table

_READABLE = (
    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') "
    "AND relnamespace = current_schema()::regnamespace ORDER BY relname"
)
_PLAN = "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) "
# OID of a type -> the type in files, and the cast of a column to it.
_TYPES = {
    16: ("INTEGER", "::integer"),  # boolean: 0 and 1, as SQLite has it
    17: ("BLOB", ""),  # bytea
    20: ("INTEGER", ""),  # bigint
    21: ("INTEGER", ""),  # smallint
    23: ("INTEGER", ""),  # integer
    25: ("TEXT", ""),  # text
    700: ("REAL", ""),  # real
    701: ("REAL", ""),  # double precision
    1700: ("REAL", ""),  # numeric
}
# A row is found by its page, which does not change within a transaction.
_PAGE = "(o.ctid::text::point)[0]::bigint"
_PAGES = "o.ctid BETWEEN ('(' || :first || ',0)')::tid AND ('(' || :last || ',65535)')::tid"
_ORDER = "o.first_received_at NULLS FIRST, o.entity_id, o.body_sha256, o.source"

# Errors that the query causes, by the beginning of their SQLSTATE. The server's messages repeat
# names and words of the query for the first, and values too for the second.
# Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
_QUERY_STATES = ("08P01", "0A", "25001", "25006", "42")
_VALUE_STATES = ("20", "21", "22", "2F", "38", "39", "54", "P0")

Bound = Mapping[str, int] | None


class ServerSnapshot:
    """A transaction as `receiver/store/snapshots.py` has a snapshot."""

    def __init__(self, session: Session, timezone: str | None, private: bool) -> None:
        self._session = session
        self._types: dict[str, list[str]] = {}
        self._kept = ObservationSql(_PAGE, _PAGES, _ORDER, "o.body" if private else "NULL::bytea")
        self._redaction = None if private else Redaction(session)
        named = self._redaction.selects if self._redaction else {}
        named |= selects(timezone) if timezone else {}
        self._with = _with_clause(named)

    def read(self, what: str, *, since: datetime | None, **_: bool) -> Result:
        """The rows of a table, view or SELECT. `typed` has no effect: the types are known."""
        readable = self._session.raw.execute(_READABLE)
        selected = select(what, (name for (name,) in readable))
        query = f"{sql.nested(selected)} exported"
        if self._redaction:
            [(plan,)] = self._fetch(f"{_PLAN}{self._with}{query}")
            self._redaction.check(plan)
        found = self._columns(f"{self._with}{query}")
        names = _unique([column.name for column in found])
        types = [_type_of(column.type_code) for column in found]
        casts = [to for _, to in types]
        if since is None:
            query = _cast(query, names, casts)
        elif selected == what:
            query = _changed_since(query, names, casts, since)
        else:
            query = increment(_cast(query, names, casts), names, since)
        return Result(names, [of for of, _ in types], self._rows(f"{self._with}{query}"))

    def parts(self, *, progress: Callable[[int], None]) -> dict[Part, Fingerprint]:
        """Every part of the tables by day, with its fingerprint."""
        return days.fingerprints(self._rows, self._kept, progress=progress)

    def read_part(self, table: Table, part: Part, of: Fingerprint) -> Result:
        """A table's rows of a part."""
        query, bound = days.query(table, part, of, self._kept)
        if table.name not in self._types:
            found = self._columns(query, bound)
            self._types[table.name] = [_type_of(c.type_code)[0] for c in found]
        rows = self._rows(query, bound)
        if table is OBSERVATIONS:
            rows = days.with_bodies(rows)
        return Result(list(table.names), self._types[table.name], rows)

    def copy(self, *_: object, **__: object) -> None:
        """Not supported: `callhouse copy` does it. Raises SettingsError."""
        raise SettingsError(
            "a database on a server is not copied by export",
            hint="callhouse copy --to sqlite:///FILE does it, and compares the two.",
        )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Allow one export by day at a time, by a lock that every machine sees."""
        if self._fetch(advisory_locks.TRY_EXPORT_DAYS).fetchone() != (True,):
            raise another_is_running()
        yield

    def _columns(self, query: str, bound: Bound = None) -> list[psycopg.Column]:
        return self._fetch(f"{query} LIMIT 0", bound).description or []

    def _fetch(self, query: str, bound: Bound = None) -> psycopg.RawCursor[Row]:
        """Execute one statement; binary results allow no more than one."""
        cursor = psycopg.RawCursor(self._session.raw)
        return cursor.execute(*_bind(query, bound), binary=True, prepare=False)

    def _rows(self, query: str, bound: Bound = None) -> Iterator[Row]:
        with psycopg.RawCursor(self._session.raw) as cursor:
            yield from cursor.stream(*_bind(query, bound), binary=True)


def _bind(query: str, bound: Bound) -> tuple[str, list[int] | None]:
    """A query and its values. A user's query has none, and is not changed."""
    if bound is None:
        return query, None
    text, names = numbered(query)
    return text, [bound[name] for name in names]


@contextmanager
def snapshot(session: Session, *, timezone: str | None, private: bool) -> Iterator[ServerSnapshot]:
    """A snapshot that reads in the session's transaction. Raises SettingsError, ExportFailed."""
    session.raw.adapters.register_loader("numeric", _Number)
    try:
        yield ServerSnapshot(session, timezone, private)
    except psycopg.Error as error:
        raise query_error(error) from None


class _Number(Loader):
    """An integer if the number has no point and fits into 64 bits, else a float."""

    format = pq.Format.BINARY

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._decimal = NumericBinaryLoader(oid, context).load

    def load(self, data: Buffer) -> int | float:
        number = self._decimal(data)
        if number.is_finite() and number.as_tuple().exponent == 0 and abs(number) < 2**63:
            return int(number)
        return float(number)


def query_error(error: psycopg.Error) -> CallhouseError:
    """The error for a user's query."""
    state = error.sqlstate or ""
    if state.startswith(_QUERY_STATES):
        return SettingsError(
            f"PostgreSQL: {error.diag.message_primary}",
            hint=error.diag.message_hint or "WHAT is a table, a view or one SELECT.",
        )
    if state.startswith(_VALUE_STATES):
        return SettingsError(
            f"PostgreSQL: {type(error).__name__} ({state})",
            hint="The query meets a value that it cannot use. The server's own words would repeat "
            "the value: ask it in psql.",
        )
    return ExportFailed(
        f"the database could not be read: {message_of(error)}",
        hint="Export again. Where the server ends long queries, statement_timeout of the role or "
        "max_standby_streaming_delay of a replica says after how long.",
    )


def _type_of(oid: int) -> tuple[str, str]:
    """The type in files and the cast to it; other types are cast to text."""
    return _TYPES.get(oid, ("TEXT", "::text"))


def _with_clause(selects: Mapping[str, str]) -> str:
    """A WITH clause that gives these names to SELECTs, each of which may use those before it."""
    return "".join(
        f"{',' if n else 'WITH'} {sql.quoted(name)} AS NOT MATERIALIZED (\n{text}\n)\n"
        for n, (name, text) in enumerate(selects.items())
    )


def _unique(names: list[str]) -> list[str]:
    """Number columns of one name as SQLite does: a, a:1, a:2."""
    return [
        f"{name}:{again}" if (again := names[:n].count(name)) else name
        for n, name in enumerate(names)
    ]


def _cast(query: str, names: list[str], casts: list[str]) -> str:
    """The rows of a query with these names, as values of the types in files."""
    columns = ", ".join(f"{sql.quoted(n)}{to}" for n, to in zip(names, casts, strict=False))
    return f"SELECT {columns} FROM ({query}) exported ({', '.join(map(sql.quoted, names))})"


def _changed_since(query: str, names: list[str], casts: list[str], since: datetime) -> str:
    """The rows of `since` and later in the query's order, which the search for changes would lose.

    Raises SettingsError.
    """
    *_, place = _unique([*names, "place"])
    ranked = f"SELECT *, row_number() OVER () FROM ({query}) ranked"
    rows = increment(_cast(ranked, [*names, place], casts), names, since)
    return f"{rows} ORDER BY {sql.quoted(place)}"
