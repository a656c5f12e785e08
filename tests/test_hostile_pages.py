"""Whatever a call says, each page that shows it answers, and with so many bytes at most."""

import pytest
from browsing import visiting
from storing import stored

from receiver import config
from schema.dashboards import DASHBOARDS
from tests.conftest import KEY
from tests.test_our_pages import START, simple

# Datasette serves files.
pytestmark = pytest.mark.sqlite

MAX_BYTES = 20_000_000
# What is no JSON is no call.
EXPECTED = (200, 404)
PAGES = (
    "/",
    "/-/call/call_1",
    "/-/chat/chat_1",
    "/-/search?q=hi",
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


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_no_number_fails_a_page(get, store, number):
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
def test_times_of_no_calendar_stored_of_old_fail_no_page(get, store, db, at):
    for n in (1, 2):
        stored(store, simple(f"call_{n}"), at=START)
    stored(store, chat_of(1), at=START)
    db.execute(f"UPDATE calls SET start_timestamp = {at} WHERE call_id = 'call_1'")
    db.execute(f"UPDATE chats SET start_timestamp = {at}, end_timestamp = {at}")
    db.execute(f"UPDATE chat_messages SET created_timestamp = {at}")
    assert answers(get) == {}
    assert "The last day" in get("/").text
