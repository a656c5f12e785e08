"""What is odd about some deliveries: late, twice, never, or of a kind nobody has documented."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

from receiver.sandbox.analysis import second_opinion
from receiver.sandbox.calls import Call
from receiver.sandbox.events import Event, analysed, at_end, event, so_far
from receiver.sandbox.timeline import UTTERANCES, starts_at

# Retell gives up on an answer after ten seconds and then sends again.
_TIMEOUT_MS = 10_000
_UPDATES = 4


def twisted(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Return the events of a call with the twist of its kind."""
    twist = _TWISTS.get(call.plan.kind.twist)
    return twist(rng, call, events) if twist else events


def _late_started(rng: Random, _: Call, events: list[Event]) -> list[Event]:
    return _delayed(events, "call_started", "call_ended", rng.randrange(2_000, 30_000))


def _analyzed_first(rng: Random, _: Call, events: list[Event]) -> list[Event]:
    return _delayed(events, "call_ended", "call_analyzed", rng.randrange(2_000, 30_000))


def _delayed(events: list[Event], late: str, after: str, by_ms: int) -> list[Event]:
    other_ms = next(sent.at_ms for sent in events if sent.name == after)
    return [replace(sent, at_ms=other_ms + by_ms) if sent.name == late else sent for sent in events]


def _ongoing(_: Random, __: Call, events: list[Event]) -> list[Event]:
    return [sent for sent in events if sent.name == "call_started"]


def _unanalysed(_: Random, __: Call, events: list[Event]) -> list[Event]:
    return [sent for sent in events if sent.name != "call_analyzed"]


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
    "analyzed_first": _analyzed_first,
    "inbound": _inbound,
    "late_started": _late_started,
    "ongoing": _ongoing,
    "reanalysed": _reanalysed,
    "reviewed": _reviewed,
    "tool_request": _tool_request,
    "unanalysed": _unanalysed,
    "updates": with_updates,
}


def resent_ms(rng: Random, call: Call, sent: Event) -> int | None:
    """Return when the same bytes are sent again, because the first answer came too late."""
    if call.plan.kind.twist != "duplicate" or sent.name != "call_ended":
        return None
    return sent.at_ms + _TIMEOUT_MS + rng.randrange(200, 900)
