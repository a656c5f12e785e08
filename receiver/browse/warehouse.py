"""The file that the receiver writes, as Datasette reads it: whole, or without personal data."""

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import datasette.app
from datasette.database import Database, QueryInterrupted
from datasette.utils import get_all_foreign_keys, get_outbound_foreign_keys

from receiver.browse.privacy import goes_past, guard
from receiver.store.connection import Connection, sqlite3
from receiver.store.reading import connect_readonly
from schema.tables import CALL_TABLES, OBSERVATIONS, ROLLUP_TABLES, TABLES

# Counting every table of a file of this size takes a blink.
COUNTED_BYTES = 500_000_000
# What the page of a table asks; what people write themselves ends in another character.
_COUNT = re.compile(r"select count\(\*\) from (\w+) ")
_MANY_FOR_A_CALL = {table.name for table in (OBSERVATIONS, *CALL_TABLES) if len(table.key) > 1}
_KEYS = {table.name: list(table.key) for table in (*TABLES, *ROLLUP_TABLES)}


class Warehouse(Database):
    """A database of Datasette whose every connection is guarded."""

    def __init__(self, served: datasette.app.Datasette, path: str, *, is_masked: bool) -> None:
        super().__init__(served, path=path, is_mutable=True)
        self.is_masked = is_masked

    def connect(self, **_: bool) -> Any:
        """A connection for reading, also where Datasette would write."""
        connection = super().connect()
        guard(connection, is_masked=self.is_masked)
        return connection

    async def execute(self, sql: str, *query: Any, **options: Any) -> Any:
        """Without the log line for a query that fails: who asks names numbers and people.

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
        try:
            return await super().execute(sql, *query, **options | {"log_sql_errors": False})
        except (sqlite3.DatabaseError, sqlite3.Warning) as error:
            if type(error) in (sqlite3.DatabaseError, sqlite3.Warning):
                # What the authorizer refuses, and a second statement: Datasette would call it a
                # failure of its own.
                raise sqlite3.OperationalError(str(error)) from error
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
