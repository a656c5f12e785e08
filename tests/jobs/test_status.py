"""`callhouse status`: the facts on one screen, and as JSON."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.clock import now_ms
from receiver.config import Account
from receiver.jobs import status
from receiver.jobs.status import ago, last_signed, read_status, size
from receiver.store import receive
from receiver.store.jobs import JobRow, claim, finish
from receiver.webhook.health import Counters, note
from receiver.webhook.signature import key_id
from tests.support.engines import url_of
from tests.support.storing import body_of
from tests.support.webhooks import KEY, NOW_MS

DAY_MS = 86_400_000
OLD_KEY = "key_fedcba9876543210fedcba987654"


def deliver(store, call_id, *, key=KEY, at_ms=NOW_MS):
    body = body_of("call_ended", call_id, call_status="ended", start_timestamp=at_ms)
    store.add(
        receive(body, source="webhook", observed_at=at_ms, received_at=at_ms, key_id=key_id(key))
    )


def run_job(store, name, *, at_ms=NOW_MS, result="done", failures=0, next_run_at=None):
    claim(store, JobRow(name), owner="worker", now_ms=at_ms, lease_ms=60_000)
    problem = "no connection" if failures else None
    finish(store, JobRow(name, at_ms, at_ms, result, problem, failures, next_run_at, "worker"))


def test_status_of_an_empty_database(settings):
    found = read_status(settings, now_ms=NOW_MS)
    assert (found.calls, found.chats, found.quarantined) == (0, 0, 0)
    assert (found.last_event_ms, found.last_backup_ms, found.days_until_full) == (None, None, None)
    assert found.coverage.checked_ms is None
    assert {job.state for job in found.jobs} == {"new", "off"}
    assert found.problems == []


def test_keys_say_which_signed_last(settings, store):
    """After a rotation, the old key may be revoked once it no longer signs."""
    settings = replace(
        settings,
        accounts=(Account("default", KEY, (KEY, OLD_KEY)), Account("acme", None, ("key_unused",))),
    )
    deliver(store, "a", key=OLD_KEY, at_ms=NOW_MS - DAY_MS)
    deliver(store, "b", at_ms=NOW_MS - 1000)
    deliver(store, "c", key="key_revoked", at_ms=NOW_MS - 2 * DAY_MS)
    deliver(store, "d", key="key_of_last_year", at_ms=NOW_MS - 365 * DAY_MS)
    found = read_status(settings, now_ms=NOW_MS)
    assert [(use.key_id, use.setting, use.last_signed_ms) for use in found.keys] == [
        (key_id(KEY), "RETELL_API_KEY", NOW_MS - 1000),
        (key_id(OLD_KEY), "RETELL_WEBHOOK_KEYS", NOW_MS - DAY_MS),
        (key_id("key_revoked"), None, NOW_MS - 2 * DAY_MS),
        (key_id("key_unused"), "RETELL_WEBHOOK_KEYS_ACME", None),
    ]
    assert found.last_event_ms == NOW_MS - 1000


def test_last_signatures_are_those_of_all_events(store):
    rng = random.Random(17)
    keys = [KEY, OLD_KEY, "key_0", "key_z"]
    signed = {}
    for n in range(40):
        key, at_ms = rng.choice(keys), rng.randrange(NOW_MS)
        deliver(store, f"call_{n}", key=key, at_ms=at_ms)
        signed[key_id(key)] = max(at_ms, signed.get(key_id(key), 0))
    assert store.read(lambda c: list(last_signed(c))) == sorted(signed.items())


@pytest.mark.sqlite
@pytest.mark.parametrize("query", [status.NEXT_KEY, status.LAST_SIGNED])
def test_keys_are_found_by_index(db, query):
    """tests/store/postgres/test_schema.py says the same of a server."""
    steps = [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", ("a",))]
    assert len(steps) == 1
    assert "SEARCH observations USING COVERING INDEX observations_key (key_id" in steps[0]


def test_last_signature_is_found_after_a_quiet_year(settings, store):
    deliver(store, "a", at_ms=NOW_MS - 365 * DAY_MS)
    [use] = read_status(settings, now_ms=NOW_MS).keys
    assert use.last_signed_ms == NOW_MS - 365 * DAY_MS


def test_growth_counts_the_last_days(settings, store):
    deliver(store, "old", at_ms=NOW_MS - 365 * DAY_MS)
    assert read_status(settings, now_ms=NOW_MS).days_until_full is None
    deliver(store, "new")
    found = read_status(settings, now_ms=NOW_MS)
    assert found.bytes_per_day == found.database_bytes // 2 // 30
    # The disk of a server is not this one.
    is_here = isinstance(settings.database, Path)
    days = found.free_disk_bytes / found.bytes_per_day if is_here else None
    assert found.days_until_full == days


def test_coverage_is_yesterdays(settings, db):
    for day, missing in (("2026-05-12", 2), ("2026-05-11", 9)):
        for agent in "ab":
            db.execute(
                "INSERT INTO coverage (day, agent_id, listed, stored, missing, incomplete, "
                "checked_at) VALUES (?, ?, 10, 8, ?, 1, 5)",
                (day, agent, missing),
            )
    day = read_status(settings, now_ms=NOW_MS).coverage
    assert (day.day, day.listed, day.stored) == ("2026-05-12", 20, 16)
    assert (day.missing, day.incomplete, day.checked_ms) == (4, 2, 5)


def test_problems_are_those_of_health(settings, store):
    counters = Counters(settings.counters_path)
    note(counters, "stale", now_ms=NOW_MS)
    counters.close()
    run_job(store, "sync", failures=3, next_run_at=NOW_MS)
    problems = read_status(settings, now_ms=NOW_MS).problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "authentic events arrived too old",
        "a job fails",
    ]


@pytest.fixture
def invoke(database):
    def run(*arguments):
        environ = {"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(database)}
        return CliRunner(env=environ).invoke(main, arguments)

    return run


def test_command_fits_a_screen_and_hides_keys(invoke, store):
    now = now_ms()
    deliver(store, "a", at_ms=now - 90_000)
    run_job(store, "backup", at_ms=now - 3 * 3_600_000)
    run_job(store, "sync", at_ms=now, failures=1, result="failed", next_run_at=now + 60_000)
    result = invoke("status")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) <= 24
    assert "1 calls, 0 chats, 0 quarantined" in result.output
    assert "(1 minute ago)" in result.output
    assert "(3 hours ago)" in result.output
    assert f"{key_id(KEY)}  RETELL_API_KEY       1 minute ago" in result.output
    assert KEY not in result.output
    assert [line.split()[1] for line in lines if line.startswith("sync ")] == ["failing"]


def test_command_prints_json(invoke, store):
    deliver(store, "a", at_ms=now_ms())
    found = json.loads(invoke("status", "--json").output)
    assert (found["status"], found["calls"], len(found["jobs"])) == ("ok", 1, 10)
    assert found["keys"][0]["key_id"] == key_id(KEY)


def test_command_fails_if_something_is_wrong(invoke, store):
    run_job(store, "sync", at_ms=now_ms(), failures=3, next_run_at=now_ms())
    result = invoke("status")
    assert result.exit_code == 1
    assert "a job fails: sync, 3 times: no connection" in result.output


@pytest.mark.sqlite
def test_command_needs_a_database():
    assert CliRunner().invoke(main, ["status"]).exit_code == 1


def test_times_and_sizes_are_for_people():
    assert ago(None, NOW_MS) == "never"
    assert ago(NOW_MS - 999, NOW_MS) == "0 seconds ago"
    assert ago(NOW_MS - 60_000, NOW_MS) == "1 minute ago"
    assert ago(NOW_MS + 3 * DAY_MS, NOW_MS) == "in 3 days"
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 10**13)] == [
        "0 bytes", "999 bytes", "1.0 kB", "12.3 MB", "10.0 TB",
    ]  # fmt: skip
