"""Chats on the page of calls: each filter against the same choice made from the bodies."""

import re
from contextlib import closing
from urllib.parse import urlencode

import pytest

from receiver.browse.pages.call_list_page import OPTIONS
from receiver.store.connection import sqlite3
from tests.support.browsing import START, simple
from tests.support.storing import stored
from tests.support.viewing import plan

# Datasette serves files.
pytestmark = pytest.mark.sqlite
MINUTE = 60_000
BOOK = {"role": "tool_call_invocation", "name": "book", "tool_call_id": "t1"}
BY_SMS = {"chat_type": "sms_chat", "agent_number": "+14155550100"}
CHATS = [
    {"chat_status": "ended", "agent_id": "agent_1", "version": 2, "end_timestamp": START + MINUTE},
    {"chat_status": "ongoing", "agent_id": "agent_1", "version": 3},
    {"chat_status": "error", "message_with_tool_calls": [BOOK]},
    BY_SMS | {"direction": "inbound", "user_number": "+14155550123", "chat_status": "ended"}
    | {"disconnection_reason": "user_hangup", "duration_ms": 5 * MINUTE},
    BY_SMS | {"direction": "outbound", "user_number": "+14155554711", "chat_status": "ended"}
    | {"disconnection_reason": "moon_phase", "message_with_tool_calls": [BOOK]},
    BY_SMS | {"chat_status": 7, "direction": {}, "user_number": [], "version": "new"},
]  # fmt: skip


@pytest.fixture
def chats(store):
    for n, chat in enumerate(CHATS):
        chat = {"chat_id": f"chat_{n}", "start_timestamp": START + n, **chat}
        stored(store, {"event": "chat_ended", "chat": chat})


FILTERS = [
    ({"outcome": "ended"}, lambda c: c["outcome"] == "ended"),
    ({"outcome": "moon_phase"}, lambda c: c["outcome"] == "moon_phase"),
    ({"outcome": "category:user"}, lambda c: c["outcome"] == "user_hangup"),
    ({"outcome": "category:unknown"}, lambda c: c["outcome"] == "moon_phase"),
    ({"outcome": "category:ongoing"}, lambda c: c["outcome"] == "ongoing"),
    ({"outcome": "category:error"}, lambda c: c["outcome"] == "error"),
    ({"direction": "inbound"}, lambda c: c.get("direction") == "inbound"),
    ({"direction": "web"}, lambda c: c.get("direction") not in ("inbound", "outbound")),
    ({"number": "+1 415 555-0123"}, lambda c: c.get("user_number") == "+14155550123"),
    ({"number": "4711"}, lambda c: str(c.get("user_number")).endswith("4711")),
    ({"q": "+14155554711"}, lambda c: c.get("user_number") == "+14155554711"),
    ({"tool": "book"}, lambda c: "message_with_tool_calls" in c),
    ({"min_duration": "1:00"}, lambda c: "duration_ms" in c or "end_timestamp" in c),
    ({"min_duration": "5:00"}, lambda c: "duration_ms" in c),
    ({"agent": "agent_1", "version": "3"}, lambda c: c.get("version") == 3),
]


def test_chats_have_the_filters_of_calls(browse, chats):
    bodies = [
        chat | {"outcome": chat.get("disconnection_reason") or chat["chat_status"]}
        for chat in CHATS
    ]
    for chosen, matches in FILTERS:
        expected = [f"chat_{n}" for n, chat in enumerate(bodies) if matches(chat)]
        asked = urlencode({"kind": "chat", **chosen})
        page = browse(f"/-/calls?{asked}")
        shown = sorted(re.findall(r'class="time"><a href="/-/chat/(\w+)', page.text))
        assert (page.status_code, shown) == (200, expected), chosen
        found = browse(f"/-/calls.json?{asked}").json()
        assert sorted(chat["chat_id"] for chat in found) == expected, chosen


def test_chats_are_sorted_by_number_and_outcome(browse, chats):
    def order(sort):
        page = browse(f"/-/calls?kind=chat&sort={sort}").text
        return [int(n) for n in re.findall(r'class="time"><a href="/-/chat/chat_(\d)', page)]

    assert order("number") == [3, 4, 0, 1, 2, 5]
    assert order("-outcome") == [3, 1, 4, 2, 0, 5]


def test_list_of_chats_shows_numbers_and_outcomes(browse, chats):
    page = browse("/-/calls?kind=chat").text
    for text in ("+14155550123", "User hung up", "Moon phase", "Chat by SMS", "No direction"):
        assert text in page, text
    row = page[page.index('href="/-/chat/chat_4?list=') :]
    assert '<span class="way" title="Outbound">' in row[: row.index("</tr>")]


def test_download_of_chats_has_numbers_and_reason(browse, chats):
    [chat] = browse("/-/calls.json?kind=chat&direction=inbound").json()
    names = ("user_number", "agent_number", "disconnection_reason", "duration_seconds")
    assert [chat[name] for name in names] == ["+14155550123", "+14155550100", "user_hangup", 300]


def test_agent_has_the_name_of_its_calls(browse, chats, store):
    stored(store, simple("call_1", agent_id="agent_1", agent_name="Support"))
    page = browse("/-/calls?kind=chat").text
    assert '<option value="agent_1">Support</option>' in page
    assert page.count("<span>Support</span>") == 2
    named = browse("/-/calls.json?kind=chat&agent=Support").json()
    assert {chat["chat_id"]: chat["agent_name"] for chat in named} == {
        "chat_0": "Support",
        "chat_1": "Support",
    }
    assert browse("/-/calls?kind=chat&sort=agent").text.index("Support") > 0


def test_choices_of_chats_are_those_of_their_objects(browse, store):
    named = [("agent_1", "A name"), ("agent_2", None), ("agent_1", "New name"), (None, None)]
    tools = [{**BOOK, "name": name} for name in ("pay", "book", "pay")]
    results = [{"role": "tool_call_result", "name": "no tool", "tool_call_id": "t1"}]
    for n, (agent_id, name) in enumerate(named):
        chat = {"chat_id": f"chat_{n}", "start_timestamp": START + n, "chat_status": "ended"}
        chat |= {"agent_id": agent_id, "agent_name": name} if agent_id else {}
        chat |= {"message_with_tool_calls": tools[n : n + 1] + results}
        stored(store, {"event": "chat_ended", "chat": chat})
    page = browse("/-/calls?kind=chat").text

    def choices(name):
        select = re.search(rf'<select[^>]* name="{name}".*?</select>', page, re.DOTALL)[0]
        return re.findall(r'<option value="([^"]+)"[^>]*>([^<]+)', select)

    assert choices("agent") == [("agent_2", "agent_2"), ("agent_1", "New name")]
    assert choices("tool") == [("book", "book"), ("pay", "pay")]
    assert choices("outcome") == [("category:ended", "Ended: all"), ("ended", "Ended")]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("agents", "SCAN chats USING INDEX chats_agent"),
        ("outcomes", "SCAN chats USING INDEX chats_figures"),
        ("tools", "SEARCH chat_messages USING INDEX chat_messages_tool"),
        ("accounts", "SCAN chats USING INDEX chats_figures"),
    ],
)
def test_choices_of_chats_are_read_from_indexes(settings, store, name, index):
    with closing(sqlite3.connect(settings.database_path)) as connection:
        steps = plan(connection, OPTIONS["chat"][name])
    assert any(step.startswith(index) for step in steps), steps
