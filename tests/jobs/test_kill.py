"""kill -9 of the worker at random moments: its jobs end as if nothing had happened."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from receiver.clock import now_ms
from receiver.config_file import Backup, ConfigFile, Target
from receiver.jobs.worker import Worker, functions
from receiver.sandbox.server import Sandbox
from receiver.store import open_store, receive
from receiver.store.backup import verify
from receiver.store.engine import reading
from receiver.store.jobs import job_rows
from receiver.store.outbox import Forward, queue_counts
from tests.support.meddling import Meddler
from tests.support.running import wait_until
from tests.support.storing import body_of
from tests.support.targets import TargetServer
from tests.support.webhooks import KEY

JOBS = ("roll_up", "sync", "coverage", "forward", "backup")
EVENTS = ("call_started", "call_ended", "call_analyzed")
KILLS = 100
CALLS = 1200
LEASE_SECONDS = 20
# As many leases are longer than an hour must be quiet before it is rolled up.
QUIET = 30
# What does not depend on when it was fetched: links to recordings, and with them bodies, do.
QUERIES = (
    "SELECT DISTINCT entity_id, source FROM observations",
    "SELECT call_id, call_status, level, duration_ms, combined_cost_cents FROM calls",
    "SELECT call_id, track, position, content FROM utterances",
    "SELECT day, agent_id, listed, stored, ended, missing, incomplete FROM coverage",
    "SELECT hour FROM rollup_hours",
    "SELECT agent_id, direction, sum(calls) FROM rollup_calls GROUP BY 1, 2",
)
pytestmark = pytest.mark.slow


def run(settings, ahead_ms):
    """A process: a worker that runs each job every second, with a clock that is so much ahead."""
    worker = Worker(
        settings,
        {name: function for name, function in functions().items() if name in JOBS},
        now_ms=lambda: now_ms() + ahead_ms,
        lease_seconds=LEASE_SECONDS,
        claim_seconds=0,
        poll_seconds=0.05,
    )
    worker.start()
    signal.pause()


def started(settings, number):
    """The worker with this number. For each, the leases of those before have ended."""
    # Forked from a process without threads; the modules are imported there once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "receiver.jobs.upkeep"])
    ahead_ms = number * LEASE_SECONDS * 2000
    process = context.Process(target=run, args=(settings, ahead_ms), daemon=True)
    process.start()
    return process, ahead_ms


def is_done_since(database, at_ms) -> bool:
    with reading(database) as connection:
        rows = job_rows(connection)
    return all(
        name in rows
        and (rows[name].started_at or 0) > at_ms
        and rows[name].result == "done"
        and (rows[name].ended_at or 0) >= rows[name].started_at
        for name in JOBS
        if name != "backup" or isinstance(database, Path)
    )


def finished(settings):
    """Run every job from its beginning to its end, and again when the hours are quiet."""
    for number in (KILLS, KILLS + QUIET):
        process, ahead_ms = started(settings, number)
        for _ in range(2):
            at_ms = now_ms() + ahead_ms
            wait_until(lambda at_ms=at_ms: is_done_since(settings.database, at_ms), seconds=300)
        os.kill(process.pid, signal.SIGKILL)
        process.join()


def with_jobs(settings, target, folder):
    """All jobs every second, forwarding to `target` and backing up into `folder`."""
    file = ConfigFile(
        intervals={name: 1 if name in JOBS else 0 for name in ConfigFile().intervals},
        backup=Backup(to=str(folder) if isinstance(settings.database, Path) else "", keep=3),
        forward=(Target("target", target.url),),
    )
    return replace(settings, file=file)


def fill_outbox(store):
    """Events of 40 calls that wait to be forwarded."""
    at_ms = now_ms()
    for n, event in enumerate(event for event in EVENTS for _ in range(40)):
        body = body_of(event, f"call_forwarded_{n % 40}")
        received = receive(body, source="webhook", observed_at=at_ms, received_at=at_ms + n)
        store.add(replace(received, forward=Forward(("target",), "v=1,d=2")))


def assert_forwarded(target, database):
    """Each event arrived, at first in order; nothing waits."""
    for n in range(40):
        assert tuple(dict.fromkeys(target.accepted(f"call_forwarded_{n}"))) == EVENTS
    with reading(database) as connection:
        assert queue_counts(connection) == []


def content(database):
    with reading(database) as connection:
        return [
            sorted(map(tuple, connection.execute(query).fetchall()), key=repr) for query in QUERIES
        ]


def test_killed_worker_leaves_what_another_finishes(engine, settings, store, tmp_path):
    chance = random.Random(7)
    with (
        Sandbox(api_key=KEY, seed=1, speed=0, limits=None) as box,
        TargetServer() as target,
        TargetServer() as quiet_target,
        engine.blank() as quiet,
    ):
        box.populate(calls=CALLS, days=4)
        fill_outbox(store)
        settings = with_jobs(settings, target, tmp_path / "backups")
        # Slow enough that the sync lasts for most of the kills.
        with Meddler(box.url, lambda *_: time.sleep(0.01)) as between:
            slow = replace(settings, base_url=between.url)
            for number in range(KILLS):
                process, _ = started(slow, number)
                time.sleep(chance.uniform(0, 0.6))
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        finished(replace(settings, base_url=box.url))
        quiet_store = open_store(quiet)
        fill_outbox(quiet_store)
        quiet_store.close()
        undisturbed = replace(settings, base_url=box.url, database=quiet)
        finished(with_jobs(undisturbed, quiet_target, tmp_path / "quiet"))
        found, expected = content(settings.database), content(quiet)
        for query, left, right in zip(QUERIES, found, expected, strict=True):
            assert left == right, query
            assert right, query
        assert len(expected[1]) == CALLS + 40
        assert_forwarded(target, settings.database)
        assert len(target.got) >= len(quiet_target.got) == 3 * 40
        for backup in (tmp_path / "backups").glob("*.db"):
            assert verify(backup).rows["calls"]
