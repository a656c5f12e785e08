"""What of every column a person may see who must see no personal data.

A column shows as it is only if it stands in OPEN; of the others, PERSONAL says what shows instead.
A column that stands in neither reads as NULL, and a test asks for a decision.
"""

from schema.tables import ROLLUP_TABLES, Table

# Ids, times, amounts, and words that Retell or whoever builds the agents chose. Nothing that a
# caller said, was called or was reached by.
_OPEN = {
    "observations": "entity_id body_sha256 source entity_type event level observed_at "
    "first_received_at last_received_at times_received key_id body_bytes problem",
    "calls": "call_id call_type call_status direction agent_id agent_version agent_name agent_tag "
    "start_timestamp end_timestamp duration_ms disconnection_reason transfer_end_timestamp "
    "combined_cost_cents cost_is_final total_duration_seconds "
    "total_duration_unit_price_cents_per_second llm_requests llm_tokens_average "
    "data_storage_setting opt_in_signed_url batch_call_id level observed_at updated_at",
    "analyses": "call_id user_sentiment call_successful in_voicemail",
    "transcripts": "call_id",
    "utterances": "call_id track position role start_seconds end_seconds word_count",
    "utterance_words": "call_id track position",
    "tool_calls": "call_id track position tool_call_id name type invoked_at_seconds "
    "after_utterance after_word result_position successful result_at_seconds duration_ms",
    "node_transitions": "call_id track position former_node_id former_node_name new_node_id "
    "new_node_name transition_type time_seconds",
    "markers": "call_id track position role time_seconds",
    "product_costs": "call_id position product cost_cents unit_price_cents_per_second "
    "is_transfer_leg_cost",
    "latencies": "call_id component p50_ms p90_ms p95_ms p99_ms min_ms max_ms num samples_ms",
    "attributes": "call_id source name value_type",
    "media": "call_id kind",
    "transfers": "call_id body_sha256 event observed_at",
    "call_metrics": "call_id agent_talk_seconds user_talk_seconds silence_seconds turns "
    "interruptions longest_monologue_seconds first_response_seconds agent_words_per_minute "
    "user_words_per_minute tool_calls failed_tool_calls",
    "chats": "chat_id chat_type chat_status agent_id version agent_name agent_tag start_timestamp "
    "end_timestamp combined_cost_cents user_sentiment chat_successful product_costs level "
    "observed_at updated_at",
    "chat_messages": "chat_id track position message_id role created_timestamp tool_call_id name "
    "type successful",
    "disconnection_reasons": "reason category description",
    "erasures": "entity_id erased_at",
    "unknowns": "call_id place what seen_at",
    "chat_unknowns": "chat_id place what seen_at",
    "upstream_calls": "call_id asked_at gone_at",
    "syncs": "agent_id key_id since until next_day started_at finished_at found new changed "
    "unchanged gone failed",
    "coverage": "day agent_id agent_name listed stored ended with_transcript analysed "
    "with_final_cost missing incomplete gone_upstream erased missing_call_ids "
    "incomplete_call_ids checked_at key_id",
}
# Sums over calls, and names of agents, tools and nodes.
OPEN = {table.name: frozenset(table.names) for table in ROLLUP_TABLES} | {
    table: frozenset(columns.split()) for table, columns in _OPEN.items()
}


def _number(column: str) -> str:
    """The last two digits of a phone number; nothing of a SIP address or another word."""
    return (
        f"CASE WHEN {column} = 'anonymous' THEN {column} "
        f"WHEN length({column}) > 6 AND ltrim({column}, '+0123456789') = '' "
        f"THEN '•••' || substr({column}, -2) END"
    )


def _scrubbed(column: str, otherwise: str = "NULL") -> str:
    """The value where Retell removed personal data from it."""
    return f"CASE WHEN track GLOB 'scrubbed_*' THEN {column} ELSE {otherwise} END"


# Whether a tool achieved what it was called for, without what it answered.
_SUCCESS = (
    "CASE WHEN result IS NULL THEN NULL "
    "WHEN json_valid(result) AND json_type(result, '$.success') IN ('true', 'false') "
    """THEN '{"success": ' || json_type(result, '$.success') || '}' ELSE '{}' END"""
)

# What Retell calls a thing, but no value that it gave one.
_NAME_OF_UNKNOWN = "CASE WHEN what IN ('key', 'role', 'product', 'component') THEN name END"

# Table -> column -> what shows instead, as SQL over a row of the table.
PERSONAL = {
    "observations": {"body": "NULL"},
    "calls": {
        "from_number": _number("from_number"),
        "to_number": _number("to_number"),
        "transfer_destination": _number("transfer_destination"),
        "twilio_call_sid": "NULL",
        "extra": "NULL",
    },
    "analyses": {"call_summary": "NULL", "custom_analysis_data": "NULL", "extra": "NULL"},
    "transcripts": {"transcript": "NULL"},
    "utterances": {"content": _scrubbed("content"), "metadata": "NULL"},
    "utterance_words": {"words": _scrubbed("words")},
    "tool_calls": {
        "arguments": _scrubbed("arguments"),
        "result": _scrubbed("result", _SUCCESS),
    },
    "markers": {"body": _scrubbed("body")},
    "attributes": {"value": "NULL"},
    "media": {"url": "NULL"},
    "transfers": {"destination": _number("destination"), "option": "NULL"},
    "chats": {
        "chat_summary": "NULL",
        "custom_analysis_data": "NULL",
        "metadata": "NULL",
        "retell_llm_dynamic_variables": "NULL",
        "collected_dynamic_variables": "NULL",
        "custom_attributes": "NULL",
        "transcript": "NULL",
        "extra": "NULL",
    },
    "chat_messages": {
        "content": _scrubbed("content"),
        "arguments": _scrubbed("arguments"),
        "extra": "NULL",
    },
    "erasures": {"reason": "NULL"},
    "unknowns": {"name": _NAME_OF_UNKNOWN},
    "chat_unknowns": {"name": _NAME_OF_UNKNOWN},
}


def shown(table: Table) -> list[str]:
    """The columns of a SELECT that shows no personal data of the table."""
    is_open, instead = OPEN.get(table.name, frozenset()), PERSONAL.get(table.name, {})
    return [
        name if name in is_open else f"{instead.get(name, 'NULL')} AS {name}"
        for name in table.names
    ]
