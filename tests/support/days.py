"""A day of the sandbox's calls, chats and alerts as the bodies that Retell posts."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from receiver.sandbox.chats import chat_events, past_chats
from receiver.sandbox.companies import Account
from receiver.sandbox.days import alert_story, past_calls
from receiver.sandbox.wire import webhook_body
from receiver.store import receive


@dataclass(frozen=True)
class Delivery:
    """One POST of Retell. `entity_id` is a call_id, a chat_id or empty."""

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
    for call, _, reported in past_calls(rng, account, day_start_ms, calls):
        for sent in reported:
            body = webhook_body(sent, call.plan.agent.event_timestamps)
            deliveries.append(Delivery(sent.at_ms, sent.name, sent.entity_id, body))
            if sent.again_ms is not None:
                deliveries.append(Delivery(sent.again_ms, sent.name, sent.entity_id, body))
    chats = past_chats(rng, account, day_start_ms, calls)
    others = [event for chat in chats for event in chat_events(rng, chat)]
    for sent in (*others, *alert_story(rng, day_start_ms).events):
        body = webhook_body(sent, stamped=True)
        deliveries.append(Delivery(sent.at_ms, sent.name, sent.entity_id, body))
    return sorted(deliveries, key=lambda delivery: delivery.at_ms)


def deliver(store, deliveries: Iterable[Delivery]) -> None:
    """Store the bodies as their webhooks would."""
    for one in deliveries:
        at = one.at_ms
        store.add(receive(one.body, source="webhook", observed_at=at, received_at=at))
