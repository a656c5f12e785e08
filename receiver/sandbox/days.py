"""The events that report a call, and days of invented calls, chats and alerts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.calls import (
    BASIC,
    NO_COST,
    Call,
    make_call,
    second_opinion,
    transcript_fields,
)
from receiver.sandbox.chats import chat_events, past_chats
from receiver.sandbox.companies import Account, read_data
from receiver.sandbox.plans import NEVER_STARTED, plans
from receiver.sandbox.recordings import signed
from receiver.sandbox.timeline import UTTERANCES, starts_at
from receiver.sandbox.wire import Event, Json, hex_digits

_FIXED = read_data("data/events.yaml")
FROM_THE_START: Sequence[str] = _FIXED["call_from_the_start"]


def call_events(rng: Random, call: Call) -> list[Event]:
    """Return the events of a call in their usual order."""
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


def event(at_ms: int, name: str, call: Call, state: Json, **more: Any) -> Event:
    """Return an event about a call."""
    return Event(at_ms, name, call.call_id, {"call": state, **more})


def at_start(call: Call) -> Json:
    """Return the call object of an ongoing call."""
    known = {key: call.record[key] for key in FROM_THE_START if key in call.record}
    return known | {"call_status": "ongoing", "latency": {}, "call_cost": NO_COST}


def so_far(call: Call, second: float) -> Json:
    """Return the ongoing call with its transcript until `second`."""
    if call.plan.agent.storage == BASIC:
        return at_start(call)
    heard = [entry for entry in call.entries if starts_at(entry) <= second]
    return at_start(call) | transcript_fields(heard)


def at_end(rng: Random, call: Call) -> Json:
    """Return the call object of `call_ended`: everything but the analysis."""
    known = {
        key: value for key, value in call.record.items() if key not in _FIXED["call_from_analysis"]
    }
    return signed(rng, known, call.end_ms)


def analysed(rng: Random, call: Call) -> Json:
    """Return the complete call object."""
    return signed(rng, call.record, call.end_ms)


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


def _hands_over(entry: Json) -> bool:
    """Return whether a tool transfers the call; a custom LLM's tools have no type."""
    return "transfer_call" in (entry.get("type"), entry.get("name"))


def _transfer(call: Call) -> Json:
    agent = call.plan.agent
    option: Json = {"type": agent.transfer_type, "showTransfereeAsCaller": True}
    if agent.transfer_type == "warm_transfer":
        option |= _FIXED["warm_transfer"]
    return {
        "transfer_destination": {"number": agent.transfer_to, "extension": "204"},
        "transfer_option": option,
    }


# Retell times out after ten seconds and retries.
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


def _duplicated(rng: Random, _: Call, events: list[Event]) -> list[Event]:
    """Send the same bytes again after a timeout."""
    later_ms = _TIMEOUT_MS + rng.randrange(200, 900)
    return [
        replace(sent, again_ms=sent.at_ms + later_ms) if sent.name == "call_ended" else sent
        for sent in events
    ]


def _reanalysed(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    later_ms = events[-1].at_ms + rng.randrange(900_000, 2_400_000)
    state = analysed(rng, call)
    state = state | {"call_analysis": second_opinion(state["call_analysis"])}
    return [*events, event(later_ms, "call_analyzed", call, state)]


def _reviewed(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add an undocumented event with an undocumented field."""
    later_ms = events[-1].at_ms + rng.randrange(300_000, 900_000)
    state = analysed(rng, call) | {"quality_review": _FIXED["quality_review"]}
    return [*events, event(later_ms, "call_reviewed", call, state)]


def with_updates(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add transcript_updated events at some turns and at the end."""
    turns = [starts_at(entry) for entry in call.entries if entry["role"] in UTTERANCES]
    moments = sorted(rng.sample(turns, min(_UPDATES, len(turns))))
    states = [(call.start_ms + round(s * 1000) + 40, so_far(call, s)) for s in moments]
    states.append((call.end_ms + 90, at_end(rng, call)))
    return [*events, *(event(at, "transcript_updated", call, state) for at, state in states)]


def _tool_request(_: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add a custom function's request, which has no event name and another URL."""
    run = next(entry for entry in call.entries if entry.get("type") == "custom")
    args = json.loads(run["arguments"])
    content = {"name": run["name"], "args": args, "call": so_far(call, run["time_sec"])}
    at_ms = call.start_ms + round(run["time_sec"] * 1000) + 15
    return [*events, Event(at_ms, "", call.call_id, content)]


def _inbound(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Add the inbound event before the call."""
    asked = {
        key: call.record[key]
        for key in ("agent_id", "agent_version", "from_number", "to_number", "custom_sip_headers")
    }
    at_ms = call.start_ms - rng.randrange(700, 2_500)
    return [Event(at_ms, "call_inbound", "", {"call_inbound": asked}), *events]


_TWISTS: Mapping[str, Callable[[Random, Call, list[Event]], list[Event]]] = {
    "analyzed_first": lambda rng, _, events: _delayed(rng, events, "call_ended", "call_analyzed"),
    "duplicate": _duplicated,
    "inbound": _inbound,
    "late_started": lambda rng, _, events: _delayed(rng, events, "call_started", "call_ended"),
    "ongoing": lambda _, __, events: [e for e in events if e.name == "call_started"],
    "reanalysed": _reanalysed,
    "reviewed": _reviewed,
    "tool_request": _tool_request,
    "unanalysed": lambda _, __, events: [e for e in events if e.name != "call_analyzed"],
    "updates": with_updates,
}


_MINUTE_MS = 60_000
DAY_MS = 86_400_000
_CALLS_PER_CHAT = 25
_ANALYSED = ("call_analyzed", "transfer_ended", "call_reviewed")


@dataclass(frozen=True)
class Story:
    """The final call or chat object, None for an alert, and the events that report it."""

    entity: Json | None
    created_ms: int
    events: list[Event]


def past_calls(
    rng: Random, account: Account, day_start_ms: int, calls: int, *, typical: bool = False
) -> Iterator[tuple[Call, list[Event], list[Event]]]:
    """Yield the calls of a day in the order of their starts, each with its events as they happened
    and as they are reported, which may be late or never."""
    for plan in plans(rng, day_start_ms, calls, typical=typical):
        call = make_call(rng, account, plan)
        events = call_events(rng, call)
        yield call, events, twisted(rng, call, events)


def chat_stories(rng: Random, account: Account, day_start_ms: int, calls: int) -> Iterator[Story]:
    """Yield the chats of a day with so many calls."""
    for chat in past_chats(rng, account, day_start_ms, max(3, calls // _CALLS_PER_CHAT)):
        yield Story(chat, chat["start_timestamp"], chat_events(rng, chat))


def alert_story(rng: Random, day_start_ms: int) -> Story:
    """Return the alert of the busiest hour: each day that of another rule."""
    alerts = _FIXED["alerts"]
    at_ms = day_start_ms + 11 * 60 * _MINUTE_MS + rng.randrange(_MINUTE_MS)
    alert = {
        "alert_incident_id": f"alert_incident_{hex_digits(rng, 20)}",
        "alert_rule_id": f"alert_rule_{hex_digits(rng, 20)}",
        **alerts[day_start_ms // DAY_MS % len(alerts)],
        "triggered_timestamp": at_ms - 2_000,
    }
    return Story(None, at_ms, [Event(at_ms, "alert_triggered", "", {"alert": alert})])


def stories(
    seed: int, account: Account, *, day_start_ms: int, days: int, calls: int, odd: bool, chats: bool
) -> Iterator[Story]:
    """Yield `calls` calls spread over the days, in order of their day.

    With `odd` some events are late, repeated, out of order or missing, and there are chats, alerts
    and stray requests. Without, each event comes once, in order; `chats` adds those. Of weeks, the
    calls are typical.
    """
    for index in range(days):
        start_ms = day_start_ms + index * DAY_MS
        share = calls * (index + 1) // days - calls * index // days
        rng = Random(f"{seed} {start_ms}")
        past = past_calls(rng, account, start_ms, share, typical=days > 7)
        for call, events, odd_events in past:
            plain = [_with_cost(event) for event in events]
            reported = [_with_cost(event) for event in odd_events] if odd else plain
            analysed = [event for event in (*plain, *reported) if event.name in _ANALYSED]
            last = max(analysed, key=lambda event: event.at_ms)
            yield Story(last.content["call"], call.plan.start_ms, reported)
        if odd or chats:
            yield from chat_stories(rng, account, start_ms, share)
        if odd:
            yield alert_story(rng, start_ms)


def _with_cost(event: Event) -> Event:
    """The event with all fields of the cost: Retell's own client requires them."""
    call = event.content.get("call")
    if call is None or "call_cost" not in call:
        return event
    costs = NO_COST | call["call_cost"]
    return replace(event, content=event.content | {"call": call | {"call_cost": costs}})
