"""One chat -> its rows. Unlike a call, a chat is always projected as a whole."""

from collections.abc import Iterable

from schema import drift
from schema.events import RawFields, values
from schema.merge import began_at
from schema.models import Chat, Entry
from schema.rows import Rows, Stamp
from schema.tables import CHATS
from schema.transcript import Row, json_text, text

# track -> field.
_TRACKS = {
    "session": "message_with_tool_calls",
    "pre_session": "pre_session_message_with_tool_calls",
    "post_session": "post_session_message_with_tool_calls",
    "scrubbed_session": "scrubbed_message_with_tool_calls",
    "scrubbed_pre_session": "scrubbed_pre_session_message_with_tool_calls",
    "scrubbed_post_session": "scrubbed_post_session_message_with_tool_calls",
}
_JSON = (
    "metadata",
    "retell_llm_dynamic_variables",
    "collected_dynamic_variables",
    "custom_attributes",
)
_MESSAGE_COLUMNS = {
    "message_id", "role", "content", "created_timestamp", "tool_call_id", "name", "type",
    "arguments", "successful",
}  # fmt: skip


def project_chat(
    chat_id: str, fields: RawFields, stamp: Stamp, envelope: Iterable[str] = ()
) -> Rows:
    """The rows of a whole chat, every table named. `envelope` are the keys beside it."""
    decoded = values(fields)
    chat = Chat.model_validate(decoded)
    messages = [
        _message(chat_id, track, position, entry)
        for track, field in _TRACKS.items()
        for position, entry in enumerate(getattr(chat, field) or ())
        if entry is not None
    ]
    unknown = drift.in_chat(chat, chat.model_extra) + drift.in_envelope(envelope)
    unknown += drift.in_times(decoded, chat)
    for track, field in _TRACKS.items():
        entries = decoded.get(field)
        unknown += drift.in_entries(track, entries)
        # A value of another type than a list has no messages.
        found = entries if isinstance(entries, list) else []
        for entry, message in zip(found, getattr(chat, field) or (), strict=False):
            if message is not None:
                unknown += drift.in_times(entry, message)
    seen_at = began_at(chat.start_timestamp, stamp.observed_at)
    return {
        ("chats", None): [_chat(chat_id, chat, stamp)],
        ("chat_messages", None): messages,
        ("chat_unknowns", None): drift.rows(chat_id, unknown, seen_at),
    }


def _chat(chat_id: str, chat: Chat, stamp: Stamp) -> Row:
    cost, analysis, extra = chat.chat_cost, chat.chat_analysis, chat.model_extra
    costs = (cost and cost.product_costs) or []
    # As for a call: an inbound chat is from the person to the agent.
    ends = [chat.to_number, chat.from_number]
    agent_number, user_number = ends if chat.direction == "inbound" else reversed(ends)
    special = {
        "chat_id": chat_id,
        "version": chat.agent_version if chat.version is None else chat.version,
        "agent_number": chat.agent_number or agent_number,
        "user_number": chat.user_number or user_number,
        "combined_cost_cents": cost and cost.combined_cost,
        "chat_summary": analysis and analysis.chat_summary,
        "user_sentiment": analysis and analysis.user_sentiment,
        "chat_successful": analysis and analysis.chat_successful,
        "custom_analysis_data": json_text(analysis and analysis.custom_analysis_data),
        "product_costs": json_text([p.model_dump(exclude_unset=True) for p in costs if p] or None),
        "extra": json_text(dict(sorted(extra.items()))) if extra else None,
        "level": stamp.level,
        "observed_at": stamp.observed_at,
        "updated_at": stamp.updated_at,
        "account": stamp.account,
    } | {field: json_text(getattr(chat, field)) for field in _JSON}
    return tuple(special[c] if c in special else getattr(chat, c) for c in CHATS.names)


def _message(chat_id: str, track: str, position: int, entry: Entry) -> Row:
    rest = entry.model_dump(exclude_unset=True, exclude=_MESSAGE_COLUMNS)
    return (
        chat_id,
        track,
        position,
        entry.message_id,
        entry.role,
        text(entry.content),
        entry.created_timestamp,
        entry.tool_call_id,
        entry.name,
        entry.type,
        text(entry.arguments),
        entry.successful,
        json_text(rest or None),
    )
