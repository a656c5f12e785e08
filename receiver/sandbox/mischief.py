"""What can go wrong between Retell and a receiver, told to happen: seeded, the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypedDict

from receiver.sandbox.events import Event

_DUPLICATE_MS = 10_500  # an answer that came after the timeout of ten seconds
_LATE_MS = 600_000
_FUTURE_MS = 600_000


@dataclass(frozen=True)
class Sending:
    """An event and how it is sent: when, how often with the same signature, how wrong its clock."""

    event: Event
    send_ms: int
    copies_ms: tuple[int, ...] = ()
    skew_ms: int = 0
    dropped: bool = False


class Rates(TypedDict, total=False):
    """The fields of Mischief, as keyword arguments."""

    drop: float
    duplicate: float
    delay: float
    reorder: float
    resign_late: float
    future: float


@dataclass(frozen=True)
class Mischief:
    """How often each thing goes wrong, between 0 (never) and 1 (always)."""

    drop: float = 0.0
    """Never sent."""
    duplicate: float = 0.0
    """Sent twice, the same bytes with the same signature."""
    delay: float = 0.0
    """Sent up to two minutes late, after newer events."""
    reorder: float = 0.0
    """Changes places with the call's next event."""
    resign_late: float = 0.0
    """Sent again ten minutes after the call's last event, signed anew."""
    future: float = 0.0
    """Signed by a clock that is ten minutes ahead, so that the receiver must refuse it."""

    def sendings(self, seed: int, events: Sequence[Event]) -> list[Sending]:
        """Return how the events of one call are sent, in order of time. Pure."""
        if not events:
            return []
        # Seeded by the call, so that what happens to it does not depend on other calls.
        rng = Random(f"{seed} {events[-1].entity_id} {len(events)}")
        planned = self._reordered(rng, [Sending(event, event.at_ms) for event in events])
        last_ms = max(sending.send_ms for sending in planned)
        late = []
        for place, sending in enumerate(planned):
            if rng.random() < self.delay:
                sending = replace(sending, send_ms=sending.send_ms + rng.randrange(20_000, 120_000))
            if rng.random() < self.duplicate:
                sending = replace(sending, copies_ms=(sending.send_ms + _DUPLICATE_MS,))
            if rng.random() < self.future:
                sending = replace(sending, skew_ms=_FUTURE_MS)
            if rng.random() < self.resign_late:
                late.append(Sending(sending.event, last_ms + _LATE_MS))
            if rng.random() < self.drop:
                sending = replace(sending, dropped=True, copies_ms=())
            planned[place] = sending
        return sorted([*planned, *late], key=lambda sending: sending.send_ms)

    def _reordered(self, rng: Random, planned: list[Sending]) -> list[Sending]:
        for place in range(len(planned) - 1):
            if rng.random() < self.reorder:
                first, second = planned[place : place + 2]
                planned[place] = replace(first, send_ms=second.send_ms)
                planned[place + 1] = replace(second, send_ms=first.send_ms)
        return planned
