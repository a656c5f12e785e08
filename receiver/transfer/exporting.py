"""A table, a view or a query as CSV, newline JSON, Parquet or SQLite; or a copy of all.

Rows are streamed: memory holds one row, or one row group of a Parquet file.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

from receiver.addresses import Location, files_beside
from receiver.config import Settings
from receiver.errors import ExportFailed, SettingsError
from receiver.files import atomic_write
from receiver.store import Result, Row, Snapshot, snapshot, write_table
from receiver.transfer.formats import Writer, csv_writer, in_zone, ndjson_writer, parquet_writer

FORMATS = ("csv", "ndjson", "parquet", "sqlite")
_SUFFIXES = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
_TOLD_ROWS = 1000

# How much is done, and of how much if that is known.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Export:
    """What to write, and how. Without `what`, all of it; without `to`, to stdout."""

    what: str
    to: Path | None
    format: str | None = None
    since: date | None = None
    timezone: str | None = None
    private: bool = False


def export(settings: Settings, asked: Export, *, progress: Progress) -> int:
    """Write it and return how many rows that was; 0 for all of the database.

    A file appears under its name once it is whole. Raises SettingsError for what cannot be asked,
    NotStored without a database, DatabaseAway without its server, ExportFailed if it cannot be read
    or written, and BrokenPipeError.
    """
    form = _format(asked)
    _refuse(asked, form, settings.database)
    # Found missing before anything is read.
    writers: dict[str, Writer] = {"csv": csv_writer, "ndjson": ndjson_writer}
    write = parquet_writer() if form == "parquet" else writers.get(form)
    try:
        with snapshot(settings.database, timezone=asked.timezone, private=asked.private) as moment:
            if not asked.what:
                with atomic_write(_file(asked)) as path:
                    moment.copy(path, progress=progress)
                return 0
            result = _read(moment, asked, settings.timezone, typed=form == "parquet")
            counted = Counted(result.rows, progress)
            _save(replace(result, rows=iter(counted)), asked, write)
            return counted.done
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExportFailed(f"cannot write: {error.strerror}") from error


class Counted:
    """Rows, counted, with a word to whoever watches at every thousandth."""

    def __init__(self, rows: Iterable[Row], progress: Progress) -> None:
        self.done = 0
        self._rows = rows
        self._progress = progress

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            yield row
            self.done += 1
            if self.done % _TOLD_ROWS == 0:
                self._progress(self.done, None)


def _format(asked: Export) -> str:
    if asked.format:
        return asked.format
    if asked.to is None:
        return "csv"
    if form := _SUFFIXES.get(asked.to.suffix.lower()):
        return form
    raise SettingsError(
        f"{asked.to.name} does not say in which format to write",
        hint=f"Let it end in {', '.join(_SUFFIXES)}, or give --format.",
    )


def _refuse(asked: Export, form: str, database: Location) -> None:
    """Raise SettingsError for what does not go together, or would destroy something."""
    if not asked.what and form != "sqlite":
        raise SettingsError(
            f"{form} holds one table",
            hint="Name a table, a view or a SELECT; or let --to end in .db for all of it.",
        )
    if not asked.what and asked.since:
        raise SettingsError("--since needs a table, a view or a SELECT")
    if asked.to is None:
        if sys.stdout is None:
            raise SettingsError("stdout is closed", hint="Give --to FILE.")
        if form == "sqlite" or (form == "parquet" and sys.stdout.isatty()):
            raise SettingsError(f"{form} is nothing to print", hint="Give --to FILE.")
        return
    if asked.to.is_dir() or not asked.to.parent.is_dir():
        raise SettingsError(f"{asked.to} is not a file in a folder that exists")
    own = [database, *files_beside(database)] if isinstance(database, Path) else []
    if asked.to.exists() and any(path.exists() and asked.to.samefile(path) for path in own):
        raise SettingsError(f"{asked.to} belongs to the database", hint="Name another file.")


def _read(moment: Snapshot, asked: Export, configured: str, *, typed: bool) -> Result:
    zone = ZoneInfo(asked.timezone or configured)
    since = datetime.combine(asked.since, time.min, zone) if asked.since else None
    result = moment.read(asked.what, since=since, typed=typed)
    return in_zone(result, zone) if asked.timezone else result


def _save(result: Result, asked: Export, write: Writer | None) -> None:
    if write is None:
        # A query has no name.
        name = asked.what if asked.what.isidentifier() else "exported"
        with atomic_write(_file(asked)) as path:
            write_table(path, name, result)
    elif asked.to is None:
        write(sys.stdout.buffer, result)
        sys.stdout.buffer.flush()
    else:
        with atomic_write(asked.to) as path, path.open("wb") as file:
            write(file, result)


def _file(asked: Export) -> Path:
    assert asked.to is not None, "refused above"
    return asked.to
