"""A day of invented calls, as the webhook deliveries that report it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from receiver.sandbox.calls import Call, make_call
from receiver.sandbox.chats import chat_events
from receiver.sandbox.events import Event, call_events
from receiver.sandbox.identity import Account
from receiver.sandbox.plans import plans
from receiver.sandbox.twists import resent_ms, twisted
from receiver.sandbox.wire import compact, hex_digits

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
