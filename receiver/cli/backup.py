"""Commands that back up the database and restore a backup: backup, restore."""

import sys

import click

from receiver import clock, config
from receiver.cli.group import err, main, resumable
from receiver.errors import SettingsError


@main.command()
@click.argument("to", required=False)
@click.option(
    "--keep",
    type=click.IntRange(1, 10_000),
    help="How many backups to keep there; 7, or the number in callhouse.toml.",
)
def backup(to: str | None, keep: int | None) -> None:
    """Back up the database to a directory or bucket, beside a running receiver, and verify it.

    Without TO, to where callhouse.toml says. The exit status is 1 if older backups could not be
    deleted.

    \b
    Examples:
      callhouse backup /srv/backups --keep 14
      callhouse backup s3://bucket/callhouse
    """
    from receiver.jobs.backup import make_backup, parse_place, require_file
    from receiver.jobs.status import size
    from receiver.jobs.worker import running
    from receiver.store import open_store

    settings = config.load()
    configured = settings.file.backup
    place = to or configured.to
    if not place:
        raise SettingsError(
            "no place to back up to", hint="Name one, or set `to` under [backup] in callhouse.toml."
        )
    require_file(settings)
    store = open_store(settings.database)
    try:
        with (
            resumable("The incomplete backup was deleted."),
            running(settings, "backup", store) as lease,
        ):
            made = make_backup(
                settings, parse_place(place), keep=keep or configured.keep, now_ms=clock.now_ms()
            )
            lease.incomplete = made.left
    finally:
        store.close()
    calls = made.fingerprint.rows["calls"]
    click.echo(f"{place.rstrip('/')}/{made.name}: {size(made.size)}, {calls:,} calls, verified.")
    if made.deleted:
        click.echo(f"{len(made.deleted)} older backups deleted.")
    if made.left:
        err.print(made.left, style="yellow", markup=False, soft_wrap=True)
        sys.exit(1)


@main.command()
@click.argument("backup")
@click.option("--yes", is_flag=True, help="Replace a database that is there.")
def restore(backup: str, yes: bool) -> None:
    """Replace the database by a backup: a file, or the latest of a directory or bucket.

    Nothing may have the database open. What was erased since the backup stays erased.

    \b
    Examples:
      callhouse restore /srv/backups
      callhouse restore s3://bucket/callhouse/callhouse-20260512t020000z.db --yes
    """
    from receiver.jobs.backup import require_file, restore_backup

    settings = config.load()
    if require_file(settings).exists() and not yes:
        raise SettingsError(
            f"there is a database at {settings.database}",
            hint="--yes replaces it by the backup. Calls erased in it stay erased.",
        )
    restored = restore_backup(settings, backup)
    click.echo(f"Restored {restored.rows['calls']:,} calls to {settings.database}.")
    if restored.tombstones:
        click.echo(f"{restored.tombstones:,} erased calls and chats stay erased.")
    err.print("Run `callhouse sync` to fetch the calls since the backup.")
