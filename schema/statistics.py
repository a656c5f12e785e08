"""Shares and means with their confidence intervals, differences of two, and samples. Pure.

Intervals are Wilson's score for shares (Wilson 1927) and normal for means. That of a difference
combines two (Zou and Donner 2008; for shares, Newcombe 1998, method 10).
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from math import hypot, sqrt
from typing import Any

# Standard deviations of a 95 % interval.
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its confidence interval, over `count` calls."""

    value: float
    low: float
    high: float
    count: int


def share(part: float | None, count: int | None, *, z: float = NORMAL_95) -> Estimate | None:
    """The share `part` of `count` calls."""
    if not count:
        return None
    p, n, z2 = (part or 0) / count, count, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = z * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(p, max(0.0, centre - reach), min(1.0, centre + reach), n)


def mean(
    total: float | None, squares: float | None, count: int | None, *, z: float = NORMAL_95
) -> Estimate | None:
    """The mean of `count` values, from their sum and the sum of their squares."""
    if not count or total is None or squares is None:
        return None
    value = total / count
    # Rounding may leave a tiny negative number.
    spread = max(0.0, squares - total * value) / max(1, count - 1)
    reach = z * sqrt(spread / count)
    return Estimate(value, value - reach, value + reach, count)


def difference(before: Estimate, now: Estimate) -> Estimate:
    """The difference, now minus before."""
    value = now.value - before.value
    return Estimate(
        value,
        value - hypot(now.value - now.low, before.high - before.value),
        value + hypot(now.high - now.value, before.value - before.low),
        min(before.count, now.count),
    )


def sample(calls: Iterable[Mapping[str, Any]], day: date, per_agent: int) -> list[str]:
    """`per_agent` calls of each agent, chosen by the hash of day and id: practically random, and
    repeatable."""
    by_agent: dict[str, list[str]] = defaultdict(list)
    for call in calls:
        by_agent[call["agent_id"] or ""].append(call["call_id"])

    def rank(call_id: str) -> bytes:
        text = f"{day} {call_id}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(text).digest()

    return [id for _, ids in sorted(by_agent.items()) for id in sorted(ids, key=rank)[:per_agent]]
