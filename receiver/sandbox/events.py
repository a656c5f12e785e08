"""The events that report one call, in order, each with the state of the call at its time."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.calls import BASIC, NO_COST, Call, second_opinion, transcript_fields
from receiver.sandbox.plans import NEVER_STARTED
from receiver.sandbox.timeline import UTTERANCES, starts_at
from receiver.sandbox.wire import hex_digits

# What exists as soon as a call has begun; the rest comes with its end.
FROM_THE_START = (
    *("call_id", "call_type", "agent_id", "agent_version", "agent_name", "agent_tag"),
    *("access_token", "retell_llm_dynamic_variables", "metadata", "batch_call_id"),
    *("custom_sip_headers", "data_storage_setting", "opt_in_signed_url"),
    *("from_number", "to_number", "direction", "telephony_identifier", "start_timestamp"),
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


# Retell gives up on an answer after ten seconds and then sends again.
_TIMEOUT_MS = 10_000
_UPDATES = 4


def twisted(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Return the events of a call with the twist of its kind."""
    twist = _TWISTS.get(call.plan.kind.twist)
    return twist(rng, call, events) if twist else events


def _delayed(rng: Random, events: list[Event], late: str, after: str) -> list[Event]:
    by_ms = rng.randrange(2_000, 30_000)
    other_ms = next(sent.at_ms for sent in events if sent.name == after)
    return [replace(sent, at_ms=other_ms + by_ms) if sent.name == late else sent for sent in events]


def _reanalysed(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    later_ms = events[-1].at_ms + rng.randrange(900_000, 2_400_000)
    state = analysed(rng, call)
    state = state | {"call_analysis": second_opinion(state["call_analysis"])}
    return [*events, event(later_ms, "call_analyzed", call, state)]


def _reviewed(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add an event that nobody has documented, with a field that nobody has documented."""
    later_ms = events[-1].at_ms + rng.randrange(300_000, 900_000)
    review = {"score": 4, "reviewer": "quality team", "labels": ["friendly", "clear"]}
    state = analysed(rng, call) | {"quality_review": review}
    return [*events, event(later_ms, "call_reviewed", call, state)]


def with_updates(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add the transcript so far, at some turns and at the end."""
    turns = [starts_at(entry) for entry in call.entries if entry["role"] in UTTERANCES]
    moments = sorted(rng.sample(turns, min(_UPDATES, len(turns))))
    updates = [
        event(
            call.start_ms + round(second * 1000) + 40,
            "transcript_updated",
            call,
            so_far(call, second),
        )
        for second in moments
    ]
    last = event(call.end_ms + 90, "transcript_updated", call, at_end(rng, call))
    return [*events, *updates, last]


def _tool_request(_: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add a custom function's request, which has no event and belongs to another URL."""
    run = next(entry for entry in call.entries if entry.get("type") == "custom")
    content = {
        "name": run["name"],
        "args": json.loads(run["arguments"]),
        "call": so_far(call, run["time_sec"]),
    }
    at_ms = call.start_ms + round(run["time_sec"] * 1000) + 15
    return [*events, Event(at_ms, "", call.call_id, content)]


def _inbound(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add the question that comes before the call is answered."""
    asked = {
        key: call.record[key]
        for key in ("agent_id", "agent_version", "from_number", "to_number", "custom_sip_headers")
    }
    at_ms = call.start_ms - rng.randrange(700, 2_500)
    return [Event(at_ms, "call_inbound", "", {"call_inbound": asked}), *events]


# A duplicate is the same bytes again, so `day` makes it; see `resent_ms`.
_TWISTS: dict[str, Callable[[Random, Call, list[Event]], list[Event]]] = {
    "analyzed_first": lambda rng, _, events: _delayed(rng, events, "call_ended", "call_analyzed"),
    "inbound": _inbound,
    "late_started": lambda rng, _, events: _delayed(rng, events, "call_started", "call_ended"),
    "ongoing": lambda _, __, events: [e for e in events if e.name == "call_started"],
    "reanalysed": _reanalysed,
    "reviewed": _reviewed,
    "tool_request": _tool_request,
    "unanalysed": lambda _, __, events: [e for e in events if e.name != "call_analyzed"],
    "updates": with_updates,
}


def resent_ms(rng: Random, call: Call, sent: Event) -> int | None:
    """Return when the same bytes are sent again, because the first answer came too late."""
    if call.plan.kind.twist != "duplicate" or sent.name != "call_ended":
        return None
    return sent.at_ms + _TIMEOUT_MS + rng.randrange(200, 900)
