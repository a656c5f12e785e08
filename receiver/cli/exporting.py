"""Commands that print or write what is stored: show, export."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver import config
from receiver.cli.group import Day, err, main, progress, resumable, terminable
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from receiver.transfer.exporting import Progress


def _zone(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    try:
        return name and config.timezone_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@main.command()
@click.argument("call_id")
def show(call_id: str) -> None:
    """Print a stored call or chat as JSON in Retell's shape.

    \b
    Example:
      callhouse show call_b7559010ef20eb3a8e72252a524 | jq .call_analysis
    """
    from receiver.store import show as show_call

    found = show_call(config.load().database, call_id)
    click.echo(json.dumps(found, ensure_ascii=False, indent=2))


@main.command()
@click.argument("what", required=False, default="")
@click.option(
    "--to",
    type=click.Path(path_type=Path, allow_dash=True),
    default=None,
    help="File to write; stdout by default.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "ndjson", "parquet", "sqlite"]),
    default=None,
    help="By default from the name of FILE; csv on stdout.",
)
@click.option(
    "--since",
    type=Day(),
    default=None,
    metavar="YYYY-MM-DD",
    help="Only rows changed on this day or later.",
)
@click.option(
    "--timezone",
    default=None,
    metavar="ZONE",
    callback=_zone,
    help="Write times as ISO text in this IANA time zone, and use its days in views.",
)
@click.option("--private", is_flag=True, help="Include raw bodies, which Datasette does not show.")
@click.option(
    "--parquet",
    "directory",
    default=None,
    metavar="DIR",
    help="Update all tables there as Parquet: a directory, s3://… or gs://….",
)
@click.option(
    "--partition",
    type=click.Choice(["day"]),
    default=None,
    help="One file per table and day (UTC) in DIR.",
)
def export(
    what: str,
    to: Path | None,
    format_: str | None,
    since: datetime | None,
    timezone: str | None,
    private: bool,
    directory: str | None,
    partition: str | None,
) -> None:
    """Write a table, a view, a SELECT or all of it to a file: CSV, JSON, Parquet, SQLite.

    WHAT is the name of a table or view, or the SQL of one SELECT. Without it, a copy of the whole
    SQLite file is written; or with --parquet, a file for each table and day that changed since the
    last time.

    \b
    Examples:
      callhouse export call_log --to calls.csv
      callhouse export call_log --to calls.csv --since 2026-05-09 --timezone Europe/Berlin
      callhouse export "SELECT * FROM calls LEFT JOIN analyses USING (call_id)" --to calls.parquet
      callhouse export utterances --format ndjson | gzip > utterances.ndjson.gz
      callhouse export --to copy.db
      callhouse export --parquet lake --partition day
    """
    if directory is not None:
        if partition is None or any((what, to, format_, since, timezone)):
            raise SettingsError(
                "--parquet needs --partition day, and can only be combined with --private",
                hint="It writes all tables. For one table: callhouse export WHAT --to x.parquet",
            )
        _export_partitions(directory, private=private)
        return
    if partition is not None:
        raise SettingsError("--partition needs --parquet DIR")
    from receiver.transfer import Export
    from receiver.transfer import export as write

    settings = config.load()
    asked = Export(
        what=what,
        to=None if to == Path("-") else to,
        format=format_,
        since=since.date() if since else None,
        timezone=timezone,
        private=private,
    )
    # A progress bar would break rows printed to the same terminal.
    with _shown(
        silent=asked.to is None and sys.stdout is not None and sys.stdout.isatty()
    ) as shown:
        rows = write(settings, asked, progress=shown)
    wrote = f"{rows:,} row{'s' * (rows != 1)}" if what else "Copied the database"
    err.print(wrote + (f" to {asked.to}" if asked.to else ""))


def _export_partitions(directory: str, *, private: bool) -> None:
    from receiver.transfer import export_partitions

    settings = config.load()
    with _shown() as shown:
        done = export_partitions(settings, directory, private=private, progress=shown)
    err.print(
        f"{done.files:,} file{'s' * (done.files != 1)} written ({done.rows:,} "
        f"row{'s' * (done.rows != 1)}), {done.removed:,} removed, {done.current:,} days and tables "
        "unchanged",
    )


@contextmanager
def _shown(*, silent: bool = False) -> Iterator["Progress"]:
    """A progress bar. SIGTERM ends the block like Ctrl-C, so that no incomplete file is left."""
    with terminable(), resumable("Earlier files are unchanged; export again."):
        bar = progress()
        bar.disable |= silent
        with bar:
            task = bar.add_task("Exporting", total=None)
            yield lambda done, of: bar.update(task, completed=done, total=of)
