"""Commands that move the warehouse between databases: copy, mirror, distribute."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.addresses import Location, parse_database, require_database_file
from receiver.cli.group import Number, Terminated, err, main, progress, resumable, terminable
from receiver.cli.tables import print_table
from receiver.errors import (
    CallhouseError,
    CopyStopped,
    DatabaseRefused,
    SchemaMismatch,
    SettingsError,
    StoreUnavailable,
    docs,
)

if TYPE_CHECKING:
    from receiver.store.postgres.distributing import PlacedTable
    from receiver.transfer import Comparison, Copied, Step


def _database(_context: click.Context, _option: click.Parameter, url: str) -> Location:
    try:
        return parse_database(url)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@main.command()
@click.option(
    "--to",
    required=True,
    metavar="URL",
    callback=_database,
    help="The other database: postgresql://user@host/name or sqlite:///path.",
)
def copy(to: Location) -> None:
    """Copy the warehouse into another database, beside a running receiver, and compare the two.

    The database of CALLHOUSE_DATABASE_URL is only read. Nothing that the other one has is lost. Run
    again, it copies what the other one still lacks.

    \b
    Examples:
      callhouse copy --to postgresql://callhouse@db.example.com/callhouse
      CALLHOUSE_DATABASE_URL=postgresql://… callhouse copy --to sqlite:///data/retell.db
    """
    settings = config.load()
    source = settings.database
    if _is_same(source, to):
        raise SettingsError(
            "--to names the database that CALLHOUSE_DATABASE_URL names",
            hint="Give the URL of another database.",
        )
    try:
        copied, found = _copy(source, to, settings.timezone)
    except SchemaMismatch:
        raise
    except StoreUnavailable as error:
        raise CopyStopped(f"the copy stopped: {error}") from error
    click.echo(f"Copied {_entities(copied.entities)} to {to}.")
    _print_comparison(copied, found)
    sys.exit(0 if found.is_complete else 1)


def _copy(source: Location, target: Location, timezone: str) -> tuple["Copied", "Comparison"]:
    from receiver.transfer import compare
    from receiver.transfer import copy as copy_all

    with resumable("Run the same command again to continue from here."), progress() as bar:
        task = bar.add_task("Copying", total=None)

        def show(number: int, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"Copying, pass {number}")

        copied = copy_all(source, target, timezone=timezone, progress=show)
        last = bar.add_task("Comparing", total=None)
        found = compare(
            source, target, progress=lambda n, of: bar.update(last, completed=n, total=of)
        )
    return copied, found


def _is_same(source: Location, target: Location) -> bool:
    if isinstance(source, Path) and isinstance(target, Path):
        return os.path.realpath(source) == os.path.realpath(target)
    return source == target


def _print_comparison(copied: "Copied", found: "Comparison") -> None:
    _print_rows(found.rows, found.different)
    compared = f"{sum(found.rows.values()):,} rows of {len(found.rows)} tables compared"
    if found.is_complete:
        click.echo(f"{compared}: no differences.")
    else:
        click.echo(f"{compared}.")
    if found.ahead:
        click.echo(f"{_entities(found.ahead)} are newer in the target and were kept.")
    if copied.refused:
        err.print(
            f"The target refused {_entities(copied.refused)}: an id or a value is longer "
            f"than its indexes allow. See {docs('explanation/postgres.md')}",
            style="red",
        )
    if late := found.behind - copied.refused:
        err.print(
            f"{_entities(late)} changed during the copy. Run the same command again, the last "
            "time after the receivers of the source have stopped.",
            style="yellow",
        )
    if found.different:
        err.print(
            f"Tables that differ: {', '.join(found.different)}. If observations is not among "
            "them, run `callhouse rebuild` on both databases.",
            style="red",
        )


def _print_rows(rows: Mapping[str, int], different: Mapping[str, int]) -> None:
    print_table(
        (("table", "piece"), ("rows", "count"), ("compared", "text")),
        [
            (name, f"{count:,}", f"{different[name]:,} differ" if name in different else "the same")
            for name, count in rows.items()
        ],
        styles=["red" if name in different else None for name in rows],
    )


def _entities(count: int) -> str:
    return f"{count:,} calls, chats and other entities"


def _file(_context: click.Context, _option: click.Parameter, path: Path) -> Path:
    try:
        require_database_file(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return path


@main.command()
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_file,
    default="data/mirror.db",
    show_default=True,
    help="The SQLite file to write.",
)
@click.option(
    "--every",
    type=Number(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait before reading the server again.",
)
@click.option("--once", is_flag=True, help="Stop when everything is copied.")
def mirror(to: Path, every: float, once: bool) -> None:
    """Keep a SQLite copy of the server's database current, to browse it.

    It runs beside `browse`. After a stop or an outage it copies what is missing.

    \b
    Examples:
      callhouse mirror
      CALLHOUSE_DATABASE_URL=sqlite:///data/mirror.db callhouse browse
    """
    settings = config.load()
    if isinstance(settings.database, Path):
        raise SettingsError(
            "CALLHOUSE_DATABASE_URL names a file",
            hint="Run `callhouse browse`: only a database on a server needs a mirror.",
        )
    click.echo(f"Mirroring {settings.database} into {to}")
    try:
        with terminable(), resumable("The next run continues from here."):
            _follow(settings, to, every=every, once=once)
    except Terminated:
        # SIGTERM is the normal end of a service.
        if once:
            raise


def _follow(settings: config.Settings, to: Path, *, every: float, once: bool) -> None:
    copied, is_complete = 0, False
    with progress() as bar:
        task = bar.add_task("Mirroring", total=None)
        for step in _steps(settings, to, every=every, once=once):
            copied += step.copied
            if not is_complete:
                bar.update(task, completed=step.done, total=step.total)
            if step.is_last and not is_complete:
                is_complete = True
                then = "" if once else "; mirroring continues"
                click.echo(f"All {_entities(step.done)} are copied{then}.")
                if not step.is_exact:
                    click.echo(
                        "Not only mirrors have written this file, so calls that the server deletes "
                        "stay in it. For an exact mirror, name a new file."
                    )
                click.echo(f"Browse: CALLHOUSE_DATABASE_URL=sqlite:///{to} callhouse browse")
            if is_complete and once:
                return
            if is_complete:
                now = f"{datetime.now(ZoneInfo(settings.timezone)):%H:%M:%S}"
                bar.update(task, description=f"Current at {now}, {copied:,} copied")
                time.sleep(every)


def _steps(settings: config.Settings, to: Path, *, every: float, once: bool) -> Iterator["Step"]:
    """Steps without end: after an outage, mirroring is retried."""
    from receiver.transfer import mirror as steps

    trouble: type[CallhouseError] | None = None
    has_begun = False
    while True:
        try:
            with closing(
                steps(settings.database, to, timezone=settings.timezone, now_ms=clock.now_ms)
            ) as taken:
                for step in taken:
                    has_begun = True
                    if trouble:
                        click.echo("Reconnected; mirroring resumed.")
                        trouble = None
                    yield step
        except (StoreUnavailable, DatabaseRefused) as error:
            is_lasting = isinstance(error, SchemaMismatch) or (
                isinstance(error, DatabaseRefused) and not has_begun
            )
            if once or is_lasting:
                raise
            # Once per kind of error: a starting server refuses for several reasons in turn.
            if trouble is not type(error):
                trouble = type(error)
                err.print(f"{error}; retrying", style="red")
            time.sleep(every)


@main.command()
def distribute() -> None:
    """Distribute the tables over a Citus cluster, with all rows of a call on one node.

    CALLHOUSE_DATABASE_URL names the cluster's coordinator. Tables that are distributed already are
    left unchanged. Receivers may run; they wait while rows are moved.

    \b
    Example:
      CALLHOUSE_DATABASE_URL=postgresql://callhouse@coordinator/callhouse callhouse distribute
    """
    from receiver.store import distribute as distribute_tables

    settings = config.load()
    placed = distribute_tables(settings.database, timezone=settings.timezone)
    _print_placed(placed)
    new = sum(place.is_new for place in placed)
    click.echo(f"{new} tables were distributed." if new else "All tables were distributed already.")


def _print_placed(placed: "Sequence[PlacedTable]") -> None:
    print_table(
        (("table", "piece"), ("how", "text")),
        [(p.table, f"{p.placement} by {p.column}" if p.column else p.placement) for p in placed],
        styles=["bold" if place.is_new else None for place in placed],
    )
