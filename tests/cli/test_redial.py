"""`callhouse call --from-view`: a list from a query."""

import json

import pytest
from click.testing import CliRunner

from receiver import clock
from receiver.cli import main
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import Sandbox
from receiver.store import receive
from tests.support.engines import url_of
from tests.support.webhooks import KEY

BUSY, ANSWERED = BY_NAME["busy"].number, BY_NAME["answered"].number
QUERY = "SELECT to_number FROM calls WHERE disconnection_reason = 'dial_busy'"


@pytest.fixture
def box(monkeypatch, database, store, tmp_path):
    with Sandbox(api_key=KEY, limits=None, concurrency=100) as box:
        monkeypatch.setenv("RETELL_API_KEY", KEY)
        monkeypatch.setenv("RETELL_BASE_URL", box.url)
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
        monkeypatch.chdir(tmp_path)
        yield box


def run(*arguments):
    options = ("--from", "+14155550100", "--per-second", "100", "--from-view")
    return CliRunner().invoke(main, ["call", *options, *arguments])


def busy(store, call_id, number, at_ms=None):
    call = {
        "call_id": call_id, "call_status": "not_connected", "disconnection_reason": "dial_busy",
        "direction": "outbound", "to_number": number,
    }  # fmt: skip
    body = json.dumps({"event": "call_ended", "call": call}).encode()
    at_ms = at_ms or clock.now_ms()
    store.add(receive(body, source="webhook", observed_at=at_ms, received_at=at_ms))


def numbers(box):
    return sorted(call["to_number"] for call in box.calls.values())


def test_query_calls_each_number_once_a_day(box, store):
    busy(store, "a", ANSWERED)
    busy(store, "b", ANSWERED)
    busy(store, "c", "+14155550124")
    assert run(QUERY).exit_code == 0
    assert numbers(box) == sorted([ANSWERED, "+14155550124"])
    again = run(QUERY)
    assert again.exit_code == 0
    assert len(box.calls) == 2


def test_number_is_called_so_often_a_day(box, store):
    for n in range(2):
        busy(store, f"today{n}", ANSWERED)
    for n in range(5):
        busy(store, f"old{n}", "+14155550124", at_ms=clock.now_ms() - 3 * 86_400_000)
    done = run(QUERY, "--per-day", "2")
    assert "1 left out" in done.output
    assert numbers(box) == ["+14155550124"]


def test_dry_run_calls_nobody(box, store):
    busy(store, "a", ANSWERED)
    done = run(QUERY, "--dry-run")
    assert done.output == "line 2  •••01  would be called\n"
    assert box.calls == {}


def test_columns_are_those_of_a_list(box, store):
    busy(store, "a", ANSWERED)
    query = f"""SELECT to_number, 'Ann' AS "var.name" FROM ({QUERY}) AS q"""
    assert run(query).exit_code == 0
    [call] = box.calls.values()
    assert call["retell_llm_dynamic_variables"]["name"] == "Ann"


@pytest.mark.parametrize("query", ["SELECT 1 AS one", "SELECT 1 AS to_number, 2 AS b", "nowhere"])
def test_unusable_query_is_refused(box, store, query):
    assert run(query).exit_code == 2
    assert box.calls == {}
