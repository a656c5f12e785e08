"""How Retell writes ids, numbers and JSON: as JavaScript does."""

import json
from random import Random
from typing import Any


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
