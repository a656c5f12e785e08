"""The tables [[inbound.rule]] of callhouse.toml: conditions, answers, mistakes."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from receiver.inbound_rules import InboundRequest, parse_inbound

CALL = InboundRequest("call_inbound", "default", "+14155550100", "+14155550199", "agent_1")
FRIDAY = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)


def rule(**fields):
    [found] = parse_inbound({"rule": [{"name": "mine", **fields}]})
    return found


def mismatch(request=CALL, at=FRIDAY, **fields):
    return rule(**fields).mismatch(request, at)


def test_rule_without_conditions_matches_all():
    assert mismatch() is None
    assert mismatch(InboundRequest("chat_inbound", "default")) is None
    assert mismatch(events=["chat_inbound"]) == "another event"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("+14155550100", None),
        ("+1415*", None),
        (["+49*", "+14155550100"], None),
        ("+1415555010", "another from_number"),
        ("+49*", "another from_number"),
    ],
)
def test_number_is_exact_or_a_beginning(pattern, reason):
    assert mismatch(from_number=pattern) == reason


def test_hidden_number_is_matched_by_its_word():
    hidden = InboundRequest("call_inbound", "default", "anonymous")
    assert mismatch(hidden, from_number="anonymous") is None
    assert mismatch(hidden, from_number="+*") == "another from_number"


@pytest.mark.parametrize(
    ("hours", "at", "matches"),
    [
        ("9:00-17:30", "08:59:59", False),
        ("9:00-17:30", "09:00:00", True),
        ("9:00-17:30", "17:29:59", True),
        ("9:00-17:30", "17:30:00", False),
        ("22:00-6:00", "23:59:59", True),
        ("22:00-6:00", "00:00:00", True),
        ("22:00-6:00", "06:00:00", False),
        ("0:00-24:00", "23:59:59", True),
    ],
)
def test_hours_end_before_their_last_minute(hours, at, matches):
    time = datetime.fromisoformat(f"2026-11-27T{at}")
    assert (mismatch(at=time, hours=hours) is None) == matches


def test_hours_are_those_of_the_wall_clock():
    zone = ZoneInfo("Europe/Berlin")
    before, after = (
        datetime(2026, 10, day, 7, 30, tzinfo=UTC).astimezone(zone) for day in (24, 25)
    )
    assert mismatch(at=before, hours="9:00-10:00") is None
    assert mismatch(at=after, hours="9:00-10:00") == "another time of day"


def test_day_is_that_of_the_time():
    assert mismatch(days=["Friday"]) is None
    assert mismatch(days=["Saturday", "Sunday"]) == "another day"


def test_columns_must_have_one_of_their_values():
    complaint = rule(match={"open_complaint": 1, "last_sentiment": ["Negative", "Neutral"]})
    assert complaint.row_mismatch({"open_complaint": 1, "last_sentiment": "Neutral"}) is None
    assert complaint.row_mismatch({"open_complaint": True, "last_sentiment": "Neutral"}) is None
    for row in ({"open_complaint": 0}, {"open_complaint": 1, "last_sentiment": None}):
        assert complaint.row_mismatch(row).startswith("another ")
    assert complaint.row_mismatch(None) == "no history"
    assert rule(match={"name": ""}).row_mismatch({"name": None}) is None


def test_answer_has_columns_and_name_of_rule():
    found = rule(
        agent_id="agent_2",
        agent_version=3,
        dynamic_variables={"hello": "Hello {name}!", "last": "{last}", "later": "{{retells_own}}"},
        metadata={"client": "Acme", "tier": {"is": "{tier}"}, "list": ["{tier}", 1]},
    )
    assert found.columns == {"name", "last", "tier"}
    assert found.answer_with({"name": "Ada", "last": None, "tier": None}) == {
        "override_agent_id": "agent_2",
        "override_agent_version": 3,
        "dynamic_variables": {"hello": "Hello Ada!", "later": "{{retells_own}}"},
        "metadata": {"client": "Acme", "tier": {}, "list": [1], "callhouse_rule": "mine"},
    }


@pytest.mark.parametrize("name", ["{last}", "{name.__class__}", "%s {0}", "{{name}}", '"}\n'])
def test_text_of_a_caller_is_not_expanded(name):
    found = rule(dynamic_variables={"name": "{name}", "all": "{name}, {last}"})
    row = {"name": name, "last": "x"}
    assert found.answer_with(row)["dynamic_variables"] == {"name": name, "all": f"{name}, x"}


def test_only_what_looks_like_a_column_is_one():
    found = rule(dynamic_variables={"a": "{name.__class__} {0} {} {name!r}"})
    assert found.columns == set()


@pytest.mark.parametrize(
    ("number", "asked"),
    [("+14155550100", "+14155550100"), *((n, None) for n in ("anonymous", "", "+0", "+1' OR 1"))],
)
def test_hidden_number_has_no_history(number, asked):
    assert InboundRequest("call_inbound", "a", number).parameters()["from_number"] == asked


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event": "call_inbound"}, r"did you mean events"),
        ({"events": "call_inbound"}, "events of the inbound rule mine must be a list of"),
        ({"events": ["call_started"]}, "must be a list of call_inbound, chat_inbound"),
        ({"days": ["Caturday"]}, "must be a list of Monday"),
        ({"hours": "9-17"}, "must be like"),
        ({"hours": "9:00-9:00"}, "must be like"),
        ({"hours": "24:00-9:00"}, "must be like"),
        ({"from_number": 1}, "must be a number, or a list"),
        ({"history": "calls"}, "must be a SELECT"),
        ({"history": "DELETE FROM calls"}, "must be a SELECT"),
        ({"history": "SELECT * FROM calls WHERE a = :number"}, "has the parameter :number"),
        ({"match": 1}, "must be a table"),
        ({"agent_id": 1}, "agent_id of the inbound rule mine"),
        ({"agent_version": True}, "agent_version of the inbound rule mine"),
        ({"dynamic_variables": {"a": 1}}, "must be text"),
        ({"metadata": {"since": FRIDAY.date()}}, "write it as text"),
    ],
)
def test_mistake_is_named_without_its_value(fields, message):
    with pytest.raises(ValueError, match=message) as raised:
        rule(**fields)
    assert "Caturday" not in str(raised.value)


def test_casts_and_text_are_no_parameters():
    query = "SELECT '12:30' AS at, calls::text FROM calls WHERE from_number = :from_number"
    assert rule(history=query).history == query
