"""The command of the background process: work."""

import os
import signal
import sys

from receiver import config
from receiver.cli.group import err, main


@main.command()
def work() -> None:
    """Run the background jobs: sync, coverage, roll up, forward, back up.

    callhouse.toml has how often each runs. Several workers on one database share the jobs. Ends
    within seconds after SIGTERM or Ctrl-C.

    \b
    Example:
      callhouse work
    """
    from receiver.jobs.worker import Worker, functions
    from receiver.store import migrate
    from receiver.webhook.logs import log

    # Only their owner can read the files that jobs make.
    os.umask(0o077)
    settings = config.load()
    migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    worker = Worker(settings, functions(), say=log)
    # Blocked in every thread, and waited for below.
    numbers = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    err.print(
        f"Working on {settings.database}: {', '.join(worker.intervals_ms)}",
        markup=False,
        soft_wrap=True,
    )
    worker.start()
    signal.sigwait(numbers)
    has_ended = worker.stop()
    err.print("Stopped.")
    if not has_ended:
        # A job still waits for Retell or the disk. It may be killed at any point.
        sys.stderr.flush()
        os._exit(0)
