"""Events, and Retell's format of ids, numbers and JSON, which is JavaScript's."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

# A JSON object.
Json = dict[str, Any]


def hex_digits(rng: Random, count: int) -> str:
    """Return `count` random lower-case hex digits."""
    return f"{rng.getrandbits(4 * count):0{count}x}"


def number(value: float) -> int | float:
    """Return an integral float as an int: JavaScript knows one kind of number and prints `2`."""
    return int(value) if value == int(value) else value


def seconds(value: float) -> int | float:
    """Return a position in the call in seconds, to the millisecond."""
    return number(round(value, 3))


def compact(value: Any) -> str:
    """Return `value` as JSON without spaces and without escapes for non-ASCII text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Event:
    """One event as Retell sends it: time, name and the rest of the envelope. At `again_ms` the same
    bytes are sent again."""

    at_ms: int
    name: str
    entity_id: str
    content: Json
    again_ms: int | None = None


def webhook_body(event: Event, stamped: bool) -> bytes:
    """Return the body that reports an event, as Retell writes it."""
    # A custom function's request is not a webhook and has no envelope.
    envelope = {"event": event.name, **event.content} if event.name else event.content
    if event.name and stamped:
        envelope = {**envelope, "event_timestamp": event.at_ms}
    return compact(envelope).encode()
