"""kill -9 while retention prunes and recordings are fetched: both end as without it."""

import multiprocessing
import os
import random
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from receiver.clock import now_ms
from receiver.config_file import ConfigFile
from receiver.jobs.worker import Worker, functions
from receiver.store import open_store
from receiver.store.engine import reading
from receiver.store.jobs import job_rows
from receiver.store.media import count_due
from tests.support.erasing import SECRET, add_whole, files_with
from tests.support.recording import NOW_MS, Recordings
from tests.support.running import wait_until

JOBS = ("recordings", "prune")
KILLS = 100
# Old ones with recordings, old ones without, and new ones with recordings.
LISTENED, SILENT, NEW = 20, 1500, 20
DAY_MS = 86_400_000
# On the clock of the workers, the calls of the sandbox are older than the setting allows.
AT_MS = NOW_MS + 40 * DAY_MS
QUERIES = (
    "SELECT * FROM calls",
    "SELECT * FROM analyses",
    "SELECT * FROM utterances",
    "SELECT * FROM transcripts",
    "SELECT * FROM attributes",
    "SELECT entity_id, scope FROM erasures",
    "SELECT entity_id FROM observations WHERE body IS NOT NULL",
    "SELECT call_id, kind, location, sha256 FROM media_files WHERE state <> 'pruned'",
    "SELECT action, scope, sum(entities) FROM receipts GROUP BY 1, 2",
)
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr("receiver.sandbox.recordings.RATE", 400)


def run(settings, ahead_ms):
    """A process: a worker that runs both jobs every second."""
    worker = Worker(
        settings,
        {name: function for name, function in functions().items() if name in JOBS},
        now_ms=lambda: now_ms() + ahead_ms,
        claim_seconds=0,
        poll_seconds=0.05,
    )
    worker.start()
    signal.pause()


def started(settings):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            __name__,
            "receiver.jobs.prune",
            "receiver.jobs.recordings",
            "receiver.store.postgres.store",
        ]
    )
    process = context.Process(target=run, args=(settings, AT_MS - now_ms()), daemon=True)
    process.start()
    return process


def killed(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def filled(stack, store, database, folder):
    """Calls to prune and recordings to keep; the job's settings."""
    slowly = {"CALLHOUSE_MEDIA_BYTES_PER_SECOND": "150000", "CALLHOUSE_KEEP_PERSONAL_DAYS": "30"}
    job = stack.enter_context(Recordings(store, database, folder, **slowly))
    for n, call in enumerate(job.populate(LISTENED)):
        at = {"start_timestamp": AT_MS - DAY_MS, "end_timestamp": AT_MS - DAY_MS + 60_000}
        if n < NEW:
            job.tell(call | at | {"call_id": f"call_new_{n}"})
    for n in range(SILENT):
        add_whole(store, f"call_old_{n}", recording_url=None, disconnection_reason="user_hangup")
    file = ConfigFile(intervals={name: int(name in JOBS) for name in ConfigFile().intervals})
    return job, replace(job.settings, file=file)


def is_finished(settings, store, at_ms) -> bool:
    with reading(settings.database) as connection:
        rows = job_rows(connection)
    ended = [
        rows[name].result == "done" and (rows[name].started_at or 0) > at_ms
        for name in JOBS
        if name in rows and (rows[name].ended_at or 0) >= (rows[name].started_at or 0)
    ]
    return len(ended) == len(JOBS) and all(ended) and not count_due(store, now_ms=2**62)


def starts(database):
    with reading(database) as connection:
        return {(row.name, row.started_at) for row in job_rows(connection).values()}


def finish(settings, store):
    process = started(settings)
    at_ms = AT_MS
    wait_until(lambda: is_finished(settings, store, at_ms), seconds=120)
    killed(process)


def content(database):
    with reading(database) as connection:
        return [sorted(map(tuple, connection.execute(q).fetchall()), key=repr) for q in QUERIES]


def files(job):
    return {name: text for name, text in job.files().items() if not name.startswith(".partial/")}


def test_killed_prune_and_recordings_end_the_same(engine, store, database, tmp_path):
    chance = random.Random(3)
    with ExitStack() as stack:
        quiet = stack.enter_context(engine.blank())
        quiet_store = open_store(quiet)
        stack.callback(quiet_store.close)
        job, settings = filled(stack, store, database, tmp_path / "killed")
        quiet_job, quiet_settings = filled(stack, quiet_store, quiet, tmp_path / "quiet")
        seen = set()
        for _ in range(KILLS):
            before = starts(database)
            process = started(settings)
            # On a busy machine, a worker may need longer for its start than for its jobs.
            wait_until(lambda before=before: starts(database) != before, seconds=60)
            time.sleep(chance.uniform(0, 0.5 if isinstance(database, Path) else 1.5))
            killed(process)
            with reading(database) as connection:
                pruned = connection.execute("SELECT count(*) FROM erasures").fetchone()[0]
            seen.add((pruned, len(files(job))))
        finish(settings, store)
        finish(quiet_settings, quiet_store)
        for query, left, right in zip(QUERIES, content(database), content(quiet), strict=True):
            assert left == right, query
            assert right, query
        assert files(job) == files(quiet_job)
        assert len({name.partition("/")[0] for name in files(job)}) == NEW
        assert [name for name in job.files() if name.startswith(".partial/")] == []
        assert len(seen) > 10
        if isinstance(database, Path):
            assert files_with(database.parent, SECRET) == set()
