"""The page of a chat: tools with their results, who and when, its place in lists; odd objects."""

import html
import re

import pytest

from receiver.browse.pages.chats import paired
from tests.support.browsing import START, add_users, simple, visiting
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
MINUTE = 60_000


def invoked(id, name, at=START, **more):
    use = {
        "role": "tool_call_invocation",
        "tool_call_id": id,
        "name": name,
        "arguments": '{"a": 1}',
    }
    return use | {"created_timestamp": at} | more


def answered(id, content, at=START + 900, **more):
    result = {"role": "tool_call_result", "tool_call_id": id, "content": content}
    return result | {"successful": True, "created_timestamp": at} | more


MESSAGES = [
    {"role": "user", "content": "A crown, please.", "created_timestamp": START},
    invoked("t1", "book"),
    invoked("t2", "send_sms"),
    {"role": "state_transition", "former_state_name": "begin", "new_state_name": "book"},
    answered("t1", '{"success": false}'),
    answered("t2", "gateway timeout", successful=False),
    answered("t9", "of no known tool"),
    invoked("t3", "end_chat"),
    {"role": "agent", "content": "Done.", "created_timestamp": START + 5_000},
]
CHAT = {
    "chat_id": "chat_1",
    "chat_type": "sms_chat",
    "chat_status": "ended",
    "agent_id": "agent_1",
    "version": 3,
    "agent_tag": "prod",
    "direction": "inbound",
    "user_number": "+14155550123",
    "agent_number": "+14155550100",
    "start_timestamp": START,
    "end_timestamp": START + 2 * MINUTE,
    "disconnection_reason": "user_hangup",
    "data_storage_setting": "everything",
    "transcript": "User: A crown, please.\nAgent: Done.\n",
    "metadata": {"client": "acme"},
    "retell_llm_dynamic_variables": {"name": "Ann"},
    "collected_dynamic_variables": {"slot": "9:30"},
    "custom_attributes": {"priority": 1},
    "chat_cost": {"combined_cost": 2, "product_costs": [{"product": "gpt_4o", "cost": 2}]},
    "chat_analysis": {
        "chat_summary": "Wanted a crown.",
        "user_sentiment": "Positive",
        "chat_successful": True,
        "custom_analysis_data": {"booked": True},
    },
    "message_with_tool_calls": MESSAGES,
    "pre_session_message_with_tool_calls": MESSAGES[:1],
    "post_session_message_with_tool_calls": MESSAGES[-1:],
    "scrubbed_message_with_tool_calls": MESSAGES[:2],
}


def put(store, **fields):
    # Each time the newest body wins.
    put.at += 1
    chat = without_missing(CHAT | fields)
    stored(store, {"event": "chat_analyzed", "chat": chat}, at=put.at)


put.at = START


def text(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_tools_have_their_results(browse, store):
    put(store)
    page = browse("/-/chat/chat_1").text
    tools = re.findall(r'<details class="tool[^"]*" id="message-(\d)">.*?</details>', page, re.S)
    assert tools == ["1", "2", "6", "7"]
    shown = {
        position: text(block)
        for position, block in re.findall(
            r'<details class="tool[^"]*" id="message-(\d)">(.*?)</details>', page, re.S
        )
    }
    assert shown["1"].startswith("book unsuccessful 900 ms")
    assert 'Result { "success": false }' in shown["1"]
    assert shown["2"].startswith("send_sms failed")
    assert shown["6"].startswith("unnamed done")
    assert shown["7"].startswith("end_chat no result")
    assert "begin → book" in text(page)


def test_repeated_ids_pair_in_order():
    rows = [
        row | {"position": n, "type": None, "successful": row.get("successful"), "extra": None}
        for n, row in enumerate((invoked("t", "a"), invoked("t", "b"), answered("t", "1"),
                                 answered("t", "2"), answered("t", "3")))
    ]  # fmt: skip
    rows = [{"arguments": None, "name": None, "content": None} | row for row in rows]
    assert [(tool["name"], tool["result"]) for tool in paired(rows)] == [
        ("a", "1"), ("b", "2"), ("unnamed", "3"),
    ]  # fmt: skip


def test_chat_says_who_when_and_how_it_ended(browse, store):
    put(store)
    stored(store, simple("call_1", agent_id="agent_1"))
    page = text(browse("/-/chat/chat_1").text)
    for part in (
        "Chat by SMS from +14155550123",
        "Dental v3 prod Inbound Tue 12 May 2026",
        "2:00 long",
        "User hung up Successful",
        "Person +14155550123 Agent's number +14155550100",
        "This number: 1 chat , 1 call",
    ):
        assert part in page, part


def test_cost_has_a_total_and_null_a_dash(browse, store):
    costs = [{"product": "gpt_4o", "cost": 2}, {"product": "sms", "cost": 4}]
    put(store, chat_cost={"combined_cost": 6, "product_costs": costs}, metadata={"client": None})
    page = text(browse("/-/chat/chat_1").text)
    assert "$0.020 SMS $0.040 Total $0.060" in page
    assert "client –" in page


def test_masked_reader_sees_no_number(settings, store):
    put(store)
    add_users(settings.database_path, {"max": "masked", "jane": "reader"})
    pages = {}
    for user in ("jane", "max"):
        with visiting(settings, user=user) as get:
            pages[user] = [
                get(path).text
                for path in ("/-/chat/chat_1", "/-/calls?kind=chat", "/-/calls.csv?kind=chat")
            ]
    for whole, masked in zip(pages["jane"], pages["max"], strict=True):
        assert "+14155550123" in whole
        assert "415555" not in masked


def test_chat_has_neighbours_and_place_in_list(browse, store):
    for n in range(4):
        put(store, chat_id=f"chat_{n}", start_timestamp=START + n * MINUTE)
    page = browse("/-/chat/chat_1?list=kind%3Dchat%26agent%3Dagent_1").text
    queue = page.partition('class="queue"')[2].partition("</nav>")[0]
    assert re.findall(r'href="/-/chat/(\w+)\?list=kind%3Dchat%26agent%3Dagent_1"', queue) == [
        "chat_2",
        "chat_0",
    ]
    beside = page.partition('class="neighbours"')[2].partition("</nav>")[0]
    assert re.findall(r'rel="(\w+)" href="/-/chat/(\w+)"', beside) == 2 * [
        ("prev", "chat_0"),
        ("next", "chat_2"),
    ]
    assert "all 4 chats" in text(beside)


def test_search_leads_to_the_message(browse, store):
    put(store)
    page = browse("/-/calls?kind=chat&q=crown").text
    address = "/-/chat/chat_1?list=kind%3Dchat%26q%3Dcrown#message-0"
    assert re.findall(r'class="hit" href="([^"]+)"', page) == [address]
    assert "A <mark>crown</mark>, please." in page


def test_long_chat_opens_at_a_message(browse, store):
    many = [{"role": "user", "content": f"n{n}"} for n in range(2_500)]
    put(store, message_with_tool_calls=many)
    assert 'id="message-2400"' not in browse("/-/chat/chat_1").text
    assert 'id="message-2400"' in browse("/-/chat/chat_1?at=2400").text


ODD = (..., 7, "x", [], [None, 7, {}], {"x": [1]}, -(2**70))
PAGES = (
    *("/-/chat/chat_1", "/-/chat/chat_1?scrubbed", "/-/calls?kind=chat", "/-/calls.csv?kind=chat"),
    *("/-/calls?kind=chat&q=crown", "/-/dashboards/chats", "/"),
)


def without_missing(fields):
    return {name: value for name, value in fields.items() if value is not ...}


def test_field_missing_or_odd_has_pages(browse, store):
    """Each field of a chat of its own; the lists and dashboards have all of them."""
    odd = [(name, value) for name in CHAT if name != "chat_id" for value in ODD]
    for n, (name, value) in enumerate(odd):
        put(store, **{"chat_id": f"chat_{n}", name: value})
    for n, of in enumerate(odd):
        assert browse(f"/-/chat/chat_{n}").status_code == 200, of
    for path in PAGES:
        assert browse(path).status_code == 200, path


PARTS = [("chat_analysis", name) for name in CHAT["chat_analysis"]]
PARTS += [("chat_cost", name) for name in CHAT["chat_cost"]]


@pytest.mark.parametrize(("field", "name"), PARTS)
def test_odd_part_of_a_field_has_pages(browse, store, field, name):
    for odd in ODD:
        put(store, **{field: without_missing(CHAT[field] | {name: odd})})
        assert browse("/-/chat/chat_1").status_code == 200, (name, odd)
    assert browse("/-/dashboards/chats").status_code == 200


def test_odd_product_has_pages(browse, store):
    for name in ("product", "cost"):
        for odd in ODD:
            product = without_missing({"product": "gpt_4o", "cost": 2} | {name: odd})
            put(store, chat_cost={"combined_cost": 2, "product_costs": [product]})
            assert browse("/-/chat/chat_1").status_code == 200, (name, odd)


@pytest.mark.parametrize("name", sorted({key for message in MESSAGES for key in message}))
def test_odd_part_of_a_message_has_pages(browse, store, name):
    for odd in ODD:
        messages = [without_missing(message | {name: odd}) for message in MESSAGES]
        put(store, message_with_tool_calls=messages)
        assert browse("/-/chat/chat_1").status_code == 200, (name, odd)
