"""The file that the receiver writes, as Datasette reads it: whole, or without personal data."""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import datasette.app
from datasette.database import Database, QueryInterrupted, Results, connections
from datasette.utils import get_all_foreign_keys, get_outbound_foreign_keys, sqlite_timelimit
from datasette.views.base import DatasetteError

from receiver.browse.door import csv_is_asked, login_of_request
from receiver.browse.functions import MAX_VALUE_BYTES, is_past_deadline, set_deadline
from receiver.browse.pool import QueryPool, TooManyQueries
from receiver.browse.privacy import goes_past, guard
from receiver.store.bounded import connect_bounded
from receiver.store.connection import Connection, sqlite3
from receiver.store.log import Identity, identity
from receiver.store.reading import connect_readonly
from schema.tables import CALL_TABLES, OBSERVATIONS, ROLLUP_TABLES, TABLES

# Counting every table of a file of this size takes a blink.
COUNTED_BYTES = 500_000_000
# What the page of a table asks; what people write themselves ends in another character.
_COUNT = re.compile(r"select count\(\*\) from (\w+) ")
_MANY_FOR_A_CALL = {table.name for table in (OBSERVATIONS, *CALL_TABLES) if len(table.key) > 1}
_KEYS = {table.name: list(table.key) for table in (*TABLES, *ROLLUP_TABLES)}
# As large as the largest value can be in memory, where each character may take four bytes.
MAX_RESULT_BYTES = 4 * MAX_VALUE_BYTES
# Waiting for a thread, and the time limit of the query.
ANSWERED_SECONDS = 25.0


def _answer(
    connection: Connection, sql: str, params: Any, limit_ms: int, max_rows: int | None
) -> Results:
    """The rows of a query, at most so many.

    Raises QueryInterrupted past its time, OperationalError for whatever else is wrong with it.
    """
    set_deadline(time.perf_counter() + limit_ms / 1000)
    try:
        with sqlite_timelimit(connection, limit_ms):
            cursor = connection.cursor()
            rows, size = [], 0
            for row in cursor.execute(sql, params if params is not None else {}):
                size += sum(map(sys.getsizeof, row))
                if size > MAX_RESULT_BYTES:
                    raise sqlite3.OperationalError(
                        f"the result is larger than {MAX_RESULT_BYTES // 1_000_000} MB: "
                        "select fewer rows or columns"
                    )
                rows.append(row)
                if max_rows is not None and len(rows) > max_rows:
                    return Results(rows[:max_rows], True, cursor.description)
            return Results(rows, False, cursor.description)
    except MemoryError:
        raise sqlite3.OperationalError(
            "the query needs more memory than there is for all queries: narrow it down"
        ) from None
    except (sqlite3.DatabaseError, sqlite3.Warning) as error:
        if error.args == ("interrupted",) or is_past_deadline():
            raise QueryInterrupted(error, sql, params) from error
        if not isinstance(error, sqlite3.OperationalError):
            # Re-raised as what Datasette shows as an error of the query instead of its own.
            raise sqlite3.OperationalError(str(error)) from error
        raise
    finally:
        set_deadline(None)


class Warehouse(Database):
    """A database of Datasette whose every connection is guarded."""

    def __init__(
        self, served: datasette.app.Datasette, path: str, pool: QueryPool, *, is_masked: bool
    ) -> None:
        super().__init__(served, path=path, is_mutable=True)
        self.is_masked = is_masked
        self._pool = pool

    def close(self) -> None:
        """Close every connection, and let the threads end."""
        self._pool.close()
        super().close()

    def connect(self, **_: bool) -> Any:
        """A connection for reading, also where Datasette would write."""
        connection = connect_bounded(Path(self.path), max_value_bytes=MAX_VALUE_BYTES)
        self._all_file_connections.append(connection)
        guard(connection, is_masked=self.is_masked)
        return connection

    async def execute_fn(self, fn: Callable[[Connection], Any]) -> Any:
        """Run a function with a connection, in a thread of whoever is asking.

        Raises QueryInterrupted if there is no answer in time.
        """

        def in_thread() -> Any:
            files = self._files()
            connection, opened = getattr(connections, self.name, (None, None))
            if connection is not None and opened != files:
                # It would read files that the receiver no longer writes to.
                self._all_file_connections.remove(connection)
                connection.close()
                connection = None
            if connection is None:
                connection = self.connect()
                self.ds._prepare_connection(connection, self.name)
                setattr(connections, self.name, (connection, files))
            return fn(connection)

        try:
            future = self._pool.submit(login_of_request.get(), in_thread)
            return await asyncio.wait_for(asyncio.wrap_future(future), ANSWERED_SECONDS)
        except (TimeoutError, TooManyQueries):
            raise QueryInterrupted(None, "", None) from None

    def _files(self) -> tuple[Identity, Identity]:
        path = Path(self.path)
        return identity(path), identity(path.with_name(path.name + "-wal"))

    async def execute(
        self,
        sql: str,
        params: Any = None,
        truncate: bool = False,
        **options: Any,
    ) -> Any:
        """Run a query as Datasette does, with a bound on what it reads, and without its log line
        for one that fails: who asks names numbers and people.

        Raises OperationalError for SQL that goes past what this login sees; Datasette shows it.
        """
        if goes_past(sql):
            raise sqlite3.OperationalError(
                "name tables without a schema: calls, not main.calls; "
                "where a text has the word main, write the text as a parameter, :text"
            )
        counted = _COUNT.fullmatch(sql)
        if counted and counted[1] in _MANY_FOR_A_CALL and self.size > COUNTED_BYTES:
            # SQLite cannot be interrupted while it counts, and reads all of the table for it.
            raise QueryInterrupted(None, sql, None)
        limit_ms = self.ds.sql_time_limit_ms
        limit_ms = min(options.get("custom_time_limit") or limit_ms, limit_ms)
        rows = None
        if truncate and self.ds.max_returned_rows:
            # One row more tells whether there are more.
            is_page = self.ds.max_returned_rows == (options.get("page_size") or self.ds.page_size)
            rows = self.ds.max_returned_rows + is_page
        try:
            return await self.execute_fn(
                lambda connection: _answer(connection, sql, params, limit_ms, rows)
            )
        except sqlite3.OperationalError as error:
            if csv_is_asked.get():
                # Datasette would answer 200 with nothing.
                raise DatasetteError(str(error), title="Invalid SQL", status=400) from None
            raise

    async def primary_keys(self, table: str) -> list[str]:
        """Also of a table that a view stands in front of."""
        return _KEYS.get(table) or await super().primary_keys(table)

    async def foreign_keys_for_table(self, table: str) -> list[dict[str, str]]:
        """Also of a table that a view stands in front of."""
        found: list[dict[str, str]] = await self._structure(
            lambda bare: get_outbound_foreign_keys(bare, table)
        )
        return found

    async def get_all_foreign_keys(self) -> dict[str, Any]:
        """The same of every table, both ways."""
        found: dict[str, Any] = await self._structure(get_all_foreign_keys)
        return found

    async def _structure(self, ask: Callable[[Connection], Any]) -> Any:
        """What the schema says, without the views in front of it."""

        def asked(_: Connection) -> Any:
            with closing(connect_readonly(Path(self.path))) as bare:
                return ask(bare)

        return await self.execute_fn(asked)

    async def fts_table(self, table: str) -> str | None:
        """None without personal data: the index knows every word that was said."""
        return None if self.is_masked else await super().fts_table(table)

    async def table_counts(self, limit: int = 10) -> dict[str, int | None]:
        """Rows per table, None for all of them once the file is large: SQLite cannot be
        interrupted while it counts."""
        if self.size > COUNTED_BYTES:
            return dict.fromkeys(await self.table_names())
        counts: dict[str, int | None] = await super().table_counts(limit)
        return counts
