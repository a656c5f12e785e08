"""Every table and column with its description.

Statements are built from this list, and Datasette shows it. The DDL is in `schema/sql/migrations/`;
a test compares the two.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its key, and every column with a description, the key's columns first.

    Masked readers see the columns of `open` unchanged, and null for those of `hidden`.
    schema/personal.py has what they see of the others.
    """

    name: str
    key: tuple[str, ...]
    description: str
    columns: dict[str, str]
    open: str = ""
    hidden: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(self.columns)


_CALL_ID = "Retell's id of the call."
_TRACK = (
    "The list the entry came from: session, pre_session, post_session, or one of these with "
    "scrubbed_ in front."
)
_POSITION = "Index in that list, so that a call's entries of all kinds interleave by sorting."
_EXTRA = "JSON of every key of the object without a column or table."
_LEVEL = "How far it is: 0 registered, 1 in progress, 2 ended, 3 analysed."
_OBSERVED = "When the highest observation was made, in milliseconds since the epoch."
_UPDATED = "When the newest observation first arrived, in milliseconds since the epoch."
_ACCOUNT = "The account whose key {}; null for rows of older versions."
_ENTRY_KEY = {"call_id": _CALL_ID, "track": _TRACK, "position": _POSITION}

OBSERVATIONS = Table(
    "observations",
    ("entity_id", "body_sha256", "source"),
    "Every distinct body that was received. All other tables are computed from it.",
    {
        "entity_id": "The call_id or chat_id it is about, or sha:<hash> for a body without one.",
        "body_sha256": "SHA-256 of the body's bytes, in hex.",
        "source": "How it arrived: webhook, api or file.",
        "entity_type": "call, chat, call_inbound, chat_inbound, alert, an event name, or unknown.",
        "event": "Retell's event name.",
        "level": _LEVEL,
        "observed_at": "The smallest time in its signatures, in milliseconds since the epoch.",
        "first_received_at": "When it first arrived, in milliseconds since the epoch.",
        "last_received_at": "When it last arrived, in milliseconds since the epoch.",
        "times_received": "How often it arrived.",
        "key_id": "Which key signed it: the first 8 hex digits of the key's SHA-256.",
        "body_bytes": "Length of the body as received.",
        "problem": "Why the body is quarantined; null for a body that was understood.",
        "body": "The body, compressed with zstd; null if compacted or erased. Not readable here.",
    },
    open=(
        "entity_id source entity_type event level observed_at first_received_at "
        "last_received_at times_received key_id body_bytes problem"
    ),
    hidden="body_sha256 body",
)

CALLS = Table(
    "calls",
    ("call_id",),
    "One row per call: numbers, times, outcome and cost.",
    {
        "call_id": _CALL_ID,
        "call_type": "phone_call or web_call.",
        "call_status": "registered, not_connected, ongoing, ended or error.",
        "direction": "inbound or outbound; null for web calls.",
        "agent_id": "Retell's id of the agent.",
        "agent_version": "The agent's version; 0 is a version.",
        "agent_name": "The agent's name at the time of the call.",
        "agent_tag": "The tag that pointed at the version when the call was made.",
        "from_number": "Caller: E.164, anonymous, or whatever the carrier sent.",
        "to_number": "Callee: E.164 or whatever the carrier sent.",
        "start_timestamp": "Start in milliseconds since the epoch; null if never connected, and "
        "for a time outside the years 1 to 9999.",
        "end_timestamp": "End in milliseconds since the epoch; null if never connected.",
        "duration_ms": "Length in milliseconds.",
        "disconnection_reason": "Why it ended; see disconnection_reasons.",
        "transfer_destination": "Number or SIP address it was transferred to.",
        "transfer_end_timestamp": "When the transferred leg ended, in milliseconds.",
        "combined_cost_cents": "Cost in US cents, without your own carrier's charges.",
        "cost_is_final": "1 if the call and any transferred leg have ended and a cost is known.",
        "total_duration_seconds": "Billed seconds.",
        "total_duration_unit_price_cents_per_second": "Sum of unit prices, in cents per second.",
        "llm_requests": "Requests to the language model.",
        "llm_tokens_average": "Tokens per request, on average.",
        "data_storage_setting": "everything, everything_except_pii or basic_attributes_only.",
        "opt_in_signed_url": "1 if recording links are signed and expire.",
        "twilio_call_sid": "Twilio's id of the call.",
        "batch_call_id": "The batch that placed it.",
        "extra": _EXTRA,
        "level": _LEVEL,
        "observed_at": _OBSERVED,
        "updated_at": _UPDATED,
        "account": _ACCOUNT.format("signed or fetched the highest observation"),
    },
    open=(
        "call_id call_type call_status direction agent_id agent_version agent_name agent_tag "
        "start_timestamp end_timestamp duration_ms disconnection_reason transfer_end_timestamp "
        "combined_cost_cents cost_is_final total_duration_seconds "
        "total_duration_unit_price_cents_per_second llm_requests llm_tokens_average "
        "data_storage_setting opt_in_signed_url batch_call_id level observed_at updated_at account"
    ),
    hidden="twilio_call_sid extra",
)

ANALYSES = Table(
    "analyses",
    ("call_id",),
    "Retell's analysis of a finished call.",
    {
        "call_id": _CALL_ID,
        "call_summary": "Summary of the conversation.",
        "user_sentiment": "Positive, Neutral, Negative or Unknown.",
        "call_successful": "1 if the agent reached its goal.",
        "in_voicemail": "1 if the call reached a voicemail.",
        "custom_analysis_data": "JSON of the fields you defined; also in attributes.",
        "extra": _EXTRA,
    },
    open="call_id user_sentiment call_successful in_voicemail",
    hidden="call_summary custom_analysis_data extra",
)

TRANSCRIPTS = Table(
    "transcripts",
    ("call_id",),
    "The conversation as one text, searchable.",
    {"call_id": _CALL_ID, "transcript": "Lines of Agent: … and User: …."},
    open="call_id",
    hidden="transcript",
)

UTTERANCES = Table(
    "utterances",
    ("call_id", "track", "position"),
    "The utterances of a call.",
    _ENTRY_KEY
    | {
        "role": "agent, user or transfer_target.",
        "content": "What was said.",
        "start_seconds": "Start of its first word, in seconds from the call's start.",
        "end_seconds": "End of its last word, in seconds from the call's start.",
        "word_count": "Number of words.",
        "metadata": "JSON that Retell adds, such as response_id and interrupt_id.",
    },
    open="call_id track position role start_seconds end_seconds word_count",
    hidden="metadata",
)

UTTERANCE_WORDS = Table(
    "utterance_words",
    ("call_id", "track", "position"),
    "The words of an utterance with their times; the view words has a row for each.",
    _ENTRY_KEY | {"words": "JSON [[word, start_seconds, end_seconds], …]."},
    open="call_id track position",
)

TOOL_CALLS = Table(
    "tool_calls",
    ("call_id", "track", "position"),
    "Each use of a tool, invocation and result in one row.",
    _ENTRY_KEY
    | {
        "tool_call_id": "Retell's id; not unique across calls.",
        "name": "Name of the tool.",
        "type": "custom, end_call, transfer_call, …; null for older calls.",
        "arguments": "The arguments as JSON text, or empty.",
        "invoked_at_seconds": "When it was invoked, in seconds from the call's start.",
        "after_utterance": "Position of the utterance during or after which it was invoked.",
        "after_word": "Index, in that utterance, of the last word begun by then.",
        "result_position": "Position of the result entry; null if none came.",
        "result": "The tool's result.",
        "successful": "1 if the tool ran, whatever its result.",
        "result_at_seconds": "When the result came, in seconds from the call's start.",
        "duration_ms": "From invocation to result, in milliseconds.",
    },
    open=(
        "call_id track position tool_call_id name type invoked_at_seconds after_utterance "
        "after_word result_position successful result_at_seconds duration_ms"
    ),
)

NODE_TRANSITIONS = Table(
    "node_transitions",
    ("call_id", "track", "position"),
    "Steps of a conversation-flow agent from node to node.",
    _ENTRY_KEY
    | {
        "former_node_id": "The node it left.",
        "former_node_name": "Its name.",
        "new_node_id": "The node it entered.",
        "new_node_name": "Its name.",
        "transition_type": "normal, global, global_go_back or interrupt_go_back.",
        "time_seconds": "When, in seconds from the call's start.",
    },
    open=(
        "call_id track position former_node_id former_node_name new_node_id new_node_name "
        "transition_type time_seconds"
    ),
)

MARKERS = Table(
    "markers",
    ("call_id", "track", "position"),
    "Everything else in a transcript: keypad digits, SMS, injected context, roles not known yet.",
    _ENTRY_KEY
    | {
        "role": "dtmf, sms, injected, or Retell's name for it.",
        "time_seconds": "When, in seconds from the call's start.",
        "body": "The digit or text; JSON of the entry if it has more than that.",
    },
    open="call_id track position role time_seconds",
)

PRODUCT_COSTS = Table(
    "product_costs",
    ("call_id", "position"),
    "The parts of a call's cost. The same product can appear twice.",
    {
        "call_id": _CALL_ID,
        "position": "Index in Retell's list.",
        "product": "Name of the product.",
        "cost_cents": "Cost in US cents.",
        "unit_price_cents_per_second": "Unit price in cents per second.",
        "is_transfer_leg_cost": "1 if it belongs to a transferred leg.",
    },
    open="call_id position product cost_cents unit_price_cents_per_second is_transfer_leg_cost",
)

LATENCIES = Table(
    "latencies",
    ("call_id", "component"),
    "How long each component took to answer, in milliseconds.",
    {
        "call_id": _CALL_ID,
        "component": "e2e, llm, llm_websocket_network_rtt, tts, asr, knowledge_base, s2s, ….",
        "p50_ms": "Median.",
        "p90_ms": "90th percentile.",
        "p95_ms": "95th percentile.",
        "p99_ms": "99th percentile.",
        "min_ms": "Shortest.",
        "max_ms": "Longest.",
        "num": "How many were measured.",
        "samples_ms": "JSON list of all measurements.",
    },
    open="call_id component p50_ms p90_ms p95_ms p99_ms min_ms max_ms num samples_ms",
)

ATTRIBUTES = Table(
    "attributes",
    ("call_id", "source", "name"),
    "Every named value of a call, one row each, so that any of them filters by an index.",
    {
        "call_id": _CALL_ID,
        "source": "metadata, retell_llm_dynamic_variables, collected_dynamic_variables, "
        "custom_sip_headers, custom_attributes or custom_analysis_data.",
        "name": "Its name in there.",
        "value": "Its value as text; JSON for objects and lists; null for null.",
        "value_type": "string, integer, number, boolean, null, object or array.",
    },
    open="call_id source name value_type",
    hidden="value",
)

MEDIA = Table(
    "media",
    ("call_id", "kind"),
    "Links to recordings and logs. Signed ones expire.",
    {
        "call_id": _CALL_ID,
        "kind": "recording, recording_multi_channel, scrubbed_recording, "
        "scrubbed_recording_multi_channel, public_log or knowledge_base_retrieved_contents.",
        "url": "The link.",
    },
    open="call_id kind",
    hidden="url",
)

TRANSFERS = Table(
    "transfers",
    ("call_id", "body_sha256"),
    "Each reported step of a transfer.",
    {
        "call_id": _CALL_ID,
        "body_sha256": "The observation that reported it.",
        "event": "transfer_started, transfer_bridged, transfer_cancelled or transfer_ended.",
        "observed_at": "When, in milliseconds since the epoch.",
        "destination": "Number, with ;ext= and the extension if there is one, or SIP address.",
        "option": "JSON of the transfer's settings.",
    },
    open="call_id event observed_at",
    hidden="body_sha256 option",
)

CALL_METRICS = Table(
    "call_metrics",
    ("call_id",),
    "Figures derived from the session's words when the call is written.",
    {
        "call_id": _CALL_ID,
        "agent_talk_seconds": "Seconds the agent spoke.",
        "user_talk_seconds": "Seconds the user spoke.",
        "silence_seconds": "Seconds from the call's start to its last word in which nobody spoke.",
        "turns": "Turns: consecutive utterances of one speaker count once.",
        "interruptions": "Turns that began before the other speaker's had ended.",
        "longest_monologue_seconds": "Length of the longest turn.",
        "first_response_seconds": "From the end of the user's first turn to the agent's answer.",
        "agent_words_per_minute": "The agent's words per minute of its talk.",
        "user_words_per_minute": "The user's words per minute of their talk.",
        "tool_calls": "Tools invoked.",
        "failed_tool_calls": "Tools that did not run.",
    },
    open=(
        "call_id agent_talk_seconds user_talk_seconds silence_seconds turns interruptions "
        "longest_monologue_seconds first_response_seconds agent_words_per_minute "
        "user_words_per_minute tool_calls failed_tool_calls"
    ),
)

_UNKNOWN = {
    "place": "Its place: call or chat for the top level, a field such as call_cost, the list of a "
    "transcript, or envelope for keys beside the object.",
    "what": "key, role, product, component, time, or the name of the field that has an unknown "
    "value.",
    "name": "The key or value, cut at 200 characters; unusable for a time.",
}
UNKNOWNS = Table(
    "unknowns",
    ("call_id", "place", "what", "name"),
    "Unknown keys and values of a call; the drift view counts them.",
    {
        "call_id": _CALL_ID,
        **_UNKNOWN,
        "seen_at": "Start of the call, or when it was reported, in milliseconds since the epoch.",
    },
    open="call_id place what seen_at",
)

CHATS = Table(
    "chats",
    ("chat_id",),
    "One row per chat, by API or SMS.",
    {
        "chat_id": "Retell's id of the chat.",
        "chat_type": "api_chat or sms_chat.",
        "chat_status": "ongoing, ended or error.",
        "agent_id": "Retell's id of the agent.",
        "version": "The agent's version.",
        "agent_name": "The agent's name.",
        "agent_tag": "The tag that pointed at the version.",
        "start_timestamp": "Start in milliseconds since the epoch.",
        "end_timestamp": "End in milliseconds since the epoch.",
        "combined_cost_cents": "Cost in US cents.",
        "chat_summary": "Summary of the conversation.",
        "user_sentiment": "Positive, Neutral, Negative or Unknown.",
        "chat_successful": "1 if the agent reached its goal.",
        "custom_analysis_data": "JSON of the analysis fields you defined.",
        "metadata": "JSON given when the chat was created.",
        "retell_llm_dynamic_variables": "JSON of the variables given.",
        "collected_dynamic_variables": "JSON of the variables collected.",
        "custom_attributes": "JSON of the attributes you defined.",
        "product_costs": "JSON of the parts of the cost.",
        "transcript": "The conversation as one text.",
        "extra": _EXTRA,
        "level": _LEVEL,
        "observed_at": _OBSERVED,
        "updated_at": _UPDATED,
        "account": _ACCOUNT.format("signed or fetched the highest observation"),
        "direction": "inbound or outbound, of a chat by SMS.",
        "agent_number": "The agent's number of a chat by SMS, E.164.",
        "user_number": "The person's number of a chat by SMS, E.164.",
        "duration_ms": "Length in milliseconds.",
        "disconnection_reason": "Why it ended; see disconnection_reasons.",
        "data_storage_setting": "everything, everything_except_pii or basic_attributes_only.",
    },
    open=(
        "chat_id chat_type chat_status agent_id version agent_name agent_tag start_timestamp "
        "end_timestamp combined_cost_cents user_sentiment chat_successful product_costs level "
        "observed_at updated_at account direction duration_ms disconnection_reason "
        "data_storage_setting"
    ),
    hidden=(
        "chat_summary custom_analysis_data metadata retell_llm_dynamic_variables "
        "collected_dynamic_variables custom_attributes transcript extra"
    ),
)

CHAT_MESSAGES = Table(
    "chat_messages",
    ("chat_id", "track", "position"),
    "The messages of a chat, tool calls and transitions among them.",
    {
        "chat_id": "Retell's id of the chat.",
        "track": _TRACK,
        "position": "Index in that list.",
        "message_id": "Retell's id of the message.",
        "role": "agent, user, tool_call_invocation, tool_call_result, node_transition, ….",
        "content": "The text, or the tool's result.",
        "created_timestamp": "When, in milliseconds since the epoch.",
        "tool_call_id": "Joins a tool's invocation and result.",
        "name": "Name of the tool.",
        "type": "Type of the tool.",
        "arguments": "The arguments of the tool.",
        "successful": "1 if the tool ran.",
        "extra": "JSON of the entry's other keys.",
    },
    open=(
        "chat_id track position message_id role created_timestamp tool_call_id name type successful"
    ),
    hidden="extra",
)

CHAT_UNKNOWNS = Table(
    "chat_unknowns",
    ("chat_id", "place", "what", "name"),
    "Unknown keys and values of a chat; the drift view counts them.",
    {
        "chat_id": "Retell's id of the chat.",
        **_UNKNOWN,
        "seen_at": "Start of the chat, or when it was reported, in milliseconds since the epoch.",
    },
    open="chat_id place what seen_at",
)

DISCONNECTION_REASONS = Table(
    "disconnection_reasons",
    ("reason",),
    "The meaning of each disconnection reason. Unknown ones are added when they first arrive.",
    {
        "reason": "Retell's name.",
        "category": "user, agent, transfer, not_connected, limit, error, or unknown.",
        "description": "What it means.",
    },
    open="reason category description",
)

ERASURES = Table(
    "erasures",
    ("entity_id", "scope"),
    "Tombstones: erased data of a call or chat stays erased, whatever arrives later.",
    {
        "entity_id": "The call_id or chat_id.",
        "scope": "What is erased: all, raw, recordings, transcripts or personal.",
        "erased_at": "When, in milliseconds since the epoch.",
        "reason": "Why, in the operator's words.",
        "receipt_id": "The receipt in receipts.",
    },
    open="entity_id scope erased_at receipt_id",
    hidden="reason",
)

ACCOUNT_KEYS = Table(
    "account_keys",
    ("key_id",),
    "The account of each key that signed or fetched something.",
    {
        "key_id": "The first 8 hex digits of the key's SHA-256.",
        "account": "The account, as RETELL_API_KEY_<NAME> names it; default for RETELL_API_KEY.",
    },
    open="key_id account",
)

RECEIPTS = Table(
    "receipts",
    ("receipt_id",),
    "Numbers of rows that each `callhouse erase` and `callhouse prune` removed. No personal data.",
    {
        "receipt_id": "Id of the receipt.",
        "action": "erase or prune.",
        "scope": "What was erased: all, raw, recordings, transcripts or personal.",
        "created_at": "When, in milliseconds since the epoch.",
        "author": "Who ran the command.",
        "reason": "Why, in the operator's words.",
        "entities": "How many calls and chats.",
        "rows": "How many rows were deleted or changed.",
        "files": "How many files were deleted.",
        "counts": "JSON of the rows of each table.",
        "ids_sha256": "SHA-256 of the sorted ids, each followed by a newline, in hex.",
    },
    open="receipt_id action scope created_at entities rows files counts ids_sha256",
    hidden="author reason",
)

MEDIA_FILES = Table(
    "media_files",
    ("call_id", "kind"),
    "Stored files of calls: recordings, logs and retrieved knowledge.",
    {
        "call_id": _CALL_ID,
        "kind": "As in media.",
        "url": "The link it was fetched from, without its query.",
        "location": "Its name in the directory or bucket of CALLHOUSE_MEDIA_URL.",
        "bytes": "Its length.",
        "sha256": "SHA-256 of its bytes, in hex.",
        "content_type": "What Retell's store called it.",
        "fetched_at": "When it was fetched, in milliseconds since the epoch.",
        "state": "pending, kept, failed, gone or pruned.",
        "attempts": "How often fetching it was tried.",
        "next_attempt_at": "When it is tried again, in milliseconds since the epoch.",
        "changed_at": "When this row last changed, in milliseconds since the epoch.",
        "problem": "Why it is not stored.",
    },
    open=(
        "call_id kind bytes content_type fetched_at state attempts next_attempt_at changed_at "
        "problem"
    ),
    hidden="url location sha256",
)

ANNOTATIONS = Table(
    "annotations",
    ("entity_id", "annotation_id"),
    "Annotations of reviewers and models on calls, chats and their turns.",
    {
        "entity_id": "The call_id or chat_id it is about.",
        "annotation_id": "Its id.",
        "kind": "verdict, tag, note, assignee, score, or usage (the cost of a model's answer).",
        "track": "The list of the turn it is about, as in utterances; null for the whole call.",
        "position": "The position of that turn in its list.",
        "name": "The tag, or the question of a score, its note and its usage.",
        "value": "good, bad or unsure; the text of a note; the user it is assigned to; an answer; "
        "JSON with input_tokens and output_tokens, and the problem of an answer that did not fit.",
        "author": "The user who wrote it, or model:NAME.",
        "created_at": "When it was written, in milliseconds since the epoch.",
        "changed_at": "When this row last changed, in milliseconds since the epoch.",
        "removed_at": "When it was removed, in milliseconds since the epoch; its name and value "
        "are null then.",
    },
    open="entity_id annotation_id kind track position name author created_at changed_at removed_at",
)

SHARE_LINKS = Table(
    "share_links",
    ("call_id", "link_id"),
    "Links that show one call or chat without a login.",
    {
        "call_id": "The id of the call or chat.",
        "link_id": "Its id, which is part of the signed link.",
        "is_masked": "1 if the link shows no personal data.",
        "author": "The user who created it.",
        "created_at": "When it was created, in milliseconds since the epoch.",
        "expires_at": "When it expires, in milliseconds since the epoch.",
        "changed_at": "When this row last changed, in milliseconds since the epoch.",
        "revoked_at": "When it was revoked, in milliseconds since the epoch.",
        "times_opened": "How often it was opened.",
        "last_opened_at": "When it was last opened, in milliseconds since the epoch.",
    },
    open=(
        "call_id link_id is_masked author created_at expires_at changed_at revoked_at times_opened "
        "last_opened_at"
    ),
)

SAVED_VIEWS = Table(
    "saved_views",
    ("view_id",),
    "Named filters of the page of calls.",
    {
        "view_id": "Its id.",
        "name": "The name that its author gave it; empty for the filter of their home page.",
        "query": "The filter, as in the address of the page.",
        "author": "The user who saved it.",
        "is_shared": "1 if every user sees it.",
        "created_at": "When it was saved, in milliseconds since the epoch.",
        "changed_at": "When this row last changed, in milliseconds since the epoch.",
        "removed_at": "When it was removed, in milliseconds since the epoch; its name and query "
        "are null then.",
    },
    open="view_id author is_shared created_at changed_at removed_at",
    hidden="name query",
)

STATEMENTS = Table(
    "statements",
    ("month", "grouped_by", "timezone"),
    "Closed months, as `callhouse statement` first showed them.",
    {
        "month": "The month, YYYY-MM.",
        "grouped_by": "account, agent or metadata.NAME; empty for one group of all calls.",
        "timezone": "The time zone of its days.",
        "closed_at": "When it was closed, in milliseconds since the epoch.",
        "sums": "JSON: of each group, its calls, chats, milliseconds, exact cents, and cents by "
        "product. Values of metadata are stored as their SHA-256.",
    },
    open="month grouped_by timezone closed_at",
)

ALERTS = Table(
    "alerts",
    ("alert_id",),
    "Findings of the rules of alerts: open, or resolved.",
    {
        "alert_id": "Its id.",
        "rule": "Name of the rule.",
        "key": "Which subject of the rule it is about, such as an agent version or a budget; "
        "empty if the rule has only one.",
        "severity": "info, warning or critical.",
        "text": "The last finding as text. No personal data.",
        "figures": "JSON of the figures that were found last.",
        "link": "The address of the page that shows more, without the host.",
        "cause": "The alert that explains this one. This one then has no message of its own.",
        "opened_at": "When it was found first, in milliseconds since the epoch.",
        "seen_at": "When it was found last, in milliseconds since the epoch.",
        "changed_at": "When this row last changed, in milliseconds since the epoch.",
        "resolved_at": "When it was resolved, in milliseconds since the epoch.",
        "notified_at": "When the last message about it was written, in milliseconds since the "
        "epoch.",
        "acknowledged_by": "The user who works on it.",
        "acknowledged_at": "When the user acknowledged it, in milliseconds since the epoch.",
        "snoozed_until": "Until when no message about it is written, in milliseconds since the "
        "epoch.",
    },
    open=(
        "alert_id rule key severity text figures link cause opened_at seen_at changed_at "
        "resolved_at notified_at acknowledged_by acknowledged_at snoozed_until"
    ),
)

RETELL_ALERTS = Table(
    "retell_alerts",
    ("entity_id",),
    "Alerts of Retell's own rules: the events alert_triggered. Retell does not report their end.",
    {
        "entity_id": "As in observations.",
        "incident_id": "Retell's id of the incident.",
        "rule_id": "Retell's id of the rule.",
        "name": "Name of the rule.",
        "metric_type": "What it measures, such as call_success_rate or concurrency_used.",
        "threshold_type": "absolute or relative.",
        "threshold_value": "Its threshold.",
        "comparator": "How the value is compared with the threshold.",
        "frequency": "How often Retell checks it.",
        "period": "The period that it measures; `window` in the event.",
        "current_value": "The value that was found.",
        "triggered_timestamp": "When it was triggered, in milliseconds since the epoch.",
        "received_at": "When the event arrived, in milliseconds since the epoch.",
        "changed_at": "When this row was written, in milliseconds since the epoch.",
    },
    open=(
        "entity_id incident_id rule_id name metric_type threshold_type threshold_value comparator "
        "frequency period current_value triggered_timestamp received_at changed_at"
    ),
)

JOBS = Table(
    "jobs",
    ("name",),
    "The jobs of `callhouse work`.",
    {
        "name": "Name of the job.",
        "started_at": "When it last started, in milliseconds since the epoch.",
        "ended_at": "When it last ended, in milliseconds since the epoch.",
        "result": "What it last did.",
        "problem": "Why it last failed; null if it did not.",
        "failures": "How often it has failed in a row.",
        "next_run_at": "When it runs next, in milliseconds since the epoch.",
        "owner": "The worker that runs it now.",
        "lease_until": "Until when no other worker runs it, in milliseconds since the epoch.",
    },
    open=("name started_at ended_at result problem failures next_run_at owner lease_until"),
)

OUTBOX = Table(
    "outbox",
    ("entity_id", "body_sha256", "target", "received_at"),
    "Events that wait to be forwarded, or could not be.",
    {
        "entity_id": "As in observations.",
        "body_sha256": "SHA-256 of the body's bytes, in hex.",
        "target": "Name of the target in the configuration.",
        "received_at": "When the event arrived, in milliseconds since the epoch.",
        "signature": "Its X-Retell-Signature header.",
        "body": "The body, compressed with zstd. Not readable here.",
        "state": "waiting or dead.",
        "attempts": "How often sending was tried.",
        "next_attempt_at": "When it is sent next, in milliseconds since the epoch.",
        "problem": "Why it was not accepted.",
    },
    open="entity_id target received_at state attempts next_attempt_at problem",
    hidden="body_sha256 signature body",
)

NOTIFICATIONS = Table(
    "notifications",
    ("message_id", "target"),
    "Messages about alerts, and digests, to each URL of the configuration.",
    {
        "message_id": "Its id.",
        "target": "The first 8 hex digits of the SHA-256 of the URL, which is a secret.",
        "created_at": "When it was written, in milliseconds since the epoch.",
        "title": "Its title.",
        "body": "Its text.",
        "html": "The same as HTML; null if there is none.",
        "state": "waiting, sent or dead.",
        "attempts": "How often sending was tried.",
        "next_attempt_at": "When it is sent next, in milliseconds since the epoch.",
        "sent_at": "When it was delivered, in milliseconds since the epoch.",
        "problem": "Why it could not be delivered.",
    },
    open=(
        "message_id target created_at title body html state attempts next_attempt_at sent_at "
        "problem"
    ),
)

UPSTREAM_CALLS = Table(
    "upstream_calls",
    ("call_id",),
    "Calls and chats that sync and coverage fetched, each by a request of its own.",
    {
        "call_id": "Retell's id of the call or chat.",
        "asked_at": "When Retell last answered with it, in milliseconds since the epoch.",
        "gone_at": "When Retell said that it does not have it, in milliseconds since the "
        "epoch: deleted there, or past its retention. It stays stored, and is not requested again.",
        "account": _ACCOUNT.format("asked for it"),
    },
    open="call_id asked_at gone_at account",
)

SYNCS = Table(
    "syncs",
    ("agent_id", "key_id", "since", "until"),
    "How far each `callhouse sync` came; the next one with the same key continues from there.",
    {
        "agent_id": "The agent whose calls and chats were fetched; empty for all.",
        "key_id": "The key that fetched them: the first 8 hex digits of the key's SHA-256. "
        "Empty for syncs of older versions.",
        "since": "The first day; empty if it began with the oldest call or chat.",
        "until": "The last day; empty if it continued to the newest call or chat.",
        "next_day": "The first day that is not done yet.",
        "started_at": "When it began, in milliseconds since the epoch.",
        "finished_at": "When it was done, in milliseconds; null if it was interrupted.",
        "found": "Calls and chats that Retell listed, and open ones that were fetched as well.",
        "new": "Those that were not stored before.",
        "changed": "Those to which the fetched object added information.",
        "unchanged": "Those to which it added nothing.",
        "gone": "Those that Retell does not have any more.",
        "failed": "Those that could not be fetched.",
        "account": _ACCOUNT.format("fetched them"),
    },
    open=(
        "agent_id key_id since until next_day started_at finished_at found new changed unchanged "
        "gone failed account"
    ),
)

COVERAGE = Table(
    "coverage",
    ("day", "agent_id"),
    "The last result of `callhouse coverage` for each day and agent: the calls that Retell "
    "lists, and which of them are stored.",
    {
        "day": "The day in the configured time zone.",
        "agent_id": "Retell's id of the agent.",
        "agent_name": "The agent's name; one of them if it was renamed within the day.",
        "listed": "Calls, or chats of a chat agent, that Retell lists.",
        "stored": "How many of them are stored.",
        "ended": "How many are stored with their end.",
        "with_transcript": "How many are stored with a transcript, even an empty one.",
        "analysed": "How many are stored with their analysis.",
        "with_final_cost": "How many are stored with a final cost.",
        "missing": "How many are not stored.",
        "incomplete": "How many are stored incompletely.",
        "gone_upstream": "Stored calls of the day that Retell no longer has.",
        "erased": "How many were erased.",
        "missing_call_ids": "JSON of the ids that are missing.",
        "incomplete_call_ids": "JSON of the ids that are incomplete.",
        "checked_at": "When it was compared, in milliseconds since the epoch.",
        "key_id": "The key that it was compared with: the first 8 hex digits of the key's SHA-256. "
        "Null if an older version compared it.",
        "account": _ACCOUNT.format("it was compared with"),
    },
    open=(
        "day agent_id agent_name listed stored ended with_transcript analysed with_final_cost "
        "missing incomplete gone_upstream erased missing_call_ids incomplete_call_ids checked_at "
        "key_id account"
    ),
)

_HOUR = "The local hour: its first millisecond since the epoch."
_GROUP_KEY = {
    "hour": _HOUR,
    "position": "Number of the row within its hour.",
    "agent_id": "Retell's id of the agent.",
    "agent_version": "The agent's version.",
    "direction": "inbound or outbound; null for web calls.",
}
_AGENT_NAME = "The agent's name; one of them if the calls have several."
_OF_ACCOUNT = {"account": "The account of the calls; null for rows of older versions."}

ROLLUP_HOURS = Table(
    "rollup_hours",
    ("hour",),
    "The hours whose sums are in the other rollup tables. A change of one of their calls "
    "deletes them.",
    {"hour": _HOUR},
)

ROLLUP_CALLS = Table(
    "rollup_calls",
    ("hour", "position"),
    "Calls of the rolled-up hours; hourly_calls has those of all hours.",
    _GROUP_KEY
    | {
        "disconnection_reason": "Why they ended; null if they have not.",
        "started": "1 if they have a start, which with the reason shows whether they connected.",
        "agent_name": _AGENT_NAME,
        "calls": "How many calls.",
        "transferred": "How many of them were transferred.",
        "duration_ms_sum": "Sum of their lengths, in milliseconds.",
        "duration_count": "How many have a length.",
        "cost_cents_sum": "Sum of their costs, in US cents.",
        "cost_count": "How many have a cost.",
        "successful_count": "In how many the agent reached its goal.",
        "judged_count": "For how many calls that is known.",
        "positive_count": "How many have a positive sentiment.",
        "neutral_count": "How many have a neutral sentiment.",
        "negative_count": "How many have a negative sentiment.",
        "sentiment_count": "How many have any sentiment, Unknown too.",
        "voicemail_count": "How many reached a voicemail.",
        "e2e_p50_ms_sum": "Sum of the calls' median times to answer (e2e), in milliseconds.",
        "e2e_p50_count": "How many have one.",
        "interruptions_sum": "Turns that began before the other speaker's had ended.",
        "interruptions_count": "In how many calls turns are known.",
        "tool_calls_sum": "Tools invoked.",
        "failed_tool_calls_sum": "Tools that did not run.",
        "cost_cents_squares": "Sum of the squares of their costs in US cents.",
        "e2e_p50_ms_squares": "Sum of the squares of their median times to answer.",
        "turns_sum": "Turns in the conversations.",
        "interrupted_count": "In how many calls there was an interruption.",
    }
    | _OF_ACCOUNT,
)

ROLLUP_COSTS = Table(
    "rollup_costs",
    ("hour", "position"),
    "Parts of costs of the rolled-up hours; hourly_costs has those of all hours.",
    _GROUP_KEY
    | {
        "product": "Name of the product.",
        "calls": "How many calls it was charged for.",
        "cost_cents_sum": "Its cost, in US cents.",
        "transfer_leg_cents_sum": "How much of it belongs to transferred legs, in US cents.",
    }
    | _OF_ACCOUNT,
)

ROLLUP_LATENCIES = Table(
    "rollup_latencies",
    ("hour", "position"),
    "Times to answer in the rolled-up hours; hourly_latencies has those of all hours.",
    _GROUP_KEY
    | {
        "component": "e2e, llm, tts, asr, knowledge_base, ….",
        "agent_name": _AGENT_NAME,
        "calls": "How many calls it was measured in.",
        "p50_ms_sum": "Sum of the calls' medians, in milliseconds.",
        "p50_count": "How many have one.",
        "p95_ms_sum": "Sum of the calls' 95th percentiles, in milliseconds.",
        "p95_count": "How many have one.",
        "max_ms": "The longest of all, in milliseconds.",
    }
    | _OF_ACCOUNT,
)

ROLLUP_TOOLS = Table(
    "rollup_tools",
    ("hour", "position"),
    "Uses of tools in the rolled-up hours; hourly_tools has those of all hours.",
    _GROUP_KEY
    | {
        "name": "Name of the tool.",
        "type": "custom, end_call, transfer_call, …; null for older calls.",
        "tool_calls": "How often it was invoked.",
        "failed": "How often it did not run.",
        "without_result": "How often no result came.",
        "said_no": 'How often it ran and answered "success": false.',
        "duration_ms_sum": "Sum of the times from invocation to result, in milliseconds.",
        "duration_count": "How often that is known.",
        "longest_ms": "The longest of these times, in milliseconds.",
    }
    | _OF_ACCOUNT,
)

ROLLUP_TRANSITIONS = Table(
    "rollup_transitions",
    ("hour", "position"),
    "Steps from node to node in the rolled-up hours; hourly_transitions has those of all hours.",
    _GROUP_KEY
    | {
        "former_node": "Name of the node it left, or its id if it has none.",
        "new_node": "Name of the node it entered, or its id if it has none.",
        "calls": "How many calls took this step.",
        "transitions": "The number of transitions.",
    }
    | _OF_ACCOUNT,
)

ROLLUP_WAITS = Table(
    "rollup_waits",
    ("hour", "position"),
    "Waits for answers in the rolled-up hours; hourly_waits has those of all hours.",
    {
        "hour": _HOUR,
        "position": "Number of the row within its hour.",
        "wait_ms": "How long callers waited for an answer (e2e), in milliseconds: the middle of a "
        "step of 10 below a second, of 100 below ten, else of 1000.",
        "answers": "How many answers took this long.",
    }
    | _OF_ACCOUNT,
)
_ROLLUPS = (
    ROLLUP_CALLS,
    ROLLUP_COSTS,
    ROLLUP_LATENCIES,
    ROLLUP_TOOLS,
    ROLLUP_TRANSITIONS,
    ROLLUP_WAITS,
)

_DAY = "The local day, YYYY-MM-DD."
ROLLUP_DAYS = Table(
    "rollup_days",
    ("day",),
    "The days whose sums are in the rollup_day tables.",
    {
        "day": _DAY,
        "since": "Its first millisecond since the epoch.",
        "until": "The first millisecond of the next day.",
    },
)
_DAY_ROLLUPS = tuple(
    Table(
        table.name.replace("rollup_", "rollup_day_"),
        ("day", "position"),
        table.description.replace("hourly_", "daily_").replace("hour", "day"),
        {"day": _DAY, "position": "Number of the row within its day."}
        | {name: words for name, words in table.columns.items() if name not in table.key},
    )
    for table in _ROLLUPS
)

# The tables that are projected from a call's observations, parents before children.
CALL_TABLES = (
    CALLS,
    ANALYSES,
    TRANSCRIPTS,
    UTTERANCES,
    UTTERANCE_WORDS,
    TOOL_CALLS,
    NODE_TRANSITIONS,
    MARKERS,
    PRODUCT_COSTS,
    LATENCIES,
    ATTRIBUTES,
    MEDIA,
    TRANSFERS,
    CALL_METRICS,
    UNKNOWNS,
)
CHAT_TABLES = (CHATS, CHAT_MESSAGES, CHAT_UNKNOWNS)
# Reviews, links that share a call, and saved views.
REVIEW_TABLES = (ANNOTATIONS, SHARE_LINKS, SAVED_VIEWS)
ALERT_TABLES = (ALERTS, RETELL_ALERTS)
# What callhouse asked Retell for, and the answers.
UPSTREAM_TABLES = (UPSTREAM_CALLS, SYNCS, COVERAGE)
TABLES = (
    OBSERVATIONS,
    *CALL_TABLES,
    *CHAT_TABLES,
    DISCONNECTION_REASONS,
    ACCOUNT_KEYS,
    ERASURES,
    RECEIPTS,
    MEDIA_FILES,
    *REVIEW_TABLES,
    STATEMENTS,
    *ALERT_TABLES,
    *UPSTREAM_TABLES,
)
# Tables of the worker: neither copied nor exported by day.
WORK_TABLES = (JOBS, OUTBOX, NOTIFICATIONS)

# (table, column) with keys to web calls, and with data that is scrubbed elsewhere. They read as
# NULL.
PRIVATE = {("observations", "body"), ("outbox", "body")}

# Columns in milliseconds since the epoch, in tables and views.
TIMESTAMPS = {
    name
    for table in (*TABLES, *WORK_TABLES)
    for name in table.names
    if name.endswith(("_timestamp", "_at"))
}
# Rollups are computed from the calls and deleted when they change. They are not compared, copied or
# rebuilt, and in a distributed engine they do not belong to a call.
ROLLUP_TABLES = (ROLLUP_HOURS, *_ROLLUPS, ROLLUP_DAYS, *_DAY_ROLLUPS)
# Every table of the database.
ALL_TABLES = (*TABLES, *WORK_TABLES, *ROLLUP_TABLES)
