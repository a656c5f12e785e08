"""Months of calls with planted faults, for the tests of alerts."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from receiver.store import receive
from receiver.store.ingest import observe

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
ZONE = ZoneInfo("Europe/Berlin")
# Calls of an hour, by hour of the day; a third of it at weekends.
BUSY = [0, 0, 0, 0, 0, 0, 1, 3, 8, 10, 10, 9, 7, 8, 9, 9, 7, 5, 3, 1, 0, 0, 0, 0]


@dataclass(slots=True)
class Agent:
    """An agent of the generator; a fault changes one of its figures for a time."""

    agent_id: str
    version: int = 1
    success: float = 0.8
    negative: float = 0.1
    answer_ms: float = 900.0
    cents_per_minute: float = 12.0
    tool_failures: float = 0.04
    transfer_failures: float = 0.1
    dial_failures: float = 0.03
    is_outbound: bool = False


Fault = Callable[[datetime, Agent], Agent | None]


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp() * 1000)


def bodies(
    agents: list[Agent], first: str, days: int, *, fault: Fault = lambda _, a: a, seed: int = 1
) -> Iterator[tuple[int, dict]]:
    """Each call's final event with the time at which it arrives, in order.

    Days differ: a busy one, a good one. `fault` returns the agent as it is at a time; None: the
    call is not reported.
    """
    rng = random.Random(seed)
    day = datetime.fromisoformat(first).replace(tzinfo=ZONE)
    for number in range(days):
        found = []
        local = day + timedelta(days=number)
        weekend = 0.33 if local.weekday() >= 5 else 1.0
        for agent in agents:
            busy, mood = rng.lognormvariate(0, 0.15), rng.gauss(0, 0.02)
            for hour, usual in enumerate(BUSY):
                for _ in range(_poisson(rng, usual * busy * weekend / len(agents))):
                    start = local.replace(hour=hour, minute=rng.randrange(60))
                    now = fault(start, agent)
                    if now is not None:
                        found.append(_call(rng, now, start, mood, f"c{number:03}_{len(found):04}"))
        yield from sorted(found, key=lambda each: each[0])


def _poisson(rng: random.Random, mean: float) -> int:
    count, left = 0, rng.expovariate(1)
    while left < mean:
        count, left = count + 1, left + rng.expovariate(1)
    return count


def _call(rng, agent: Agent, start: datetime, mood: float, call_id: str) -> tuple[int, dict]:
    start_ms = round(start.timestamp() * 1000) + rng.randrange(60_000)
    call = {
        "call_id": call_id,
        "agent_id": agent.agent_id,
        "agent_name": f"Agent {agent.agent_id}",
        "agent_version": agent.version,
        "call_type": "phone_call",
        "direction": "outbound" if agent.is_outbound else "inbound",
        "call_status": "ended",
        "from_number": "+4930123456",
        "metadata": {"client": "Acme" if agent.agent_id == "a" else "Zeta"},
    }
    if agent.is_outbound and rng.random() < agent.dial_failures:
        call |= {"disconnection_reason": "dial_failed"}
        return start_ms, {"event": "call_analyzed", "call": call, "event_timestamp": start_ms}
    length = round(min(900_000, 20_000 + rng.expovariate(1 / 90_000)))
    answer = rng.lognormvariate(0, 0.3) * agent.answer_ms
    cents = length / 60_000 * agent.cents_per_minute * rng.uniform(0.95, 1.05)
    entries = [_tool(rng, "lookup", "custom", agent.tool_failures)]
    if rng.random() < 0.25:
        entries.append(_tool(rng, "transfer_call", "transfer_call", agent.transfer_failures))
    is_bad = rng.random() < agent.negative - mood
    call |= {
        "start_timestamp": start_ms,
        "end_timestamp": start_ms + length,
        "duration_ms": length,
        "disconnection_reason": "user_hangup",
        "call_analysis": {
            "call_successful": rng.random() < agent.success + mood,
            "user_sentiment": "Negative" if is_bad else "Neutral",
        },
        "call_cost": {"combined_cost": cents, "product_costs": []},
        "latency": {"e2e": {"p50": answer, "num": 5}},
        "transcript_with_tool_calls": [entry for pair in entries for entry in pair],
    }
    return start_ms + length, {"event": "call_analyzed", "call": call}


def _tool(rng, name: str, kind: str, failures: float) -> tuple[dict, dict]:
    tool_call_id = f"t{rng.getrandbits(40):x}"
    return (
        {"role": "tool_call_invocation", "tool_call_id": tool_call_id, "name": name, "type": kind,
         "arguments": "{}"},
        {"role": "tool_call_result", "tool_call_id": tool_call_id, "content": "{}",
         "successful": rng.random() >= failures},
    )  # fmt: skip


def fill(store, found, keys: Mapping[str, str] = MappingProxyType({})) -> int:
    """Store bodies as their webhooks would; return how many. `keys`: agent -> key that signs."""
    received = [
        receive(
            json.dumps(body).encode(), source="webhook", observed_at=at_ms, received_at=at_ms,
            key_id=keys.get(body["call"]["agent_id"]),
        )
        for at_ms, body in found
    ]  # fmt: skip
    for n in range(0, len(received), 200):
        batch = received[n : n + 200]
        store.run(lambda c, batch=batch: [observe(c, each) for each in batch] and None)
    return len(received)
