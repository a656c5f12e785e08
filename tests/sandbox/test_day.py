"""The sandbox's day: the same for the same seed, whole in its kinds, and shaped like the wire."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from random import Random
from statistics import mean, median
from typing import Any

import pytest

from receiver.sandbox.calls import call_cost
from receiver.sandbox.companies import AGENTS
from receiver.sandbox.days import alert_story
from receiver.sandbox.plans import Kind, Plan
from schema.products import FAMILIES, OTHER, product_family
from tests.support.days import Delivery, day

DAY_START_MS = 1_772_409_600_000  # 2026-03-02, a Monday
DAY_MS = 86_400_000
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
# What real bills of 2026 and a rate card name, and one of each family of names.
EVERY_PRODUCT = {
    "voice_engine", "retell_voice_engine", "elevenlabs_tts", "elevenlabs_tts_new",
    "elevenlabs_tts_03_2026", "platform_tts", "openai_tts", "cartesia_tts", "minimax_tts",
    "fish_audio_tts", "gpt_4_1", "gpt_4o_mini", "gpt-4o-mini", "gpt_4_1_mini_high_priority",
    "gpt_realtime_mini", "claude_4_5_haiku", "gemini_2_0_flash", "llm_token_usage",
    "gpt_4_1_text_testing", "gpt_5_nano_text_testing", "post_call_analysis_gpt_4_1_mini",
    "us_twilio_telephony", "us_telnyx_telephony", "llm_token_surcharge", "short_call_surcharge",
    "concurrency_burst_surcharge", "background_voice_cancellation", "knowledge_base_usage",
    "guardrail", "pii_scrubbing", "colloquial_mode", "stable_server", "quality_assurance",
    "branded_outbound_call", "batch_call", "sms_message",
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


@cache
def a_day(calls: int, seed: int = 1) -> tuple[Delivery, ...]:
    return tuple(day(seed, day_start_ms=DAY_START_MS, calls=calls))


@cache
def parsed(calls: int) -> tuple[tuple[Delivery, dict[str, Any]], ...]:
    return tuple((sent, json.loads(sent.body)) for sent in a_day(calls))


def bodies(calls: int, *events: str) -> list[dict[str, Any]]:
    return [body for sent, body in parsed(calls) if sent.event in events]


def dental_plan(*, web: bool) -> Plan:
    """A call to the dentist's."""
    agent = AGENTS["dental"]
    dialogue = agent.dialogues[0]
    kind = Kind("dental", dialogue, web=web)
    return Plan(kind, agent, agent.versions[0], dialogue.endings[0], "user_hangup", 0)


@cache
def final_calls(calls: int) -> list[dict[str, Any]]:
    """Return each call as its last complete event reports it."""
    last: dict[str, dict[str, Any]] = {}
    for event in ("call_started", "call_ended", "call_analyzed", "transfer_ended"):
        for body in bodies(calls, event):
            last[body["call"]["call_id"]] = body["call"]
    return list(last.values())


def entry_lists(call: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    for key, value in call.items():
        if "transcript" in key and isinstance(value, list):
            yield value


def entries(calls: int) -> list[dict[str, Any]]:
    return [entry for call in final_calls(calls) for each in entry_lists(call) for entry in each]


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


class TestCalls:
    def test_words_join_to_content(self):
        spoken = [entry for entry in entries(120) if "words" in entry]
        assert len(spoken) > 1000
        for entry in spoken:
            assert "".join(word["word"] for word in entry["words"]) == entry["content"]
            assert all(word["start"] <= word["end"] for word in entry["words"])

    def test_transcript_object_holds_the_utterances_of_the_whole(self):
        for call in final_calls(120):
            if "transcript_object" in call:
                whole = call["transcript_with_tool_calls"]
                utterances = [entry for entry in whole if entry["role"] in UTTERANCES]
                assert call["transcript_object"] == utterances
                assert call["transcript"].count("\n") == len(utterances)

    def test_some_turns_overlap(self):
        turns = [call.get("transcript_object", []) for call in final_calls(120)]
        pairs = [pair for each in turns for pair in pairwise(each)]
        overlaps = [
            after["words"][0]["start"] < before["words"][-1]["end"] for before, after in pairs
        ]
        assert 0.01 < mean(overlaps) < 0.2

    def test_combined_cost_is_the_sum_of_the_costs(self):
        costs = [call["call_cost"] for call in final_calls(120)]
        for cost in costs:
            parts = cost.get("product_costs", [])
            assert cost["combined_cost"] == round(sum(part["cost"] for part in parts), 7)
        assert sum(cost["combined_cost"] > 0 for cost in costs) > 90

    def test_bills_have_every_product_of_2026(self):
        entities = [*final_calls(120), *(body["chat"] for body in bodies(120, "chat_analyzed"))]
        costs = [entity.get("call_cost") or entity["chat_cost"] for entity in entities]
        billed = {part["product"] for cost in costs for part in cost.get("product_costs", [])}
        assert billed >= EVERY_PRODUCT
        assert {product_family(product) for product in billed} == {*FAMILIES} - {OTHER}

    def test_products_per_call_have_no_unit_price(self):
        parts = [
            part for call in final_calls(120) for part in call["call_cost"].get("product_costs", [])
        ]
        flat = {part["product"] for part in parts if "unit_price" not in part}
        assert {product_family(product) for product in flat} == {
            "surcharge", "analysis", "per item",
        }  # fmt: skip
        assert {p["cost"] for p in parts if p["product"] == "branded_outbound_call"} == {10}

    def test_messages_are_billed_one_by_one(self):
        for call in final_calls(120):
            if "transcript_with_tool_calls" not in call:
                continue
            sent = sum(e["role"] == "sms" for e in call["transcript_with_tool_calls"])
            parts = call["call_cost"].get("product_costs", [])
            billed = [part["cost"] for part in parts if part["product"] == "sms_message"]
            assert billed == ([0.8 * sent] if sent else [])
        for body in bodies(120, "chat_analyzed"):
            chat = body["chat"]
            messages = [
                m for m in chat["message_with_tool_calls"] if m["role"] in ("agent", "user")
            ]
            costs = {p["product"]: p["cost"] for p in chat["chat_cost"]["product_costs"]}
            assert costs["gpt_4_1_text_testing"] == pytest.approx(0.2 * len(messages))
            assert ("sms_message" in costs) == (chat["chat_type"] == "sms_chat")
            assert chat["chat_cost"]["combined_cost"] == pytest.approx(sum(costs.values()))

    def test_voice_is_billed_for_agent_speech(self):
        for call in final_calls(120):
            utterances = [
                e["words"] for e in call.get("transcript_object", []) if e["role"] == "agent"
            ]
            if not utterances:
                continue
            seconds = math.ceil(sum(words[-1]["end"] - words[0]["start"] for words in utterances))
            [voice] = [
                part
                for part in call["call_cost"]["product_costs"]
                if product_family(part["product"]) == "voice"
            ]
            assert voice["cost"] == pytest.approx(voice["unit_price"] * seconds, abs=1e-3)
            assert seconds < call["call_cost"]["total_duration_seconds"]

    def test_a_web_call_is_billed_no_telephony(self):
        for web, billed in ((False, True), (True, False)):
            parts = call_cost(dental_plan(web=web), 60_000, [], None)["product_costs"]
            assert billed == any(product_family(p["product"]) == "telephony" for p in parts)

    def test_a_call_of_seconds_is_billed_as_ten(self):
        plan = dental_plan(web=False)
        short, ten = (call_cost(plan, ms, [], None)["product_costs"] for ms in (4_000, 10_000))
        billed = {"voice engine", "model", "surcharge"}

        def cents(parts):
            return sum(p["cost"] for p in parts if product_family(p["product"]) in billed)

        assert cents(short) == pytest.approx(cents(ten))
        assert short[-1]["product"] == "short_call_surcharge"

    def test_duration_is_billed_by_the_second(self):
        for call in final_calls(120):
            if "end_timestamp" in call:
                duration_ms = call["duration_ms"]
                assert call["end_timestamp"] - call["start_timestamp"] == duration_ms
                assert call["call_cost"]["total_duration_seconds"] == -(-duration_ms // 1000)
                is_failed = call["disconnection_reason"] == "error_llm_websocket_open"
                assert (4_000 if is_failed else 20_000) <= duration_ms <= 540_000

    def test_unconnected_calls_have_neither_times_nor_cost(self):
        for call in final_calls(120):
            if call["call_status"] == "not_connected":
                assert not {"start_timestamp", "end_timestamp", "latency"} & call.keys()
                assert (call["duration_ms"], call["transcript"]) == (0, "")
                assert call["call_cost"] == {"combined_cost": 0}
                assert call["call_analysis"]["user_sentiment"] == "Unknown"

    def test_transfer_costs_more_after_its_leg(self):
        before = {body["call"]["call_id"]: body["call"] for body in bodies(40, "call_analyzed")}
        for body in bodies(40, "transfer_ended"):
            after, earlier = body["call"], before[body["call"]["call_id"]]
            assert after["call_cost"]["combined_cost"] > earlier["call_cost"]["combined_cost"]
            assert after["call_cost"]["product_costs"][-1]["is_transfer_leg_cost"]
            assert "transfer_end_timestamp" not in earlier

    def test_percentiles_agree_with_their_values(self):
        for call in final_calls(120):
            for group in call.get("latency", {}).values():
                assert group["num"] == len(group["values"])
                assert group["p50"] == pytest.approx(median(group["values"]))
                assert group["min"] <= group["p50"] <= group["p90"] <= group["p95"]
                assert group["p95"] <= group["p99"] <= group["max"] == max(group["values"])

    def test_web_calls_have_a_token_and_no_line(self):
        for call in final_calls(120):
            is_web = call["call_type"] == "web_call"
            assert is_web == ("access_token" in call)
            assert is_web == ("from_number" not in call)

    def test_basic_storage_has_no_transcript(self):
        basic = [
            body["call"]
            for body in bodies(120, "call_ended", "call_analyzed")
            if body["call"]["data_storage_setting"] == "basic_attributes_only"
        ]
        assert basic
        for call in basic:
            assert not [key for key in call if "transcript" in key or key.endswith("recording_url")]

    def test_scrubbed_copies_do_not_name_the_caller(self):
        scrubbed = [call for call in final_calls(120) if "scrubbed_recording_url" in call]
        assert scrubbed
        for call in scrubbed:
            copy = json.dumps(call["scrubbed_transcript_with_tool_calls"], ensure_ascii=False)
            first_name = call["retell_llm_dynamic_variables"]["nombre"]
            assert first_name not in copy
        assert "[NAME]" in json.dumps(scrubbed)

    def test_no_two_conversations_read_alike(self):
        texts = [call.get("transcript", "") for call in final_calls(120)]
        conversations = [text for text in texts if text.count("\n") >= 8]
        assert len(conversations) > 50
        assert len(set(conversations)) == len(conversations)

    def test_later_versions_are_faster_and_one_is_worse(self):
        success, speed = defaultdict(list), defaultdict(list)
        for call in final_calls(300):
            if call.get("latency") and "call_analysis" in call:
                key = call["agent_id"], call["agent_version"]
                success[key].append(call["call_analysis"]["call_successful"])
                speed[key].append(call["latency"]["e2e"]["p50"])
        pairs = [(key, (key[0], key[1] + 1)) for key in success if (key[0], key[1] + 1) in success]
        assert len(pairs) == 4
        better = {newer[1]: mean(success[newer]) > mean(success[older]) for older, newer in pairs}
        # Version 4 of the front desk.
        assert better == {1: True, 4: False, 6: True, 8: True}
        for older, newer in pairs:
            assert mean(speed[newer]) < mean(speed[older])
