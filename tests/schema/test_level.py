"""How much of a call an observation has seen."""

import json

import pytest

from schema.events import parse
from schema.merge import level
from tests.support.observing import seen

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
def test_level_without_content_follows_the_event_name(event, expected):
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
def test_api_snapshot_of_finished_call_is_level_3(fields, expected):
    assert seen("an_event_of_tomorrow", source="api", **fields).level == expected


def test_file_has_the_level_of_a_webhook():
    assert seen("call_ended", source="file", call_status="ended").level == 2


def test_chat_level_depends_on_chat_fields():
    def of(**fields):
        body = json.dumps({"event": "x", "chat": {"chat_id": "c", **fields}}).encode()
        return level(parse(body), source="webhook")

    assert of(chat_status="ongoing") == 1
    assert of(chat_status="ended") == 2
    assert of(chat_analysis={"chat_summary": "Short."}) == 3
