"""Find the unknown parts of a call or chat: keys, roles, products, enum values and invalid times.

Nothing unknown is lost: keys stay in `extra` and in the raw body, values in their columns. The
table `unknowns` shows that Retell now sends more than the tables were designed for. Its rows are a
function of the observations, like all rows. Known is what the models name, and what Retell
documents or once sent that has no column. Source:
https://docs.retellai.com/api-references/get-call, and its older versions.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from schema.disconnection_reasons import REASONS
from schema.models import (
    Call,
    CallAnalysis,
    CallCost,
    Chat,
    ChatAnalysis,
    Entry,
    LatencyGroup,
    ProductCost,
    Telephony,
    TokenUsage,
)
from schema.products import KNOWN as KNOWN_PRODUCT
from schema.transcript import UTTERANCE_ROLES

# (place, what, name): "call_cost", "product", "mystery_fee".
Unknown = tuple[str, str, str]
# A row of unknowns or chat_unknowns: the id, then an Unknown, then when the call was.
Row = tuple[Any, ...]

# Places of an unknown that are not fields of a call: beside the call in its event, or at its top
# level.
ENVELOPE, CALL, CHAT = "envelope", "call", "chat"

# Names come from the sender and are part of a key.
_MAX_NAME = 200
# Unknowns of one list; more would not add information.
_MAX_IN_LIST = 1000

_ENVELOPE_KEYS = {
    "call", "data", "chat", "call_inbound", "chat_inbound", "alert",
    "transfer_destination", "transfer_option",
}  # fmt: skip
_CALL_KEYS = Call.model_fields.keys() | {
    "opt_out_sensitive_data_storage", "audio_websocket_protocol", "audio_encoding", "sample_rate",
    "end_call_after_silence_ms", "drop_call_if_machine_detected", "conversation_eval",
    "scrubbed_call_analysis",
}  # fmt: skip
_KEYS: dict[type[BaseModel], Collection[str]] = {
    CallAnalysis: CallAnalysis.model_fields.keys() | {
        "agent_sentiment", "agent_task_completion_rating", "agent_task_completion_rating_reason",
        "call_completion_rating", "call_completion_rating_reason",
    },
    CallCost: CallCost.model_fields.keys() | {"total_one_time_price"},
    ProductCost: ProductCost.model_fields.keys(),
    LatencyGroup: LatencyGroup.model_fields.keys(),
    TokenUsage: TokenUsage.model_fields.keys() | {"values"},
    Telephony: Telephony.model_fields.keys(),
    ChatAnalysis: ChatAnalysis.model_fields.keys(),
}  # fmt: skip
_ENTRY_KEYS = Entry.model_fields.keys() | {
    "digit", "multimedia", "thought_signature", "former_state_name", "new_state_name",
}  # fmt: skip
_METADATA_KEYS = {"response_id", "interrupt_id", "is_backchannel", "backup_model_used"}
_WORD_KEYS = {"word", "start", "end"}
_LATENCY_GROUPS = {
    "e2e", "llm", "llm_websocket_network_rtt", "tts", "asr", "knowledge_base", "s2s",
}  # fmt: skip

ROLES = UTTERANCE_ROLES | frozenset(
    {
        "tool_call_invocation", "tool_call_result",
        "node_transition", "state_transition", "dtmf", "sms", "injected",
    }
)  # fmt: skip
TOOL_TYPES = frozenset(
    {
        "custom", "code", "mcp", "integration_app", "end_call", "transfer_call", "bridge_transfer",
        "cancel_transfer", "agent_swap", "press_digit", "send_sms", "extract_dynamic_variable",
        "adjust_voice_speed", "book_appointment_cal", "check_availability_cal",
    }
)  # fmt: skip
TRANSITION_TYPES = frozenset({"global", "global_go_back", "interrupt_go_back", "normal"})
# Fields whose column is null unless their value is a time of the years 1 to 9999.
TIMES = (
    "start_timestamp", "end_timestamp", "transfer_end_timestamp", "duration_ms",
    "created_timestamp",
)  # fmt: skip
_ENTRY_VALUES = (("role", ROLES), ("type", TOOL_TYPES), ("transition_type", TRANSITION_TYPES))
SENTIMENTS = frozenset({"positive", "neutral", "negative", "unknown"})
# Column of calls -> its values.
CALL_VALUES: dict[str, Collection[str]] = {
    "call_type": {"phone_call", "web_call"},
    "call_status": {"registered", "not_connected", "ongoing", "ended", "error"},
    "direction": {"inbound", "outbound"},
    "data_storage_setting": {"everything", "everything_except_pii", "basic_attributes_only"},
    "disconnection_reason": REASONS,
}
CHAT_VALUES: dict[str, Collection[str]] = {
    "chat_type": {"api_chat", "sms_chat"},
    "chat_status": {"ongoing", "ended", "error"},
    "direction": CALL_VALUES["direction"],
    "data_storage_setting": CALL_VALUES["data_storage_setting"],
    "disconnection_reason": REASONS,
}


def rows(entity_id: str, unknown: Iterable[Unknown], seen_at: int | None) -> list[Row]:
    """Rows of unknowns or chat_unknowns, each once. `seen_at` in milliseconds."""
    cut = {(place, what, name[:_MAX_NAME]) for place, what, name in unknown}
    return [(entity_id, *each, seen_at) for each in sorted(cut)]


def in_envelope(keys: Iterable[str]) -> list[Unknown]:
    """Keys beside the object in an event."""
    return _unknown_keys(ENVELOPE, keys, _ENVELOPE_KEYS)


def in_call(columns: Mapping[str, Any], extra: Mapping[str, Any] | None) -> list[Unknown]:
    """Top-level keys and the values of the calls row."""
    found = _unknown_keys(CALL, extra, _CALL_KEYS) if extra else []
    for column, known in CALL_VALUES.items():
        found += _unknown_value(CALL, column, columns[column], known)
    return found


def in_times(fields: Mapping[str, Any], read: BaseModel) -> list[Unknown]:
    """Numbers that are not a time in milliseconds, such as microseconds.

    `read` is the model of `fields`. Each field has a single unknown, so that all calls with such a
    time are examples of it.
    """
    return [
        (name, "time", "unusable")
        for name in TIMES
        if isinstance(fields.get(name), int | float) and getattr(read, name) is None
    ]


def in_parts(call: Call) -> list[Unknown]:
    """Keys and values of the parts of a call that are not lists of entries."""
    found: list[Unknown] = []
    if analysis := call.call_analysis:
        found += _extra("call_analysis", analysis)
        found += _sentiment("call_analysis", analysis.user_sentiment)
    found += _cost("call_cost", call.call_cost)
    for name, group in (call.latency or {}).items():
        if name not in _LATENCY_GROUPS:
            found.append(("latency", "component", name))
        if group is not None:
            found += _extra("latency", group)
    if call.llm_token_usage:
        found += _extra("llm_token_usage", call.llm_token_usage)
    if call.telephony_identifier:
        found += _extra("telephony_identifier", call.telephony_identifier)
    return found


def in_chat(chat: Chat, extra: Mapping[str, Any] | None) -> list[Unknown]:
    """Keys and values of a chat, except its lists of messages."""
    found = _unknown_keys(CHAT, extra, Chat.model_fields) if extra else []
    for column, known in CHAT_VALUES.items():
        found += _unknown_value(CHAT, column, getattr(chat, column), known)
    if analysis := chat.chat_analysis:
        found += _extra("chat_analysis", analysis)
        found += _sentiment("chat_analysis", analysis.user_sentiment)
    return found + _cost("chat_cost", chat.chat_cost)


def in_entries(track: str, entries: Any) -> list[Unknown]:
    """Roles, keys and values of a decoded list of transcript entries or messages."""
    found: list[Unknown] = []
    for entry in entries if isinstance(entries, list) else ():
        if len(found) > _MAX_IN_LIST:
            break
        if not isinstance(entry, dict):
            continue
        # Nearly all keys are known: one set operation is faster than a call.
        if not _ENTRY_KEYS.issuperset(entry):
            found += _unknown_keys(track, entry, _ENTRY_KEYS)
        role, words, metadata = entry.get("role"), entry.get("words"), entry.get("metadata")
        if not (isinstance(role, str) and role in UTTERANCE_ROLES):
            for what, known in _ENTRY_VALUES:
                if isinstance(value := entry.get(what), str | int | float):
                    found += _unknown_value(track, what, str(value), known)
        if isinstance(metadata, dict) and not _METADATA_KEYS.issuperset(metadata):
            found += _unknown_keys(track, metadata, _METADATA_KEYS, what="metadata key")
        # The words of an utterance all have the same keys, so the first one is enough.
        first = words[0] if isinstance(words, list) and words else None
        if isinstance(first, dict) and not _WORD_KEYS.issuperset(first):
            found += _unknown_keys(track, first, _WORD_KEYS, what="word key")
    return found


def _cost(place: str, cost: CallCost | None) -> list[Unknown]:
    if cost is None:
        return []
    found = _extra(place, cost)
    for product in cost.product_costs or ():
        if product is not None:
            found += _extra(place, product)
            if product.product is not None and not KNOWN_PRODUCT.fullmatch(product.product):
                found.append((place, "product", product.product))
    return found


def _sentiment(place: str, value: str | None) -> list[Unknown]:
    # Retell's upper and lower case varies; that is not an unknown.
    if value is None or value.strip().lower() in SENTIMENTS:
        return []
    return [(place, "user_sentiment", value)]


def _extra(place: str, part: BaseModel) -> list[Unknown]:
    extra = part.__pydantic_extra__
    return _unknown_keys(place, extra, _KEYS[type(part)]) if extra else []


def _unknown_keys(
    place: str, keys: Iterable[str], known: Collection[str], *, what: str = "key"
) -> list[Unknown]:
    return [(place, what, key) for key in keys if key not in known]


def _unknown_value(
    place: str, what: str, value: str | None, known: Collection[str]
) -> list[Unknown]:
    return [] if value is None or value in known else [(place, what, value)]
