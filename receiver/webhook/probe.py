"""A signed event of our own, by which `callhouse webhook test` looks at the way to the receiver.

The receiver verifies it as any other event and answers it without storing it. No event of Retell's
is lost that way: it has our name, and beside it nothing but a nonce and filling text.
"""

from typing import Any

from schema.events import Event

PROBE_EVENT = "callhouse_test"
# What a refusal of the receiver carries beside its JSON: which one it is, and the SHA-256 of what
# arrived, which tells a changed body from a wrong key.
OUTCOME_HEADER = "X-Callhouse-Outcome"
BODY_HEADER = "X-Callhouse-Body-Sha256"
# All that it says beside its name.
_BESIDE = {"nonce", "text"}


def is_probe(event: Event) -> bool:
    """Whether an event is ours: nothing in it could be anybody's call."""
    return event.event == event.entity_type == PROBE_EVENT and event.envelope.keys() == _BESIDE


def probe_answer(event: Event, *, received_at_ms: int) -> dict[str, Any]:
    """What the receiver answers to it."""
    return {"callhouse": {"received_at_ms": received_at_ms, "body_sha256": event.body_sha256}}
