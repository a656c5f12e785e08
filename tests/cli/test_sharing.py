"""`callhouse share`: links made, listed and revoked, on both engines."""

import json

import pytest
from click.testing import CliRunner

from receiver.browse.pages.sharing import Tokens
from receiver.cli import main
from receiver.store import reviewing
from tests.support.engines import url_of
from tests.support.storing import add, stored

SECRET = "the secret of browse"


@pytest.fixture
def run(database, store, monkeypatch):
    add(store, "call_ended", "call_1")
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    monkeypatch.setenv("CALLHOUSE_SECRET", SECRET)
    return lambda *words: CliRunner().invoke(main, ["share", *words])


def test_link_is_printed_and_stored(run, database):
    done = run("call_1", "--masked", "--days", "2", "--url", "https://calls.example/")
    assert done.exit_code == 0, done.output
    [link] = reviewing.links(database)
    assert done.output == f"https://calls.example{Tokens(SECRET).path(link)}\n"
    assert (link.call_id, link.is_masked) == ("call_1", 1)
    assert link.expires_at - link.created_at == 2 * 86_400_000


def test_links_are_listed_and_revoked(run, database):
    made = json.loads(run("call_1", "--json").output)
    assert made["url"].startswith("http://127.0.0.1:8001/-/shared/")
    assert made["link_id"] in run("--list").output
    assert run("--revoke", made["link_id"]).output == "Revoked; it showed call_1.\n"
    [listed] = json.loads(run("--list", "--json").output)
    assert listed["revoked_at"] is not None
    assert "This link was revoked." in run("--list").output
    assert run("--revoke", made["link_id"]).exit_code == 1


def test_chat_gets_a_link(run, store, database):
    stored(store, {"event": "chat_ended", "chat": {"chat_id": "chat_1"}})
    assert run("chat_1").exit_code == 0
    assert [link.call_id for link in reviewing.links(database)] == ["chat_1"]


def test_unknown_call_gets_no_link(run, database):
    done = run("call_2")
    assert (done.exit_code, reviewing.links(database)) == (1, [])


@pytest.mark.parametrize(
    "words", [[], ["call_1", "--list"], ["call_1", "--days", "0"], ["call_1", "--days", "366"]]
)
def test_unusable_options_are_refused(run, words):
    assert run(*words).exit_code == 2


def test_server_needs_the_secret_of_browse(pg, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(pg))
    done = CliRunner().invoke(main, ["share", "call_1"])
    assert done.exit_code == 2
    assert "CALLHOUSE_SECRET is not set" in done.output
