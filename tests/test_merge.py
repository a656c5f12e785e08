"""The merge rule: how far an observation has seen, which value of a field wins, what may go."""

import json

import pytest
from histories import blank_file

from receiver.store import receive, show
from schema import merge
from schema.events import parse, value, values
from schema.merge import Observation, compactable, level, retired


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


def seen(event, at=0, *, source="webhook", beside=None, **fields) -> Observation:
    """An observation of the call `c`, made at `at`."""
    understood = parse(encoded(event, beside=beside, **fields))
    return Observation(
        level(understood, source=source), at, source, understood.body_sha256, understood
    )


def encoded(event, *, beside=None, **fields) -> bytes:
    return json.dumps(
        {"event": event, "call": {"call_id": "c", **fields}} | (beside or {})
    ).encode()


def add(store, event, at, *, source="webhook", **fields):
    """Deliver a body about the call `c`, observed at `at`, received when it was observed."""
    return store.add(
        receive(encoded(event, **fields), source=source, observed_at=at, received_at=at)
    )


# -- level ---------------------------------------------------------------------------------------

BY_EVENT = {
    "call_started": 1,
    "chat_started": 1,
    "transcript_updated": 1,
    "transfer_started": 1,
    "transfer_bridged": 1,
    "transfer_cancelled": 1,
    "transfer_ended": 1,
    "transfer_of_tomorrow": 1,
    "call_ended": 2,
    "chat_ended": 2,
    "call_analyzed": 3,
    "chat_analyzed": 3,
    "call_inbound": 0,
    "alert_triggered": 0,
    "an_event_of_tomorrow": 0,
}
BY_CONTENT = [
    ({}, 0),
    ({"call_status": "registered"}, 0),
    ({"call_status": "a_status_of_tomorrow"}, 0),
    ({"call_status": ["ended"]}, 0),
    ({"call_status": "ongoing"}, 1),
    ({"call_status": "ended"}, 2),
    ({"call_status": "not_connected"}, 2),
    ({"call_status": "error"}, 2),
    ({"end_timestamp": 1}, 2),
    ({"end_timestamp": None}, 0),
    ({"disconnection_reason": "dial_busy"}, 2),
    ({"disconnection_reason": None}, 0),
    ({"call_analysis": {"call_summary": "Short."}}, 3),
    ({"call_analysis": {}}, 3),
    ({"call_analysis": None}, 0),
]


@pytest.mark.parametrize(("event", "expected"), BY_EVENT.items())
def test_level_of_an_event_without_content_is_its_names(event, expected):
    assert seen(event).level == expected


@pytest.mark.parametrize(("fields", "expected"), BY_CONTENT)
def test_level_of_an_unknown_event_is_its_contents(fields, expected):
    assert seen("an_event_of_tomorrow", **fields).level == expected


def test_level_is_the_higher_of_name_and_content():
    assert seen("call_started", call_status="ended").level == 2
    assert seen("call_ended", call_status="ongoing").level == 2
    assert seen("call_ended", call_analysis={"in_voicemail": False}).level == 3
    assert seen("call_analyzed", call_status="registered").level == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"call_status": "registered"}, 0),
        ({"call_status": "ongoing"}, 1),
        ({"call_status": "ended"}, 3),
        ({"call_status": "not_connected"}, 3),
        ({"end_timestamp": 1}, 3),
        ({"disconnection_reason": "user_hangup"}, 3),
    ],
)
def test_level_of_an_api_snapshot_is_3_once_the_call_is_over(fields, expected):
    assert seen("an_event_of_tomorrow", source="api", **fields).level == expected


def test_level_of_a_file_is_judged_as_a_webhooks():
    assert seen("call_ended", source="file", call_status="ended").level == 2


def test_level_of_a_chat_reads_the_chats_own_fields():
    def of(**fields):
        body = json.dumps({"event": "x", "chat": {"chat_id": "c", **fields}}).encode()
        return level(parse(body), source="webhook")

    assert of(chat_status="ongoing") == 1
    assert of(chat_status="ended") == 2
    assert of(chat_analysis={"chat_summary": "Short."}) == 3


def fold(observations):
    return values(merge.fold(observations))


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


def test_webhook_wins_over_file_and_file_over_api_at_the_same_time():
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


def test_each_field_comes_from_the_highest_that_carries_it():
    started = seen("call_started", 1, agent_name="a", from_number="+1", call_status="ongoing")
    ended = seen("call_ended", 2, agent_name="b", call_status="ended")
    analyzed = seen("call_analyzed", 3, agent_name="c")
    assert fold([started, ended, analyzed]) == {
        "call_id": "c",
        "from_number": "+1",
        "call_status": "ended",
        "agent_name": "c",
    }


def test_null_in_call_ended_does_not_erase_a_value_of_call_started():
    started = seen("call_started", 1, agent_name="a")
    ended = seen("call_ended", 2, agent_name=None)
    assert fold([started, ended])["agent_name"] == "a"


def test_null_that_nothing_overrides_says_nothing():
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


def test_null_inside_a_composite_field_is_part_of_it():
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


def test_late_re_signed_call_ended_does_not_beat_call_analyzed():
    analyzed = seen("call_analyzed", 5, call_cost={"combined_cost": 12.5})
    late = seen("call_ended", 9, call_cost={"combined_cost": 3}, public_log_url="https://l/1")
    merged = fold([analyzed, late])
    assert merged["call_cost"] == {"combined_cost": 12.5}
    assert merged["public_log_url"] == "https://l/1"


def test_of_two_call_ended_within_a_second_the_later_wins():
    first = seen("call_ended", 1000, duration_ms=5000)
    second = seen("call_ended", 1400, duration_ms=5100)
    assert fold([second, first])["duration_ms"] == 5100


def test_final_transcript_updated_after_call_ended_adds_but_does_not_replace():
    ended = seen("call_ended", 5, transcript="Agent: Hello.\nUser: Bye.")
    update = seen("transcript_updated", 6, transcript="Agent: Hello.", turns=1)
    merged = fold([ended, update])
    assert (merged["transcript"], merged["turns"]) == ("Agent: Hello.\nUser: Bye.", 1)


def test_api_snapshot_taken_mid_call_does_not_beat_call_ended():
    snapshot = seen("x", 9, source="api", call_status="ongoing", transcript="Agent: He")
    ended = seen("call_ended", 5, call_status="ended", transcript="Agent: Hello.")
    merged = fold([snapshot, ended])
    assert (merged["call_status"], merged["transcript"]) == ("ended", "Agent: Hello.")


def test_api_snapshot_of_a_finished_call_beats_an_older_call_analyzed():
    analyzed = seen("call_analyzed", 5, call_analysis={"call_summary": "old"})
    snapshot = seen(
        "x", 6, source="api", call_status="ended", call_analysis={"call_summary": "new"}
    )
    assert fold([analyzed, snapshot])["call_analysis"] == {"call_summary": "new"}


def test_snapshot_by_a_clock_ahead_wins_until_the_next_one():
    """Known limit: both are of level 3, and the time is our clock's against Retell's."""
    too_early = seen("x", 9, source="api", call_status="ended", call_cost={"combined_cost": 1})
    analyzed = seen("call_analyzed", 5, call_cost={"combined_cost": 2})
    again = seen("x", 20, source="api", call_status="ended", call_cost={"combined_cost": 2})
    assert fold([too_early, analyzed])["call_cost"] == {"combined_cost": 1}
    assert fold([too_early, analyzed, again])["call_cost"] == {"combined_cost": 2}


def test_first_try_lost_and_only_the_retry_counts_is_right():
    ended = seen("call_ended", 1, agent_name="a")
    retry = seen("call_analyzed", 60, agent_name="b")
    assert fold([ended, retry])["agent_name"] == "b"


def test_first_try_lost_and_a_re_run_between_puts_the_retry_on_top():
    """Known limit: of the first analysis only the retry arrived, signed after the second."""
    retry_of_first = seen("call_analyzed", 60, call_analysis={"call_summary": "first"})
    re_run = seen("call_analyzed", 30, call_analysis={"call_summary": "second"})
    assert fold([retry_of_first, re_run])["call_analysis"] == {"call_summary": "first"}


# -- deliveries: what time an observation has ----------------------------------------------------

FIRST, SECOND = {"call_summary": "first"}, {"call_summary": "second"}


def test_re_run_analysis_replaces_the_first(store, db_path):
    add(store, "call_analyzed", 1, call_analysis=FIRST)
    add(store, "call_analyzed", 2, call_analysis=SECOND)
    assert show(db_path, "c")["call_analysis"] == SECOND


def test_re_run_with_the_old_result_stays_hidden_until_it_is_fetched(store, db_path):
    """Known limit: A, B, A. The last is byte for byte the first, whose smallest time counts."""
    add(store, "call_analyzed", 1, call_analysis=FIRST)
    add(store, "call_analyzed", 2, call_analysis=SECOND)
    add(store, "call_analyzed", 3, call_analysis=FIRST)
    assert show(db_path, "c")["call_analysis"] == SECOND
    add(store, "call_analyzed", 4, source="api", call_analysis=FIRST)
    assert show(db_path, "c")["call_analysis"] == FIRST


def test_re_run_within_the_retry_window_survives_a_retry_of_the_first(store, db_path):
    add(store, "call_analyzed", 0, call_analysis=FIRST)
    add(store, "call_analyzed", 30_000, call_analysis=SECOND)
    add(store, "call_analyzed", 60_000, call_analysis=FIRST)
    assert show(db_path, "c")["call_analysis"] == SECOND


def test_first_try_that_arrives_after_its_retry_gives_its_own_time(store, db_path):
    add(store, "call_analyzed", 60_000, call_analysis=FIRST)
    add(store, "call_analyzed", 30_000, call_analysis=SECOND)
    assert show(db_path, "c")["call_analysis"] == FIRST
    add(store, "call_analyzed", 0, call_analysis=FIRST)
    assert show(db_path, "c")["call_analysis"] == SECOND


def test_api_snapshot_fetched_again_counts_from_the_latest_fetch(store, db_path):
    add(store, "x", 1, source="api", call_status="ended", call_analysis=FIRST)
    add(store, "x", 2, source="api", call_status="ended", call_analysis=SECOND)
    add(store, "x", 3, source="api", call_status="ended", call_analysis=FIRST)
    assert show(db_path, "c")["call_analysis"] == FIRST


def test_file_imported_again_counts_from_its_earliest_time(store, db_path):
    add(store, "call_analyzed", 3, source="file", call_analysis=FIRST)
    add(store, "call_analyzed", 2, source="file", call_analysis=SECOND)
    add(store, "call_analyzed", 1, source="file", call_analysis=FIRST)
    assert show(db_path, "c")["call_analysis"] == SECOND


def test_late_retry_after_the_call_was_deleted_upstream_changes_nothing(store, db_path):
    add(store, "call_ended", 1, call_status="ended", transcript="Agent: Bye.")
    add(store, "call_analyzed", 2, call_status="ended", call_analysis=FIRST)
    before = show(db_path, "c")
    add(store, "call_ended", 99_000, call_status="ended", transcript="Agent: Bye.")
    assert show(db_path, "c") == before


def test_same_id_as_call_and_chat_is_two_things(store, db_path, db):
    add(store, "call_ended", 1, agent_id="of_the_call", call_status="ended")
    chat = {"event": "chat_ended", "chat": {"chat_id": "c", "agent_id": "of_the_chat"}}
    store.add(receive(json.dumps(chat).encode(), source="webhook", observed_at=2, received_at=2))
    add(store, "call_started", 3, agent_name="Ann")
    assert [tuple(r) for r in db.execute("SELECT agent_id, agent_name FROM calls")] == [
        ("of_the_call", "Ann")
    ]
    assert [tuple(r) for r in db.execute("SELECT agent_id, agent_name FROM chats")] == [
        ("of_the_chat", None)
    ]
    assert show(db_path, "c")["agent_id"] == "of_the_call"


def test_call_without_numbers_has_null_numbers(store, db):
    add(store, "call_ended", 1, call_type="phone_call", batch_call_id="batch_1")
    row = db.execute("SELECT from_number, to_number, batch_call_id FROM calls").fetchone()
    assert tuple(row) == (None, None, "batch_1")


def test_transfer_steps_are_rows_of_their_own_and_never_merged(store, db):
    add(store, "transfer_started", 1, call_status="ongoing")
    add(store, "call_ended", 2, call_status="ended")
    add(store, "transfer_cancelled", 3, call_status="ongoing")
    steps = db.execute("SELECT event, observed_at FROM transfers ORDER BY observed_at")
    assert [tuple(r) for r in steps] == [("transfer_started", 1), ("transfer_cancelled", 3)]
    assert db.execute("SELECT call_status FROM calls").fetchone()[0] == "ended"


# -- compaction ----------------------------------------------------------------------------------


def test_body_may_go_once_a_higher_level_carries_all_its_fields():
    ended = seen("call_ended", 1, agent_name="a", duration_ms=5)
    analyzed = seen("call_analyzed", 2, agent_name="b", duration_ms=6, transcript="x")
    assert compactable([ended, analyzed]) == [ended]


def test_body_stays_while_one_of_its_fields_is_its_own():
    ended = seen("call_ended", 1, agent_name="a", duration_ms=5)
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == []


def test_several_higher_bodies_together_retire_a_lower_one():
    update = seen("transcript_updated", 1, agent_name="a", duration_ms=5)
    ended = seen("call_ended", 2, agent_name="b")
    analyzed = seen("call_analyzed", 3, duration_ms=6)
    assert compactable([update, ended, analyzed]) == [update]


def test_later_body_of_the_same_level_retires_nothing():
    """A duplicate with a smaller time may still turn the two around."""
    first = seen("call_analyzed", 1, call_analysis=FIRST)
    second = seen("call_analyzed", 2, call_analysis=SECOND)
    assert compactable([first, second]) == []


def test_lower_level_retires_nothing():
    ended = seen("call_ended", 9, agent_name="a")
    analyzed = seen("call_analyzed", 1, agent_name="b", transcript="x")
    assert not retired(analyzed, [ended])


def test_earlier_body_of_a_higher_level_retires_a_later_one():
    late = seen("call_ended", 9, agent_name="a")
    analyzed = seen("call_analyzed", 1, agent_name="b")
    assert retired(late, [analyzed])


def test_body_that_says_more_than_its_payload_stays():
    ended = seen("call_ended", 1, beside={"novel": 1}, agent_name="a")
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == []


def test_transfer_body_stays_without_a_destination_too():
    step = seen("transfer_started", 1, agent_name="a")
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([step, analyzed]) == []


def test_null_field_of_the_lower_body_needs_no_carrier():
    ended = seen("call_ended", 1, agent_name="a", transcript=None)
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == [ended]


def test_null_field_of_the_higher_body_carries_nothing():
    ended = seen("call_ended", 1, agent_name="a", transcript="x")
    analyzed = seen("call_analyzed", 2, agent_name="b", transcript=None)
    assert compactable([ended, analyzed]) == []


def test_observation_whose_body_is_gone_is_not_retired_again():
    gone = Observation(2, 1, "webhook", "0" * 64)
    assert not retired(gone, [seen("call_analyzed", 2)])


def test_fold_is_the_same_after_compaction():
    history = [
        seen("transcript_updated", 1, agent_name="a"),
        seen("call_ended", 2, agent_name="b", duration_ms=5),
        seen("call_analyzed", 3, agent_name="c", duration_ms=6),
    ]
    kept = [o for o in history if o not in compactable(history)]
    assert kept == history[2:]
    assert fold(kept) == fold(history)


def test_hundred_transcript_updates_leave_no_body_behind(store, db):
    said = [{"role": "agent", "content": f"word {n} " + "x" * 1000} for n in range(100)]
    for n in range(1, 101):
        add(store, "transcript_updated", n, transcript_with_tool_calls=said[:n])
    add(store, "call_ended", 200, transcript_with_tool_calls=said)
    kept = db.execute("SELECT event FROM observations WHERE body IS NOT NULL").fetchall()
    assert [tuple(row) for row in kept] == [("call_ended",)]
    assert db.execute("SELECT count(*) FROM observations").fetchone()[0] == 101
    assert db.execute("SELECT count(*) FROM utterances").fetchone()[0] == 100
