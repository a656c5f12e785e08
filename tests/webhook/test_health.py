"""Health and metrics: what the receiver says of itself to those who watch it."""

import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import pytest

from receiver.addresses import Bind
from receiver.errors import StoreBusy
from receiver.store.jobs import JobRow, claim, finish
from receiver.webhook.health import (
    FORGED,
    MIN_FORGED,
    MIN_FREE_BYTES,
    PROBLEMS,
    DatabaseWatch,
)
from receiver.webhook.health import REFUSED as ONLY_REFUSALS
from receiver.webhook.signature import sign
from tests.support import ROOT
from tests.support.storing import held
from tests.support.webhooks import KEY, NOW_MS, post
from tests.webhook.requesting import (
    CANARY,
    ENDED,
    LIMIT,
    OLD,
    REFUSED,
    assert_refused,
    body_of_bytes,
    post_as_is,
)

LAST_MIGRATION = max(path.stem for path in (ROOT / "schema/sql/migrations").glob("*.sql"))


# Health.


def health(client, status: int = 200) -> dict:
    response = client.get("/healthz")
    assert (response.status_code, response.content_type) == (status, "application/json")
    assert response.json["status"] == {200: "ok", 503: "error"}[status]
    assert bool(response.json["problems"]) == (status == 503)
    for problem in response.json["problems"]:
        assert problem.startswith(PROBLEMS), problem
    return response.json


def test_health_of_a_new_database(client, database):
    state = health(client)
    assert state["free_disk_bytes"] > MIN_FREE_BYTES
    # A server's log has at least its checkpoint.
    assert (state["wal_bytes"] == 0) == isinstance(database, Path)
    del state["free_disk_bytes"], state["wal_bytes"]
    assert state == {
        "status": "ok", "problems": [], "writable": True, "schema": LAST_MIGRATION,
        "quarantined": 0, "last_event_ms": None, "stale": 0, "jobs": [],
    }  # fmt: skip


def test_health_has_last_event_quarantined_and_log_size(client):
    post(client, ENDED)
    for poison in (b"poison", b"poison", b"more"):
        post(client, poison)
    state = health(client)
    assert (state["last_event_ms"], state["quarantined"]) == (1_778_699_295_274, 2)
    assert state["wal_bytes"] > 0


def test_health_is_red_15_minutes_after_stale_event(serve):
    clock = [NOW_MS]
    client = serve(now_ms=lambda: clock[0])
    post_as_is(client, CANARY, sign(CANARY, key=KEY, now_ms=OLD))
    for minutes in (0, 5, 14):
        clock[0] = NOW_MS + minutes * 60_000
        state = health(client, 503)
        assert (state["stale"], state["writable"]) == (1, True)
        assert "clock" in state["problems"][0]
    clock[0] = NOW_MS + 15 * 60_000
    assert health(client)["stale"] == 1


def test_health_stays_green_when_anybody_forges(client):
    for header in (None, "junk", sign(CANARY, key="key_wrong", now_ms=OLD)):
        post_as_is(client, CANARY, header)
    assert health(client)["stale"] == 0


def forge(client, times: int) -> None:
    for n in range(times):
        post(client, b"forged %d" % n, key="key_before_rotation")


def test_health_is_red_when_only_forged_events_arrive(serve):
    clock = [NOW_MS]
    client = serve(now_ms=lambda: clock[0])
    forge(client, MIN_FORGED - 1)
    health(client)
    forge(client, 1)
    assert health(client, 503)["problems"] == [FORGED]
    clock[0] += 14 * 60_000
    health(client, 503)
    clock[0] += 60_000
    health(client)


def test_health_is_red_15_minutes_after_key_rotation(serve):
    clock = [NOW_MS]
    client = serve(now_ms=lambda: clock[0])
    post(client, ENDED)
    for minute in range(1, 15):
        clock[0] = NOW_MS + minute * 60_000
        forge(client, 1)
        health(client)
    clock[0] += 60_000
    assert health(client, 503)["problems"] == [FORGED]
    post(client, ENDED, at_ms=clock[0])
    health(client)


def test_forgeries_beside_authentic_events_never_redden(serve):
    clock = [NOW_MS]
    client = serve(now_ms=lambda: clock[0])
    for _ in range(6):
        post(client, ENDED, at_ms=clock[0])
        clock[0] += 14 * 60_000
        forge(client, 3 * MIN_FORGED)
        health(client)


def test_rare_forgeries_leave_health_green(serve):
    clock = [NOW_MS]
    client = serve(now_ms=lambda: clock[0])
    for _ in range(4 * MIN_FORGED):
        forge(client, 1)
        clock[0] += 15 * 60_000
        health(client)


def test_replayed_body_is_a_duplicate_and_stays_green(client):
    post(client, ENDED)
    refused = post(client, ENDED, at_ms=OLD)
    assert_refused(refused, 401)
    assert health(client)["stale"] == 0
    samples = metrics(client)
    assert (samples["stored"], samples["duplicate"], samples["stale"]) == (1, 1, 0)


def test_stale_event_from_a_fast_clock_stays_green(serve):
    clock = [NOW_MS + 365 * 86_400_000]
    client = serve(now_ms=lambda: clock[0])
    post(client, ENDED, at_ms=clock[0])
    post(client, CANARY, at_ms=NOW_MS)
    health(client, 503)
    clock[0] = NOW_MS
    assert health(client)["last_event_ms"] is None
    post(client, ENDED)
    assert health(client)["last_event_ms"] == NOW_MS


def test_health_is_red_while_only_refusals_arrive(app, client, monkeypatch):
    store = app.extensions["callhouse"]["store"]

    def refuse(_received):
        raise StoreBusy("another process holds the write lock")

    post(client, ENDED)
    health(client)
    with monkeypatch.context() as patched:
        patched.setattr(store, "add", refuse)
        assert post(client, CANARY).status_code == 503
        assert health(client, 503)["problems"] == [ONLY_REFUSALS]
    post(client, CANARY)
    health(client)


def test_each_problem_has_its_remedy_in_the_docs():
    text = (ROOT / "docs/reference/health.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+?)` \| .+ \| (.+) \|$", text, re.MULTILINE)
    remedies = {problem.removesuffix("…"): remedy for problem, remedy in rows}
    assert remedies.keys() >= set(PROBLEMS)
    documented = re.search(r"## Health(.*?)`GET /metrics`", text, re.DOTALL)[1]
    assert len(re.findall(r"^\| `", documented, re.MULTILINE)) == len(PROBLEMS)


def test_health_is_red_while_the_database_is_missing(client, db_path):
    shutil.move(db_path, db_path.with_name("elsewhere"))
    state = health(client, 503)
    assert (state["writable"], state["schema"], state["quarantined"]) == (False, None, None)
    assert not db_path.exists()
    shutil.move(db_path.with_name("elsewhere"), db_path)
    health(client)


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 1000], ids=["empty", "junk"])
def test_health_is_red_when_the_file_is_replaced(client, db_path, content):
    post(client, ENDED)
    replacement = db_path.with_name("replacement")
    replacement.write_bytes(content)
    os.replace(replacement, db_path)
    assert health(client, 503)["writable"] is False
    assert_refused(post(client, CANARY), 503)


def test_health_is_red_for_another_schema_version(engine, client, db):
    engine.forget_migrations(db)
    state = health(client, 503)
    assert (state["schema"], state["quarantined"]) == (None, None)
    assert state["problems"] == ["the database does not have this version's schema"]


def test_health_answers_while_the_write_lock_is_held(engine, client, database):
    begun = time.monotonic()
    with held(engine, database):
        assert health(client)["writable"] is True
    assert time.monotonic() - begun < 1


def test_database_health_is_cached_but_counters_are_not(serve, db_path):
    client = serve(health_cache_seconds=3600)
    before = health(client)
    post(client, b"poison")
    assert health(client)["quarantined"] == before["quarantined"] == 0
    assert health(client)["last_event_ms"] == NOW_MS
    assert metrics(client)["quarantined"] == 1


def test_one_request_checks_the_database_for_all(settings, tmp_path):
    watch = DatabaseWatch(settings.database, tmp_path / "retell.counters", seconds=3600)
    threads = [threading.Thread(target=watch.check) for _ in range(20)]
    looks = []
    watch._read_state = lambda: (looks.append(1), time.sleep(0.05))[1:]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looks) == 1


def test_health_with_its_own_address_is_404_elsewhere(serve):
    client = serve(health_bind=Bind("127.0.0.1", 9000))
    for path in ("/healthz", "/metrics"):
        assert_refused(client.get(path), 404)
        assert client.get(path, base_url="http://localhost:9000").status_code == 200
    assert post(client, ENDED).status_code == 204
    body = json.dumps(ENDED).encode()
    header = sign(body, key=KEY, now_ms=NOW_MS)
    elsewhere = post_as_is(client, body, header, base_url="http://localhost:9000")
    assert_refused(elsewhere, 404)


def run_job(store, name, *, at_ms, failures=0, next_run_at=None) -> None:
    """Note that a job ran."""
    claim(store, JobRow(name), owner="worker", now_ms=at_ms, lease_ms=60_000)
    result, problem = ("failed", "no connection") if failures else ("done", None)
    finish(store, JobRow(name, at_ms, at_ms, result, problem, failures, next_run_at, "worker"))


def test_health_has_the_jobs_that_ran(client, store):
    run_job(store, "sync", at_ms=NOW_MS - 60_000, next_run_at=NOW_MS + 1)
    [job] = health(client)["jobs"]
    assert job == {
        "name": "sync", "state": "waiting", "interval_seconds": 3600,
        "started_ms": NOW_MS - 60_000, "ended_ms": NOW_MS - 60_000,
        "result": "done", "problem": None, "failures": 0, "next_run_ms": NOW_MS + 1,
    }  # fmt: skip


def test_overdue_job_is_a_problem(client, store):
    run_job(store, "sync", at_ms=NOW_MS - 10**8, next_run_at=NOW_MS - 16 * 60_000)
    [problem] = health(client, 503)["problems"]
    assert problem == "a job is overdue: sync, due at 2026-05-13 18:52 UTC"


def test_job_that_failed_often_is_a_problem(client, store):
    run_job(store, "sync", at_ms=NOW_MS - 1, failures=3, next_run_at=NOW_MS + 60_000)
    [problem] = health(client, 503)["problems"]
    assert problem == "a job fails: sync, 3 times: no connection"


def test_metrics_have_the_jobs(client, store):
    run_job(store, "sync", at_ms=NOW_MS - 60_000, next_run_at=NOW_MS)
    text = client.get("/metrics").text
    assert f'callhouse_job_ended_timestamp_seconds{{job="sync"}} {NOW_MS / 1000 - 60}' in text
    assert f'callhouse_job_next_run_timestamp_seconds{{job="sync"}} {NOW_MS / 1000}' in text
    assert 'callhouse_job_failures{job="sync"} 0' in text


def test_metrics_expect_running_job_until_lease_ends(client, store):
    """A job that runs for long is not late."""
    run_job(store, "sync", at_ms=NOW_MS - 10**7, next_run_at=NOW_MS - 10**6)
    seen = JobRow("sync", started_at=NOW_MS - 10**7)
    claim(store, seen, owner="worker", now_ms=NOW_MS - 9, lease_ms=60_009)
    text = client.get("/metrics").text
    assert f'callhouse_job_next_run_timestamp_seconds{{job="sync"}} {NOW_MS / 1000 + 60}' in text


def test_metrics_expect_nothing_of_disabled_job(client, store):
    run_job(store, "backup", at_ms=NOW_MS - 10**9, failures=5, next_run_at=NOW_MS - 10**9)
    text = client.get("/metrics").text
    assert 'callhouse_job_started_timestamp_seconds{job="backup"}' in text
    assert 'callhouse_job_next_run_timestamp_seconds{job="backup"}' not in text
    assert 'callhouse_job_failures{job="backup"}' not in text


# Metrics.

SAMPLE = re.compile(r'callhouse_([a-z_]+)(?:\{outcome="([a-z_]+)"\})? ([0-9.]+)')


def metrics(client) -> dict[str, float]:
    """Every sample by its outcome or name; each has help and a type above it."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    samples, described = {}, set()
    assert response.text.endswith("\n")
    for line in response.text.splitlines():
        if line.startswith("#"):
            described.add(line.split(" ")[2])
            continue
        name, outcome, value = SAMPLE.fullmatch(line).groups()
        assert f"callhouse_{name}" in described
        samples[outcome or name] = float(value)
    return samples


def test_metrics_count_each_outcome_exactly(client):
    for body in (ENDED, ENDED, ENDED, b"poison", {"event": "quota_changed"}):
        post(client, body)
    for header, _ in REFUSED.values():
        post_as_is(client, CANARY, header)
    samples = metrics(client)
    assert {name: int(samples[name]) for name in list(samples)[:11]} == {
        "stored": 2, "duplicate": 2, "quarantined": 1, "erased": 0, "missing": 2, "malformed": 3,
        "forged": 3, "stale": 2, "too_large": 0, "busy": 0, "unavailable": 0,
    }  # fmt: skip
    assert samples["last_event_timestamp_seconds"] == 1_778_699_295.274


def test_metrics_count_what_is_too_large(small):
    post(small, body_of_bytes(LIMIT + 1))
    assert metrics(small)["too_large"] == 1


def test_metrics_have_file_log_and_disk_sizes(client, db_path):
    post(client, ENDED)
    samples = metrics(client)
    assert samples["database_bytes"] == db_path.stat().st_size
    assert samples["wal_bytes"] == db_path.with_name("retell.db-wal").stat().st_size > 0
    assert samples["free_disk_bytes"] > 0


def test_metrics_are_shared_by_workers_and_survive_them(serve):
    first, second = serve(), serve()
    post(first, ENDED)
    post(second, ENDED)
    assert metrics(first)["stored"] == metrics(second)["stored"] == 1
    assert metrics(serve())["duplicate"] == 1
