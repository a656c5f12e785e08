"""Whatever a call says, each page that shows it answers, and with so many bytes at most."""

import json
import tracemalloc

import pytest

from receiver import config
from receiver.browse.charts import DASHBOARDS
from receiver.browse.pages.conversation import MAX_ENTRIES, page_of
from tests.support import slow_except
from tests.support.browsing import START, simple, visiting
from tests.support.storing import stored
from tests.support.webhooks import KEY

# Datasette serves files.
pytestmark = pytest.mark.sqlite

# docs/reference/browsing.md states both.
MAX_BYTES = 20_000_000
MAX_MEMORY = 500_000_000
# What is no JSON is no call.
EXPECTED = (200, 404)
PAGES = (
    "/",
    "/-/call/call_1",
    "/-/chat/chat_1",
    "/-/calls?q=hi",
    "/retell/call_log",
    "/retell/daily_summary",
    *(f"/-/dashboards/{name}" for name in DASHBOARDS),
)
NUMBERS = {
    "an hour in nanoseconds": 10**15,
    "beyond any sum": 2**63 - 1,
    "before all": -(2**63),
    "negative": -1,
    "huge": 1e308,
    "hugely negative": -1e308,
    "tiny": 1e-320,
    "no number": float("nan"),
    "infinite": float("inf"),
    "text": "NaN",
}


@pytest.fixture
def get(db_path):
    """Get a page as admin, times in Auckland's zone."""
    environ = {
        "RETELL_API_KEY": KEY,
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}",
        "CALLHOUSE_TIMEZONE": "Pacific/Auckland",
    }
    with visiting(config.load(environ)) as get:
        yield get


def call_of(call_id, number):
    """A call with a number wherever there can be one."""
    spans = ("p50", "p90", "p95", "p99", "max", "min", "num")
    words = [{"word": word, "start": number, "end": number} for word in ("hi ", "there")]
    return simple(
        call_id,
        duration_ms=number,
        end_timestamp=number,
        transfer_end_timestamp=number,
        agent_version=number,
        call_cost={
            "combined_cost": number,
            "total_duration_seconds": number,
            "total_duration_unit_price": number,
            "product_costs": [{"product": "voice_engine", "cost": number, "unit_price": number}],
        },
        latency={"e2e": dict.fromkeys(spans, number) | {"values": [number]}},
        llm_token_usage={"average": number, "num_requests": number, "values": [number]},
        custom_attributes={"number": number},
        transcript_with_tool_calls=[
            {"role": "agent", "content": "hi there", "words": words},
            {"role": "user", "content": "hi", "words": [{"word": "hi", "start": 1, "end": number}]},
            {"role": "tool_call_invocation", "tool_call_id": "t", "name": "t", "time_sec": number},
            {"role": "tool_call_result", "tool_call_id": "t", "content": "{}", "time_sec": 1},
            {"role": "dtmf", "digit": "1", "time_sec": number},
        ],
    )


def chat_of(number, **fields):
    """A chat of the same kind."""
    message = {"role": "agent", "content": "hi", "created_timestamp": number, "message_id": "m"}
    chat = {
        "chat_id": "chat_1",
        "start_timestamp": START,
        "end_timestamp": number,
        "version": number,
        "chat_cost": {"combined_cost": number, "product_costs": [{"product": "x", "cost": number}]},
        "message_with_tool_calls": [message],
        "custom_attributes": {"number": number},
    }
    return {"event": "chat_ended", "chat": chat | fields}


def answers(get):
    """The pages that fail, or are too long."""
    found = {path: get(path) for path in PAGES}
    return {
        path: (page.status_code, len(page.content))
        for path, page in found.items()
        if page.status_code not in EXPECTED or len(page.content) > MAX_BYTES
    }


@pytest.mark.parametrize("name", slow_except(NUMBERS, "beyond any sum", "infinite", "text"))
def test_no_number_fails_a_page(get, store, name):
    number = NUMBERS[name]
    for n in (1, 2):
        stored(store, call_of(f"call_{n}", number), at=START)
    stored(store, chat_of(number), at=START)
    assert answers(get) == {}


@pytest.mark.parametrize("at", [253_402_300_799_999, -62_135_596_800_000, -1])
def test_no_time_fails_a_page(get, store, at):
    stored(store, simple("call_1", start_timestamp=at), at=START)
    stored(store, simple("call_2"), at=START)
    stored(store, chat_of(1, start_timestamp=at), at=START)
    assert answers(get) == {}


@pytest.mark.parametrize("at", [START * 1000, 2**63 - 1, -(2**63)])
def test_impossible_stored_times_fail_no_page(get, store, db, at):
    for n in (1, 2):
        stored(store, simple(f"call_{n}"), at=START)
    stored(store, chat_of(1), at=START)
    db.execute(f"UPDATE calls SET start_timestamp = {at} WHERE call_id = 'call_1'")
    db.execute(f"UPDATE chats SET start_timestamp = {at}, end_timestamp = {at}")
    db.execute(f"UPDATE chat_messages SET created_timestamp = {at}")
    assert answers(get) == {}
    assert "The last day" in get("/?period=today").text


def test_a_call_of_a_lifetime_has_few_ticks(get, store):
    call = simple("call_1", ("agent", "hi"), duration_ms=315_000_000_000_000)
    stored(store, call, at=START)
    page = get("/-/call/call_1")
    assert 1 < page.text.count('<text class="tick"') < 10
    assert len(page.content) < 30_000


# Long conversations


def entry(n, text='hi "there" <you>'):
    words = [{"word": f"{word} ", "start": n, "end": n + 0.5} for word in text.split(" ")]
    return {"role": ("agent", "user")[n % 2], "content": text, "words": words}


def most_memory(get, path):
    """The page, and the most memory that Python held while it was made."""
    tracemalloc.start()
    try:
        return get(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_call_of_many_entries_has_pages(get, store):
    turns = [entry(n) for n in range(9000)]
    stored(store, simple("call_1", transcript_with_tool_calls=turns), at=START)
    page, memory = most_memory(get, "/-/call/call_1")
    assert memory < MAX_MEMORY
    assert len(page.content) < 5_000_000
    assert "1 to 2,000 of 9,000 entries" in page.text
    assert "/-/call/call_1?page=2" in page.text
    last = get("/-/call/call_1?page=99999")
    assert "8,001 to 9,000 of 9,000 entries" in last.text
    assert 'id="turn-8999"' in last.text
    assert "The first 3,000 turns are drawn." in page.text
    assert 'id="turn-4321"' in get("/-/call/call_1?at=4321").text
    assert get("/-/call/call_1?page=x").text.count('id="turn-0"') == 1


def test_pages_hold_every_entry_once():
    items = [*range(3 * MAX_ENTRIES + 1)]
    for weigh in (lambda _: 1, lambda n: 500 * (n % 100)):
        count = page_of(items, 1, weigh).count
        pages = [page_of(items, number, weigh) for number in range(1, count + 1)]
        assert [n for page in pages for n in page.items] == items
        assert all(page.items for page in pages)
    assert page_of([], 1, lambda _: 1).items == []


LONG = '"&<' * 100_000
MANY = {
    "texts": {"transcript_with_tool_calls": [entry(n, LONG) for n in range(10)]},
    "words": {"transcript_with_tool_calls": [entry(0, "a " * 100_000)]},
    "empty words": {
        "transcript_with_tool_calls": [
            {"role": "agent", "content": "a", "words": [{"word": "", "start": 0}] * 100_000}
        ]
    },
    "tools of a turn": {
        "transcript_with_tool_calls": [
            entry(0),
            *(
                {"role": "tool_call_invocation", "tool_call_id": f"{n}", "name": "t" * 200,
                 "arguments": "x" * 200, "time_sec": n}
                for n in range(10_000)
            ),
        ]
    },
    "names": {"agent_name": LONG, "agent_tag": LONG, "disconnection_reason": LONG},
    "variables": {"metadata": {f"name {n}": "x" * 100 for n in range(20_000)}},
    "a deep value": {"metadata": {"deep": "[" * 900 + "]" * 900, "deeper": "[" * 20_000}},
    "products": {"call_cost": {"product_costs": [{"product": LONG[:99], "cost": 1}] * 20_000}},
    "before the call": {
        "pre_session_transcript_with_tool_calls": [entry(n) for n in range(10_000)]
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fields", MANY.values(), ids=MANY)
def test_no_length_makes_a_page_long(get, store, fields):
    stored(store, simple("call_1", **fields), at=START)
    page, memory = most_memory(get, "/-/call/call_1")
    assert page.status_code == 200
    assert len(page.content) < MAX_BYTES
    assert memory < MAX_MEMORY


@pytest.mark.slow
def test_a_chat_of_many_messages_has_pages(get, store):
    messages = [
        {"role": "user", "content": json.dumps({"n": n}), "message_id": f"m{n}"}
        for n in range(10_000)
    ]
    stored(store, chat_of(1, message_with_tool_calls=messages, metadata={"x": LONG}), at=START)
    page, memory = most_memory(get, "/-/chat/chat_1")
    assert len(page.content) < 5_000_000
    assert memory < MAX_MEMORY
    assert "1 to 2,000 of 10,000 entries" in page.text
    assert 'id="message-9999"' in get("/-/chat/chat_1?page=5").text
