"""The worker: each job at its interval, one worker at a time, whatever happens to it."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.config_file import Backup, ConfigFile, Target
from receiver.errors import JobIsRunning, RetellUnreachable
from receiver.grading_settings import GradingSettings, Question
from receiver.jobs.alert_rules import AlertSettings, DigestSettings
from receiver.jobs.schedule import FIRST_RETRY_MS, due_at, intervals, job_states, retry_ms
from receiver.jobs.worker import Run, Worker, functions, has_ended, own_name, running
from receiver.store import open_store
from receiver.store.engine import reading
from receiver.store.jobs import JobRow, claim, finish, job_rows
from tests.support import running as commands
from tests.support.engines import url_of
from tests.support.webhooks import KEY, NOW_MS

MINUTE_MS = 60_000


class Clock:
    def __init__(self):
        self.ms = NOW_MS

    def __call__(self):
        return self.ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def worker(settings, clock):
    """Make workers with the jobs given, every minute each."""

    def make(owner="one", lease_seconds=60.0, **jobs):
        intervals = dict.fromkeys(ConfigFile().intervals, 60)
        every = replace(settings, file=ConfigFile(intervals=intervals))
        return Worker(every, jobs, owner=owner, now_ms=clock, lease_seconds=lease_seconds)

    return make


def row_of(database, name="sync") -> JobRow:
    with reading(database) as connection:
        return job_rows(connection)[name]


def test_job_runs_again_after_its_interval(worker, store, database, clock):
    ran = []
    one = worker(sync=lambda run: ran.append(run.now_ms()))
    assert one.step("sync", store) < 1
    assert 0 < one.step("sync", store) <= 60
    clock.ms += MINUTE_MS
    one.step("sync", store)
    assert ran == [NOW_MS, NOW_MS + MINUTE_MS]
    row = row_of(database)
    assert (row.result, row.problem, row.failures) == ("done", None, 0)
    assert (row.next_run_at, row.owner, row.lease_until) == (clock.ms + MINUTE_MS, "one", None)


def test_incomplete_job_says_what_is_missing(worker, store, database):
    worker(sync=lambda _: "3 calls are missing").step("sync", store)
    row = row_of(database)
    assert (row.result, row.problem, row.failures) == ("incomplete", "3 calls are missing", 0)


def test_failing_job_backs_off_and_recovers(worker, store, database, clock):
    is_away = True

    def job(_):
        if is_away:
            raise RetellUnreachable("no connection to Retell")

    one = worker(sync=job)
    waits = []
    for failures in range(1, 12):
        one.step("sync", store)
        row = row_of(database)
        assert (row.result, row.failures) == ("failed", failures)
        assert row.problem == "no connection to Retell"
        waits.append(row.next_run_at - clock.ms)
        clock.ms = row.next_run_at
    assert waits[:3] == [FIRST_RETRY_MS, 2 * FIRST_RETRY_MS, 4 * FIRST_RETRY_MS]
    assert waits[-1] == waits[-2] == retry_ms(10_000)
    is_away = False
    one.step("sync", store)
    assert (row_of(database).result, row_of(database).failures) == ("done", 0)


def test_unexpected_error_is_named_by_class_only(worker, store, database):
    def job(_):
        raise ValueError("+14155550123")

    worker(sync=job).step("sync", store)
    assert row_of(database).problem == "ValueError"


def test_failing_job_does_not_stop_others(settings, database):
    def fail(_):
        raise RetellUnreachable("no connection to Retell")

    ran = threading.Semaphore(0)
    intervals = dict.fromkeys(ConfigFile().intervals, 1)
    settings = replace(settings, file=ConfigFile(intervals=intervals))
    jobs = {"sync": fail, "roll_up": lambda _: ran.release()}
    one = Worker(settings, jobs, claim_seconds=0, poll_seconds=0.05)
    one.start()
    try:
        for _ in range(3):
            assert ran.acquire(timeout=30)
    finally:
        assert one.stop()
    assert row_of(database).result == "failed"


def test_second_worker_leaves_running_job_alone(worker, store, database, clock):
    other_store = open_store(database)
    ran = []

    def job(_):
        clock.ms += 59_000
        worker(owner="two", sync=lambda _: ran.append("two")).step("sync", other_store)

    worker(sync=job).step("sync", store)
    other_store.close()
    assert ran == []
    assert row_of(database).owner == "one"


def test_two_claims_of_one_run_give_one(store, database):
    seen = JobRow("sync")
    claims = [claim(store, seen, owner=owner, now_ms=NOW_MS, lease_ms=MINUTE_MS) for owner in "ab"]
    assert claims == [True, False]
    # The run has ended, and the second still knows the row from before.
    finish(store, replace(row_of(database), ended_at=NOW_MS + 1, result="done", lease_until=None))
    assert not claim(store, seen, owner="b", now_ms=NOW_MS + 2, lease_ms=MINUTE_MS)


def test_killed_worker_is_followed_after_its_lease(worker, store, database, clock):
    claim(store, JobRow("sync"), owner="killed", now_ms=clock.ms, lease_ms=MINUTE_MS)
    ran = []
    one = worker(sync=lambda _: ran.append(clock.ms))
    clock.ms += MINUTE_MS - 1
    clock.ms -= 59_000
    assert one.step("sync", store) > 1
    clock.ms += 59_000
    assert ran == []
    clock.ms += 1
    one.step("sync", store)
    assert ran == [clock.ms]
    assert row_of(database).owner == "one"


def test_lease_of_clock_ahead_is_void(worker, store, database, clock):
    """The clock was a year ahead when a worker on another machine was killed."""
    later = clock.ms + 365 * 86_400_000
    claim(store, JobRow("sync"), owner="elsewhere 1 a", now_ms=later, lease_ms=MINUTE_MS)
    [found] = job_states({"sync": row_of(database)}, {"sync": MINUTE_MS}, now_ms=clock.ms)
    assert found.state != "running"
    ran = []
    worker(sync=lambda _: ran.append(1)).step("sync", store)
    assert ran == [1]


def test_ended_process_of_this_machine_has_no_lease(worker, store, database, clock):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        machine, number, token = own_name().rsplit(" ", 2)
        owner = f"{machine} {process.pid} {token}"
        assert int(number) == os.getpid()
    assert has_ended(owner)
    # Copies of a virtual machine have the same name.
    host, _, namespace = machine.split("/")
    copy = f"{host}/00000000/{namespace} {process.pid} {token}"
    for other in (own_name(), copy, f"elsewhere {process.pid} {token}", "one", "", None):
        assert not has_ended(other)
    claim(store, JobRow("sync"), owner=owner, now_ms=clock.ms, lease_ms=MINUTE_MS)
    ran = []
    worker(sync=lambda _: ran.append(1)).step("sync", store)
    assert ran == [1]


def test_lease_is_renewed_while_job_runs(worker, store, database):
    renewed = []

    def job(run):
        first = row_of(database).lease_until
        clock = one._now_ms
        clock.ms += 5
        commands.wait_until(lambda: row_of(database).lease_until > first)
        renewed.append(True)

    one = worker(lease_seconds=0.2, sync=job)
    one.step("sync", store)
    assert renewed


def test_worker_that_lost_its_lease_stops(worker, store, database, clock):
    """As one that was suspended for longer than its lease."""
    other_store = open_store(database)
    stopped = []

    def job(run):
        late = replace(row_of(database), lease_until=None)
        assert claim(other_store, late, owner="two", now_ms=clock.ms + 10**6, lease_ms=10**6)
        run.sleep(30)
        stopped.append("too late")

    worker(lease_seconds=0.2, sync=job).step("sync", store)
    other_store.close()
    assert stopped == []
    row = row_of(database)
    assert (row.owner, row.ended_at) == ("two", None)


def test_job_without_what_it_needs_is_off(settings):
    assert {name for name, every in intervals(settings).items() if every} == {
        "roll_up", "recordings", "sync", "coverage", "alerts",
    }  # fmt: skip
    bare = replace(settings, accounts=(), media=replace(settings.media, location=None))
    assert [name for name, every in intervals(bare).items() if every] == ["roll_up", "alerts"]
    alerts = AlertSettings(digests=(DigestSettings(notify=("json://a",)),))
    grading = GradingSettings("m", questions=(Question("q", "Why?"),))
    file = ConfigFile(
        backup=Backup(to="there"),
        forward=(Target("a", "http://a/"),),
        alerts=alerts,
        grading=grading,
    )
    whole = replace(settings, file=file, keep={"raw": 1})
    assert all(intervals(whole).values())


def test_job_turned_off_never_runs(settings, store):
    settings = replace(settings, file=ConfigFile(intervals={**ConfigFile().intervals, "sync": 0}))
    assert "sync" not in Worker(settings, functions()).intervals_ms


def test_stopped_job_is_due_at_once(settings, database, store, clock):
    intervals = dict.fromkeys(ConfigFile().intervals, 60)
    settings = replace(settings, file=ConfigFile(intervals=intervals))
    began = threading.Event()

    def job(run):
        began.set()
        run.sleep(30)

    one = Worker(settings, {"sync": job}, now_ms=clock)
    one.start()
    assert began.wait(30)
    assert one.stop()
    row = row_of(database)
    assert (row.result, row.lease_until) == ("stopped", None)
    assert due_at(row, MINUTE_MS, now_ms=clock.ms) == clock.ms


def test_command_refuses_job_that_runs(settings, store, clock):
    claim(store, JobRow("backup"), owner="other", now_ms=clock.ms, lease_ms=MINUTE_MS)
    with pytest.raises(JobIsRunning), running(settings, "backup", store, now_ms=clock):
        pass


def test_failed_command_raises_and_notes_it(settings, store, database, clock):
    with (
        pytest.raises(RetellUnreachable),
        running(settings, "backup", store, now_ms=clock),
    ):
        raise RetellUnreachable("no connection to Retell")
    row = row_of(database, "backup")
    assert (row.result, row.next_run_at, row.lease_until) == ("failed", None, None)


@pytest.mark.parametrize("error", [RetellUnreachable("no connection"), KeyboardInterrupt()])
def test_failed_command_does_not_postpone_the_job(worker, settings, store, database, clock, error):
    one = worker(sync=lambda _: None)
    one.step("sync", store)
    clock.ms += MINUTE_MS // 2
    with pytest.raises(type(error)), running(settings, "sync", store, now_ms=clock):
        raise error
    due_ms = due_at(row_of(database), MINUTE_MS, now_ms=clock.ms)
    assert due_ms == NOW_MS + MINUTE_MS


def test_failed_first_command_is_repeated_by_the_worker(settings, store, database, clock):
    with pytest.raises(RetellUnreachable), running(settings, "sync", store, now_ms=clock):
        raise RetellUnreachable("no connection")
    due_ms = due_at(row_of(database), 24 * 60 * MINUTE_MS, now_ms=clock.ms)
    assert due_ms == clock.ms + FIRST_RETRY_MS


def test_time_written_by_clock_ahead_is_ignored():
    ahead = NOW_MS + 10 * 365 * 86_400_000
    row = JobRow("sync", started_at=ahead, ended_at=ahead, failures=0, next_run_at=ahead)
    assert due_at(row, MINUTE_MS, now_ms=NOW_MS) == NOW_MS


def test_shorter_interval_applies_to_planned_run():
    row = JobRow("sync", 1, NOW_MS, "done", None, 0, NOW_MS + 100 * MINUTE_MS)
    assert due_at(row, MINUTE_MS, now_ms=NOW_MS) == NOW_MS + MINUTE_MS


@pytest.mark.parametrize(
    ("row", "interval_ms", "state"),
    [
        (JobRow("sync"), MINUTE_MS, "new"),
        (JobRow("sync"), 0, "off"),
        (JobRow("sync", 1, None, lease_until=NOW_MS + 1), MINUTE_MS, "running"),
        (JobRow("sync", 1, 2, "done", None, 0, NOW_MS), MINUTE_MS, "waiting"),
        (JobRow("sync", 1, 2, "failed", "x", 1, NOW_MS), MINUTE_MS, "failing"),
        (JobRow("sync", 1, 2, "done", None, 0, NOW_MS - 16 * MINUTE_MS), MINUTE_MS, "overdue"),
        (JobRow("sync", 1, 2, lease_until=NOW_MS - 16 * MINUTE_MS), MINUTE_MS, "overdue"),
        (JobRow("sync", 1, 2, "done", None, 0, None), MINUTE_MS, "waiting"),
    ],
)
def test_state_of_a_job(row, interval_ms, state):
    [found] = job_states({"sync": row}, {"sync": interval_ms}, now_ms=NOW_MS)
    assert found.state == state
    assert (found.problem is not None) == (state == "overdue")


def test_three_failures_are_a_problem():
    row = JobRow("sync", 1, 2, "failed", "no connection", 3, NOW_MS)
    [found] = job_states({"sync": row}, {"sync": MINUTE_MS}, now_ms=NOW_MS)
    assert found.problem == "a job fails: sync, 3 times: no connection"


def test_roll_up_fills_hours(settings, store, db):
    from tests.support.storing import add

    add(store, "call_ended", "c", call_status="ended", start_timestamp=NOW_MS)
    run = Run(settings, store, now_ms=lambda: NOW_MS + 10**8)
    assert functions()["roll_up"](run) is None
    assert db.execute("SELECT count(*) FROM rollup_hours").fetchone()[0] == 1


def test_command_runs_named_jobs_once(database, store, db, tmp_path, monkeypatch):
    from tests.support.storing import add

    add(store, "call_ended", "c", call_status="ended", start_timestamp=NOW_MS - 10**9)
    add(store, "call_ended", "d", call_status="ended", recording_url="http://127.0.0.1:1/a.wav")
    monkeypatch.chdir(tmp_path)
    environ = {
        "CALLHOUSE_DATABASE_URL": url_of(database),
        "CALLHOUSE_MEDIA_URL": f"file:{tmp_path}/media",
        "CALLHOUSE_MEDIA_ALLOW_PRIVATE": "1",
        "CALLHOUSE_MEDIA_RESERVE_BYTES": "1",
    }

    def work(*names):
        options = [text for name in names for text in ("--once", name)]
        return CliRunner(env=environ).invoke(main, ["work", *options])

    done = work("roll_up")
    assert (done.exit_code, done.output) == (0, "roll_up: done\n"), done.output
    assert db.execute("SELECT count(*) FROM rollup_hours").fetchone()[0] == 2
    both = work("roll_up", "recordings")
    assert both.exit_code == 1
    assert "recordings: 1 file could not be fetched" in both.output
    assert row_of(database, "recordings").result == "incomplete"
    assert work("no_such_job").exit_code == 2


@pytest.mark.parametrize(
    "name", ["recordings", "prune", "sync", "coverage", "forward", "digest", "backup", "grade"]
)
def test_job_without_configuration_is_an_error(database, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    environ = {"CALLHOUSE_DATABASE_URL": url_of(database)}
    environ |= {"RETELL_API_KEY": "", "CALLHOUSE_MEDIA_URL": ""}
    result = CliRunner(env=environ).invoke(main, ["work", "--once", "roll_up", "--once", name])
    assert result.exit_code == 2
    assert f"the job {name} is not configured" in result.output
    assert "done" not in result.output


def test_sigterm_ends_the_command_within_seconds(database, tmp_path):
    environ = commands.environment(
        RETELL_API_KEY=KEY,
        # Nobody listens there: sync and coverage wait before they try again.
        RETELL_BASE_URL=f"http://{commands.free_address()}",
        CALLHOUSE_DATABASE_URL=url_of(database),
    )

    def works(_):
        with reading(database) as connection:
            return {"sync", "coverage"} <= job_rows(connection).keys()

    with commands.command("work", environ=environ, folder=tmp_path, until=works) as started:
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(timeout=20) == 0
        assert "Stopped." in started.output()
    assert row_of(database).lease_until is None
    assert os.path.exists(tmp_path)
