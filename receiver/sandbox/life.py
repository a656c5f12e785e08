"""The life of a placed call: a pure function of the order and the seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from receiver.sandbox.agents import AgentVersion
from receiver.sandbox.analysis import no_conversation
from receiver.sandbox.calls import Call, make_call
from receiver.sandbox.events import FROM_THE_START, Event, call_events
from receiver.sandbox.figures import NO_COST, call_cost
from receiver.sandbox.identity import Account
from receiver.sandbox.scenarios import Scenario, planned
from receiver.sandbox.timeline import starts_at
from receiver.sandbox.transcripts import transcript_fields
from receiver.sandbox.twists import twisted, with_updates

# What a day's calls get from their company; a placed call has them from its order alone.
_FROM_THE_ORDER = ("metadata", "retell_llm_dynamic_variables", "batch_call_id")
_NOT_REGISTERED = ("start_timestamp", "telephony_identifier")


@dataclass(frozen=True)
class Placing:
    """An order that was accepted. `given` are the fields of the call object that it decides."""

    given: dict[str, Any]
    agent: AgentVersion
    scenario: Scenario | None
    created_ms: int
    web: bool = False


@dataclass(frozen=True)
class Life:
    """A call as it was created, and what happens to it: each event holds the call from then on."""

    registered: dict[str, Any]
    call: Call
    events: tuple[Event, ...]


def live(rng: Random, account: Account, placing: Placing) -> Life:
    """Return the life of a call."""
    ringing_ms = rng.randrange(1_000, 3_000) if placing.web else rng.randrange(4_000, 15_000)
    start_ms = placing.created_ms + ringing_ms
    plan = planned(rng, placing.scenario, placing.agent, start_ms, web=placing.web)
    call = make_call(rng, account, plan, _words(placing.given))
    record = {name: call.record[name] for name in call.record if name not in _FROM_THE_ORDER}
    headers = record["custom_sip_headers"] | placing.given.get("custom_sip_headers", {})
    record |= placing.given | {"custom_sip_headers": headers}
    record["agent_name"] = placing.agent.settings["agent_name"]
    # Retell's own client insists on whole costs even where nobody spoke.
    record["call_cost"] = NO_COST | record["call_cost"]
    call = replace(call, record=record)
    events = twisted(rng, call, call_events(rng, call))
    if "transcript_updated" in placing.agent.webhook_events and call.entries:
        events = with_updates(rng, call, events)
    events.sort(key=lambda event: event.at_ms)
    return Life(_registered(record, placing.given), call, tuple(events))


def stopped(rng: Random, life: Life, at_ms: int, *, connected: bool) -> tuple[Event, ...]:
    """Return what happens after stop-call at `at_ms`, in place of what would have happened."""
    call = life.call
    known = {name: call.record[name] for name in FROM_THE_START if name in call.record}
    over = {"call_status": "ended", "disconnection_reason": "manual_stopped"}
    if connected:
        if at_ms < call.start_ms:
            # Where nothing waits, life is ahead of the clock.
            at_ms = call.end_ms
        duration_ms = at_ms - call.start_ms
        heard = [entry for entry in call.entries if starts_at(entry) * 1000 <= duration_ms]
        record = known | {
            "end_timestamp": at_ms,
            "duration_ms": duration_ms,
            "latency": {},
            "call_cost": call_cost(call.plan.agent, duration_ms),
            "call_analysis": no_conversation() | {"in_voicemail": False},
        }
        if "transcript" in call.record:
            record |= transcript_fields(heard)
    else:
        record = life.registered | {"duration_ms": 0, "call_analysis": no_conversation()}
    cut = replace(call, record=record | over, end_ms=at_ms, after_transfer={}, entries=[])
    return tuple(event for event in call_events(rng, cut) if event.name != "call_started")


def _registered(record: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    known = {
        name: record[name]
        for name in FROM_THE_START
        if name in record and name not in _NOT_REGISTERED and "session" not in name
    }
    return known | {
        "custom_sip_headers": given.get("custom_sip_headers", {}),
        "call_status": "registered",
        "latency": {},
        "call_cost": NO_COST,
    }


def _words(given: dict[str, Any]) -> dict[str, Any]:
    """The words of the talk that the order knows: whom it calls, and under which number."""
    words: dict[str, Any] = {}
    if "to_number" in given:
        words |= {"e164": given["to_number"], "phone": given["to_number"]}
    name = given.get("retell_llm_dynamic_variables", {}).get("customer_name", "").strip()
    if name:
        words |= {"customer": name, "first": name.split()[0], "last": name.split()[-1]}
    return words
