"""One chat -> rows: the same treatment as a call."""

import json

import pytest

from schema.chats import project_chat
from schema.rows import Stamp
from schema.tables import CHAT_MESSAGES, CHATS
from tests.support.raw_fields import raw_fields

CHAT = {
    "chat_id": "chat_a",
    "chat_type": "sms_chat",
    "chat_status": "ended",
    "agent_id": "agent_7",
    "version": 0,
    "agent_name": "Bakery",
    "agent_tag": "live",
    "start_timestamp": 1776171940016,
    "end_timestamp": 1776171950591,
    "direction": "inbound",
    "agent_number": "+14155550100",
    "user_number": "+14155550123",
    "duration_ms": 10575,
    "disconnection_reason": "user_requested_dnc",
    "data_storage_setting": "everything",
    "transcript": "Agent: Hi.\n",
    "chat_cost": {"combined_cost": 0.7, "product_costs": [{"product": "gpt_4_1", "cost": 0.7}]},
    "chat_analysis": {
        "chat_summary": "Bread was asked for.",
        "user_sentiment": "Neutral",
        "chat_successful": True,
        "custom_analysis_data": {"loaves": 2},
    },
    "metadata": {"lead": 7},
    "retell_llm_dynamic_variables": {"name": "Ü"},
    "collected_dynamic_variables": {},
    "custom_attributes": {"vip": True},
    "zebra": 1,
    "apple": 2,
}


LISTS = [
    f"{kind}{part}message_with_tool_calls"
    for kind in ("", "scrubbed_")
    for part in ("", "pre_session_", "post_session_")
]


def chat_row(**fields) -> dict:
    (row,) = project_chat("chat_a", raw_fields(fields), Stamp(3, 1000, 2000))["chats", None]
    return dict(zip(CHATS.names, row, strict=True))


def messages(*entries, field="message_with_tool_calls") -> list[dict]:
    rows = project_chat("chat_a", raw_fields({field: list(entries)}), Stamp(3, 1, 2))[
        "chat_messages", None
    ]
    return [dict(zip(CHAT_MESSAGES.names, row, strict=True)) for row in rows]


def test_chats_row_has_each_column_from_its_field():
    assert chat_row(**CHAT) == {
        "account": None,
        "chat_id": "chat_a",
        "chat_type": "sms_chat",
        "chat_status": "ended",
        "agent_id": "agent_7",
        "version": 0,
        "agent_name": "Bakery",
        "agent_tag": "live",
        "start_timestamp": 1776171940016,
        "end_timestamp": 1776171950591,
        "direction": "inbound",
        "agent_number": "+14155550100",
        "user_number": "+14155550123",
        "duration_ms": 10575,
        "disconnection_reason": "user_requested_dnc",
        "data_storage_setting": "everything",
        "combined_cost_cents": 0.7,
        "chat_summary": "Bread was asked for.",
        "user_sentiment": "Neutral",
        "chat_successful": True,
        "custom_analysis_data": '{"loaves":2}',
        "metadata": '{"lead":7}',
        "retell_llm_dynamic_variables": '{"name":"Ü"}',
        "collected_dynamic_variables": "{}",
        "custom_attributes": '{"vip":true}',
        "product_costs": '[{"product":"gpt_4_1","cost":0.7}]',
        "transcript": "Agent: Hi.\n",
        "extra": '{"apple":2,"zebra":1}',
        "level": 3,
        "observed_at": 1000,
        "updated_at": 2000,
    }


def test_chat_with_only_an_id_is_nulls():
    row = chat_row(chat_id="chat_a")
    assert {name for name, value in row.items() if value is not None} == {
        "chat_id", "level", "observed_at", "updated_at",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "ends"), [("inbound", ("+2", "+1")), ("outbound", ("+1", "+2"))]
)
def test_numbers_named_as_in_a_call_are_read(direction, ends):
    row = chat_row(from_number="+1", to_number="+2", direction=direction, agent_version=4)
    assert (row["agent_number"], row["user_number"]) == ends
    assert (row["version"], row["extra"]) == (4, None)


@pytest.mark.parametrize("field", [*CHAT, *LISTS])
@pytest.mark.parametrize("junk", [None, True, 7, -1.5, "junk", 2**70, [], [{}], {}, {"a": [1]}])
def test_chat_of_any_field_and_type_becomes_rows(field, junk):
    without = {name: value for name, value in CHAT.items() if name != field}
    expected = chat_row(**without)
    found = chat_row(**(without | {field: junk}))
    parts = {"chat_cost": ("combined_cost_cents", "product_costs"), "zebra": ("extra",)}
    parts |= {"chat_analysis": ("chat_summary", "user_sentiment", "chat_successful",
              "custom_analysis_data"), "apple": ("extra",)}  # fmt: skip
    changed = {name for name in found if found[name] != expected[name]}
    assert changed <= set(parts.get(field, (field,)))


@pytest.mark.parametrize("field", ["chat_cost", "chat_analysis", "metadata", "custom_attributes"])
def test_ill_typed_part_of_a_chat_is_null(field):
    row = chat_row(**{field: "junk", "chat_type": "api_chat", "version": "latest"})
    assert (row["chat_type"], row["version"], row["extra"]) == ("api_chat", None, None)
    assert row["combined_cost_cents"] is row["chat_summary"] is row["metadata"] is None


def test_empty_lists_of_php_read_as_empty_objects():
    row = chat_row(chat_cost=[], chat_analysis=[], metadata=[])
    assert (row["combined_cost_cents"], row["product_costs"], row["metadata"]) == (None, None, "{}")


@pytest.mark.parametrize(
    ("field", "track"),
    [
        ("message_with_tool_calls", "session"),
        ("pre_session_message_with_tool_calls", "pre_session"),
        ("post_session_message_with_tool_calls", "post_session"),
        ("scrubbed_message_with_tool_calls", "scrubbed_session"),
        ("scrubbed_pre_session_message_with_tool_calls", "scrubbed_pre_session"),
        ("scrubbed_post_session_message_with_tool_calls", "scrubbed_post_session"),
    ],
)
def test_each_list_of_messages_is_a_track(field, track):
    (row,) = messages({"role": "user", "content": "Hi"}, field=field)
    assert (row["track"], row["position"], row["content"]) == (track, 0, "Hi")


def test_message_has_id_milliseconds_and_rest_as_json():
    entry = {"message_id": "m1", "role": "agent", "content": "Look", "created_timestamp": 177617194,
             "multimedia": [{"url": "https://media.example/1"}]}  # fmt: skip
    assert messages(entry) == [
        {"chat_id": "chat_a", "track": "session", "position": 0, "message_id": "m1",
         "role": "agent", "content": "Look", "created_timestamp": 177617194, "tool_call_id": None,
         "name": None, "type": None, "arguments": None, "successful": None,
         "extra": '{"multimedia":[{"url":"https://media.example/1"}]}'},
    ]  # fmt: skip


def test_tool_call_and_result_share_an_id():
    rows = messages(
        {"role": "tool_call_invocation", "tool_call_id": "t", "name": "look", "type": "custom",
         "arguments": {"a": 1}},
        {"role": "tool_call_result", "tool_call_id": "t", "content": "{}", "successful": False},
    )  # fmt: skip
    columns = ("role", "tool_call_id", "name", "type", "arguments", "content", "successful")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("tool_call_invocation", "t", "look", "custom", '{"a":1}', None, None),
        ("tool_call_result", "t", None, None, None, "{}", False),
    ]


@pytest.mark.parametrize("role", ["node_transition", "state_transition", "injected", "hologram"])
def test_message_of_any_role_keeps_its_keys(role):
    more = {"new_node_id": "n", "new_state_name": "s", "shape": [1]}
    (row,) = messages({"role": role} | more)
    assert (row["role"], json.loads(row["extra"])) == (role, more)


def test_message_that_is_no_object_leaves_a_gap():
    rows = messages(None, "text", {"role": "user"}, [], {"content": 7})
    assert [(row["position"], row["role"], row["content"]) for row in rows] == [
        (2, "user", None), (4, None, "7"),
    ]  # fmt: skip
