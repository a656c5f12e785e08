"""The calls and chats of the sandbox's day: transcripts, costs and links fit together."""

import json
import math
from collections import defaultdict
from itertools import pairwise
from statistics import mean, median

import pytest

from receiver.sandbox.calls import call_cost
from receiver.sandbox.companies import AGENTS
from receiver.sandbox.plans import Kind, Plan
from schema.products import FAMILIES, OTHER, product_family
from tests.support.sandbox_day import bodies, entries, final_calls

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
UTTERANCES = ("agent", "user", "transfer_target")


def dental_plan(*, web: bool) -> Plan:
    """A call to the dentist's."""
    agent = AGENTS["dental"]
    dialogue = agent.dialogues[0]
    kind = Kind("dental", dialogue, web=web)
    return Plan(kind, agent, agent.versions[0], dialogue.endings[0], "user_hangup", 0)


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
