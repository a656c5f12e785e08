"""The command that keeps a file current with a server: mirror."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.addresses import require_database_file
from receiver.cli.group import Number, Terminated, err, main, progress, resumable, terminable
from receiver.errors import (
    CallhouseError,
    DatabaseRefused,
    SchemaMismatch,
    SettingsError,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from receiver.store import Mirrored


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
    help="The SQLite file to keep.",
)
@click.option(
    "--every",
    type=Number(0.1, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait before looking for news again.",
)
@click.option("--once", is_flag=True, help="Stop when everything is there.")
def mirror(to: Path, every: float, once: bool) -> None:
    """Keep a SQLite file current with the server's database, to browse it.

    It runs beside `browse`. Stopped, or cut off from the server, it finds by itself what it lacks.

    \b
    Examples:
      callhouse mirror
      CALLHOUSE_DATABASE_URL=sqlite:///data/mirror.db callhouse browse
    """
    settings = config.load()
    if isinstance(settings.database, Path):
        raise SettingsError(
            "CALLHOUSE_DATABASE_URL names a file",
            hint="Browse it as it is: a mirror is for a database on a server.",
        )
    click.echo(f"Mirroring {settings.database} into {to}")
    try:
        with terminable(), resumable("The next run continues from here."):
            _follow(settings, to, every=every, once=once)
    except Terminated:
        # To be stopped is how a service ends.
        if once:
            raise


def _follow(settings: config.Settings, to: Path, *, every: float, once: bool) -> None:
    carried, is_complete = 0, False
    with progress() as bar:
        task = bar.add_task("Mirroring", total=None)
        for step in _steps(settings, to, every=every, once=once):
            carried += step.carried
            if not is_complete:
                bar.update(task, completed=step.done, total=step.total)
            if step.is_through and not is_complete:
                is_complete = True
                click.echo(
                    f"All {step.done:,} calls, chats and other entities are there"
                    f"{'' if once else '; following'}."
                )
                if not step.is_exact:
                    click.echo(
                        "No mirror made this file, so what the server deletes stays in it. "
                        "A new file would be exact."
                    )
                click.echo(f"Browse: CALLHOUSE_DATABASE_URL=sqlite:///{to} callhouse browse")
            if is_complete and once:
                return
            if is_complete:
                now = f"{datetime.now(ZoneInfo(settings.timezone)):%H:%M:%S}"
                bar.update(task, description=f"Current at {now}, {carried:,} carried")
                time.sleep(every)


def _steps(
    settings: config.Settings, to: Path, *, every: float, once: bool
) -> Iterator["Mirrored"]:
    """Steps for ever: what cannot be done now is tried again."""
    from receiver.store import mirror as steps

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
            # One line for an outage: a server that starts has several reasons, one after another.
            if trouble is not type(error):
                trouble = type(error)
                err.print(f"{error}; trying again", soft_wrap=True, style="red")
            time.sleep(every)
