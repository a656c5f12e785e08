"""The measured side of a call: latencies, tokens and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from random import Random
from typing import Any

from receiver.sandbox.companies import Agent
from receiver.sandbox.wire import number

NO_COST: dict[str, Any] = {
    "total_duration_unit_price": 0,
    "product_costs": [],
    "combined_cost": 0,
    "total_duration_seconds": 0,
}
# What the leg to the person a call was handed to costs, in cents per minute.
_TRANSFER_LEG = ("voice_engine", 1.5)


def latency(rng: Random, agent: Agent, replies_ms: Sequence[int]) -> dict[str, Any]:
    """Return the latency groups of a call whose agent took `replies_ms` to answer each turn."""
    if not replies_ms:
        return {}
    groups: dict[str, list[int | float]] = {
        "llm": [round(ms * rng.uniform(0.5, 0.62)) for ms in replies_ms],
        "e2e": list(replies_ms),
        "tts": [round(ms * rng.uniform(0.18, 0.26)) for ms in replies_ms],
        "asr": [number(ms * rng.randrange(60, 130) / 1024) for ms in replies_ms],
    }
    if agent.custom_llm:
        groups["llm_websocket_network_rtt"] = [rng.randrange(18, 64) for _ in replies_ms]
    if agent.knowledge_base:
        groups["knowledge_base"] = [rng.randrange(70, 210) for _ in replies_ms[1:]] or [96]
    return {name: _summary(values) for name, values in groups.items()}


def token_usage(rng: Random, agent: Agent, replies: int) -> dict[str, Any] | None:
    """Return tokens per LLM request; Retell does not see those of a custom LLM."""
    if agent.custom_llm or not replies:
        return None
    tokens = [rng.randrange(1100, 2400)]
    for _ in range(replies - 1):
        tokens.append(tokens[-1] + rng.randrange(30, 190))
    return {
        "values": tokens,
        "average": number(sum(tokens) / len(tokens)),
        "num_requests": len(tokens),
    }


def call_cost(agent: Agent, duration_ms: int, transfer_leg_ms: int = 0) -> dict[str, Any]:
    """Return the cost in cents, with the transfer leg once that has ended."""
    total_seconds = ceil(duration_ms / 1000)
    costs = [_cost(product, cents, total_seconds) for product, cents in agent.products]
    if transfer_leg_ms:
        leg = _cost(*_TRANSFER_LEG, ceil(transfer_leg_ms / 1000))
        costs.append(leg | {"is_transfer_leg_cost": True})
    per_minute = sum(cents for _, cents in agent.products)
    return {
        "total_duration_unit_price": number(round(per_minute / 60, 7)),
        "product_costs": costs,
        "combined_cost": number(round(sum(cost["cost"] for cost in costs), 7)),
        "total_duration_seconds": total_seconds,
    }


def _cost(product: str, cents_per_minute: float, total_seconds: int) -> dict[str, Any]:
    return {
        "unit_price": number(round(cents_per_minute / 60, 7)),
        "product": product,
        "cost": number(round(cents_per_minute / 60 * total_seconds, 7)),
    }


def _summary(values: list[int | float]) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "p99": _percentile(ordered, 0.99),
        "min": ordered[0],
        "max": ordered[-1],
        "p90": _percentile(ordered, 0.9),
        "num": len(values),
        "values": values,
        "p50": _percentile(ordered, 0.5),
        "p95": _percentile(ordered, 0.95),
    }


def _percentile(ordered: list[int | float], share: float) -> int | float:
    """Return a percentile between its two neighbours, as Retell does."""
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return number(ordered[below] + (ordered[above] - ordered[below]) * (position - below))
