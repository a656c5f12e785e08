"""`callhouse sync` as a person runs it, stops it and runs it again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.clock import now_ms
from receiver.sandbox.server import Sandbox
from receiver.store.engine import reading
from receiver.store.jobs import JobRow, claim, job_rows
from tests.support.engines import url_of
from tests.support.meddling import Meddler
from tests.support.running import wait_until
from tests.support.storing import add
from tests.support.upstream import stored
from tests.support.webhooks import KEY

pytestmark = pytest.mark.slow_on_postgres


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def box(requests):
    def note(method, path, status):
        requests.append(path)

    with Sandbox(api_key=KEY, seed=1, speed=0, limits=None, on_request=note) as box:
        box.populate(calls=150, days=3)
        yield box


@pytest.fixture
def environ(database, box):
    return {
        "RETELL_API_KEY": KEY,
        "RETELL_BASE_URL": box.url,
        "CALLHOUSE_DATABASE_URL": url_of(database),
    }


def test_command_creates_database_and_prints_counts(environ, box, engine):
    undated = sum("start_timestamp" not in call for call in box.calls.values())
    with engine.nothing() as where:
        environ["CALLHOUSE_DATABASE_URL"] = url_of(where)
        result = CliRunner(env=environ).invoke(main, ["sync"])
    assert (result.exit_code, result.output) == (
        0,
        "150 found: 150 new, 0 changed, 0 unchanged, 0 failed.\n"
        f"{undated} of the new ones never connected. Retell reports no time for such calls: they "
        "count on the day of this sync.\n",
    )
    assert undated


def test_command_prints_error_and_hint(environ):
    result = CliRunner(env=environ | {"RETELL_API_KEY": "key_wrong"}).invoke(main, ["sync"])
    assert result.exit_code == 1
    assert "Retell rejected the API key" in result.output


def test_command_waits_for_no_other_sync(environ, database, store):
    claim(store, JobRow("sync"), owner="a worker", now_ms=now_ms(), lease_ms=60_000)
    result = CliRunner(env=environ).invoke(main, ["sync"])
    assert result.exit_code == 1
    assert "sync is running already" in result.output
    # A part of it is not the job.
    assert CliRunner(env=environ).invoke(main, ["sync", "--since", "2999-01-01"]).exit_code == 0


def test_command_is_noted_as_the_job(environ, database):
    assert CliRunner(env=environ).invoke(main, ["sync"]).exit_code == 0
    with reading(database) as connection:
        row = job_rows(connection)["sync"]
    assert (row.result, row.next_run_at, row.lease_until) == ("done", None, None)


def test_command_needs_key_and_ordered_days(environ):
    assert CliRunner(env=environ | {"RETELL_API_KEY": ""}).invoke(main, ["sync"]).exit_code == 2
    for days in (["--since", "2026-05-02", "--until", "2026-05-01"], ["--since", "may"]):
        assert CliRunner(env=environ).invoke(main, ["sync", *days]).exit_code == 2


def test_unknown_agent_is_an_error(environ, box, store):
    def run(*arguments):
        return CliRunner(env=environ).invoke(main, [*arguments, "--since", "2999-01-01"])

    for command in ("sync", "coverage"):
        result = run(command, "--agent", "agent_mistyped")
        assert result.exit_code == 2, result.output
        assert "no agent agent_mistyped" in result.output
        # One that Retell knows, without calls on that day.
        assert run(command, "--agent", box.agents[0]).exit_code == 0
    # One that was deleted at Retell after its calls were stored.
    add(store, "call_ended", "c", call_status="ended", agent_id="agent_deleted")
    assert run("sync", "--agent", "agent_deleted").exit_code == 0


@pytest.mark.slow
def test_a_call_that_failed_makes_the_command_fail(environ, box):
    call_id = next(iter(box.calls))
    wrong = b'{"call_id": "another"}'
    with Meddler(
        box.url, lambda _, path, __: (200, wrong) if path.endswith(call_id) else None
    ) as between:
        result = CliRunner(env=environ | {"RETELL_BASE_URL": between.url}).invoke(main, ["sync"])
    assert result.exit_code == 1
    assert "149 new, 0 changed, 0 unchanged, 1 failed" in result.output
    assert f"{call_id}: Retell answered with another call" in result.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="SIGINT"),
        pytest.param(signal.SIGKILL, id="kill -9"),
    ],
)
def test_stopped_sync_fetches_no_page_twice(environ, box, db, requests, number):
    # Slow enough to be met on its way.
    def meddle(method, where, body):
        time.sleep(0.01)

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "receiver", "sync"],
            env=os.environ | environ | {"RETELL_BASE_URL": between.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with Meddler(box.url, meddle) as between:
        process = start()
        wait_until(lambda: len(stored(db)) >= 40)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert len(stored(db)) < 150
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "run the same command again to continue" in output
        again = start()
        output, _ = again.communicate(timeout=60)
        assert (again.returncode, stored(db)) == (0, set(box.calls)), output
        # A day has fifty calls and is one page.
        assert len(between.gets()) <= 150 + 50


# -- several accounts ----------------------------------------------------------------------------


def test_refused_account_does_not_stop_the_others(environ, db):
    environ |= {"RETELL_API_KEY": "key_wrong", "RETELL_API_KEY_ACME": KEY}
    result = CliRunner(env=environ).invoke(main, ["sync"])
    assert result.exit_code == 1
    assert "Account default: Retell rejected the API key" in result.output
    assert "150 found: 150 new" in result.output
    found = db.execute("SELECT account, count(*) FROM calls GROUP BY account").fetchall()
    assert [tuple(row) for row in found] == [("acme", 150)]
    assert db.execute("SELECT DISTINCT account FROM syncs").fetchone()[0] == "acme"


def test_refused_account_is_not_complete(environ):
    CliRunner(env=environ).invoke(main, ["sync"])
    environ |= {"RETELL_API_KEY_ACME": "key_wrong"}
    result = CliRunner(env=environ).invoke(main, ["coverage", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["complete"]) == (1, False)
    assert "Not every account could be compared." in result.stderr


def test_named_account_alone_is_synced_and_compared(environ):
    environ |= {"RETELL_API_KEY": "key_wrong", "RETELL_API_KEY_ACME": KEY}
    result = CliRunner(env=environ).invoke(main, ["sync", "--account", "acme"])
    assert (result.exit_code, result.output.split(":")[0]) == (0, "150 found")
    result = CliRunner(env=environ).invoke(main, ["coverage", "--account", "acme"])
    assert (result.exit_code, "Complete" in result.output) == (0, True)
    result = CliRunner(env=environ).invoke(main, ["sync", "--account", "nobody"])
    assert result.exit_code == 2
    assert "The accounts with an API key are: default, acme." in result.output


def test_rebuild_fills_in_the_account(environ, db):
    CliRunner(env=environ).invoke(main, ["sync"])
    db.execute("UPDATE calls SET account = NULL")
    assert CliRunner(env=environ).invoke(main, ["rebuild"]).exit_code == 0
    found = db.execute("SELECT account, count(*) FROM calls GROUP BY account").fetchall()
    assert [tuple(row) for row in found] == [("default", 150)]
