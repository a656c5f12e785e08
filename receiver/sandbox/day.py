"""A day of invented calls, as the webhook deliveries that report it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from receiver.sandbox.calls import make_call
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


def day(seed: int, *, day_start_ms: int, calls: int = 120) -> list[Delivery]:
    """Return the deliveries of a day that starts at `day_start_ms`, in sending order.

    Same arguments, same bytes. From 40 calls on, every kind of call and delivery is among them.
    """
    rng = Random(seed)
    account = Account(rng)
    deliveries: list[Delivery] = []
    for plan in plans(rng, day_start_ms, calls):
        call = make_call(rng, account, plan)
        for sent in twisted(rng, call, call_events(rng, call)):
            deliveries.append(_delivery(sent, plan.agent.event_timestamps))
            again_ms = resent_ms(rng, call, sent)
            if again_ms is not None:
                again = Delivery(again_ms, sent.name, sent.entity_id, deliveries[-1].body)
                deliveries.append(again)
    chats = max(3, calls // _CALLS_PER_CHAT)
    others = [*chat_events(rng, account, day_start_ms, chats), _alert(rng, day_start_ms)]
    deliveries += [_delivery(sent, stamped=True) for sent in others]
    return sorted(deliveries, key=lambda delivery: delivery.at_ms)


def _delivery(sent: Event, stamped: bool) -> Delivery:
    # A custom function's request is no webhook and has no envelope but its own.
    envelope: dict[str, Any] = {"event": sent.name, **sent.content} if sent.name else sent.content
    if sent.name and stamped:
        envelope = envelope | {"event_timestamp": sent.at_ms}
    return Delivery(sent.at_ms, sent.name, sent.entity_id, compact(envelope).encode())


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
