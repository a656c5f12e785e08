"""The command that moves the warehouse between databases: copy."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver import config
from receiver.addresses import Location, parse_database
from receiver.cli.group import err, main, progress, resumable
from receiver.cli.tables import print_table
from receiver.errors import CopyStopped, SchemaMismatch, SettingsError, StoreUnavailable

if TYPE_CHECKING:
    from receiver.store import Carried, Comparison


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
    """Carry the warehouse into another database, beside a running receiver, and compare the two.

    What CALLHOUSE_DATABASE_URL names is read and never changed. Nothing that the other one has is
    lost. Stopped, or run again later, it carries what is lacking.

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
            hint="Give the address of another one: this one is left as it is.",
        )
    try:
        carried, found = _copy(source, to, settings.timezone)
    except SchemaMismatch:
        raise
    except StoreUnavailable as error:
        raise CopyStopped(f"the copy stopped: {error}") from error
    click.echo(f"Carried {_entities(carried.entities)} to {to}.")
    _print(carried, found)
    sys.exit(0 if found.is_complete else 1)


def _copy(source: Location, target: Location, timezone: str) -> tuple["Carried", "Comparison"]:
    from receiver.store import carry, compare

    with resumable("Run the same command again to continue from here."), progress() as bar:
        task = bar.add_task("Carrying", total=None)

        def carrying(number: int, done: int, total: int) -> None:
            words = f"Carrying, round {number}"
            bar.update(task, completed=done, total=total, description=words)

        carried = carry(source, target, timezone=timezone, progress=carrying)
        last = bar.add_task("Comparing", total=None)
        found = compare(
            source, target, progress=lambda n, of: bar.update(last, completed=n, total=of)
        )
    return carried, found


def _is_same(source: Location, target: Location) -> bool:
    if isinstance(source, Path) and isinstance(target, Path):
        return os.path.realpath(source) == os.path.realpath(target)
    return source == target


def _print(carried: "Carried", found: "Comparison") -> None:
    _print_rows(found.rows, found.different)
    compared = f"{sum(found.rows.values()):,} rows of {len(found.rows)} tables compared"
    if found.is_complete:
        click.echo(f"{compared}: all are the same.")
    else:
        click.echo(f"{compared}.")
    if found.ahead:
        click.echo(f"{_entities(found.ahead)} have news in the target alone, which were kept.")
    if carried.refused:
        err.print(
            f"The target could not take {_entities(carried.refused)}: an id or a value is longer "
            "than its indexes hold. docs/explanation/postgres.md says which.",
            style="red",
            soft_wrap=True,
        )
    if late := found.behind - carried.refused:
        err.print(
            f"Of {_entities(late)}, news arrived meanwhile. Run the same command again; "
            "the last time once no receiver writes here any more.",
            style="yellow",
            soft_wrap=True,
        )
    if found.different:
        err.print(
            f"Not the same: {', '.join(found.different)}. If observations are the same, "
            "`callhouse rebuild` on either database makes its other tables anew.",
            style="red",
            soft_wrap=True,
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
