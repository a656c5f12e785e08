"""Read a snapshot of a SQLite file with queries that cannot write, and copy the file."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from receiver.errors import CallhouseError, ExportFailed, SettingsError
from receiver.store import days, sql
from receiver.store.connection import (
    COPY_ID,
    FAULTS,
    Connection,
    connect_readonly,
    no_database,
    require_readable,
    result_code,
    sqlite3,
)
from receiver.store.days import Fingerprint, ObservationSql, Part
from receiver.store.snapshots import Result, another_is_running, increment, select
from schema.sql import rollups
from schema.sql.views import views
from schema.tables import OBSERVATIONS, PRIVATE, Table

# What reading needs; the full-text index reads data_version. The authorizer denies everything else:
# writing, attaching, settings.
_ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
_TYPES = {"INTEGER", "REAL", "TEXT", "BLOB"}
_STEPS = 100_000
_COPIED_PAGES = 1000


# Rows of a file are in the order of their arrival.
_KEPT = ObservationSql("o.rowid", "o.rowid BETWEEN :first AND :last", "o.rowid", "o.body")


class FileSnapshot:
    """Implements `receiver/store/snapshots.py` for a file."""

    def __init__(
        self, path: Path, connection: Connection, timezone: str | None, private: bool
    ) -> None:
        self._path = path
        self._connection = connection
        self._timezone = timezone
        self._private = private
        self._types: dict[str, list[str]] = {}

    def read(self, what: str, *, since: datetime | None, typed: bool) -> Result:
        """With `typed`, a column's type is that of its values, for which the query runs twice."""
        readable = self._connection.execute(sql.READABLE)
        query = sql.nested(select(what, (name for (name,) in readable)))
        names = [column[0] for column in self._connection.execute(f"{query} LIMIT 0").description]
        types = self._declared(query)
        if since is not None:
            query = increment(query, names, since)
        if typed:
            [found] = self._connection.execute(sql.types_in(query, names))
            types = [
                _type(seen or "", declared) for seen, declared in zip(found, types, strict=True)
            ]
        return Result(names, types, self._connection.execute(query))

    def parts(self, *, progress: Callable[[int], None]) -> dict[Part, Fingerprint]:
        """All parts of the tables by day, with their fingerprints."""
        return days.fingerprints(self._connection.execute, _KEPT, progress=progress)

    def read_part(self, table: Table, part: Part, of: Fingerprint) -> Result:
        """The rows of a table in a part."""
        query, bound = days.query(table, part, of, _KEPT)
        if table.name not in self._types:
            self._types[table.name] = self._declared(sql.select_from(table.name))
        types = self._types[table.name]
        rows = self._connection.execute(query, bound)
        if table is OBSERVATIONS:
            return Result(list(table.names), types, days.with_bodies(rows))
        return Result(list(table.names), types, rows)

    def copy(self, target: Path, *, progress: Callable[[int, int], None]) -> None:
        """Copy all of the file, in pages."""

        def copied(_status: int, remaining: int, total: int) -> None:
            progress(total - remaining, total)

        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            self._connection.backup(copy, pages=_COPIED_PAGES, progress=copied)
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode = delete")
            if self._timezone:
                # The rollups of another time zone have other hours and days.
                copy.execute("PRAGMA foreign_keys = on")
                copy.execute(rollups.INVALIDATE_HOURS)
                copy.execute(rollups.INVALIDATE_DAYS)
                for name, text in views(self._timezone).items():
                    copy.execute(f"DROP VIEW IF EXISTS {name}")
                    copy.execute(text)
            if not self._private:
                copy.execute(sql.DROP_BODIES)
                copy.execute(f"PRAGMA application_id = {COPY_ID}")
                # Removes the bodies from the free pages too.
                copy.execute("VACUUM")
                # It may renumber the rows to which the search indexes refer.
                for statement in sql.REINDEX:
                    copy.execute(statement)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """With a lock on a file beside the database."""
        with self._path.with_name(self._path.name + ".partitions").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise another_is_running() from None
            yield

    def _declared(self, query: str) -> list[str]:
        """The declared types of a query's columns, by means of a temporary view."""
        self._connection.set_authorizer(None)
        try:
            self._connection.execute(f"CREATE TEMP VIEW _exported AS {query}")
            found = self._connection.execute("PRAGMA temp.table_info(_exported)").fetchall()
            self._connection.execute("DROP VIEW temp._exported")
        finally:
            _restrict(self._connection, self._private)
        return [row[2] if row[2] in _TYPES else "" for row in found]


@contextmanager
def snapshot(path: Path, *, timezone: str | None, private: bool) -> Iterator[FileSnapshot]:
    """A read-only snapshot of the file at `path`.

    With `timezone`, views show times in it; `private` includes private columns, which otherwise
    read as NULL. Raises NotStored without a file, SettingsError with SQLite's message for a mistake
    in a query, ExportFailed if the file cannot be read or the export cannot be written.
    """
    if not path.exists():
        raise no_database(path)
    connection = None
    try:
        connection = connect_readonly(path)
        require_readable(connection, path)
        # Invalid UTF-8 in a query's result is replaced, so that it can be written.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        if timezone:
            for text in views(timezone, rolled_up=False).values():
                connection.execute(text.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))
        connection.execute("BEGIN")
        # Older versions of SQLite can open a search index only without an authorizer.
        for (name,) in connection.execute(sql.VIRTUAL).fetchall():
            connection.execute(f"{sql.select_from(name)} LIMIT 0")
        _restrict(connection, private)
        # Python handles Ctrl-C only when its code runs.
        connection.set_progress_handler(lambda: 0, _STEPS)
        yield FileSnapshot(path, connection, timezone, private)
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _as_our_error(error) from error
    finally:
        if connection is not None:
            connection.close()


def write_table(target: Path, name: str, result: Result) -> None:
    """Write a result as the only table of a new SQLite file. Raises what `snapshot` does."""
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = off")
            connection.execute("BEGIN")
            types = dict(zip(result.names, result.types, strict=True))
            connection.execute(sql.create(name, types))
            connection.executemany(sql.insert(name, len(types)), result.rows)
            connection.execute("COMMIT")
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _as_our_error(error) from error


def _restrict(connection: Connection, private: bool) -> None:
    hidden = set() if private else PRIVATE

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and (first, second) in hidden:
            return sqlite3.SQLITE_IGNORE
        if action in _ALLOWED or (action, first) == (sqlite3.SQLITE_PRAGMA, "data_version"):
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)


def _type(seen: str, declared: str) -> str:
    """The type of all values; the declared one, or text, if there are none."""
    types = {*seen.upper().split(",")} - {"NULL", ""}
    if len(types) < 2:
        return next(iter(types), declared or "TEXT")
    return "REAL" if types == {"INTEGER", "REAL"} else "TEXT"


def _as_our_error(error: Exception) -> CallhouseError | KeyboardInterrupt:
    code = result_code(error)
    if code == sqlite3.SQLITE_INTERRUPT:
        return KeyboardInterrupt()
    if code in FAULTS:
        return ExportFailed(f"SQLite: {error}")
    return SettingsError(f"SQLite: {error}", hint="WHAT is a table, a view or one SELECT.")
