"""What an export reads: one moment of a database, by queries that cannot write."""

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
    """What a query gives: names of its columns and its rows, read as they are asked for.

    `types` are INTEGER, REAL, TEXT or BLOB, or empty where the engine does not say.
    """

    names: list[str]
    types: list[str]
    rows: Iterator[Row]


class Snapshot(Protocol):
    """The database as it was at one moment, whatever is written meanwhile.

    One result is read to its end before the next is asked for.
    """

    def read(self, what: str, /, *, since: datetime | None, typed: bool) -> Result:
        """A table, a view or the SQL of a SELECT; of `since`, the start of a day, and after only.

        With `typed`, no type is empty. Raises SettingsError for what cannot be read like this.
        """

    def parts(self, *, progress: Callable[[int], None]) -> dict[Part, Fingerprint]:
        """Every part of the tables by day, and what it is made from."""

    def read_part(self, table: Table, part: Part, of: Fingerprint, /) -> Result:
        """A table's rows of a part, in declared types; bodies, if they are open, as they came."""

    def copy(self, target: Path, /, *, progress: Callable[[int, int], None]) -> None:
        """Copy all of it to `target`, an empty file; private columns only if they are open.

        `progress` gets what is done, and of how much. Raises SettingsError where that is no export.
        """

    def alone(self) -> AbstractContextManager[None]:
        """Be the only export by day of this database. Raises ExportFailed if there is another."""


def select(what: str, readable: Iterable[str]) -> str:
    """The SELECT that `what` is, or that reads the table or view it names. Raises SettingsError."""
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
    """What of a query with these columns is of `since` and after. Raises SettingsError."""
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
    """The error for a query that took longer than it may."""
    return QueryTooSlow(f"the query took longer than {round(seconds * 1000)} ms")


def another_is_running() -> ExportFailed:
    """That two exports by day would write over each other's files."""
    return ExportFailed("another export to Parquet by day is running", hint="Let it finish.")
