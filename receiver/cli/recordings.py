"""`callhouse recordings`: download recordings once."""

import json
import sys
from contextlib import closing
from typing import Any

import click

from receiver import clock, config
from receiver.cli.group import err, main, progress, resumable
from receiver.cli.tables import Column, print_table
from receiver.errors import SettingsError

# Files of one pass: found, fetched and written before the next.
_PASS_FILES = 500
# Problems that are printed.
_PROBLEMS = 10
# It can wait longer for the write lock than a webhook.
_BUSY_SECONDS = 60.0

_MEANING = {
    "kept": "stored; the call's page plays it",
    "pending": "waiting to be fetched",
    "failed": "not fetched, or not yet",
    "gone": "Retell no longer has it",
    "pruned": "deleted by a retention setting",
}
_STATES: tuple[Column, ...] = (
    ("state", "piece"), ("files", "count"), ("size", "count"), ("meaning", "text"),
)  # fmt: skip


@main.command()
@click.option("--retry", is_flag=True, help="Retry failed files and files that were gone.")
@click.option("--status", is_flag=True, help="Fetch nothing; print the stored files.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def recordings(*, retry: bool, status: bool, as_json: bool) -> None:
    """Keep the recordings and logs that calls link to.

    Fetches what is not kept yet of calls that are over, the newest first. What fails is tried again
    by the next run, after a growing pause. `callhouse work` does the same every 30 seconds. The
    exit status is 1 if something could not be fetched.

    \b
    Examples:
      callhouse recordings
      callhouse recordings --status
    """
    from receiver.store import media

    if retry and status:
        raise click.UsageError("--retry cannot be combined with --status, which fetches nothing.")
    settings = config.load()
    stopped = None
    if not status:
        with resumable("The fetched files are stored; run the same command again to continue."):
            stopped = _keep(settings, retry=retry)
    states = media.states(settings.database)
    problems = media.problems(settings.database, limit=_PROBLEMS)
    if as_json:
        click.echo(json.dumps(_as_json(settings, states, problems, stopped), indent=2))
    else:
        _print(settings, states, problems, stopped)
    sys.exit(1 if stopped or any(state in ("failed", "pending") for state, *_ in states) else 0)


def _keep(settings: config.Settings, *, retry: bool) -> str | None:
    """Fetch until nothing is due; return what stopped it."""
    from receiver.jobs.recordings import Counts, keep_pass
    from receiver.jobs.storage import storage_of
    from receiver.jobs.worker import Run, running
    from receiver.store import media, migrate, open_store

    storage = storage_of(settings)
    if storage is None:
        raise SettingsError(
            "recordings are not stored: CALLHOUSE_MEDIA_URL is empty",
            hint="Set it to a directory or a bucket, such as file:data/media.",
        )
    migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    with (
        closing(open_store(settings.database, busy_seconds=_BUSY_SECONDS)) as store,
        running(settings, "recordings", store) as lease,
        progress() as bar,
    ):
        run, done = Run(settings, store, stop=lease.stop), 0
        if retry:
            media.retry_failed(store, now_ms=clock.now_ms())
        task = bar.add_task("Recordings", total=None)

        def show(counts: Counts) -> None:
            bar.update(task, completed=done + counts.done)

        while True:
            counts = keep_pass(run, storage, limit=_PASS_FILES, progress=show)
            lease.incomplete = counts.problem or lease.incomplete
            done += counts.done
            left = media.count_due(store, now_ms=clock.now_ms())
            bar.update(task, completed=done, total=done + left)
            if counts.stopped or not (counts.done or counts.has_more):
                return counts.stopped


def _print(
    settings: config.Settings,
    states: list[tuple[str, int, int]],
    problems: list[tuple[str, str, int]],
    stopped: str | None,
) -> None:
    from receiver.jobs.status import size

    if states:
        rows = [(s, f"{n:,}", size(b) if b else "", _MEANING.get(s, "")) for s, n, b in states]
        print_table(_STATES, rows)
    else:
        click.echo("No call that is over has a recording.")
    for state, problem, files in problems:
        err.print(f"  {files:,} {state}: {problem}", style="red")
    if settings.media.location is not None and states:
        click.echo(f"Kept in {settings.media.location}")
    if stopped:
        err.print(f"Stopped: {stopped}", style="bold red")


def _as_json(
    settings: config.Settings,
    states: list[tuple[str, int, int]],
    problems: list[tuple[str, str, int]],
    stopped: str | None,
) -> dict[str, Any]:
    where = settings.media.location
    return {
        "kept_in": None if where is None else str(where),
        "states": {state: {"files": files, "bytes": size} for state, files, size in states},
        "problems": [
            {"state": state, "problem": problem, "files": files}
            for state, problem, files in problems
        ],
        "stopped": stopped,
    }
