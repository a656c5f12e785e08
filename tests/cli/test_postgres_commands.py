"""The commands on PostgreSQL, as a person types them, against the local Retell."""

import json
import re

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.cli import main
from receiver.errors import ForeignDatabase
from receiver.sandbox.server import Sandbox
from receiver.store import migrate
from receiver.webhook.app import create_app
from tests.support.histories import dump_of
from tests.support.postgres import execute, looking, name_of
from tests.support.running import free_address
from tests.support.serving import serving
from tests.support.webhooks import KEY, post

TO, FROM = "+15005550001", "+14155550100"
PAST_MS = 1_778_284_800_000
ENDED = {"event": "call_ended", "call": {"call_id": "call_a", "call_status": "ended"}}


@pytest.fixture
def settings(pg):
    return config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": pg.url})


@pytest.fixture
def sandbox(settings, monkeypatch):
    """A local Retell that the settings lead to, and that reports to a real receiver."""
    with (
        serving(settings) as url,
        Sandbox(api_key=KEY, seed=1, speed=0, limits=None, webhook_url=url) as sandbox,
    ):
        monkeypatch.setenv("RETELL_API_KEY", KEY)
        monkeypatch.setenv("RETELL_BASE_URL", sandbox.url)
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", settings.database.url)
        yield sandbox
        sandbox.settle(20)


def run(*args, status=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def test_missed_calls_are_listed_fetched_and_shown(sandbox, pg):
    sandbox.populate(calls=25, days=3, day_start_ms=PAST_MS, deliver=False)
    missing = json.loads(run("coverage", "--json", status=1))["missing_call_ids"]
    assert sorted(missing) == sorted(sandbox.calls)
    assert "25 found: 25 new" in run("sync")
    assert "25 found: 0 new" in run("sync", "--since", "2026-05-01")
    assert json.loads(run("coverage", "--json"))["complete"] is True
    before = dump_of(pg)
    assert len(before["calls"]) == 25
    assert "Rebuilt 25" in run("rebuild")
    assert dump_of(pg) == before
    shown = json.loads(run("show", missing[0]))
    assert shown["call_id"] == missing[0]
    assert "already up to date" in run("migrate")


@pytest.mark.parametrize("command", [["browse"], ["user", "list"]])
def test_commands_that_need_a_file_say_so(pg, monkeypatch, command):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", pg.url)
    monkeypatch.setenv("CALLHOUSE_BROWSE_PASSWORD", "x")
    monkeypatch.setenv("CALLHOUSE_BROWSE_BIND", free_address())
    output = run(*command, status=2)
    assert "names a server" in output
    assert "docs/how-to/postgres.md" in output


def test_database_without_tables_is_reported(postgres, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", postgres.create().url)
    assert "callhouse migrate" in run("show", "c", status=1)
    assert "0001_initial" in run("migrate")


# -- health and metrics ----------------------------------------------------------------------------


def samples(client) -> set[str]:
    return {line.split(" ")[0] for line in client.get("/metrics").text.splitlines() if line}


def test_health_and_metrics_match_sqlite(app, pg, tmp_path, db_path):
    file = config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}"})
    other = create_app(file)
    clients = app.test_client(), other.test_client()
    try:
        for client in clients:
            assert post(client, ENDED).status_code in (204, 401)
        on_server, on_file = (client.get("/healthz").json for client in clients)
        assert on_server.keys() == on_file.keys()
        assert (on_server["schema"], on_server["quarantined"]) == (on_file["schema"], 0)
        assert (on_server["writable"], on_server["problems"]) == (True, [])
        assert samples(clients[0]) == samples(clients[1])
        found = dict(re.findall(r"^callhouse_(\w+) (\d+)$", clients[0].get("/metrics").text, re.M))
        assert int(found["database_bytes"]) > 1_000_000
        assert int(found["wal_bytes"]) > 0
        assert (tmp_path / "data" / "retell.counters").exists()
    finally:
        other.extensions["callhouse"]["store"].close()
        other.extensions["callhouse"]["counters"].close()


def test_read_only_database_is_unhealthy_and_refuses(app, client, pg):
    assert post(client, ENDED).status_code == 204
    with looking(pg) as session:
        session.raw.execute(f"ALTER DATABASE {name_of(pg)} SET default_transaction_read_only = on")
    app.extensions["callhouse"]["store"].close()
    answer = post(client, {"event": "call_ended", "call": {"call_id": "call_b"}})
    assert (answer.status_code, answer.json["hint"] != "") == (503, True)
    state = client.get("/healthz")
    assert state.status_code == 503
    assert "the database is read-only" in state.json["problems"]


def test_views_of_another_program_are_not_dropped(postgres):
    where = postgres.create()
    execute(where, "CREATE VIEW words AS SELECT 1 AS one")
    with pytest.raises(ForeignDatabase, match="another program: words"):
        migrate(where, timezone="UTC")
    with looking(where) as session:
        assert session.raw.execute("SELECT one FROM words").fetchall() == [(1,)]


def test_tables_of_another_program_are_left_alone(postgres, monkeypatch):
    where = postgres.create()
    execute(where, "CREATE TABLE calls (id INTEGER)")
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", where.url)
    result = CliRunner().invoke(main, ["migrate"])
    assert result.exit_code == 2
    assert "tables or views of another program: calls" in result.output
    with looking(where) as session:
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert [name for (name,) in session.execute(tables)] == ["calls"]


def test_a_view_that_stops_the_upgrade_is_named(pg, monkeypatch):
    execute(pg, "CREATE VIEW my_calls AS SELECT call_id FROM call_log")
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", pg.url)
    monkeypatch.setenv("CALLHOUSE_TIMEZONE", "Europe/Berlin")
    result = CliRunner().invoke(main, ["migrate"])
    assert result.exit_code == 1
    assert "reads the view call_log" in result.output
    assert "Traceback" not in result.output
