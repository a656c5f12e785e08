"""The merge rule: which value of a field wins."""

import pytest

from schema.events import value
from tests.support.observing import fold, seen

# -- fold: the order -----------------------------------------------------------------------------


def test_fold_of_nothing_is_empty():
    assert fold([]) == {}


def test_higher_level_wins_over_later_time():
    ended = seen("call_ended", 9, agent_name="old")
    analyzed = seen("call_analyzed", 1, agent_name="new")
    assert fold([analyzed, ended])["agent_name"] == "new"


def test_later_time_wins_within_a_level():
    first = seen("call_ended", 1, agent_name="old")
    second = seen("call_ended", 2, agent_name="new")
    assert fold([second, first])["agent_name"] == "new"


def test_source_decides_between_observations_of_equal_time():
    api = seen("call_analyzed", 5, source="api", agent_name="api")
    file = seen("call_analyzed", 5, source="file", agent_name="file")
    webhook = seen("call_analyzed", 5, agent_name="webhook")
    assert fold([webhook, file, api])["agent_name"] == "webhook"
    assert fold([file, api])["agent_name"] == "file"


def test_larger_hash_wins_when_all_else_is_equal():
    bodies = [seen("call_ended", 5, agent_name=name) for name in ("x", "y")]
    larger = max(bodies, key=lambda o: o.body_sha256)
    for order in (bodies, bodies[::-1]):
        assert fold(order)["agent_name"] == value(larger.fields["agent_name"])


# -- fold: a field -------------------------------------------------------------------------------


def test_field_comes_from_the_highest_observation_with_it():
    started = seen("call_started", 1, agent_name="a", from_number="+1", call_status="ongoing")
    ended = seen("call_ended", 2, agent_name="b", call_status="ended")
    analyzed = seen("call_analyzed", 3, agent_name="c")
    assert fold([started, ended, analyzed]) == {
        "call_id": "c",
        "from_number": "+1",
        "call_status": "ended",
        "agent_name": "c",
    }


def test_null_in_call_ended_keeps_the_earlier_value():
    started = seen("call_started", 1, agent_name="a")
    ended = seen("call_ended", 2, agent_name=None)
    assert fold([started, ended])["agent_name"] == "a"


def test_null_that_nothing_overrides_is_absent():
    assert fold([seen("call_ended", agent_name=None)]) == {"call_id": "c"}


def test_absent_field_never_erases():
    """The storage setting was changed later and fields vanished upstream."""
    full = seen("call_analyzed", 1, transcript="Agent: Hello.", recording_url="https://r/1")
    bare = seen("call_analyzed", 2, data_storage_setting="basic_attributes_only")
    merged = fold([full, bare])
    assert merged["transcript"] == "Agent: Hello."
    assert merged["recording_url"] == "https://r/1"
    assert merged["data_storage_setting"] == "basic_attributes_only"


@pytest.mark.parametrize("value", [[], {}, "", 0, False])
def test_empty_value_is_a_statement_and_wins(value):
    before = seen("call_started", 1, anything=["something"])
    after = seen("call_ended", 2, anything=value)
    assert fold([before, after])["anything"] == value


@pytest.mark.parametrize(
    "field",
    [
        "call_analysis",
        "call_cost",
        "latency",
        "llm_token_usage",
        "metadata",
        "retell_llm_dynamic_variables",
        "collected_dynamic_variables",
    ],
)
def test_composite_field_is_taken_whole(field):
    lower = seen("call_ended", 1, **{field: {"a": 1, "b": 2}})
    higher = seen("call_analyzed", 2, **{field: {"b": 3}})
    assert fold([lower, higher])[field] == {"b": 3}


def test_null_inside_a_composite_field_counts():
    lower = seen("call_ended", 1, call_analysis={"call_summary": "Short."})
    higher = seen("call_analyzed", 2, call_analysis={"call_summary": None})
    assert fold([lower, higher])["call_analysis"] == {"call_summary": None}


@pytest.mark.parametrize("field", ["transcript_object", "transcript_with_tool_calls"])
def test_list_is_taken_whole(field):
    longer = seen("transcript_updated", 1, **{field: [{"content": "a"}, {"content": "b"}]})
    shorter = seen("call_ended", 2, **{field: [{"content": "c"}]})
    assert fold([longer, shorter])[field] == [{"content": "c"}]


# -- fold: histories -----------------------------------------------------------------------------


def test_late_call_started_does_not_undo_call_ended():
    ended = seen("call_ended", 1, call_status="ended", end_timestamp=7)
    late = seen("call_started", 9, call_status="ongoing", from_number="+1")
    merged = fold([ended, late])
    assert (merged["call_status"], merged["from_number"]) == ("ended", "+1")


def test_call_analyzed_before_call_started_gives_the_same():
    analyzed = seen("call_analyzed", 3, call_status="ended", call_analysis={"in_voicemail": True})
    started = seen("call_started", 1, call_status="ongoing", to_number="+2")
    assert fold([analyzed, started]) == fold([started, analyzed])
    assert fold([analyzed, started]) == {
        "call_id": "c",
        "call_status": "ended",
        "call_analysis": {"in_voicemail": True},
        "to_number": "+2",
    }


def test_call_analyzed_alone_is_enough():
    analyzed = seen("call_analyzed", 3, call_status="ended", transcript="Agent: Bye.")
    assert fold([analyzed]) == {
        "call_id": "c",
        "call_status": "ended",
        "transcript": "Agent: Bye.",
    }


def test_call_analyzed_beats_a_re_signed_call_ended():
    analyzed = seen("call_analyzed", 5, call_cost={"combined_cost": 12.5})
    late = seen("call_ended", 9, call_cost={"combined_cost": 3}, public_log_url="https://l/1")
    merged = fold([analyzed, late])
    assert merged["call_cost"] == {"combined_cost": 12.5}
    assert merged["public_log_url"] == "https://l/1"


def test_later_of_two_quick_call_ended_wins():
    first = seen("call_ended", 1000, duration_ms=5000)
    second = seen("call_ended", 1400, duration_ms=5100)
    assert fold([second, first])["duration_ms"] == 5100


def test_transcript_updated_after_call_ended_replaces_nothing():
    ended = seen("call_ended", 5, transcript="Agent: Hello.\nUser: Bye.")
    update = seen("transcript_updated", 6, transcript="Agent: Hello.", turns=1)
    merged = fold([ended, update])
    assert (merged["transcript"], merged["turns"]) == ("Agent: Hello.\nUser: Bye.", 1)


def test_call_ended_beats_a_mid_call_api_snapshot():
    snapshot = seen("x", 9, source="api", call_status="ongoing", transcript="Agent: He")
    ended = seen("call_ended", 5, call_status="ended", transcript="Agent: Hello.")
    merged = fold([snapshot, ended])
    assert (merged["call_status"], merged["transcript"]) == ("ended", "Agent: Hello.")


def test_finished_api_snapshot_beats_an_older_call_analyzed():
    analyzed = seen("call_analyzed", 5, call_analysis={"call_summary": "old"})
    snapshot = seen(
        "x", 6, source="api", call_status="ended", call_analysis={"call_summary": "new"}
    )
    assert fold([analyzed, snapshot])["call_analysis"] == {"call_summary": "new"}


def test_snapshot_from_a_fast_clock_wins_until_next():
    """Known limit: both are of level 3, and the time is our clock's against Retell's."""
    too_early = seen("x", 9, source="api", call_status="ended", call_cost={"combined_cost": 1})
    analyzed = seen("call_analyzed", 5, call_cost={"combined_cost": 2})
    again = seen("x", 20, source="api", call_status="ended", call_cost={"combined_cost": 2})
    assert fold([too_early, analyzed])["call_cost"] == {"combined_cost": 1}
    assert fold([too_early, analyzed, again])["call_cost"] == {"combined_cost": 2}


def test_only_the_retry_arrives():
    ended = seen("call_ended", 1, agent_name="a")
    retry = seen("call_analyzed", 60, agent_name="b")
    assert fold([ended, retry])["agent_name"] == "b"


def test_retry_beats_a_re_run_sent_before_it():
    """Known limit: of the first analysis only the retry arrived, signed after the second."""
    retry_of_first = seen("call_analyzed", 60, call_analysis={"call_summary": "first"})
    re_run = seen("call_analyzed", 30, call_analysis={"call_summary": "second"})
    assert fold([retry_of_first, re_run])["call_analysis"] == {"call_summary": "first"}
