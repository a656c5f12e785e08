"""One call -> rows: each column from the field that Retell documents for it."""

import json

import pytest

from schema.rows import SLICES, Stamp, project
from schema.tables import CALL_TABLES, CALLS, TRANSFERS, UNKNOWNS
from tests.support.raw_fields import raw_fields
from tests.support.tables import call_rows

CALL = {
    "call_id": "call_a",
    "call_type": "phone_call",
    "call_status": "ended",
    "direction": "outbound",
    "agent_id": "agent_7",
    "agent_version": 3,
    "agent_name": "Bakery",
    "agent_tag": "live",
    "from_number": "+12065550100",
    "to_number": "anonymous",
    "start_timestamp": 1776171940016,
    "end_timestamp": 1776171950591,
    "duration_ms": 10575,
    "disconnection_reason": "call_transfer",
    "transfer_destination": "sip:desk@example.com;transport=tls",
    "transfer_end_timestamp": 1776172000000,
    "call_cost": {
        "combined_cost": 3.25,
        "total_duration_seconds": 11,
        "total_duration_unit_price": 0.2954545,
        "product_costs": [
            {"product": "elevenlabs_tts", "cost": 1.2833333, "unit_price": 0.1166667},
            {"product": "voice_engine", "cost": 2, "is_transfer_leg_cost": True},
        ],
    },
    "llm_token_usage": {"values": [100, 140], "average": 120, "num_requests": 2},
    "data_storage_setting": "everything_except_pii",
    "opt_in_signed_url": False,
    "telephony_identifier": {"twilio_call_sid": "CA123"},
    "batch_call_id": "batch_1",
    "access_token": "canary-token",
    "transcript": "Agent: Hi.\nUser: Bye.\n",
    "transcript_object": [{"role": "agent", "content": "Hi."}],
    "latency": {"e2e": {"p50": 836.5, "p90": 900, "p95": 950, "p99": 990, "min": 700,
                        "max": 1000, "num": 2, "values": [700, 1000.5]}},
    "call_analysis": {
        "call_summary": "Somebody asked for bread.",
        "user_sentiment": "Positive",
        "call_successful": True,
        "in_voicemail": False,
        "custom_analysis_data": {"loaves": 2},
    },
    "metadata": {"shop": "north"},
    "recording_url": "https://media.example/a/recording.wav",
    "tomorrow": {"b": 1, "a": "ü"},
}  # fmt: skip


def call_row(**fields) -> dict:
    (row,) = call_rows("calls", **fields)
    return row


def test_calls_row_has_each_column_from_its_field():
    assert call_row(**CALL) == {
        "account": None,
        "call_id": "call_a",
        "call_type": "phone_call",
        "call_status": "ended",
        "direction": "outbound",
        "agent_id": "agent_7",
        "agent_version": 3,
        "agent_name": "Bakery",
        "agent_tag": "live",
        "from_number": "+12065550100",
        "to_number": "anonymous",
        "start_timestamp": 1776171940016,
        "end_timestamp": 1776171950591,
        "duration_ms": 10575,
        "disconnection_reason": "call_transfer",
        "transfer_destination": "sip:desk@example.com;transport=tls",
        "transfer_end_timestamp": 1776172000000,
        "combined_cost_cents": 3.25,
        "cost_is_final": True,
        "total_duration_seconds": 11,
        "total_duration_unit_price_cents_per_second": 0.2954545,
        "llm_requests": 2,
        "llm_tokens_average": 120,
        "data_storage_setting": "everything_except_pii",
        "opt_in_signed_url": False,
        "twilio_call_sid": "CA123",
        "batch_call_id": "batch_1",
        "extra": '{"tomorrow":{"b":1,"a":"ü"}}',
        "level": 2,
        "observed_at": 1000,
        "updated_at": 2000,
    }


def test_call_with_only_an_id_has_no_children():
    rows = project("call_a", raw_fields({"call_id": "call_a"}), Stamp(0, 1, 2))
    assert rows.pop(("calls", None)) == [
        tuple({"call_id": "call_a", "cost_is_final": False, "level": 0, "observed_at": 1,
               "updated_at": 2}.get(column) for column in CALLS.names)
    ]  # fmt: skip
    assert rows == {part: [] for part in [*SLICES, ("unknowns", None)]}


def test_every_derived_table_of_fields_has_a_slice():
    tables = {table for table, _ in SLICES} | {"calls"}
    assert tables == {table.name for table in CALL_TABLES} - {TRANSFERS.name, UNKNOWNS.name}


def test_rows_are_as_wide_as_their_table():
    widths = {table.name: len(table.names) for table in CALL_TABLES}
    for (table, _), rows in project("call_a", raw_fields(CALL), Stamp(3, 1, 2)).items():
        assert all(len(row) == widths[table] and row[0] == "call_a" for row in rows)


def test_access_token_reaches_no_column():
    assert "canary-token" not in repr(project("call_a", raw_fields(CALL), Stamp(3, 1, 2)))
    assert call_row(access_token="canary-token")["extra"] is None


# Columns of calls.


def test_agent_version_0_is_a_version():
    assert call_row(agent_version=0, version=4)["agent_version"] == 0


def test_agent_version_has_an_old_name():
    assert call_row(version=4)["agent_version"] == 4
    assert call_row(version=4)["extra"] is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, None),
        (-(2**63) - 1, None),
        (10**400, None),
        (1.5, None),
        (float("inf"), None),
        ("soon", None),
        ([], None),
        ({}, None),
    ],
)
def test_integer_column_holds_64_bits_or_null(value, kept):
    assert call_row(agent_version=value)["agent_version"] == kept


@pytest.mark.parametrize("value", [["x"], {"a": 1}, True, []])
def test_text_column_is_null_for_other_types(value):
    row = call_row(call_status=value, agent_name=value, from_number=value)
    assert (row["call_status"], row["agent_name"], row["from_number"]) == (None, None, None)


def test_ill_typed_value_costs_the_other_fields_nothing():
    row = call_row(agent_id=["x"], call_cost="dear", llm_token_usage=7, telephony_identifier="CA",
                   call_analysis=True, metadata="m", transcript_object="t", latency=[1],
                   direction="inbound")  # fmt: skip
    assert {name: value for name, value in row.items() if value is not None} == {
        "call_id": "call_a", "direction": "inbound", "cost_is_final": False,
        "level": 2, "observed_at": 1000, "updated_at": 2000,
    }  # fmt: skip


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "dear", [], {}])
def test_cost_that_is_no_finite_number_is_null(value):
    row = call_row(call_cost={"combined_cost": value, "total_duration_seconds": 11})
    assert (row["combined_cost_cents"], row["total_duration_seconds"]) == (None, 11)


def test_unknown_enum_values_are_kept():
    row = call_row(call_status="paused", call_type="fax", disconnection_reason="bored")
    assert (row["call_status"], row["call_type"], row["disconnection_reason"]) == (
        "paused", "fax", "bored",
    )  # fmt: skip


@pytest.mark.parametrize(
    "number", ["+12065550100", "anonymous", "11111", "iatizeia", "sip:a@b;transport=udp", ""]
)
def test_number_of_any_kind_is_kept(number):
    assert call_row(from_number=number)["from_number"] == number


@pytest.mark.parametrize(
    "field", ["call_cost", "telephony_identifier", "llm_token_usage", "metadata", "call_analysis",
              "latency", "custom_sip_headers", "custom_attributes", "transcript_object",
              "retell_llm_dynamic_variables", "collected_dynamic_variables"]
)  # fmt: skip
def test_empty_php_list_reads_as_an_empty_object(field):
    stamp = Stamp(2, 1, 2)
    as_list = project("call_a", raw_fields({"call_id": "call_a", field: []}), stamp)
    as_object = project("call_a", raw_fields({"call_id": "call_a", field: {}}), stamp)
    assert as_list == as_object


def test_empty_php_list_in_analysis_is_an_object():
    (row,) = call_rows("analyses", call_analysis={"custom_analysis_data": []})
    assert row["custom_analysis_data"] == "{}"


def test_extra_is_sorted_and_null_when_empty():
    assert call_row(zebra=1, apple=[2], mango="ü")["extra"] == '{"apple":[2],"mango":"ü","zebra":1}'
    assert call_row(call_status="ended")["extra"] is None


def test_extra_keeps_older_and_undocumented_fields():
    old = {"opt_out_sensitive_data_storage": True, "sample_rate": 8000, "audio_encoding": "mulaw",
           "conversation_eval": {"agnet_sentiment": "Positive"},
           "scrubbed_call_analysis": {"call_summary": "Hidden."}}  # fmt: skip
    assert json.loads(call_row(**old)["extra"]) == old


def test_extra_writes_what_is_no_json_as_null():
    assert call_row(odd=[float("inf"), float("nan"), 2**70])["extra"] == (
        '{"odd":[null,null,1180591620717411303424]}'
    )


FINAL = {"call_status": "ended", "call_cost": {"combined_cost": 3.5}}


@pytest.mark.parametrize(
    ("fields", "is_final"),
    [
        (FINAL, True),
        (FINAL | {"call_cost": {"combined_cost": 0}}, True),
        (FINAL | {"call_status": "not_connected"}, True),
        (FINAL | {"call_status": "error"}, True),
        (FINAL | {"call_status": "ongoing"}, False),
        (FINAL | {"call_status": "registered"}, False),
        (FINAL | {"call_status": "registered", "end_timestamp": 5}, True),
        (FINAL | {"call_status": "registered", "disconnection_reason": "user_hangup"}, True),
        (FINAL | {"call_cost": {}}, False),
        ({"call_status": "ended"}, False),
        ({"call_cost": {"combined_cost": 3.5}}, False),
        (FINAL | {"disconnection_reason": "call_transfer"}, False),
        (FINAL | {"disconnection_reason": "transfer_bridged"}, False),
        (FINAL | {"disconnection_reason": "transfer_cancelled"}, True),
        (FINAL | {"transfer_destination": "+12065550199"}, False),
        (FINAL | {"transfer_destination": "+12065550199", "transfer_end_timestamp": 9}, True),
        (FINAL | {"disconnection_reason": "call_transfer", "transfer_end_timestamp": 9}, True),
    ],
)
def test_cost_is_final_after_call_and_transfer_leg(fields, is_final):
    assert call_row(**fields)["cost_is_final"] is is_final


# Child tables.


def test_product_costs_are_cents_at_their_places():
    assert call_rows("product_costs", **CALL) == [
        {"call_id": "call_a", "position": 0, "product": "elevenlabs_tts", "cost_cents": 1.2833333,
         "unit_price_cents_per_second": 0.1166667, "is_transfer_leg_cost": None},
        {"call_id": "call_a", "position": 1, "product": "voice_engine", "cost_cents": 2,
         "unit_price_cents_per_second": None, "is_transfer_leg_cost": True},
    ]  # fmt: skip


def test_product_costs_may_repeat_and_contain_junk():
    twice = {"product": "gpt_4o_mini", "cost": 1}
    costs = call_rows("product_costs", call_cost={"product_costs": [twice, "junk", None, twice]})
    assert [(row["position"], row["product"]) for row in costs] == [
        (0, "gpt_4o_mini"), (3, "gpt_4o_mini"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prices", "cents"),
    [
        ({"unitPrice": 0.5}, 0.5),
        ({"unit_price": 0, "unitPrice": 0.5}, 0),
        ({"unit_price": 0.25}, 0.25),
    ],
)
def test_unit_price_has_an_old_name(prices, cents):
    (row,) = call_rows("product_costs", call_cost={"product_costs": [prices]})
    assert row["unit_price_cents_per_second"] == cents


def test_latency_group_is_milliseconds_with_its_samples():
    assert call_rows("latencies", **CALL) == [
        {"call_id": "call_a", "component": "e2e", "p50_ms": 836.5, "p90_ms": 900, "p95_ms": 950,
         "p99_ms": 990, "min_ms": 700, "max_ms": 1000, "num": 2, "samples_ms": "[700,1000.5]"},
    ]  # fmt: skip


def test_latency_of_unknown_components_is_stored_without_junk():
    groups = {"s2s": {"p50": "9"}, "telepathy": {}, "asr": 5, "tts": None, "llm": {"p50": "slow"}}
    rows = call_rows("latencies", latency=groups)
    assert [(row["component"], row["p50_ms"]) for row in rows] == [
        ("s2s", 9), ("telepathy", None), ("llm", None),
    ]  # fmt: skip


def test_latency_has_three_old_names():
    rows = call_rows("latencies", e2e_latency={"p50": 1}, llm_latency={"p50": 2},
                     llm_websocket_network_rtt_latency={"p50": 3})  # fmt: skip
    assert [(row["component"], row["p50_ms"]) for row in rows] == [
        ("e2e", 1), ("llm", 2), ("llm_websocket_network_rtt", 3),
    ]  # fmt: skip


def test_new_latency_wins_over_the_old_names():
    assert call_rows("latencies", latency={}, e2e_latency={"p50": 1}) == []


def test_analysis_has_each_preset_and_its_custom_data():
    assert call_rows("analyses", **CALL) == [
        {"call_id": "call_a", "call_summary": "Somebody asked for bread.",
         "user_sentiment": "Positive", "call_successful": True, "in_voicemail": False,
         "custom_analysis_data": '{"loaves":2}', "extra": None},
    ]  # fmt: skip


def test_analysis_without_presets_is_a_row_of_nulls():
    (row,) = call_rows("analyses", call_analysis={})
    assert {name for name, value in row.items() if value is not None} == {"call_id"}


def test_analysis_keeps_old_fields_and_odd_sentiments():
    (row,) = call_rows("analyses", call_analysis={
        "user_sentiment": "neutral ", "agent_sentiment": "Positive",
        "agent_task_completion_rating": "Complete",
    })  # fmt: skip
    assert row["user_sentiment"] == "neutral "
    assert row["extra"] == (
        '{"agent_sentiment":"Positive","agent_task_completion_rating":"Complete"}'
    )


def test_analysis_reads_ill_typed_presets_as_null():
    (row,) = call_rows("analyses", call_analysis={
        "call_summary": ["a"], "call_successful": "maybe", "in_voicemail": {}, "user_sentiment": [],
        "custom_analysis_data": "none",
    })  # fmt: skip
    assert {name for name, value in row.items() if value is not None} == {"call_id"}


@pytest.mark.parametrize("transcript", ["Agent: Hi.\n", "", " "])
def test_transcript_is_kept_even_empty(transcript):
    assert call_rows("transcripts", transcript=transcript) == [
        {"call_id": "call_a", "transcript": transcript}
    ]


def test_call_without_transcript_has_no_transcript_row():
    assert call_rows("transcripts", call_status="ended") == []


SOURCES = (
    "metadata", "retell_llm_dynamic_variables", "collected_dynamic_variables",
    "custom_sip_headers", "custom_attributes",
)  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_attribute_of_each_source_is_a_row(source):
    assert call_rows("attributes", source, **{source: {"X-a": "1"}}) == [
        {"call_id": "call_a", "source": source, "name": "X-a", "value": "1",
         "value_type": "string"},
    ]  # fmt: skip


def test_custom_analysis_data_is_attributes_too():
    (row,) = call_rows("attributes", "custom_analysis_data", **CALL)
    assert (row["name"], row["value"], row["value_type"]) == ("loaves", "2", "integer")


@pytest.mark.parametrize(
    ("value", "text", "value_type"),
    [
        ("", "", "string"),
        ("N/A", "N/A", "string"),
        ("false", "false", "string"),
        (False, "false", "boolean"),
        (True, "true", "boolean"),
        (0, "0", "integer"),
        (-3, "-3", "integer"),
        (2**63, "9223372036854775808", "integer"),
        (1.5, "1.5", "number"),
        (1.0, "1.0", "number"),
        (float("inf"), "null", "number"),
        (None, None, "null"),
        ({}, "{}", "object"),
        ({"b": [1], "a": "ü"}, '{"b":[1],"a":"ü"}', "object"),
        ([], "[]", "array"),
        ([1, "ü", None], '[1,"ü",null]', "array"),
    ],
)
def test_attribute_has_a_text_and_a_json_type(value, text, value_type):
    (row,) = call_rows("attributes", "metadata", metadata={"k": value})
    assert (row["value"], row["value_type"]) == (text, value_type)


@pytest.mark.parametrize("name", ["", "wie heißt du?", "'; DROP TABLE calls; --", "a.b", "🐟"])
def test_attribute_of_any_name_is_data(name):
    (row,) = call_rows("attributes", "metadata", metadata={name: 1})
    assert row["name"] == name


@pytest.mark.parametrize(
    "kind",
    ["recording", "recording_multi_channel", "scrubbed_recording",
     "scrubbed_recording_multi_channel", "public_log", "knowledge_base_retrieved_contents"],
)  # fmt: skip
def test_media_link_is_a_row_unless_empty(kind):
    url = "https://media.example/" + "x" * 3000
    assert call_rows("media", kind, **{f"{kind}_url": url}) == [
        {"call_id": "call_a", "kind": kind, "url": url}
    ]
    assert call_rows("media", kind, **{f"{kind}_url": ""}) == []
