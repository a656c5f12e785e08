"""`callhouse prune`: remove what is older than settings allow."""

import json
import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from receiver import clock, config
from receiver.cli.erasing import BUSY_SECONDS, author, fields_of, print_left, print_receipt
from receiver.cli.group import main, progress, resumable, terminable
from receiver.cli.tables import print_table
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.jobs.prune import Due, Pruned
    from receiver.store import AnyStore


@main.command()
@click.option("--dry-run", is_flag=True, help="Only print what each setting would remove now.")
@click.option("--vacuum", is_flag=True, help="Then rewrite the whole database; writers wait.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(dry_run: bool, vacuum: bool, as_json: bool) -> None:
    """Remove what is older than the retention settings allow, with receipts.

    What is removed stays removed: a tombstone says so for each call and chat. It runs beside a
    running receiver and gives the space back; stopped, the next run continues.

    \b
    Examples:
      CALLHOUSE_KEEP_PERSONAL_DAYS=90 callhouse prune --dry-run
      CALLHOUSE_KEEP_PERSONAL_DAYS=90 callhouse prune
    """
    from receiver.jobs.prune import preview, rules
    from receiver.jobs.status import size
    from receiver.store import open_store, require_bodies

    settings = config.load()
    if not rules(settings, now_ms=0) and not vacuum:
        raise SettingsError(
            "no retention is set", hint="Set CALLHOUSE_KEEP_PERSONAL_DAYS or another of them."
        )
    require_bodies(settings.database)
    with closing(open_store(settings.database, busy_seconds=BUSY_SECONDS)) as store:
        if dry_run:
            _print_due(preview(store, settings, now_ms=clock.now_ms()), as_json=as_json)
            return
        done = _prune(settings, store, vacuum=vacuum)
    if as_json:
        receipts = [fields_of(receipt) for receipt in done.receipts]
        free = {"left": done.left, "free_bytes": done.free_bytes}
        click.echo(json.dumps({"receipts": receipts, **free}))
    else:
        for receipt in done.receipts:
            print_receipt(receipt)
        if not done.receipts:
            click.echo("Nothing is old enough.")
        if done.free_bytes:
            click.echo(
                f"{size(done.free_bytes)} of the file are free and will be used again. The file "
                "was created by an older version: `callhouse prune --vacuum` rewrites it once, "
                "and space is given back from then on."
            )
    print_left(settings, done.left, vacuum=vacuum)
    sys.exit(1 if done.left else 0)


def _prune(settings: config.Settings, store: "AnyStore", *, vacuum: bool) -> "Pruned":
    from receiver.jobs.prune import prune_all
    from receiver.jobs.worker import running

    with (
        terminable(),
        resumable("The next run continues from here."),
        running(settings, "prune", store),
        progress() as bar,
    ):
        task = bar.add_task("Pruning", total=None)

        def show(setting: str, done: int) -> None:
            bar.update(task, description=setting, completed=done)

        return prune_all(
            settings,
            store,
            author=author(),
            now_ms=clock.now_ms,
            rewrite=vacuum,
            progress=show,
        )


def _print_due(found: "Sequence[Due]", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(due) for due in found]))
        return
    from receiver.jobs.status import size

    print_table(
        (
            ("setting", "piece"),
            ("days", "count"),
            ("calls\nand chats", "count"),
            ("bodies", "count"),
            ("bytes of\nbodies", "count"),
            ("files", "count"),
            ("bytes of\nfiles", "count"),
        ),
        [
            (
                due.setting.removeprefix("CALLHOUSE_"),
                str(due.days),
                f"{due.entities:,}",
                f"{due.bodies:,}",
                size(due.body_bytes),
                f"{due.files:,}",
                size(due.file_bytes),
            )
            for due in found
        ],
    )
