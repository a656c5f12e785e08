"""The events that report a call, and days of invented calls, chats and alerts."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.calls import NO_COST, Call, make_call, second_opinion
from receiver.sandbox.chats import chat_events, past_chats
from receiver.sandbox.companies import Account
from receiver.sandbox.plans import NEVER_STARTED, plans
from receiver.sandbox.recordings import signed
from receiver.sandbox.templates import read_data
from receiver.sandbox.timeline import UTTERANCES, starts_at
from receiver.sandbox.wire import Event, Json, hex_digits

_FIXED = read_data("data/events.yaml")


def call_events(rng: Random, call: Call) -> list[Event]:
    """Return the events of a call in their usual order."""
    ended_ms = call.end_ms + rng.randrange(300, 1500)
    analyzed_ms = ended_ms + rng.randrange(3_500, 18_000)
    events = []
    if call.plan.reason not in NEVER_STARTED:
        started_ms = call.start_ms + rng.randrange(60, 400)
        events.append(event(started_ms, "call_started", call, call.at_start()))
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
    agent, tool_call_id = call.plan.agent, ""
    transfer = {
        "transfer_destination": {"number": agent.transfer_to, "extension": "204"},
        "transfer_option": _FIXED["transfer_options"][agent.transfer_type],
    }
    for entry in call.entries:
        # A custom LLM's tools have no type.
        if "transfer_call" in (entry.get("type"), entry.get("name")):
            name, tool_call_id = "transfer_started", entry["tool_call_id"]
        elif entry["role"] == "tool_call_result" and entry["tool_call_id"] == tool_call_id:
            name = "transfer_bridged" if entry["successful"] else "transfer_cancelled"
        else:
            continue
        at_ms = min(call.start_ms + round(entry["time_sec"] * 1000) + 120, ended_ms - 50)
        yield event(at_ms, name, call, call.so_far(entry["time_sec"]), **transfer)


_UPDATES = 4


def twisted(rng: Random, call: Call, events: list[Event]) -> list[Event]:
    """Return the events of a call with the twist of its kind."""
    name = call.plan.kind.twist
    if name in _ADDING:
        return [*events, *_ADDING[name](rng, call)]
    twist = _FIXED["twists"].get(name, {})
    events = [sent for sent in events if sent.name not in twist.get("without", ())]
    if "late" in twist:
        other_ms = next(sent.at_ms for sent in events if sent.name == twist["after"])
        late_ms = other_ms + rng.randrange(*twist["by_ms"])
        events = [replace(e, at_ms=late_ms) if e.name == twist["late"] else e for e in events]
    if "again" in twist:
        by_ms = rng.randrange(*twist["by_ms"])
        events = [
            replace(sent, again_ms=sent.at_ms + by_ms) if sent.name == twist["again"] else sent
            for sent in events
        ]
    if "later" in twist:
        at_ms = events[-1].at_ms + rng.randrange(*twist["by_ms"])
        state = analysed(rng, call)
        second = {"call_analysis": second_opinion(state["call_analysis"])}
        events.append(event(at_ms, twist["later"], call, state | twist.get("fields", second)))
    return events


def updates(rng: Random, call: Call) -> Iterator[Event]:
    """Yield transcript_updated events of some turns and of the end."""
    turns = [starts_at(entry) for entry in call.entries if entry["role"] in UTTERANCES]
    for second in sorted(rng.sample(turns, min(_UPDATES, len(turns)))):
        at_ms = call.start_ms + round(second * 1000) + 40
        yield event(at_ms, "transcript_updated", call, call.so_far(second))
    yield event(call.end_ms + 90, "transcript_updated", call, at_end(rng, call))


def _tool_request(_: Random, call: Call) -> Iterator[Event]:
    """Yield a custom function's request, which has no event name and another URL."""
    run = next(entry for entry in call.entries if entry.get("type") == "custom")
    args = json.loads(run["arguments"])
    content = {"name": run["name"], "args": args, "call": call.so_far(run["time_sec"])}
    yield Event(call.start_ms + round(run["time_sec"] * 1000) + 15, "", call.call_id, content)


def _question(rng: Random, call: Call) -> Iterator[Event]:
    """Yield the inbound event before the call."""
    asked = {name: call.record[name] for name in _FIXED["asked"]}
    at_ms = call.start_ms - rng.randrange(700, 2_500)
    yield Event(at_ms, "call_inbound", "", {"call_inbound": asked})


# Twists that add events of another kind; the others are in data/events.yaml.
_ADDING: Mapping[str, Callable[[Random, Call], Iterator[Event]]] = {
    "inbound": _question,
    "tool_request": _tool_request,
    "updates": updates,
}


_MINUTE_MS = 60_000
DAY_MS = 86_400_000
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


def alert_story(rng: Random, day_start_ms: int) -> Story:
    """Return the alert of the busiest hour; each day it is one of another rule."""
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
    seed: int, account: Account, day_start_ms: int, calls: Sequence[int], *, odd: bool, chats: bool
) -> Iterator[Story]:
    """Yield the calls of successive days, `calls` of each, in order of their day.

    With `odd` some events are late, repeated, out of order or missing, and there are chats, alerts
    and stray requests. Without, each event comes once, in order; `chats` adds those. With several
    weeks, the calls are typical.
    """
    for index, count in enumerate(calls):
        start_ms = day_start_ms + index * DAY_MS
        rng = Random(f"{seed} {start_ms}")
        past = past_calls(rng, account, start_ms, count, typical=len(calls) > 7)
        for call, events, odd_events in past:
            plain = [_with_cost(event) for event in events]
            reported = [_with_cost(event) for event in odd_events] if odd else plain
            analysed = [event for event in (*plain, *reported) if event.name in _ANALYSED]
            last = max(analysed, key=lambda event: event.at_ms)
            yield Story(last.content["call"], call.plan.start_ms, reported)
        if odd or chats:
            for chat in past_chats(rng, account, start_ms, count):
                yield Story(chat, chat["start_timestamp"], chat_events(rng, chat))
        if odd:
            yield alert_story(rng, start_ms)


def _with_cost(event: Event) -> Event:
    """The event with all fields of the cost: Retell's own client requires them."""
    call = event.content.get("call")
    if call is None or "call_cost" not in call:
        return event
    costs = NO_COST | call["call_cost"]
    return replace(event, content=event.content | {"call": call | {"call_cost": costs}})
