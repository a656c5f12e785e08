"""The command line, as a person types it."""

import json

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.store import read_drift
from tests.support.engines import url_of
from tests.support.storing import stored
from tests.support.webhooks import KEY, PAYLOADS, payload

FIRST_COMMANDS = {"serve", "browse", "demo", "send", "show", "rebuild", "migrate"}


@pytest.fixture
def run(monkeypatch, database):
    """Run a command with a database and a key configured."""
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def test_every_command_has_help_with_an_example():
    assert set(main.commands) >= FIRST_COMMANDS
    for name, command in main.commands.items():
        text = CliRunner().invoke(main, [name, "--help"]).output
        assert f"callhouse {name}" in text.split("Example", 1)[1], name
        assert command.get_short_help_str()


def test_show_prints_the_object_of_retell(run, store):
    call = payload("event-call_analyzed")
    stored(store, call)
    result = run("show", call["call"]["call_id"])
    assert result.exit_code == 0
    assert json.loads(result.output) == call["call"]


def test_show_spells_a_lone_surrogate_as_json_does(run, store):
    stored(store, {"event": "call_ended", "call": {"call_id": "c", "transcript": "cut \ud83d"}})
    result = run("show", "c")
    assert json.loads(result.output)["transcript"] == "cut \ud83d"


def test_show_of_unknown_id_fails(run):
    result = run("show", "call_nobody_knows")
    assert result.exit_code == 1
    assert "no call or chat with this id" in result.output


def test_rebuild_says_how_many(run, store):
    stored(store, {"event": "call_ended", "call": {"call_id": "c"}})
    result = run("rebuild")
    assert (result.exit_code, result.output) == (
        0,
        "Rebuilt 1 calls, chats and other entities.\n",
    )


def test_migrate_makes_the_database(run, monkeypatch, engine):
    with engine.nothing() as where:
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(where))
        assert "0001_initial" in run("migrate").output
        assert "already up to date" in run("migrate").output
        assert read_drift(where) == []


def test_serve_without_key_prints_the_setting():
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 2
    assert "RETELL_API_KEY is not set" in result.output


def test_a_misspelt_setting_is_refused_with_the_nearest(run, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_WORKER", "2")
    result = run("migrate")
    assert result.exit_code == 2
    assert "CALLHOUSE_WORKERS" in result.output


@pytest.mark.sqlite
def test_browse_refuses_to_be_open_to_the_network(run, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_BROWSE_BIND", "0.0.0.0:0")
    result = run("browse")
    assert result.exit_code == 2
    assert "CALLHOUSE_BROWSE_PASSWORD" in result.output


def test_send_without_receiver_fails_for_each_file(run, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_BIND", "127.0.0.1:9")
    result = run(
        "send", PAYLOADS / "event-call_ended.json", PAYLOADS / "event-chat_ended-sms_chat.json"
    )
    assert result.exit_code == 1
    first, second = result.output.splitlines()
    assert first.startswith("event-call_ended.json           not sent: ConnectError")
    assert second.startswith("event-chat_ended-sms_chat.json  not sent: ConnectError")


def test_the_demo_needs_two_addresses(run, monkeypatch):
    monkeypatch.setenv("PORT", "5000")
    result = run("demo", "--exit")
    assert result.exit_code == 2
    assert "cannot both listen on 127.0.0.1:5000" in result.output


def test_unusable_arguments_are_status_2(run):
    assert run("show").exit_code == 2
    assert run("demo", "--day", "yesterday").exit_code == 2
