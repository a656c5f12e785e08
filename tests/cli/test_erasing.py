"""`callhouse erase`: what it prints, asks and refuses, and what it deletes at Retell."""

import json
import subprocess
import sys

import pyarrow.parquet
import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.store import receive
from receiver.transfer import export_partitions
from tests.support.engines import url_of
from tests.support.erasing import SECRET, WHOLE, add_whole
from tests.support.exporting import silent
from tests.support.running import environment
from tests.support.storing import add, count, rows, stored
from tests.support.upstream import Account
from tests.support.webhooks import KEY


@pytest.fixture
def run(monkeypatch, database, tmp_path):
    """`callhouse erase` with what a person types as the answer."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    monkeypatch.setenv("CALLHOUSE_MEDIA_URL", f"file:{tmp_path}/media")
    return lambda *args, says="": CliRunner().invoke(main, ["erase", *args], input=says)


def test_erase_shows_counts_and_asks(run, store, db):
    add_whole(store)
    result = run("gone", says="n\n")
    assert count(db, "calls") == 1
    assert "calls" in result.output
    assert "gone" in result.output
    assert SECRET not in result.output
    result = run("gone", "--reason", "asked for", says="y\n")
    assert (result.exit_code, count(db, "calls")) == (0, 0)
    assert "Receipt" in result.output
    assert "reason: asked for" in result.output


def test_receipt_is_printed_as_json(run, store, db):
    add_whole(store)
    done = json.loads(run("gone", "--yes", "--json").stdout)
    [row] = rows(db, "SELECT receipt_id, ids_sha256 FROM receipts")
    assert (done["receipt"]["receipt_id"], done["receipt"]["ids_sha256"]) == row
    assert done["receipt"]["counts"]["calls"] == 1
    assert (done["refused"], done["left"]) == ({}, None)


def test_second_run_says_that_nothing_is_left(run, store):
    add_whole(store)
    run("gone", "--yes")
    result = run("gone", "--yes")
    assert result.exit_code == 0
    assert "Erased before: 1 call or chat." in result.output
    assert "Nothing to erase." in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["call", "--number", "+14155550123"], ["--where", "1", "--number", "+1"],
        ["--where-chats", "1", "c"], ["c", "--json"], ["--number", ""], ["--number", "+1"],
        [""], ["--chat", ""],
    ],
)  # fmt: skip
def test_unusable_arguments_are_refused(run, arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("option", ["--where", "--where-chats"])
def test_mistake_in_where_is_explained(run, option):
    result = run(option, "no_such_column = 1", "--yes")
    assert result.exit_code == 2
    assert "no_such_column" in result.output


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        (["--where-chats", "user_sentiment = 'Negative'"], ["c", "h2"]),
        (["--where-chats", "1 = 1", "--where", "agent_id = 'a'"], []),
    ],
)
def test_condition_over_chats_erases_chats(run, store, db, conditions, left):
    add(store, "call_ended", "c", agent_id="a")
    for chat_id, mood in (("h1", "Negative"), ("h2", "Neutral")):
        chat = {"chat_id": chat_id, "agent_id": "a", "chat_analysis": {"user_sentiment": mood}}
        stored(store, {"event": "chat_analyzed", "chat": chat})
    assert run(*conditions, "--yes").exit_code == 0
    ids = "SELECT call_id FROM calls UNION SELECT chat_id FROM chats ORDER BY 1"
    assert [id for (id,) in rows(db, ids)] == left


def test_number_may_be_written_with_spaces(run, store, db):
    add(store, "call_ended", "gone", from_number="+14155550100")
    run("--number", "+1 (415) 555-0100", "--yes")
    assert count(db, "calls") == 0


def test_chat_is_erased(run, store, db):
    body = {"event": "chat_ended", "chat": {"chat_id": "h", "transcript": SECRET}}
    stored(store, body)
    run("--chat", "h", "--yes")
    assert count(db, "chats") == 0


@pytest.fixture
def account(database, monkeypatch):
    with Account(database) as account:
        monkeypatch.setenv("RETELL_API_KEY", KEY)
        monkeypatch.setenv("RETELL_BASE_URL", account.between.url)
        yield account


def test_at_retell_deletes_the_call_there_first(run, account, db):
    account.populate(3)
    account.sync()
    gone, *kept = sorted(account.box.calls)
    assert run(gone, "--at-retell", "--yes").exit_code == 0
    assert sorted(account.box.calls) == kept
    account.sync()
    assert {call_id for (call_id,) in rows(db, "SELECT call_id FROM calls")} == set(kept)


def test_call_that_retell_does_not_have_is_erased(run, account, store, db):
    add_whole(store)
    assert run("gone", "--at-retell", "--yes").exit_code == 0
    assert count(db, "calls") == 0


def test_call_is_deleted_with_its_accounts_key(run, account, store, db, monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY_ACME", "key_acme")
    monkeypatch.setenv("RETELL_API_KEY", "")
    account.populate(1)
    account.sync()
    [call_id] = account.box.calls
    db.execute("UPDATE calls SET account = 'other'")
    result = run(call_id, "--at-retell", "--yes")
    assert (result.exit_code, count(db, "calls"), list(account.box.calls)) == (1, 1, [call_id])
    monkeypatch.setenv("RETELL_API_KEY_OTHER", KEY)
    assert run(call_id, "--at-retell", "--yes").exit_code == 0
    assert (count(db, "calls"), list(account.box.calls)) == (0, [])


@pytest.mark.parametrize("arguments", [["h"], ["--chat", "h"], ["--chat", "never_stored"]])
def test_chat_is_deleted_at_retell(run, account, store, db, arguments):
    stored(store, {"event": "chat_ended", "chat": {"chat_id": "h", "transcript": SECRET}})
    account.between.meddle = lambda method, *_: (204, b"") if method == "DELETE" else None
    assert run(*arguments, "--at-retell", "--yes").exit_code == 0
    assert account.between.requests == [("DELETE", f"/delete-chat/{arguments[-1]}")]
    assert count(db, "chats") == (arguments[-1] != "h")


def test_refusal_at_retell_keeps_the_call(run, account, store, db):
    add_whole(store, "refused")
    add_whole(store, "gone")
    account.between.meddle = lambda _method, path, _body: (
        (400, b"{}") if path.endswith("/refused") else None
    )
    result = run("refused", "gone", "--at-retell", "--yes")
    assert result.exit_code == 1
    assert "refused was not erased" in result.output
    assert rows(db, "SELECT call_id FROM calls") == [("refused",)]


def test_erasure_does_not_wait_for_a_reader(store, database, db, tmp_path):
    add_whole(store)
    with piped(database, tmp_path, "gone", "--yes") as process:
        process.stdout.close()
        assert process.wait(timeout=60) == 0, process.stderr.read()
    assert count(db, "calls") == 0
    assert count(db, "receipts") == 1


def test_unread_confirmation_erases_nothing(store, database, db, tmp_path):
    add_whole(store)
    with piped(database, tmp_path, "gone") as process:
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert "nothing was erased" in process.stderr.read()
    assert count(db, "calls") == 1


def piped(database, tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "receiver", "erase", *arguments],
        env=environment(
            CALLHOUSE_DATABASE_URL=url_of(database), CALLHOUSE_MEDIA_URL=f"file:{tmp_path}/media"
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("private", [False, True])
def test_partitions_are_written_without_the_call(run, store, settings, tmp_path, private):
    lake = tmp_path / "lake"
    add_whole(store)
    add_whole(store, "kept", transcript="stays", transcript_with_tool_calls=[])
    later = WHOLE["start_timestamp"] + 86_400_000
    add_whole(store, "alone", start_timestamp=later)
    export_partitions(settings, str(lake), private=private, progress=silent)
    assert len(list((lake / "calls").iterdir())) == 3
    files = {path for path in lake.rglob("*.parquet") if SECRET in read(path)}
    assert files
    result = run("gone", "alone", "kept", "--yes", "--partitions", str(lake))
    assert result.exit_code == 0
    assert [path for path in lake.rglob("*.parquet") if SECRET in read(path)] == []
    assert [path for path in lake.rglob("*") if "gone" in str(path)] == []
    assert len(list((lake / "calls").iterdir())) == 1
    again = export_partitions(settings, str(lake), private=private, progress=silent)
    assert again.files == 0


def read(path) -> str:
    return str(pyarrow.parquet.ParquetFile(path).read().to_pylist())


def test_folder_without_partitions_is_refused_first(run, store, db, tmp_path):
    add_whole(store)
    result = run("gone", "--yes", "--partitions", str(tmp_path))
    assert result.exit_code == 2
    assert "no Parquet files" in result.output
    assert count(db, "calls") == 1


def test_a_number_within_another_is_not_erased(run, store, db):
    body = b'{"event": "call_inbound", "call_inbound": {"from_number": "+14155550123"}}'
    store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    for number in ("+1415555012", "4155550123"):
        result = run("--number", number, "--yes")
        assert (result.exit_code, "Nothing has this number" in result.stderr) == (0, True)
    assert rows(db, "SELECT count(*) FROM observations WHERE body IS NOT NULL") == [(1,)]
    run("--number", "+1 415 555-0123", "--yes")
    assert rows(db, "SELECT count(*) FROM observations WHERE body IS NOT NULL") == [(0,)]
