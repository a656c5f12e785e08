"""The events that report a call, and days of invented calls, chats and alerts."""

import json
from collections.abc import Callable, Iterator, Sequence
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
from receiver.sandbox.companies import (
    Account,
    Dialogue,
    Node,
    Say,
    Slots,
    Step,
    Tool,
    agent_named,
    decided,
    dialogues,
    fill,
    person,
    read_data,
    working_day,
)
from receiver.sandbox.plans import NEVER_STARTED, plans
from receiver.sandbox.recordings import signed
from receiver.sandbox.timeline import UTTERANCES, starts_at
from receiver.sandbox.wire import compact, hex_digits, number

_FIXED = read_data("data/events.yaml")
FROM_THE_START: Sequence[str] = _FIXED["call_from_the_start"]


@dataclass(frozen=True)
class Event:
    """One event as Retell sends it: time, name and the rest of the envelope."""

    at_ms: int
    name: str
    entity_id: str
    content: dict[str, Any]


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


def event(at_ms: int, name: str, call: Call, state: dict[str, Any], **more: Any) -> Event:
    """Return an event about a call."""
    return Event(at_ms, name, call.call_id, {"call": state, **more})


def at_start(call: Call) -> dict[str, Any]:
    """Return the call object of an ongoing call."""
    known = {key: call.record[key] for key in FROM_THE_START if key in call.record}
    return known | {"call_status": "ongoing", "latency": {}, "call_cost": NO_COST}


def so_far(call: Call, second: float) -> dict[str, Any]:
    """Return the ongoing call with its transcript until `second`."""
    if call.plan.agent.storage == BASIC:
        return at_start(call)
    heard = [entry for entry in call.entries if starts_at(entry) <= second]
    return at_start(call) | transcript_fields(heard)


def at_end(rng: Random, call: Call) -> dict[str, Any]:
    """Return the call object of `call_ended`: everything but the analysis."""
    known = {
        key: value for key, value in call.record.items() if key not in _FIXED["call_from_analysis"]
    }
    return signed(rng, known, call.end_ms)


def analysed(rng: Random, call: Call) -> dict[str, Any]:
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


def _hands_over(entry: dict[str, Any]) -> bool:
    """Return whether a tool transfers the call; a custom LLM's tools have no type."""
    return "transfer_call" in (entry.get("type"), entry.get("name"))


def _transfer(call: Call) -> dict[str, Any]:
    agent = call.plan.agent
    option: dict[str, Any] = {"type": agent.transfer_type, "showTransfereeAsCaller": True}
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


# Duplicates are made by `resent_ms`.
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
    """Return when the same bytes are sent again after a timeout; None if they are not."""
    if call.plan.kind.twist != "duplicate" or sent.name != "call_ended":
        return None
    return sent.at_ms + _TIMEOUT_MS + rng.randrange(200, 900)


_MINUTE_MS = 60_000
_CALLS_PER_CHAT = 25


@dataclass(frozen=True)
class Delivery:
    """One POST of Retell. `entity_id` is a call_id, a chat_id or empty."""

    at_ms: int
    event: str
    entity_id: str
    body: bytes


# An event, and when it is sent again, if it is.
Reported = tuple[Event, int | None]


def day(seed: int, *, day_start_ms: int, calls: int = 120) -> list[Delivery]:
    """Return the deliveries of a day that starts at `day_start_ms`, in sending order.

    Same arguments, same bytes. From 40 calls on, every kind of call and delivery is among them.
    """
    rng = Random(seed)
    account = Account(rng)
    deliveries: list[Delivery] = []
    for call, _, reported in past_calls(rng, account, day_start_ms, calls):
        for sent, again_ms in reported:
            body = webhook_body(sent, call.plan.agent.event_timestamps)
            deliveries.append(Delivery(sent.at_ms, sent.name, sent.entity_id, body))
            if again_ms is not None:
                deliveries.append(Delivery(again_ms, sent.name, sent.entity_id, body))
    for sent in other_events(rng, account, day_start_ms, calls):
        body = webhook_body(sent, stamped=True)
        deliveries.append(Delivery(sent.at_ms, sent.name, sent.entity_id, body))
    return sorted(deliveries, key=lambda delivery: delivery.at_ms)


def past_calls(
    rng: Random, account: Account, day_start_ms: int, calls: int, *, typical: bool = False
) -> Iterator[tuple[Call, list[Event], list[Reported]]]:
    """Yield the calls of a day in the order of their starts, each with its events as they happened
    and as they are reported, which may be late or never."""
    for plan in plans(rng, day_start_ms, calls, typical=typical):
        call = make_call(rng, account, plan)
        events = call_events(rng, call)
        odd = twisted(rng, call, list(events))
        yield call, events, [(sent, resent_ms(rng, call, sent)) for sent in odd]


def other_events(rng: Random, account: Account, day_start_ms: int, calls: int) -> list[Event]:
    """Return the other events of a day with so many calls: chats and an alert."""
    chats = max(3, calls // _CALLS_PER_CHAT)
    return [*chat_events(rng, account, day_start_ms, chats), _alert(rng, day_start_ms)]


def webhook_body(sent: Event, stamped: bool) -> bytes:
    """Return the body that reports an event, as Retell writes it."""
    # A custom function's request is not a webhook and has no envelope.
    envelope: dict[str, Any] = {"event": sent.name, **sent.content} if sent.name else sent.content
    if sent.name and stamped:
        envelope = envelope | {"event_timestamp": sent.at_ms}
    return compact(envelope).encode()


def _alert(rng: Random, day_start_ms: int) -> Event:
    """Return the alert of the busiest hour."""
    at_ms = day_start_ms + 11 * 60 * _MINUTE_MS + rng.randrange(_MINUTE_MS)
    alert = {
        "alert_incident_id": f"alert_incident_{hex_digits(rng, 20)}",
        "alert_rule_id": f"alert_rule_{hex_digits(rng, 20)}",
        **_FIXED["alert"],
        "triggered_timestamp": at_ms - 2_000,
    }
    return Event(at_ms, "alert_triggered", "", {"alert": alert})


DAY_MS = 86_400_000
_ANALYSED = ("call_analyzed", "transfer_ended", "call_reviewed")


@dataclass(frozen=True)
class Story:
    """The final call object, None for a chat or an alert, and the events that report it."""

    call: dict[str, Any] | None
    created_ms: int
    events: list[Reported]


def stories(
    seed: int, account: Account, *, day_start_ms: int, days: int, calls: int, odd: bool
) -> Iterator[Story]:
    """Yield `calls` calls spread over the days, in order of their day.

    With `odd` some events are late, repeated, out of order or missing, and there are chats, alerts
    and stray requests. Without, each event comes once, in order. Of weeks, the calls are typical.
    """
    for index in range(days):
        start_ms = day_start_ms + index * DAY_MS
        share = calls * (index + 1) // days - calls * index // days
        rng = Random(f"{seed} {start_ms}")
        past = past_calls(rng, account, start_ms, share, typical=days > 7)
        for call, events, odd_events in past:
            plain: list[Reported] = [(_with_cost(event), None) for event in events]
            reported = [(_with_cost(event), again_ms) for event, again_ms in odd_events]
            reported = reported if odd else plain
            analysed = [event for event, _ in (*plain, *reported) if event.name in _ANALYSED]
            last = max(analysed, key=lambda event: event.at_ms)
            yield Story(last.content["call"], call.plan.start_ms, reported)
        if odd:
            for event in other_events(rng, account, start_ms, share):
                yield Story(None, event.at_ms, [(event, None)])


def _with_cost(event: Event) -> Event:
    """The event with all fields of the cost: Retell's own client requires them."""
    call = event.content.get("call")
    if call is None or "call_cost" not in call:
        return event
    costs = NO_COST | call["call_cost"]
    return replace(event, content=event.content | {"call": call | {"call_cost": costs}})


_HOUR_MS = 3_600_000
_MESSAGE_COST = 0.2  # cents


def chat_events(rng: Random, account: Account, day_start_ms: int, count: int) -> list[Event]:
    """Return the events of `count` chats between 9:00 and 20:00."""
    events, kinds = [], _FIXED["chats"]
    for index in range(count):
        agent, chat_type, name = kinds[index % len(kinds)]
        start_ms = day_start_ms + int(rng.uniform(9, 20) * _HOUR_MS)
        chat = _chat(rng, account, agent, chat_type, dialogues()[name], start_ms)
        events += _reported(rng, chat)
    return events


@dataclass
class _Messages:
    """The messages of one chat and the time of the last."""

    rng: Random
    slots: Slots
    now_ms: int
    written: list[dict[str, Any]]
    node: str = "begin"

    def add(self, step: Step) -> None:
        if isinstance(step, Say):
            typing_ms = (1_200, 3_000) if step.role == "agent" else (6_000, 45_000)
            text = self.rng.choice(step.texts).format_map(self.slots)
            self._write(self.rng.randrange(*typing_ms), role=step.role, content=text)
        elif isinstance(step, Node):
            self._write(
                20, role="state_transition", former_state_name=self.node, new_state_name=step.name
            )
            self.node = step.name
        elif isinstance(step, Tool):
            call_id = f"tool_call_{hex_digits(self.rng, 16)}"
            arguments = compact(fill(step.arguments, self.slots))
            tool = {"name": step.name, "arguments": arguments, "type": step.type}
            self._write(300, role="tool_call_invocation", tool_call_id=call_id, **tool)
            content = compact(fill(step.result, self.slots))
            result = {"successful": step.successful, "content": content}
            after_ms = self.rng.randrange(300, 1_500)
            self._write(after_ms, role="tool_call_result", tool_call_id=call_id, **result)

    def _write(self, after_ms: int, **message: Any) -> None:
        self.now_ms += after_ms
        message_id = f"msg_{hex_digits(self.rng, 24)}"
        self.written.append({"message_id": message_id, **message, "created_timestamp": self.now_ms})


def _chat(
    rng: Random, account: Account, key: str, chat_type: str, dialogue: Dialogue, start_ms: int
) -> dict[str, Any]:
    agent = agent_named(key)
    slots = person(rng, agent.country) | working_day(rng, start_ms, dialogue.language)
    for choice in dialogue.choices:
        slots |= rng.choice(choice)
    chat_id = f"chat_{hex_digits(rng, 27)}"
    ending = rng.choice(dialogue.endings)
    messages = _Messages(rng, slots, start_ms, [])
    for step in decided((*dialogue.opening, *ending.steps), rng):
        messages.add(step)
    spoken = [message for message in messages.written if message["role"] in ("agent", "user")]
    cost = number(round(_MESSAGE_COST * len(spoken), 7))
    return {
        "chat_id": chat_id,
        "agent_id": account.agent_ids[key],
        "version": agent.versions[-1].number,
        "retell_llm_dynamic_variables": fill(agent.variables, slots),
        "collected_dynamic_variables": {"last_node_name": messages.node},
        "chat_status": "ended",
        "chat_type": chat_type,
        "metadata": {"channel": chat_type, "visitor": f"V-{slots['ref']}"},
        "custom_attributes": {"priority": rng.randrange(1, 4), "newsletter": rng.random() < 0.5},
        "start_timestamp": start_ms,
        "end_timestamp": messages.now_ms + rng.randrange(30_000, 300_000),
        "transcript": "".join(f"{m['role'].title()}: {m['content']}\n" for m in spoken),
        "message_with_tool_calls": messages.written,
        "chat_cost": {
            "product_costs": [{"product": "gpt_4_1_text_testing", "cost": cost}],
            "combined_cost": cost,
        },
        "chat_analysis": {
            "chat_summary": fill(ending.summary, slots),
            "user_sentiment": ending.sentiment,
            "chat_successful": ending.successful,
            "custom_analysis_data": fill(ending.analysis, slots),
        },
    }


def _reported(rng: Random, chat: dict[str, Any]) -> list[Event]:
    started = {key: chat[key] for key in _FIXED["chat_from_the_start"]} | {"chat_status": "ongoing"}
    ended = {key: value for key, value in chat.items() if key != "chat_analysis"}
    ended_ms = chat["end_timestamp"] + rng.randrange(200, 900)
    stages = (
        (chat["start_timestamp"] + 80, "chat_started", started),
        (ended_ms, "chat_ended", ended),
        (ended_ms + rng.randrange(2_000, 9_000), "chat_analyzed", chat),
    )
    return [Event(at_ms, name, chat["chat_id"], {"chat": state}) for at_ms, name, state in stages]
