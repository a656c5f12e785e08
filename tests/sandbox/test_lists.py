"""list-calls: filters, order and pages, against a model that does it the long way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.errors import ApiError
from receiver.sandbox.lists import page
from receiver.sandbox.orders import parse
from receiver.sandbox.workspace import StoredCall

TEXTS = st.sampled_from(["", "a", "b", "ab", "ba", "1", "2", "true"])
NUMBERS = st.sampled_from([0, 1, 2, 1.5])
VALUES = TEXTS | NUMBERS | st.booleans()
KEYS = st.sampled_from(["k", "l"])

# What a filter of each name compares, the long way.
FIELDS = {
    "agent_tag": lambda c: c.get("agent_tag"),
    "batch_call_id": lambda c: c.get("batch_call_id"),
    "call_id": lambda c: c.get("call_id"),
    "call_status": lambda c: c.get("call_status"),
    "call_type": lambda c: c.get("call_type"),
    "call_successful": lambda c: c.get("call_analysis", {}).get("call_successful"),
    "in_voicemail": lambda c: c.get("call_analysis", {}).get("in_voicemail"),
    "user_sentiment": lambda c: c.get("call_analysis", {}).get("user_sentiment"),
    "direction": lambda c: c.get("direction"),
    "disconnection_reason": lambda c: c.get("disconnection_reason"),
    "from_number": lambda c: c.get("from_number"),
    "to_number": lambda c: c.get("to_number"),
    "start_timestamp": lambda c: c.get("start_timestamp", c["created_ms"]),
    "end_timestamp": lambda c: c.get("end_timestamp"),
    "duration_ms": lambda c: c.get("duration_ms"),
    "combined_cost": lambda c: c.get("call_cost", {}).get("combined_cost"),
    "e2e_latency_p50": lambda c: c.get("latency", {}).get("e2e", {}).get("p50"),
    "data_storage_setting": lambda c: c.get("data_storage_setting"),
}
KEYED = {
    "metadata": lambda c: c.get("metadata", {}),
    "dynamic_variables": lambda c: c.get("retell_llm_dynamic_variables", {}),
    "custom_analysis_data": lambda c: c.get("call_analysis", {}).get("custom_analysis_data", {}),
    "custom_attributes": lambda c: c.get("custom_attributes", {}),
}
STRINGS = ("batch_call_id", "from_number", "to_number")
ENUMS = (
    "agent_tag", "call_status", "call_type", "user_sentiment", "direction",
    "disconnection_reason", "data_storage_setting",
)  # fmt: skip
BOOLEANS = ("call_successful", "in_voicemail")
AMOUNTS = ("start_timestamp", "end_timestamp", "duration_ms", "combined_cost", "e2e_latency_p50")


def shape(kind, ops, value):
    return st.fixed_dictionaries(
        {"type": st.just(kind), "op": st.sampled_from(ops), "value": value}
    )


STRING = shape("string", ["eq", "ne", "sw", "ew", "co"], TEXTS)
NUMBER = shape("number", ["eq", "ne", "gt", "ge", "lt", "le"], NUMBERS)
RANGE = shape("range", ["bt"], st.lists(NUMBERS, min_size=2, max_size=2))
ENUM = shape("enum", ["in"], st.lists(TEXTS, max_size=2))
BOOLEAN = shape("boolean", ["eq"], st.booleans())
PRESENT = st.fixed_dictionaries({"type": st.just("present"), "op": st.sampled_from(["pr", "np"])})
ANY = STRING | NUMBER | RANGE | ENUM | BOOLEAN | PRESENT

CALLS = st.fixed_dictionaries(
    {
        "agent_id": st.sampled_from(["a", "b"]),
        "agent_version": st.sampled_from([0, 1]),
        "created_ms": st.integers(0, 3),
    },
    optional={name: TEXTS for name in (*STRINGS, *ENUMS) if name != "user_sentiment"}
    | dict.fromkeys(("end_timestamp", "duration_ms"), NUMBERS)
    | {
        "start_timestamp": st.integers(0, 3),
        "call_analysis": st.fixed_dictionaries(
            {},
            optional={
                "call_successful": st.booleans(),
                "in_voicemail": st.booleans(),
                "user_sentiment": TEXTS,
                "custom_analysis_data": st.dictionaries(KEYS, VALUES | st.none()),
            },
        ),
        "call_cost": st.fixed_dictionaries({"combined_cost": NUMBERS}),
        "latency": st.fixed_dictionaries(
            {}, optional={"e2e": st.fixed_dictionaries({"p50": NUMBERS})}
        ),
        "metadata": st.dictionaries(KEYS, VALUES | st.none()),
        "retell_llm_dynamic_variables": st.dictionaries(KEYS, TEXTS),
        "custom_attributes": st.dictionaries(KEYS, VALUES),
    },
)
few = settings(max_examples=30)
ACCOUNTS = st.lists(CALLS, max_size=8).map(
    lambda calls: [call | {"call_id": f"c{place}"} for place, call in enumerate(calls)]
)
AGENT = st.fixed_dictionaries(
    {"agent_id": st.sampled_from(["a", "b"])},
    optional={"version": st.lists(st.sampled_from([0, 1]), max_size=2)},
)
CRITERIA = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(STRINGS, STRING)
    | dict.fromkeys(ENUMS, ENUM)
    | dict.fromkeys(BOOLEANS, BOOLEAN)
    | dict.fromkeys(AMOUNTS, NUMBER | RANGE)
    | {"call_id": STRING | ENUM, "agent": st.lists(AGENT, max_size=2)}
    | {
        name: st.lists(st.tuples(ANY, KEYS).map(lambda p: p[0] | {"key": p[1]}), max_size=2)
        for name in KEYED
    },
)
ORDERS = st.sampled_from(["ascending", "descending"])


def holds(asked, value):
    """One filter on one value, written out case by case."""
    if asked["type"] == "present":
        return (value is not None) is (asked["op"] == "pr")
    wanted = asked["value"]
    if asked["type"] == "boolean":
        return value is wanted or value == ("true" if wanted else "false")
    if asked["type"] in ("number", "range"):
        if isinstance(value, str):
            value = float(value) if value in ("1", "2") else None
        if value is None or isinstance(value, bool):
            return False
        if asked["type"] == "range":
            return not (value < wanted[0] or value > wanted[1])
        return {
            "eq": value == wanted, "ne": value != wanted, "gt": value > wanted,
            "ge": value >= wanted, "lt": value < wanted, "le": value <= wanted,
        }[asked["op"]]  # fmt: skip
    if not isinstance(value, str):
        return False
    if asked["type"] == "enum":
        return any(value == one for one in wanted)
    return {
        "eq": value == wanted, "ne": value != wanted, "sw": value[: len(wanted)] == wanted,
        "ew": value[len(value) - len(wanted) :] == wanted if len(wanted) <= len(value) else False,
        "co": value.find(wanted) >= 0,
    }[asked["op"]]  # fmt: skip


def expected(calls, criteria, order):
    """The call ids that a list should hold, in order."""
    found = []
    for call in calls:
        good = all(
            holds(asked, FIELDS[name](call)) for name, asked in criteria.items() if name in FIELDS
        )
        for name, read in KEYED.items():
            for asked in criteria.get(name, []):
                good = good and holds(asked, read(call).get(asked["key"]))
        agents = criteria.get("agent")
        if agents:
            good = good and any(
                call["agent_id"] == agent["agent_id"]
                and (not agent.get("version") or call["agent_version"] in agent["version"])
                for agent in agents
            )
        if good:
            found.append((call.get("start_timestamp", call["created_ms"]), call["call_id"]))
    return [call_id for _, call_id in sorted(found, reverse=order == "descending")]


def listed(calls, **body):
    listed = [
        StoredCall({n: v for n, v in c.items() if n != "created_ms"}, c["created_ms"])
        for c in calls
    ]
    return page(listed, parse("list-calls", body))


def ids(answer):
    return [item["call_id"] for item in answer["items"]]


@few
@given(ACCOUNTS, CRITERIA, ORDERS)
def test_a_list_holds_exactly_what_meets_every_filter(calls, criteria, order):
    answer = listed(calls, filter_criteria=criteria, sort_order=order, include_total=True)
    wanted = expected(calls, criteria, order)
    assert ids(answer) == wanted
    assert (answer["total"], answer["has_more"]) == (len(wanted), False)


@few
@given(ACCOUNTS, st.sampled_from([*FIELDS, *KEYED]), ORDERS, st.data())
def test_each_filter_alone_finds_what_it_should(calls, name, order, data):
    asked = data.draw(CRITERIA.filter(lambda criteria: name in criteria))[name]
    criteria = {name: asked}
    answer = listed(calls, filter_criteria=criteria, sort_order=order)
    assert ids(answer) == expected(calls, criteria, order)


@few
@given(ACCOUNTS, ORDERS, st.integers(1, 3))
def test_pages_by_key_have_every_call(calls, order, limit):
    seen, more = [], {}
    while True:
        answer = listed(calls, sort_order=order, limit=limit, **more)
        seen += ids(answer)
        assert len(answer["items"]) <= limit
        assert ("pagination_key" in answer) is answer["has_more"]
        if not answer["has_more"]:
            break
        more = {"pagination_key": answer["pagination_key"]}
    assert seen == expected(calls, {}, order)


@few
@given(ACCOUNTS, ORDERS, st.integers(1, 3))
def test_pages_by_skip_have_every_call(calls, order, limit):
    seen = []
    while True:
        answer = listed(calls, sort_order=order, limit=limit, skip=len(seen))
        seen += ids(answer)
        if not answer["has_more"]:
            break
    assert seen == expected(calls, {}, order)


@few
@given(ACCOUNTS, CALLS, st.integers(1, 3))
def test_new_call_between_pages_moves_none(calls, newcomer, limit):
    first = listed(calls, limit=limit)
    if not first["has_more"]:
        return
    grown = [*calls, newcomer | {"call_id": "new"}]
    rest = listed(grown, pagination_key=first["pagination_key"])
    seen = [call_id for call_id in ids(first) + ids(rest) if call_id != "new"]
    assert seen == expected(calls, {}, "descending")


RUN = {"role": "tool_call_invocation", "name": "book", "type": "custom", "tool_call_id": "1"}
RESULT = {"role": "tool_call_result", "tool_call_id": "1", "successful": True}
TALK = [
    RUN | {"time_sec": 2},
    RESULT | {"time_sec": 2.75},
    RUN | {"name": "end_call", "type": "end_call", "tool_call_id": "2", "time_sec": 4},
]
FAST = {"type": "number", "op": "le", "value": 750}
SLOW = {"type": "range", "op": "bt", "value": [751, 9999]}
WORKED = {"type": "boolean", "op": "eq", "value": True}
FAILED = {"type": "boolean", "op": "eq", "value": False}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ([{"name": "book"}], True),
        ([{"name": "cook"}], False),
        ([{"type": "end_call"}], True),
        ([{"name": "book", "type": "end_call"}], False),
        ([{"name": "book"}, {"name": "end_call"}], True),
        ([{"name": "book"}, {"name": "cook"}], False),
        ([{"latency_ms": FAST}], True),
        ([{"latency_ms": SLOW}], False),
        ([{"name": "end_call", "latency_ms": FAST}], False),
        ([{"success": WORKED}], True),
        ([{"success": FAILED}], False),
        ([{"name": "end_call", "success": WORKED}], False),
    ],
)
def test_tool_calls_are_found_by_their_filters(asked, found):
    call = {"call_id": "c", "created_ms": 0, "transcript_with_tool_calls": TALK}
    answer = listed([call], filter_criteria={"tool_calls": asked})
    assert ids(answer) == (["c"] if found else [])


def test_an_item_has_no_transcript_of_any_kind():
    withheld = {
        "transcript": "Agent: Hello.",
        "transcript_object": [],
        "transcript_with_tool_calls": [],
        "scrubbed_transcript_with_tool_calls": [],
        "pre_session_transcript_with_tool_calls": [],
    }
    answer = listed([{"call_id": "c", "created_ms": 0} | withheld])
    assert answer["items"] == [{"call_id": "c"}]


@pytest.mark.parametrize("key", ["", "x", "W10=", "eyJhIjoxfQ==", "WyJ4IiwgImMiXQ=="])
def test_foreign_pagination_key_is_refused(key):
    with pytest.raises(ApiError) as error:
        listed([], pagination_key=key)
    assert error.value.status == 400
