"""The interface of a read-only snapshot of a database, which exports read."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from receiver.errors import ExportFailed, QueryTooSlow, SettingsError, docs
from receiver.store import sql
from receiver.store.days import Fingerprint, Part
from schema.tables import Table

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a query: the names of its columns, and an iterator of its rows.

    `types` are INTEGER, REAL, TEXT or BLOB, or empty if unknown.
    """

    names: list[str]
    types: list[str]
    rows: Iterator[Row]


class Snapshot(Protocol):
    """The database at one moment, whatever is written meanwhile.

    Each result must be read to its end before the next query.
    """

    def read(self, what: str, /, *, since: datetime | None, typed: bool) -> Result:
        """Read a table, a view or the SQL of a SELECT, optionally only rows from `since`, the start
        of a day.

        With `typed`, no type is empty. Raises SettingsError if that is not possible.
        """

    def parts(self, *, progress: Callable[[int], None]) -> dict[Part, Fingerprint]:
        """All parts of the tables by day, with their fingerprints."""

    def read_part(self, table: Table, part: Part, of: Fingerprint, /) -> Result:
        """The rows of a table in a part, in declared types; bodies, if included, as they
        arrived."""

    def copy(self, target: Path, /, *, progress: Callable[[int, int], None]) -> None:
        """Copy the database to `target`, an empty file; private columns only if they are included.

        `progress` is called with the amount done and the total. Raises SettingsError if the engine
        does not support it.
        """

    def exclusive(self) -> AbstractContextManager[None]:
        """Lock the database against another export by day. Raises ExportFailed if one is
        running."""


def select(what: str, readable: Iterable[str]) -> str:
    """`what` if it is a SELECT, else the SELECT of the table or view that it names. Raises
    SettingsError."""
    if not re.fullmatch(r"\w+", what):
        return what
    names = list(readable)
    if what in names:
        return sql.NEWEST_FIRST.get(what) or sql.select_from(what)
    nearest = difflib.get_close_matches(what, names, n=1)
    raise SettingsError(
        f"there is no table or view {what}",
        hint=f"Did you mean {nearest[0]}?" if nearest else f"See {docs('reference/tables.md')}",
    )


def increment(query: str, names: list[str], since: datetime) -> str:
    """The column and value that select the rows from `since` of a query with these columns. Raises
    SettingsError."""
    for name, condition in sql.SINCE.items():
        if name in names:
            bound = {":since": str(int(since.timestamp()) * 1000), ":day": f"'{since:%Y-%m-%d}'"}
            for word, value in bound.items():
                condition = condition.replace(word, value)
            return f"{query} WHERE {condition}"
    raise SettingsError(
        "--since cannot cut this: it has no call_id, chat_id, time of change or day",
        hint="Export it whole, or select call_id with it.",
    )


def too_slow(seconds: float) -> QueryTooSlow:
    """The error for a query that took too long."""
    return QueryTooSlow(f"the query took longer than {round(seconds * 1000)} ms")


def another_is_running() -> ExportFailed:
    """The error for a second export by day, which would overwrite files of the first."""
    return ExportFailed("another export to Parquet by day is running", hint="Let it finish.")
