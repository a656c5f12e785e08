"""One call from its plan: everything Retell knows of it once it is over and analysed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from receiver.sandbox.analysis import call_analysis, no_conversation
from receiver.sandbox.companies import Agent
from receiver.sandbox.figures import call_cost, latency, token_usage
from receiver.sandbox.identity import Account, identity
from receiver.sandbox.kinds import CUT_SHORT, NEVER_STARTED, NOT_CONNECTED
from receiver.sandbox.people import person, working_day
from receiver.sandbox.plans import Plan
from receiver.sandbox.script import Pause, Slots, Step, decided
from receiver.sandbox.timeline import Timeline
from receiver.sandbox.transcripts import scrubbed, session_tool, transcript_fields
from receiver.sandbox.wire import hex_digits

# With this setting Retell keeps neither what was said nor what was recorded.
BASIC = "basic_attributes_only"


@dataclass(frozen=True)
class Call:
    """The finished call object, and for a transfer the fields that change when its leg ends."""

    plan: Plan
    record: dict[str, Any]
    entries: list[dict[str, Any]]
    start_ms: int
    end_ms: int
    after_transfer: dict[str, Any]

    @property
    def call_id(self) -> str:
        """Retell's id of the call."""
        return str(self.record["call_id"])


def make_call(rng: Random, account: Account, plan: Plan, given: Slots | None = None) -> Call:
    """Return the call of a plan; `given` are words that the call must use, such as a name."""
    slots = _slots(rng, plan) | dict(given or {})
    known = identity(rng, account, plan, slots)
    if plan.reason in NEVER_STARTED:
        return _never_started(rng, plan, known)
    timeline = _played(rng, plan, slots)
    entries = timeline.entries
    duration_ms = round(timeline.now * 1000)
    end_ms = plan.start_ms + duration_ms
    record = known | {
        "call_status": "error" if plan.reason.startswith("error_") else "ended",
        "start_timestamp": plan.start_ms,
        "end_timestamp": end_ms,
        "duration_ms": duration_ms,
        "disconnection_reason": "user_hangup" if plan.reason == CUT_SHORT else plan.reason,
        "latency": latency(rng, plan.agent, timeline.replies_ms),
        "call_cost": call_cost(plan.agent, duration_ms),
        "call_analysis": call_analysis(rng, plan, slots),
    }
    tokens = token_usage(rng, plan.agent, len(timeline.replies_ms))
    if tokens:
        record["llm_token_usage"] = tokens
    record |= _content(rng, plan, slots, timeline)
    after: dict[str, Any] = {}
    if plan.reason == "call_transfer":
        record["transfer_destination"] = plan.agent.transfer_to
        leg_ms = rng.randrange(60_000, 400_000)
        cost = call_cost(plan.agent, duration_ms, leg_ms)
        after = {"transfer_end_timestamp": end_ms + leg_ms, "call_cost": cost}
    return Call(plan, record, entries, plan.start_ms, end_ms, after)


def _slots(rng: Random, plan: Plan) -> dict[str, Any]:
    script = plan.kind.script
    slots = person(rng, _country(plan.agent, script.language))
    slots |= working_day(rng, plan.start_ms, script.language)
    for choice in script.choices:
        slots |= rng.choice(choice)
    return slots


def _country(agent: Agent, language: str) -> str:
    return "GB" if language == "en-GB" else agent.country


def _never_started(rng: Random, plan: Plan, known: dict[str, Any]) -> Call:
    """Return a call nobody spoke in: no times, no talk, no cost."""
    record = known | {
        "call_status": "not_connected" if plan.reason in NOT_CONNECTED else "error",
        "duration_ms": 0,
        "transcript": "",
        "disconnection_reason": plan.reason,
        "call_cost": {"combined_cost": 0},
        "call_analysis": no_conversation(),
    }
    ringing_ms = rng.randrange(4_000, 32_000)
    return Call(plan, record, [], plan.start_ms, plan.start_ms + ringing_ms, {})


def _played(rng: Random, plan: Plan, slots: Slots) -> Timeline:
    timeline = Timeline(rng, plan.agent, plan.version, slots)
    for step in _steps(rng, plan):
        timeline.play(step)
    timeline.hang_up(plan.reason)
    return timeline


def _steps(rng: Random, plan: Plan) -> list[Step]:
    script = plan.kind.script
    steps = list(decided((*script.opening, *plan.ending.steps), rng))
    if plan.reason == "error_llm_websocket_open":
        return []
    if plan.reason == "error_no_audio_received":
        return [steps[0], Pause(16, 24)]
    if plan.reason == CUT_SHORT:
        return steps[: rng.randrange(4, max(5, len(script.opening)))]
    return steps


def _content(rng: Random, plan: Plan, slots: Slots, timeline: Timeline) -> dict[str, Any]:
    """Return what was said and recorded, as far as the agent's setting lets Retell keep it."""
    if plan.agent.storage == BASIC:
        return {}
    entries, scrub = timeline.entries, plan.agent.storage == "everything_except_pii"
    fields = transcript_fields(entries)
    if scrub:
        fields["scrubbed_transcript_with_tool_calls"] = scrubbed(entries, slots)
    if plan.kind.session:
        for moment, session in _sessions(rng, slots).items():
            name = f"{moment}_session_transcript_with_tool_calls"
            fields[name] = session
            if scrub:
                fields[f"scrubbed_{name}"] = scrubbed(session, slots)
    if timeline.collected:
        fields["collected_dynamic_variables"] = timeline.collected
    return fields | _media(rng, plan.agent, scrub)


def _sessions(rng: Random, slots: Slots) -> dict[str, list[dict[str, Any]]]:
    contact = {"id": slots["ref"], "name": slots["customer"]}
    return {
        "pre": session_tool(rng, "crm_find_contact", {"phone": slots["e164"]}, contact),
        "post": session_tool(rng, "crm_add_note", {"contact": slots["ref"]}, {"saved": True}),
    }


def _media(rng: Random, agent: Agent, scrub: bool) -> dict[str, str]:
    folder = f"https://media.example.com/{hex_digits(rng, 64)}"
    urls = {
        "recording_url": f"{folder}/recording.wav",
        "recording_multi_channel_url": f"{folder}/recording_multichannel.wav",
        "public_log_url": f"{folder}/public.log",
    }
    if scrub:
        urls["scrubbed_recording_url"] = f"{folder}/scrubbed_recording.wav"
        urls["scrubbed_recording_multi_channel_url"] = f"{folder}/scrubbed_multichannel.wav"
    if agent.knowledge_base:
        urls["knowledge_base_retrieved_contents_url"] = f"{folder}/kb_retrieved_contents.txt"
    return urls
