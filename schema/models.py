"""Lenient models of Retell's call, chat and alert objects and their parts.

Every field may be missing, unknown keys are kept, enums are open text, and an ill-typed value
becomes None instead of an error: the raw body has the original. Field names are the vendor's
(https://docs.retellai.com/api-references/get-call), old ones included.
"""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema


class _NoneOnError:
    """Annotation: a value that does not validate becomes None."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


# PHP serializes an empty object as an empty list.
_PhpObject = BeforeValidator(lambda value: {} if value == [] else value)

Text = Annotated[str | None, _NoneOnError]
# STRICT integer columns have 64 bits; larger numbers are in the raw body only.
Integer = Annotated[Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None, _NoneOnError]
# Milliseconds since the epoch, in the years 1 to 9999. Microseconds in their place are far beyond.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
Timestamp = Annotated[Annotated[int, Field(ge=_FIRST_MS, le=_LAST_MS)] | None, _NoneOnError]
_LONGEST_MS = _LAST_MS - _FIRST_MS
Duration = Annotated[Annotated[int, Field(ge=-_LONGEST_MS, le=_LONGEST_MS)] | None, _NoneOnError]
Real = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, _NoneOnError]
# Seconds from the call's start. Larger numbers cannot be a time, and their milliseconds would not
# fit 64 bits.
Seconds = Annotated[
    Annotated[float, Field(gt=-1e12, lt=1e12, allow_inf_nan=False)] | None, _NoneOnError
]
Flag = Annotated[bool | None, _NoneOnError]
Mapping = Annotated[dict[str, Any] | None, _PhpObject, _NoneOnError]


class Part(BaseModel):
    """Base of the models below. Numbers are accepted where text is expected."""

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)


class Entry(Part):
    """One entry of a transcript or message list, of any role. `words` are not validated."""

    role: Text = None
    content: Any = None
    words: Any = None
    metadata: Any = None
    tool_call_id: Text = None
    name: Text = None
    type: Text = None
    arguments: Any = None
    successful: Flag = None
    time_sec: Seconds = None
    former_node_id: Text = None
    former_node_name: Text = None
    new_node_id: Text = None
    new_node_name: Text = None
    transition_type: Text = None
    message_id: Text = None
    created_timestamp: Timestamp = None


Entries = Annotated[list[Annotated[Entry | None, _NoneOnError]] | None, _NoneOnError]


class CallAnalysis(Part):
    """`call_analysis`: each preset may be missing."""

    call_summary: Text = None
    user_sentiment: Text = None
    call_successful: Flag = None
    in_voicemail: Flag = None
    custom_analysis_data: Mapping = None


class ProductCost(Part):
    """One product of a call: `cost` in cents, `unit_price` in cents per second."""

    product: Text = None
    cost: Real = None
    unit_price: Real = None
    unitPrice: Real = None
    is_transfer_leg_cost: Flag = None


class CallCost(Part):
    """`call_cost` and `chat_cost`, in cents."""

    combined_cost: Real = None
    total_duration_seconds: Real = None
    total_duration_unit_price: Real = None
    product_costs: Annotated[
        list[Annotated[ProductCost | None, _NoneOnError]] | None, _NoneOnError
    ] = None


class LatencyGroup(Part):
    """Latency of one component, in milliseconds."""

    p50: Real = None
    p90: Real = None
    p95: Real = None
    p99: Real = None
    min: Real = None
    max: Real = None
    num: Real = None
    values: Any = None


Group = Annotated[LatencyGroup | None, _NoneOnError]


class TokenUsage(Part):
    """`llm_token_usage`: tokens per request to the language model."""

    average: Real = None
    num_requests: Real = None


class Telephony(Part):
    """`telephony_identifier`."""

    twilio_call_sid: Text = None


class Call(Part):
    """A call object of any era."""

    call_id: Text = None
    call_type: Text = None
    call_status: Text = None
    direction: Text = None
    agent_id: Text = None
    agent_version: Integer = None
    version: Integer = None
    agent_name: Text = None
    agent_tag: Text = None
    from_number: Text = None
    to_number: Text = None
    start_timestamp: Timestamp = None
    end_timestamp: Timestamp = None
    duration_ms: Duration = None
    disconnection_reason: Text = None
    transfer_destination: Text = None
    transfer_end_timestamp: Timestamp = None
    call_cost: Annotated[CallCost | None, _PhpObject, _NoneOnError] = None
    llm_token_usage: Annotated[TokenUsage | None, _NoneOnError] = None
    data_storage_setting: Text = None
    opt_in_signed_url: Flag = None
    telephony_identifier: Annotated[Telephony | None, _NoneOnError] = None
    batch_call_id: Text = None
    call_analysis: Annotated[CallAnalysis | None, _PhpObject, _NoneOnError] = None
    # It lets anybody join a web call, so it is in the raw body only and in no column.
    access_token: Any = None

    # Lists are not validated: a call's words are most of its bytes.
    transcript: Text = None
    transcript_object: Any = None
    transcript_with_tool_calls: Any = None
    pre_session_transcript_with_tool_calls: Any = None
    post_session_transcript_with_tool_calls: Any = None
    scrubbed_transcript_with_tool_calls: Any = None
    scrubbed_pre_session_transcript_with_tool_calls: Any = None
    scrubbed_post_session_transcript_with_tool_calls: Any = None

    latency: Annotated[dict[str, Group] | None, _NoneOnError] = None
    e2e_latency: Group = None
    llm_latency: Group = None
    llm_websocket_network_rtt_latency: Group = None

    metadata: Mapping = None
    retell_llm_dynamic_variables: Mapping = None
    collected_dynamic_variables: Mapping = None
    custom_sip_headers: Mapping = None
    custom_attributes: Mapping = None

    recording_url: Text = None
    recording_multi_channel_url: Text = None
    scrubbed_recording_url: Text = None
    scrubbed_recording_multi_channel_url: Text = None
    public_log_url: Text = None
    knowledge_base_retrieved_contents_url: Text = None


class ChatAnalysis(Part):
    """`chat_analysis`."""

    chat_summary: Text = None
    user_sentiment: Text = None
    chat_successful: Flag = None
    custom_analysis_data: Mapping = None


class Chat(Part):
    """A chat object. Retell documents filters by number, direction, duration and disconnection
    reason, but not their fields: names of both chats and calls are read."""

    chat_id: Text = None
    chat_type: Text = None
    chat_status: Text = None
    agent_id: Text = None
    version: Integer = None
    agent_version: Integer = None
    agent_name: Text = None
    agent_tag: Text = None
    start_timestamp: Timestamp = None
    end_timestamp: Timestamp = None
    direction: Text = None
    agent_number: Text = None
    user_number: Text = None
    from_number: Text = None
    to_number: Text = None
    duration_ms: Duration = None
    disconnection_reason: Text = None
    data_storage_setting: Text = None
    transcript: Text = None
    chat_cost: Annotated[CallCost | None, _PhpObject, _NoneOnError] = None
    chat_analysis: Annotated[ChatAnalysis | None, _PhpObject, _NoneOnError] = None
    metadata: Mapping = None
    retell_llm_dynamic_variables: Mapping = None
    collected_dynamic_variables: Mapping = None
    custom_attributes: Mapping = None
    message_with_tool_calls: Entries = None
    pre_session_message_with_tool_calls: Entries = None
    post_session_message_with_tool_calls: Entries = None
    scrubbed_message_with_tool_calls: Entries = None
    scrubbed_pre_session_message_with_tool_calls: Entries = None
    scrubbed_post_session_message_with_tool_calls: Entries = None


class Alert(Part):
    """The object of `alert_triggered`."""

    alert_incident_id: Text = None
    alert_rule_id: Text = None
    name: Text = None
    metric_type: Text = None
    threshold_type: Text = None
    threshold_value: Real = None
    comparator: Text = None
    frequency: Text = None
    window: Text = None
    current_value: Real = None
    triggered_timestamp: Timestamp = None
