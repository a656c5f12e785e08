"""What to list, what to ask for and what is news: decided without any I/O."""

from datetime import date
from zoneinfo import ZoneInfo

import pytest

from receiver.retell.listing import (
    SETTLED_MS,
    CallProgress,
    StoredCall,
    adds_information,
    day_of,
    is_open,
    missing_parts,
    progress_of,
    resume_day,
    row_of,
    window,
)
from tests.support.raw_fields import raw_fields

AT = 1_778_328_000_000
WHOLE = CallProgress(
    is_over=True, is_analysed=True, cost_is_final=True, expects_transcript=True, at=AT
)


def without(**changes) -> CallProgress:
    return CallProgress(**{name: getattr(WHOLE, name) for name in WHOLE.__slots__} | changes)


def stored(progress=WHOLE, **changes) -> StoredCall:
    return StoredCall(**{"progress": progress, "has_transcript": True} | changes)


LACKING = {
    "nothing of a whole call": (WHOLE, stored(), []),
    "a call that is not here": (WHOLE, StoredCall(None), ["call"]),
    "one that goes on and is not here": (without(is_over=False), StoredCall(None), ["call"]),
    "nothing of one that goes on": (without(is_over=False), stored(without(is_over=False)), []),
    "the end": (WHOLE, stored(without(is_over=False)), ["end"]),
    "the transcript": (WHOLE, stored(has_transcript=False), ["transcript"]),
    "the analysis": (WHOLE, stored(without(is_analysed=False)), ["analysis"]),
    "the cost": (WHOLE, stored(without(cost_is_final=False)), ["cost"]),
    "no transcript where none is kept": (
        without(expects_transcript=False),
        stored(has_transcript=False),
        [],
    ),
    "no analysis that Retell lacks too": (
        without(is_analysed=False),
        stored(without(is_analysed=False)),
        [],
    ),
    "no cost that is not final there": (
        without(cost_is_final=False),
        stored(without(cost_is_final=False)),
        [],
    ),
    "nothing of what is gone": (WHOLE, stored(has_transcript=False, is_gone=True), []),
    "nothing of what was erased": (WHOLE, StoredCall(None, is_erased=True), []),
    "what an early answer lacked": (
        WHOLE,
        stored(has_transcript=False, fetched_at=AT + SETTLED_MS - 1),
        ["transcript"],
    ),
    "not what a late answer lacked": (
        WHOLE,
        stored(has_transcript=False, fetched_at=AT + SETTLED_MS),
        [],
    ),
}


@pytest.mark.parametrize(("listed", "here", "parts"), LACKING.values(), ids=LACKING)
def test_missing_parts_of_a_call(listed, here, parts):
    assert missing_parts(listed, here) == parts


OPEN = {
    "a whole call": (stored(), False),
    "one that goes on": (stored(without(is_over=False)), True),
    "one that was not analysed": (stored(without(is_analysed=False)), True),
    "one without its final cost": (stored(without(cost_is_final=False)), True),
    "one without its transcript": (stored(has_transcript=False), True),
    "one that keeps no transcript": (
        stored(without(expects_transcript=False), has_transcript=False),
        False,
    ),
    "one that goes on, asked for two days after": (
        stored(without(is_over=False), fetched_at=AT + SETTLED_MS),
        False,
    ),
    "one that is gone": (stored(without(is_over=False), is_gone=True), False),
    "one that was erased": (stored(without(is_over=False), is_erased=True), False),
    "one that is not here": (StoredCall(None), False),
}


@pytest.mark.parametrize(("here", "expected"), OPEN.values(), ids=OPEN)
def test_call_that_may_change_is_open(here, expected):
    assert is_open(here) is expected


NEWS = {
    "the same": ({"a": 1}, {"a": 1, "b": 2}, False),
    "another value": ({"a": 2}, {"a": 1}, True),
    "another field": ({"c": 1}, {"a": 1}, True),
    "anything of an unknown call": ({"a": 1}, {}, True),
    "another link to the same recording": ({"recording_url": "y"}, {"recording_url": "x"}, False),
    "a first link": ({"recording_url": "y"}, {}, True),
    "a call that goes on where it is over": (
        {"call_status": "ongoing", "x": 1},
        {"call_status": "ended"},
        False,
    ),
    "the end of a call": ({"call_status": "ended"}, {"call_status": "ongoing"}, True),
}


@pytest.mark.parametrize(("new", "known", "expected"), NEWS.values(), ids=NEWS)
def test_item_of_a_list_adds_information(new, known, expected):
    assert adds_information(raw_fields(new), raw_fields(known)) is expected


ROWS = {
    "nothing yet": ({"call_status": "ongoing"}, without(
        is_over=False, is_analysed=False, cost_is_final=False, expects_transcript=False, at=7)),
    "ended": (
        {"call_status": "ended", "start_timestamp": 1, "end_timestamp": 2,
         "call_cost": {"combined_cost": 3}},
        without(is_analysed=False, at=2),
    ),
    "transferred and the leg goes on": (
        {"call_status": "ended", "start_timestamp": 1, "call_cost": {"combined_cost": 3},
         "disconnection_reason": "call_transfer"},
        without(is_analysed=False, cost_is_final=False, at=1),
    ),
    "never connected": (
        {"call_status": "not_connected", "call_cost": {"combined_cost": 0}},
        without(is_analysed=False, expects_transcript=False, at=7),
    ),
    "storage off": (
        {"call_status": "ended", "start_timestamp": 1, "call_cost": {"combined_cost": 0},
         "data_storage_setting": "basic_attributes_only"},
        without(is_analysed=False, expects_transcript=False, at=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), ROWS.values(), ids=ROWS)
def test_how_far_a_listed_call_is(fields, expected):
    assert progress_of(row_of("c", raw_fields(fields), 7), is_analysed=False) == expected


def test_day_in_time_zone_can_have_23_hours():
    berlin = ZoneInfo("Europe/Berlin")
    spring = window(date(2026, 3, 29), berlin)
    assert spring.until - spring.since + 1 == 23 * 3_600_000
    assert day_of(spring.since, berlin) == day_of(spring.until, berlin) == date(2026, 3, 29)
    assert day_of(spring.until + 1, berlin) == date(2026, 3, 30)
    assert window(date(2026, 3, 30), berlin).since == spring.until + 1


def test_first_and_last_day_are_open():
    first = window(date(2026, 3, 29), ZoneInfo("UTC"), is_first=True, is_last=True)
    assert (first.since, first.until) == (None, None)


def test_sync_lists_recent_days_again():
    day = date(2026, 5, 13)
    assert resume_day(date(2026, 5, 14), day) == date(2026, 5, 11)
    assert resume_day(date(2026, 5, 2), day) == date(2026, 5, 2)
