"""The command of the background process: work."""

import os
import signal
import sys
from contextlib import closing

import click

from receiver import config
from receiver.cli.group import err, main, terminable
from receiver.errors import SettingsError


@main.command()
@click.option("--once", metavar="JOB", multiple=True, help="Run this job once; may be repeated.")
def work(once: tuple[str, ...]) -> None:
    """Run the background jobs: sync, coverage, alerts, forward, back up, and others.

    callhouse.toml has how often each runs. Several workers on one database share the jobs. Ends
    within seconds after SIGTERM or Ctrl-C. With --once, it ends after these jobs, with exit status
    1 if one is incomplete; a job that is not configured is an error.

    \b
    Examples:
      callhouse work
      callhouse work --once roll_up --once recordings
    """
    from receiver.jobs.schedule import missing_settings
    from receiver.jobs.worker import Worker, functions
    from receiver.store import migrate
    from receiver.webhook.health import log

    settings = config.load()
    if unknown := set(once) - settings.file.intervals.keys():
        raise click.UsageError(
            f"No job is named {min(unknown)}. Jobs: {', '.join(settings.file.intervals)}"
        )
    unused = missing_settings(settings)
    for name in once:
        if name in unused:
            raise SettingsError(f"the job {name} is not configured", hint=f"Set {unused[name]}.")
    migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    if once:
        sys.exit(1 if _run_once(settings, once) else 0)
    worker = Worker(settings, functions(), say=log)
    # The signals are blocked in every thread, and waited for below.
    numbers = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    err.print(
        f"Working on {settings.database}: {', '.join(worker.intervals_ms)}",
    )
    worker.start()
    signal.sigwait(numbers)
    has_ended = worker.stop()
    err.print("Stopped.")
    if not has_ended:
        # A job still waits for Retell or the disk. It may be killed at any point.
        sys.stderr.flush()
        os._exit(0)


def _run_once(settings: config.Settings, names: tuple[str, ...]) -> bool:
    """Run jobs one after the other, and print each result; return whether one is incomplete."""
    from receiver.jobs.worker import BUSY_SECONDS, Run, functions, running
    from receiver.store import open_store

    jobs, is_incomplete = functions(), False
    with terminable(), closing(open_store(settings.database, busy_seconds=BUSY_SECONDS)) as store:
        for name in names:
            with running(settings, name, store) as lease:
                lease.incomplete = jobs[name](Run(settings, store, stop=lease.stop))
            is_incomplete |= lease.incomplete is not None
            click.echo(f"{name}: {lease.incomplete or 'done'}")
    return is_incomplete
