"""Commands that run the servers, serve, browse, demo, and maintain tables, migrate, rebuild."""

import os
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from receiver import clock, config
from receiver.addresses import require_free
from receiver.cli.group import (
    Day,
    Terminated,
    err,
    main,
    progress,
    resumable,
    seed_option,
    terminable,
)


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
        err.print(f"Warning: {warning}", style="yellow")
    if settings.file.inbound:
        # Checked at the start rather than at the first call.
        from receiver.store import migrate as migrate_database
        from receiver.webhook.inbound import check_rules

        migrate_database(
            settings.database, timezone=settings.timezone, account_keys=settings.account_keys
        )
        check_rules(settings)
    err.print(f"Receiving on http://{settings.bind}/webhook, storing in {settings.database}")
    conf = str(config.shipped("gunicorn.conf.py"))
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", conf])


@main.command()
@click.option(
    "--mirror",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Show this mirror of the server at CALLHOUSE_DATABASE_URL, and write reviews, saved views "
    "and shared links to both.",
)
def browse(mirror: Path | None) -> None:
    """Browse the calls with Datasette.

    \b
    Examples:
      CALLHOUSE_BROWSE_PASSWORD=... callhouse browse
      CALLHOUSE_DATABASE_URL=postgresql://… callhouse browse --mirror data/mirror.db
    """
    from receiver.browse.server import run

    try:
        with terminable():
            run(config.load(), mirror=mirror, say=err.print)
    except Terminated:
        # SIGTERM is the normal end of a service.
        return


@main.command()
@click.option("--exit", "exit_", is_flag=True, help="Exit once every event is stored.")
@click.option(
    "--calls",
    type=click.IntRange(1, 100_000),
    default=None,
    help="Number of calls of the last day; by default as many as the days before it have.",
)
@seed_option
@click.option("--day", type=Day(), metavar="YYYY-MM-DD", help="The last day; yesterday by default.")
@click.option(
    "--history",
    type=click.IntRange(0, 366),
    default=29,
    show_default=True,
    help="Number of days before that day; `callhouse sync` fetches their calls.",
)
def demo(exit_: bool, calls: int | None, seed: int, day: datetime | None, history: int) -> None:
    """Run everything on this machine with an invented month of calls.

    `callhouse sync` fetches all days but the last. Then the events of the last day arrive.

    \b
    Examples:
      callhouse demo
      callhouse demo --exit --seed 7 --history 0
    """
    from receiver.demo import Plan, browse_again, run

    plan = Plan(seed=seed, calls=calls, day=day and day.date(), history=history)
    with terminable(), resumable(browse_again()):
        settings = config.load()
        status = run(settings, plan, stay=not exit_, progress=progress)
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
    applied = migrate_file(
        settings.database, timezone=settings.timezone, account_keys=settings.account_keys
    )
    click.echo(f"{settings.database}: " + (", ".join(applied) or "already up to date"))


@main.command()
def rebuild() -> None:
    """Rebuild every table from the stored observations, beside a running receiver.

    \b
    Example:
      callhouse rebuild
    """
    from receiver.store import migrate as migrate_file
    from receiver.store import open_store, require_bodies, roll_up
    from receiver.store import rebuild as rebuild_tables

    settings = config.load()
    # A mistyped name must not create a database.
    require_bodies(settings.database)
    migrate_file(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    with (
        closing(open_store(settings.database)) as store,
        resumable("Nothing is lost. Run it again to start over."),
        progress() as bar,
    ):
        task = bar.add_task("Rebuilding", total=None)
        done = rebuild_tables(store, progress=lambda n, of: bar.update(task, completed=n, total=of))
        task = bar.add_task("Rolling up", total=None)
        for n, of in roll_up(store, timezone=settings.timezone, now_ms=clock.now_ms()):
            bar.update(task, completed=n, total=of)
    click.echo(f"Rebuilt {done:,} calls, chats and other entities.")
