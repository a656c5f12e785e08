"""A day of invented calls, as the webhook deliveries that report it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.calls import NO_COST, Call, make_call
from receiver.sandbox.companies import Account, agent_named, person, working_day
from receiver.sandbox.dialogue import (
    Dialogue,
    Node,
    Say,
    Slots,
    Step,
    Tool,
    decided,
    dialogues,
    fill,
)
from receiver.sandbox.events import Event, call_events, resent_ms, twisted
from receiver.sandbox.plans import plans
from receiver.sandbox.wire import compact, hex_digits, number

_MINUTE_MS = 60_000
_CALLS_PER_CHAT = 25


@dataclass(frozen=True)
class Delivery:
    """One POST that Retell would make. `entity_id` is a call_id, a chat_id or empty."""

    at_ms: int
    event: str
    entity_id: str
    body: bytes


@dataclass(frozen=True)
class Past:
    """A call that is over: its events as they happened, and as they are reported, which may be late
    or never; the time beside each is when it is sent again, if it is."""

    call: Call
    events: list[Event]
    reported: list[tuple[Event, int | None]]


def day(seed: int, *, day_start_ms: int, calls: int = 120) -> list[Delivery]:
    """Return the deliveries of a day that starts at `day_start_ms`, in sending order.

    Same arguments, same bytes. From 40 calls on, every kind of call and delivery is among them.
    """
    rng = Random(seed)
    account = Account(rng)
    deliveries: list[Delivery] = []
    for past in past_calls(rng, account, day_start_ms, calls):
        for sent, again_ms in past.reported:
            body = webhook_body(sent, past.call.plan.agent.event_timestamps)
            deliveries.append(Delivery(sent.at_ms, sent.name, sent.entity_id, body))
            if again_ms is not None:
                deliveries.append(Delivery(again_ms, sent.name, sent.entity_id, body))
    for sent in other_events(rng, account, day_start_ms, calls):
        body = webhook_body(sent, stamped=True)
        deliveries.append(Delivery(sent.at_ms, sent.name, sent.entity_id, body))
    return sorted(deliveries, key=lambda delivery: delivery.at_ms)


def past_calls(rng: Random, account: Account, day_start_ms: int, calls: int) -> Iterator[Past]:
    """Yield the calls of a day, in the order in which they start."""
    for plan in plans(rng, day_start_ms, calls):
        call = make_call(rng, account, plan)
        events = call_events(rng, call)
        odd = twisted(rng, call, list(events))
        yield Past(call, events, [(sent, resent_ms(rng, call, sent)) for sent in odd])


def other_events(rng: Random, account: Account, day_start_ms: int, calls: int) -> list[Event]:
    """Return what a day with so many calls has besides them: chats and an alert."""
    chats = max(3, calls // _CALLS_PER_CHAT)
    return [*chat_events(rng, account, day_start_ms, chats), _alert(rng, day_start_ms)]


def webhook_body(sent: Event, stamped: bool) -> bytes:
    """Return the body that reports an event, as Retell writes it."""
    # A custom function's request is no webhook and has no envelope but its own.
    envelope: dict[str, Any] = {"event": sent.name, **sent.content} if sent.name else sent.content
    if sent.name and stamped:
        envelope = envelope | {"event_timestamp": sent.at_ms}
    return compact(envelope).encode()


def _alert(rng: Random, day_start_ms: int) -> Event:
    """Return the alert that the busiest hour of the day sets off."""
    at_ms = day_start_ms + 11 * 60 * _MINUTE_MS + rng.randrange(_MINUTE_MS)
    alert = {
        "alert_incident_id": f"alert_incident_{hex_digits(rng, 20)}",
        "alert_rule_id": f"alert_rule_{hex_digits(rng, 20)}",
        "name": "Success rate below target",
        "metric_type": "call_success_rate",
        "threshold_type": "absolute",
        "threshold_value": 70,
        "comparator": "<",
        "frequency": "1h",
        "window": "1h",
        "current_value": 62.5,
        "triggered_timestamp": at_ms - 2_000,
    }
    return Event(at_ms, "alert_triggered", "", {"alert": alert})


DAY_MS = 86_400_000
_ANALYSED = ("call_analyzed", "transfer_ended", "call_reviewed")


@dataclass(frozen=True)
class Story:
    """A call as the account has it in the end, and the events that report it, each with when it is
    sent again, if it is. A chat or an alert has no call."""

    call: dict[str, Any] | None
    filed_ms: int
    events: list[tuple[Event, int | None]]


def stories(
    seed: int, account: Account, *, day_start_ms: int, days: int, calls: int, odd: bool
) -> Iterator[Story]:
    """Yield `calls` calls spread over the days, in order of their day.

    With `odd` they are reported as a real day is: some late, twice, in the wrong order or never,
    and there are chats, alerts and stray requests besides. Without, each event comes once.
    """
    for index in range(days):
        start_ms = day_start_ms + index * DAY_MS
        share = calls * (index + 1) // days - calls * index // days
        rng = Random(f"{seed} {start_ms}")
        for past in past_calls(rng, account, start_ms, share):
            plain = [(_whole(event), None) for event in past.events]
            reported = [(_whole(event), again_ms) for event, again_ms in past.reported]
            events: list[tuple[Event, int | None]] = [*reported] if odd else [*plain]
            analysed = [event for event, _ in (*plain, *events) if event.name in _ANALYSED]
            last = max(analysed, key=lambda event: event.at_ms)
            yield Story(last.content["call"], past.call.plan.start_ms, events)
        if odd:
            for event in other_events(rng, account, start_ms, share):
                yield Story(None, event.at_ms, [(event, None)])


def _whole(event: Event) -> Event:
    """The event with whole costs, on which Retell's own client insists, even where nobody spoke."""
    call = event.content.get("call")
    if call is None or "call_cost" not in call:
        return event
    costs = NO_COST | call["call_cost"]
    return replace(event, content=event.content | {"call": call | {"call_cost": costs}})


_HOUR_MS = 3_600_000
_KINDS = (
    ("shop", "api_chat", "lamp in stock"),
    ("dental", "sms_chat", "dental by text"),
    ("hotel", "api_chat", "late arrival"),
)
_FROM_THE_START = (
    "chat_id",
    "agent_id",
    "version",
    "chat_type",
    "metadata",
    "retell_llm_dynamic_variables",
    "custom_attributes",
    "start_timestamp",
)
_MESSAGE_COST = 0.2  # cents


def chat_events(rng: Random, account: Account, day_start_ms: int, count: int) -> list[Event]:
    """Return the events of `count` chats, held between nine in the morning and eight at night."""
    events = []
    for index in range(count):
        agent, chat_type, name = _KINDS[index % len(_KINDS)]
        start_ms = day_start_ms + int(rng.uniform(9, 20) * _HOUR_MS)
        chat = _chat(rng, account, agent, chat_type, dialogues()[name], start_ms)
        events += _reported(rng, chat)
    return events


@dataclass
class _Messages:
    """The messages of one chat and the moment of the last one."""

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
            self._write(
                300,
                role="tool_call_invocation",
                tool_call_id=call_id,
                name=step.name,
                arguments=compact(fill(step.arguments, self.slots)),
                type=step.type,
            )
            self._write(
                self.rng.randrange(300, 1_500),
                role="tool_call_result",
                tool_call_id=call_id,
                successful=step.successful,
                content=compact(fill(step.result, self.slots)),
            )

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
    started = {key: chat[key] for key in _FROM_THE_START} | {"chat_status": "ongoing"}
    ended = {key: value for key, value in chat.items() if key != "chat_analysis"}
    ended_ms = chat["end_timestamp"] + rng.randrange(200, 900)
    stages = (
        (chat["start_timestamp"] + 80, "chat_started", started),
        (ended_ms, "chat_ended", ended),
        (ended_ms + rng.randrange(2_000, 9_000), "chat_analyzed", chat),
    )
    return [Event(at_ms, name, chat["chat_id"], {"chat": state}) for at_ms, name, state in stages]
