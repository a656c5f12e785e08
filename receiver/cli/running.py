"""Commands that run it: serve, browse, demo; and keep its tables: migrate, rebuild."""

import os
import sys

import click

from receiver import clock, config
from receiver.addresses import require_free
from receiver.cli.group import Terminated, err, main, progress, resumable, terminable


@main.command()
def serve() -> None:
    """Receive Retell's webhooks, verify them and store them.

    \b
    Example:
      RETELL_API_KEY=key_... callhouse serve
    """
    from receiver.store import sqlite_warning

    settings = config.load()
    settings.require_keys()
    require_free(settings.bind, "CALLHOUSE_BIND")
    if settings.health_bind:
        require_free(settings.health_bind, "CALLHOUSE_HEALTH_BIND")
    if warning := sqlite_warning():
        err.print(f"Warning: {warning}", style="yellow", markup=False)
    err.print(f"Receiving on http://{settings.bind}/webhook, storing in {settings.database}")
    conf = str(config.shipped("gunicorn.conf.py"))
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", conf])


@main.command()
def browse() -> None:
    """Browse the calls with Datasette.

    \b
    Example:
      CALLHOUSE_BROWSE_PASSWORD=... callhouse browse
    """
    from receiver.browse.server import run

    try:
        with terminable():
            run(config.load(), say=lambda text: err.print(text, markup=False))
    except Terminated:
        # To be stopped is how a service ends.
        return


@main.command()
@click.option("--exit", "exit_", is_flag=True, help="End once every event is stored.")
@click.option(
    "--calls",
    type=click.IntRange(1, 100_000),
    default=120,
    show_default=True,
    help="How many calls the day has.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Another seed, another day.",
)
@click.option("--day", default=None, metavar="YYYY-MM-DD", help="The day; yesterday by default.")
def demo(exit_: bool, calls: int, seed: int, day: str | None) -> None:
    """Run the whole thing on this machine with a made-up day of calls.

    \b
    Examples:
      callhouse demo
      callhouse demo --exit --seed 7
    """
    from receiver.demo import run

    with terminable(), resumable("What it stored is in callhouse-demo."):
        settings = config.load()
        status = run(settings, seed=seed, calls=calls, date=day, stay=not exit_, progress=progress)
    sys.exit(status)


@main.command()
def migrate() -> None:
    """Create or update the database and its views.

    \b
    Example:
      callhouse migrate
    """
    from receiver.store import migrate as migrate_file

    settings = config.load()
    applied = migrate_file(settings.database, timezone=settings.timezone)
    click.echo(f"{settings.database}: " + (", ".join(applied) or "already up to date"))


@main.command()
def rebuild() -> None:
    """Make every table anew from the stored observations, beside a running receiver.

    \b
    Example:
      callhouse rebuild
    """
    from receiver.store import migrate as migrate_file
    from receiver.store import open_store, require_bodies, roll_up
    from receiver.store import rebuild as rebuild_tables

    settings = config.load()
    # A mistyped name must not make a new database.
    require_bodies(settings.database)
    migrate_file(settings.database, timezone=settings.timezone)
    store = open_store(settings.database)
    with resumable("Run it again: it starts over, and nothing is lost."), progress() as bar:
        task = bar.add_task("Rebuilding", total=None)
        done = rebuild_tables(store, progress=lambda n, of: bar.update(task, completed=n, total=of))
        task = bar.add_task("Adding up", total=None)
        for n, of in roll_up(store, timezone=settings.timezone, now_ms=clock.now_ms()):
            bar.update(task, completed=n, total=of)
    store.close()
    click.echo(f"Rebuilt {done} calls, chats and other entities.")
