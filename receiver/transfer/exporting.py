"""Export a table, a view or a query as CSV, newline JSON, Parquet or SQLite, or copy the file.

Rows are streamed: memory has one row, or one row group of a Parquet file.
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
_PROGRESS_ROWS = 1000

# Called with the amount done, and the total if it is known.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Export:
    """What to export and how: without `what`, the whole database; without `to`, to stdout."""

    what: str
    to: Path | None
    format: str | None = None
    since: date | None = None
    timezone: str | None = None
    private: bool = False


def export(settings: Settings, asked: Export, *, progress: Progress) -> int:
    """Write the export and return the number of rows; 0 for the whole database.

    A file appears under its name once it is complete. Raises SettingsError for invalid options,
    NotStored without a database, DatabaseAway without its server, ExportFailed if it cannot be read
    or written, and BrokenPipeError.
    """
    form = _format(asked)
    _refuse(asked, form, settings.database)
    # Before anything is read: pyarrow may be missing.
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
    """Counts rows, and calls `progress` at every thousandth."""

    def __init__(self, rows: Iterable[Row], progress: Progress) -> None:
        self.done = 0
        self._rows = rows
        self._progress = progress

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            yield row
            self.done += 1
            if self.done % _PROGRESS_ROWS == 0:
                self._progress(self.done, None)


def _format(asked: Export) -> str:
    if asked.format:
        return asked.format
    if asked.to is None:
        return "csv"
    if form := _SUFFIXES.get(asked.to.suffix.lower()):
        return form
    raise SettingsError(
        f"the format of {asked.to.name} is unknown",
        hint=f"Use a name that ends in {', '.join(_SUFFIXES)}, or add --format.",
    )


def _refuse(asked: Export, form: str, database: Location) -> None:
    """Raise SettingsError for options that conflict, or that would overwrite the database."""
    if not asked.what and form != "sqlite":
        raise SettingsError(
            f"a {form} file has one table",
            hint="Name a table, a view or a SELECT; or use --to FILE.db for the whole database.",
        )
    if not asked.what and asked.since:
        raise SettingsError("--since needs a table, a view or a SELECT")
    if asked.to is None:
        if sys.stdout is None:
            raise SettingsError("stdout is closed", hint="Add --to FILE.")
        if form == "sqlite" or (form == "parquet" and sys.stdout.isatty()):
            raise SettingsError(f"{form} cannot be printed", hint="Add --to FILE.")
        return
    if asked.to.is_dir() or not asked.to.parent.is_dir():
        raise SettingsError(f"{asked.to} is a folder, or its folder does not exist")
    own = [database, *files_beside(database)] if isinstance(database, Path) else []
    if asked.to.exists() and any(path.exists() and asked.to.samefile(path) for path in own):
        raise SettingsError(f"{asked.to} belongs to the database", hint="Choose another file.")


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
