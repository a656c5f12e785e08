"""The events that report one call, in order, each with the state of the call at its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from receiver.sandbox.calls import BASIC, Call
from receiver.sandbox.figures import NO_COST
from receiver.sandbox.kinds import NEVER_STARTED
from receiver.sandbox.timeline import starts_at
from receiver.sandbox.transcripts import transcript_fields
from receiver.sandbox.wire import hex_digits

# What exists as soon as a call has begun; the rest comes with its end.
FROM_THE_START = (
    "call_id",
    "call_type",
    "agent_id",
    "agent_version",
    "agent_name",
    "agent_tag",
    "access_token",
    "retell_llm_dynamic_variables",
    "metadata",
    "batch_call_id",
    "custom_sip_headers",
    "data_storage_setting",
    "opt_in_signed_url",
    "from_number",
    "to_number",
    "direction",
    "telephony_identifier",
    "start_timestamp",
    "pre_session_transcript_with_tool_calls",
    "scrubbed_pre_session_transcript_with_tool_calls",
)
_FROM_ANALYSIS = (
    "call_analysis",
    "post_session_transcript_with_tool_calls",
    "scrubbed_post_session_transcript_with_tool_calls",
)


@dataclass(frozen=True)
class Event:
    """One event as Retell sends it: a name, a moment and what the envelope holds besides."""

    at_ms: int
    name: str
    entity_id: str
    content: dict[str, Any]


def call_events(rng: Random, call: Call) -> list[Event]:
    """Return the events of a call as they come when nothing goes wrong."""
    ended_ms = call.end_ms + rng.randrange(300, 1500)
    analyzed_ms = ended_ms + rng.randrange(3_500, 18_000)
    events = []
    if call.plan.reason not in NEVER_STARTED:
        started_ms = call.start_ms + rng.randrange(60, 400)
        events.append(event(started_ms, "call_started", call, at_start(call)))
    events += _transfer_events(call, ended_ms)
    events.append(event(ended_ms, "call_ended", call, at_end(rng, call)))
    events.append(event(analyzed_ms, "call_analyzed", call, analysed(rng, call)))
    if call.after_transfer:
        last_ms = call.after_transfer["transfer_end_timestamp"] + rng.randrange(300, 1500)
        final = analysed(rng, call) | call.after_transfer
        events.append(event(last_ms, "transfer_ended", call, final))
    return sorted(events, key=lambda sent: sent.at_ms)


def event(at_ms: int, name: str, call: Call, state: dict[str, Any], **more: Any) -> Event:
    """Return an event about a call."""
    return Event(at_ms, name, call.call_id, {"call": state, **more})


def at_start(call: Call) -> dict[str, Any]:
    """Return the call object while the call is going on: no figures yet."""
    known = {key: call.record[key] for key in FROM_THE_START if key in call.record}
    return known | {"call_status": "ongoing", "latency": {}, "call_cost": NO_COST}


def so_far(call: Call, second: float) -> dict[str, Any]:
    """Return the ongoing call with what has been said until `second`."""
    if call.plan.agent.storage == BASIC:
        return at_start(call)
    heard = [entry for entry in call.entries if starts_at(entry) <= second]
    return at_start(call) | transcript_fields(heard)


def at_end(rng: Random, call: Call) -> dict[str, Any]:
    """Return the call object of `call_ended`: everything but the analysis."""
    known = {key: value for key, value in call.record.items() if key not in _FROM_ANALYSIS}
    return _freshly_signed(rng, known)


def analysed(rng: Random, call: Call) -> dict[str, Any]:
    """Return the complete call object."""
    return _freshly_signed(rng, call.record)


def _freshly_signed(rng: Random, state: dict[str, Any]) -> dict[str, Any]:
    """Sign the URLs anew, as each reading of a call with signed URLs does."""
    if not state.get("opt_in_signed_url"):
        return state
    expires = state.get("end_timestamp", 0) // 1000 + 86_400
    query = f"?Expires={expires}&Key-Pair-Id=K2EXAMPLE&Signature={hex_digits(rng, 344)}"
    return {
        key: value + query if key.endswith("_url") and isinstance(value, str) else value
        for key, value in state.items()
    }


def _transfer_events(call: Call, ended_ms: int) -> Iterator[Event]:
    tool_call_id = ""
    for entry in call.entries:
        if _hands_over(entry):
            name, tool_call_id = "transfer_started", entry["tool_call_id"]
        elif entry["role"] == "tool_call_result" and entry["tool_call_id"] == tool_call_id:
            name = "transfer_bridged" if entry["successful"] else "transfer_cancelled"
        else:
            continue
        at_ms = min(call.start_ms + round(entry["time_sec"] * 1000) + 120, ended_ms - 50)
        yield event(at_ms, name, call, so_far(call, entry["time_sec"]), **_transfer(call))


def _hands_over(entry: dict[str, Any]) -> bool:
    """Say whether a tool transfers the call; one of a custom LLM has no type."""
    return "transfer_call" in (entry.get("type"), entry.get("name"))


def _transfer(call: Call) -> dict[str, Any]:
    agent = call.plan.agent
    option: dict[str, Any] = {"type": agent.transfer_type, "showTransfereeAsCaller": True}
    if agent.transfer_type == "warm_transfer":
        message = "Hello, I have a caller on the line for you."
        option |= {
            "publicHandoffOption": {"type": "static_message", "message": message},
            "agentDetectionTimeoutMs": 15000,
            "onHoldMusic": {"type": "relaxing_sound"},
            "enableBridgeAudioCue": True,
        }
    return {
        "transfer_destination": {"number": agent.transfer_to, "extension": "204"},
        "transfer_option": option,
    }
