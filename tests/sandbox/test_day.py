"""The sandbox's day: the same for the same seed, whole in its kinds, and shaped like the wire."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from random import Random

import pytest

from receiver.sandbox.days import alert_story
from tests.support.days import Delivery, day
from tests.support.sandbox_day import (
    DAY_MS,
    DAY_START_MS,
    a_day,
    bodies,
    entries,
    final_calls,
    parsed,
)

SIZES = (40, 120)
EVERY_EVENT = {
    "call_started", "call_ended", "call_analyzed", "transcript_updated", "transfer_started",
    "transfer_bridged", "transfer_cancelled", "transfer_ended", "chat_started", "chat_ended",
    "chat_analyzed", "call_inbound", "chat_inbound", "alert_triggered", "call_reviewed", "",
}  # fmt: skip
EVERY_REASON = {
    "user_hangup", "agent_hangup", "call_transfer", "voicemail_reached", "inactivity",
    "max_duration_reached", "dial_no_answer", "dial_busy", "user_declined",
    "concurrency_limit_reached", "error_llm_websocket_open", "error_no_audio_received",
}  # fmt: skip
EVERY_METRIC = {
    "call_count", "concurrency_used", "call_success_rate", "negative_sentiment_rate",
    "custom_function_latency", "custom_function_failure_count", "transfer_call_failure_count",
    "qa_not_passed_count", "total_call_cost", "api_error_count",
}  # fmt: skip
EVERY_ROLE = {
    "agent", "user", "transfer_target", "tool_call_invocation", "tool_call_result",
    "node_transition", "dtmf", "sms", "injected",
}  # fmt: skip
EVERY_TOOL_TYPE = {
    "custom", "end_call", "transfer_call", "extract_dynamic_variable", "check_availability_cal",
    "book_appointment_cal", "integration_app", None,
}  # fmt: skip
UTTERANCES = ("agent", "user", "transfer_target")
ANYONE = r"(?:\+1\d{3}55501\d\d|\+442079460\d{3}|\+447700900\d{3}|\+493023125\d{3}"
ANYONE += r"|\+4917139200\d\d|\+3319900\d{4}|\+3363998\d{4}|\+34555010\d{3}"
ANYONE += r"|\+8130000\d{4}|\+81900000\d{4})"


def sent_twice(calls: int, event: str) -> list[list[Delivery]]:
    sent = defaultdict(list)
    for delivery in a_day(calls):
        if delivery.event == event:
            sent[delivery.entity_id].append(delivery)
    return [group for group in sent.values() if len(group) > 1]


class TestDay:
    def test_same_arguments_give_the_same_bytes(self):
        assert day(7, day_start_ms=DAY_START_MS, calls=40) == list(a_day(40, seed=7))

    def test_other_seeds_give_other_days(self):
        assert a_day(40, seed=7) != a_day(40, seed=8)

    def test_bytes_do_not_depend_on_hash_randomisation(self):
        script = (
            "import hashlib; from tests.support.days import day\n"
            f"sent = day(1, day_start_ms={DAY_START_MS}, calls=12)\n"
            "print(hashlib.sha256(b''.join(each.body for each in sent)).hexdigest())"
        )
        digests = {
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            for hash_seed in ("1", "2")
        }
        assert len(digests) == 1

    @pytest.mark.parametrize("calls", [0, 1, *SIZES])
    def test_holds_as_many_calls_as_asked_for(self, calls):
        assert len(final_calls(calls)) == calls

    def test_deliveries_come_in_sending_order(self):
        moments = [sent.at_ms for sent in a_day(120)]
        assert moments == sorted(moments)

    def test_calls_start_mostly_by_daylight(self):
        starts = [call["start_timestamp"] for call in final_calls(120) if "start_timestamp" in call]
        hours = [(start - DAY_START_MS) / 3_600_000 for start in starts]
        assert all(0 <= hour < 24 for hour in hours)
        assert sum(8 <= hour < 19 for hour in hours) > 0.8 * len(hours)


@pytest.mark.parametrize("calls", SIZES)
class TestKinds:
    def test_every_event_is_sent(self, calls):
        assert {sent.event for sent in a_day(calls)} == EVERY_EVENT

    def test_every_reason_ends_a_call(self, calls):
        assert {call.get("disconnection_reason") for call in final_calls(calls)} >= EVERY_REASON

    def test_transcripts_have_every_role_and_tool_type(self, calls):
        found = entries(calls)
        tools = [entry for entry in found if entry["role"] == "tool_call_invocation"]
        assert {entry["role"] for entry in found} == EVERY_ROLE
        assert {entry.get("type") for entry in tools} == EVERY_TOOL_TYPE
        assert "" in {entry["arguments"] for entry in tools}

    def test_tools_fail_in_every_way(self, calls):
        found = entries(calls)
        results = [entry for entry in found if entry["role"] == "tool_call_result"]
        answered = {entry["tool_call_id"] for entry in results}
        assert {entry.get("successful") for entry in results} == {True, False, None}
        assert any(
            entry.get("successful") and '"success":false' in entry["content"] for entry in results
        )
        assert any(
            entry["tool_call_id"] not in answered and entry.get("type") == "custom"
            for entry in found
            if entry["role"] == "tool_call_invocation"
        )

    def test_calls_have_both_types_and_directions(self, calls):
        lines = {(call["call_type"], call.get("direction")) for call in final_calls(calls)}
        assert lines == {
            ("phone_call", "inbound"), ("phone_call", "outbound"), ("web_call", None),
        }  # fmt: skip

    def test_every_sentiment_and_status_occurs(self, calls):
        found = final_calls(calls)
        analyses = [call["call_analysis"] for call in found if "call_analysis" in call]
        statuses = {call["call_status"] for call in found}
        sentiments = {analysis["user_sentiment"] for analysis in analyses}
        assert statuses == {"ended", "not_connected", "error", "ongoing"}
        assert sentiments == {"Positive", "Neutral", "Negative", "Unknown"}
        assert {True, False, None} == {analysis.get("in_voicemail") for analysis in analyses}

    def test_custom_analysis_holds_every_type_of_value(self, calls):
        analyses = [call.get("call_analysis", {}) for call in final_calls(calls)]
        custom = [each.get("custom_analysis_data", {}) for each in analyses]
        values = [value for each in custom for value in each.values()]
        keys = "".join(key for each in custom for key in each)
        assert {type(value) for value in values} == {str, bool, int, float, type(None)}
        assert {"", "N/A"} <= {value for value in values if isinstance(value, str)}
        assert all(character in keys for character in " ?éß")

    def test_agents_differ_in_version_tag_and_storage(self, calls):
        found = final_calls(calls)
        versions = defaultdict(set)
        for call in found:
            versions[call["agent_id"]].add(call["agent_version"])
        assert len(versions) >= 6
        assert sum(len(numbers) > 1 for numbers in versions.values()) >= 3
        assert 0 in set.union(*versions.values())
        assert {call["data_storage_setting"] for call in found} == {
            "everything", "everything_except_pii", "basic_attributes_only",
        }  # fmt: skip
        assert None in {call["agent_tag"] for call in found if "agent_tag" in call}

    def test_optional_fields_are_all_there_somewhere(self, calls):
        found = {key for call in final_calls(calls) for key in call}
        assert found >= {
            "batch_call_id", "metadata", "retell_llm_dynamic_variables", "agent_tag",
            "collected_dynamic_variables", "knowledge_base_retrieved_contents_url",
            "pre_session_transcript_with_tool_calls", "post_session_transcript_with_tool_calls",
            "scrubbed_transcript_with_tool_calls", "scrubbed_recording_url", "transfer_destination",
            "scrubbed_pre_session_transcript_with_tool_calls", "transfer_end_timestamp",
            "llm_token_usage", "telephony_identifier", "recording_multi_channel_url",
        }  # fmt: skip

    def test_chats_are_by_web_and_sms(self, calls):
        chats = [body["chat"] for body in bodies(calls, "chat_analyzed")]
        assert {chat["chat_type"] for chat in chats} == {"api_chat", "sms_chat"}

    def test_chat_by_sms_is_asked_for_first(self, calls):
        chats = [
            (body["chat"]["user_number"], body["chat"]["agent_number"])
            for body in bodies(calls, "chat_started")
            if body["chat"]["chat_type"] == "sms_chat"
        ]
        asked = [body["chat_inbound"] for body in bodies(calls, "chat_inbound")]
        assert [(each["from_number"], each["to_number"]) for each in asked] == chats
        order = [
            sent.event
            for sent in a_day(calls)
            if sent.event == "chat_inbound"
            or (sent.event == "chat_started" and b'"sms_chat"' in sent.body)
        ]
        assert order == ["chat_inbound", "chat_started"] * len(chats)


@pytest.mark.parametrize("calls", SIZES)
class TestDeliveryQuirks:
    def test_one_body_is_delivered_twice(self, calls):
        copies = Counter((sent.entity_id, sent.body) for sent in a_day(calls))
        assert 2 in copies.values()

    def test_some_events_come_out_of_order(self, calls):
        at = {(sent.entity_id, sent.event): sent.at_ms for sent in a_day(calls)}

        def overtaken(late: str, early: str) -> bool:
            return any(
                event == late and at_ms > at.get((entity, early), at_ms)
                for (entity, event), at_ms in at.items()
            )

        assert overtaken("call_ended", "call_analyzed")
        assert overtaken("call_started", "call_ended")

    def test_days_have_alerts_of_every_metric(self, calls):
        stories = [alert_story(Random(1), DAY_START_MS + n * DAY_MS) for n in range(10)]
        alerts = [story.events[0].content["alert"] for story in stories]
        assert {alert["metric_type"] for alert in alerts} == EVERY_METRIC
        assert {alert["threshold_type"] for alert in alerts} == {"absolute", "relative"}
        [body] = bodies(calls, "alert_triggered")
        assert body["alert"].keys() == alerts[0].keys()

    def test_a_second_analysis_differs_from_the_first(self, calls):
        (first, second), *_ = sent_twice(calls, "call_analyzed")
        before, after = (json.loads(sent.body)["call"] for sent in (first, second))
        assert before["call_analysis"] != after["call_analysis"]
        assert second.at_ms - first.at_ms > 600_000

    def test_one_call_is_ongoing_one_not_analysed(self, calls):
        seen = defaultdict(set)
        for sent in a_day(calls):
            seen[sent.entity_id].add(sent.event)
        assert list(seen.values()).count({"call_started"}) == 1
        assert any(
            {"call_ended", "call_analyzed"} & events == {"call_ended"} for events in seen.values()
        )

    def test_an_unknown_event_carries_an_unknown_field(self, calls):
        (body,) = bodies(calls, "call_reviewed")
        assert body["call"]["call_id"]
        assert body["call"]["quality_review"]["score"] == 4

    def test_a_custom_function_request_has_no_event(self, calls):
        (body,) = bodies(calls, "")
        assert list(body) == ["name", "args", "call"]
        assert isinstance(body["args"], dict)

    def test_most_bodies_carry_the_moment_they_were_sent(self, calls):
        stamps = [(body.get("event_timestamp"), sent.at_ms) for sent, body in parsed(calls)]
        given = [(stamp, at_ms) for stamp, at_ms in stamps if stamp is not None]
        assert 0.8 < len(given) / len(stamps) < 1
        # Only a resent body is older than its sending.
        assert sum(stamp != at_ms for stamp, at_ms in given) <= len(stamps) * 0.05


class TestBodies:
    def test_are_what_javascript_would_print(self):
        for sent, body in parsed(120):
            text = sent.body.decode()
            assert text == json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            assert body.get("event", "") == sent.event

    def test_numbers_are_what_javascript_would_print(self):
        floats: list[str] = []
        for sent in a_day(40):
            json.loads(sent.body, parse_float=lambda digits: floats.append(digits) or 0.0)
        assert len(floats) > 10_000
        assert not [digits for digits in floats if digits.endswith(".0") or "e" in digits]

    def test_text_in_other_scripts_is_not_escaped(self):
        everything = b"".join(sent.body for sent in a_day(40))
        assert rb"\u" not in everything
        for text in ("割烹ふじなみ", "Begrüßung", "problème", "Recepción", "📍"):
            assert text.encode() in everything

    def test_ids_are_well_formed(self):
        for call in final_calls(120):
            assert re.fullmatch(r"call_[0-9a-f]{27}", call["call_id"])
            assert re.fullmatch(r"agent_[0-9a-f]{26}", call["agent_id"])

    def test_numbers_are_reserved_for_fiction(self):
        everything = b"".join(sent.body for sent in a_day(120)).decode()
        numbers = set(re.findall(r"\+\d{7,}", everything))
        assert len(numbers) > 30
        assert not [number for number in numbers if not re.fullmatch(ANYONE, number)]

    def test_addresses_and_hosts_are_reserved(self):
        everything = b"".join(sent.body for sent in a_day(40)).decode()
        assert set(re.findall(r"[\w.]+@([\w.]+\w)", everything)) == {"example.com"}
        assert set(re.findall(r"https?://([^/\"]+)", everything)) == {"media.example.com"}
