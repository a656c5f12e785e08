"""Days of calls that are over: what the account's past holds before anybody asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.day import other_events, past_calls
from receiver.sandbox.events import Event
from receiver.sandbox.figures import NO_COST
from receiver.sandbox.identity import Account

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
    for number in range(days):
        start_ms = day_start_ms + number * DAY_MS
        share = calls * (number + 1) // days - calls * number // days
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
