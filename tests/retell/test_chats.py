"""Sync and coverage of chats, beside calls."""

import json

import pytest

from receiver.retell.listing import progress_of, row_of
from receiver.store import show
from tests.support.raw_fields import raw_fields
from tests.support.storing import ERASE
from tests.support.upstream import FIRST, Account, figures

pytestmark = pytest.mark.slow_on_postgres

CHAT = {
    "chat_status": "ended",
    "start_timestamp": 1,
    "end_timestamp": 2,
    "chat_cost": {"combined_cost": 3},
    "chat_analysis": {"chat_successful": True},
}


@pytest.fixture
def account(database):
    with Account(database) as account:
        # Each day has three chats.
        account.populate(8, odd=True)
        yield account


def tell(account, chat, event="chat_analyzed"):
    account.tell_body({"event": event, "chat": chat})


def without(chat, *names):
    return {name: value for name, value in chat.items() if name not in names}


def stored(db):
    return {row["chat_id"] for row in db.execute("SELECT chat_id FROM chats")}


def test_all_chats_of_an_account_are_fetched(account, db):
    assert figures(account.sync()) == {"new": 8 + 12}
    assert stored(db) == set(account.box.chats)
    for chat_id, chat in account.box.chats.items():
        assert show(account.database, chat_id) == chat
    assert figures(account.sync(FIRST)) == {"unchanged": 20}


@pytest.mark.parametrize(
    ("names", "event"),
    [
        (("chat_analysis",), "chat_ended"),
        (("transcript", "message_with_tool_calls"), "chat_analyzed"),
        (("chat_cost",), "chat_analyzed"),
        (("chat_status", "end_timestamp", "chat_analysis", "disconnection_reason"), "chat_started"),
    ],
)
def test_incomplete_chat_is_completed(account, db, names, event):
    for chat in account.box.chats.values():
        tell(account, without(chat, *names), event)
    account.sync()
    for chat_id, chat in account.box.chats.items():
        assert show(account.database, chat_id) == chat


def test_complete_chats_are_not_fetched(account):
    for chat in account.box.chats.values():
        tell(account, chat)
    account.sync()
    assert not [path for _, path in account.between.requests if path.startswith("/get-chat/")]


def test_coverage_counts_chats_with_their_agents(account, db):
    _, report = account.coverage()
    assert len(report.missing) == 20
    assert set(account.box.chats) <= set(report.missing)
    _, after = account.coverage(fix=True)
    assert after.is_complete
    total = after.total()
    assert (total.listed, total.stored, total.analysed, total.with_final_cost) == (20,) * 4
    counted = sum(row["listed"] for row in db.execute("SELECT listed FROM coverage"))
    assert counted == 20


def test_deleted_chat_is_kept_and_asked_for_once(account, db):
    account.sync()
    gone = next(iter(account.box.chats))
    account.request("DELETE", f"/delete-chat/{gone}")
    assert figures(account.sync(FIRST)) == {"unchanged": 19, "gone": 1}
    assert gone in stored(db)
    before = len(account.between.requests)
    account.sync(FIRST)
    assert f"/get-chat/{gone}" not in [path for _, path in account.between.requests[before:]]
    assert account.coverage()[1].total().gone_upstream == 1


def test_erased_chat_is_not_fetched(account, db):
    erased = next(iter(account.box.chats))
    db.execute(ERASE, (erased, 1))
    account.sync()
    assert stored(db) == set(account.box.chats) - {erased}
    assert account.coverage()[1].is_complete


def test_account_without_a_list_of_chats_syncs_calls(account, db):
    account.between.meddle = lambda _method, path, _body: (
        (404, b'{"status":"error","message":"Not Found"}') if path == "/v3/list-chats" else None
    )
    assert figures(account.sync()) == {"new": 8}


@pytest.mark.parametrize("odd", [None, [], 7, "x", {"chat_id": 7}, {"call_id": "c"}])
def test_malformed_response_about_a_chat_fails_it_alone(account, odd):
    account.between.meddle = lambda _method, path, _body: (
        (200, json.dumps(odd).encode())
        if path == f"/get-chat/{next(iter(account.box.chats))}"
        else None
    )
    assert figures(account.sync()) == {"new": 19, "failed": 1}


PROGRESS = {
    "whole": ({}, (True, True, True, True)),
    "going on": (
        {"chat_status": "ongoing", "end_timestamp": None, "chat_analysis": None},
        (False, False, False, True),
    ),
    "ended for a reason": (
        {"chat_status": "odd", "end_timestamp": None, "disconnection_reason": "inactivity"},
        (True, True, True, True),
    ),
    "an empty analysis": ({"chat_analysis": {}}, (True, False, True, True)),
    "no cost": ({"chat_cost": "x"}, (True, True, False, True)),
    "nothing kept": ({"data_storage_setting": "basic_attributes_only"}, (True, True, True, False)),
    "never begun": ({"start_timestamp": "soon"}, (True, True, True, False)),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), PROGRESS.values(), ids=PROGRESS)
def test_progress_of_a_listed_chat(changes, expected):
    fields = {name: value for name, value in (CHAT | changes).items() if value is not None}
    found = progress_of(row_of("chat_a", raw_fields(fields), 7, "chat"))
    assert expected == (
        found.is_over, found.is_analysed, found.cost_is_final, found.expects_transcript
    )  # fmt: skip
