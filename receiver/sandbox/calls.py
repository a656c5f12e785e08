"""Makes a call object from a plan, with everything that Retell has after the analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from random import Random
from typing import Any

from receiver.sandbox.companies import Account, Agent, Step
from receiver.sandbox.plans import CUT_SHORT, ERRORS, NEVER_STARTED, NOT_CONNECTED, Plan
from receiver.sandbox.templates import Slots, fill, read_data
from receiver.sandbox.timeline import UTTERANCES, Timeline, starts_at
from receiver.sandbox.wire import Json, hex_digits, number

_FIXED = read_data("data/calls.yaml")
_FROM_THE_START: Sequence[str] = read_data("data/events.yaml")["call_from_the_start"]
# The storage setting without transcripts and recordings.
BASIC = "basic_attributes_only"


def identity(rng: Random, account: Account, plan: Plan, slots: Slots) -> Json:
    """Return the fields of a registered call."""
    agent = plan.agent
    call_id = f"call_{hex_digits(rng, 27)}"
    known: Json = {
        "call_id": call_id,
        "call_type": "web_call" if plan.kind.web else "phone_call",
        "agent_id": account.agent_ids[agent.key],
        "agent_version": plan.version.number,
        "agent_name": plan.version.name,
    }
    if agent.tagged:
        known["agent_tag"] = plan.version.tag
    line = _line(rng, account, plan, slots, call_id)
    if variables := fill(agent.variables, slots) | carrier_variables(line["custom_sip_headers"]):
        known["retell_llm_dynamic_variables"] = variables
    if agent.metadata:
        known["metadata"] = fill(agent.metadata, slots)
    if agent.campaign:
        known["batch_call_id"] = account.batch
    known["data_storage_setting"] = agent.storage
    known["opt_in_signed_url"] = agent.signed_urls or account.signs_all_urls
    return known | line


def _line(rng: Random, account: Account, plan: Plan, slots: Slots, call_id: str) -> Json:
    """Return the fields that only web calls, or phone calls of this direction have."""
    name, given = plan.kind.dialogue.direction, {"call_id": call_id, **vars(account)}
    if plan.kind.web:
        name, given["token"] = "web", f"{hex_digits(rng, 96)}.{hex_digits(rng, 43)}"
    else:
        given["call_sid"] = f"CA{hex_digits(rng, 32)}"
        given["number"] = plan.agent.number
        given["person"] = "anonymous" if plan.kind.anonymous else slots["e164"]
        if name == "inbound":
            given["host"] = str(rng.randrange(1, 255))
            given["transport"] = rng.choice(("udp", "tls"))
    line: Json = fill(_FIXED[name], given)
    return line


def carrier_variables(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the dynamic variables that Retell creates from an inbound call's SIP headers."""
    found = {name: value for name, value in headers.items() if name.startswith("x-")}
    return {name.removeprefix("x-"): value for name, value in found.items()}


NO_COST: Json = _FIXED["no_cost"]
# The analysis of a call without speech.
NO_CONVERSATION: Mapping[str, Any] = _FIXED["no_conversation"]
_PRODUCTS = read_data("data/products.yaml")
_FAMILIES: Mapping[str, str] = {
    product: family for family, products in _PRODUCTS["families"].items() for product in products
}


def latency(rng: Random, agent: Agent, replies_ms: Sequence[int]) -> Json:
    """Return the latency groups of a call; `replies_ms` are the agent's response times."""
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


def token_usage(rng: Random, agent: Agent, replies: int) -> Json | None:
    """Return tokens per LLM request; None for a custom LLM, which Retell does not see."""
    if agent.custom_llm or not replies:
        return None
    tokens = [agent.prompt_tokens + rng.randrange(1300)]
    for _ in range(replies - 1):
        tokens.append(tokens[-1] + rng.randrange(30, 190))
    return {
        "values": tokens,
        "average": number(sum(tokens) / len(tokens)),
        "num_requests": len(tokens),
    }


def call_cost(
    plan: Plan,
    duration_ms: int,
    entries: Sequence[Json],
    tokens: Json | None,
    transfer_leg_ms: int = 0,
) -> Json:
    """Return the cost in cents of a call with these transcript entries, and of its transferred leg
    if that has ended."""
    total_seconds = ceil(duration_ms / 1000)
    spoken = sum(
        entry["words"][-1]["end"] - entry["words"][0]["start"]
        for entry in entries
        if entry["role"] == "agent" and entry.get("words")
    )
    seconds = {"voice": ceil(spoken), "telephony": 0 if plan.kind.web else total_seconds}
    messages = sum(entry["role"] == "sms" for entry in entries)
    times = {"per call": 1, "per message": messages}
    costs, per_minute = [], 0.0
    for product, cents in (plan.version.products or plan.agent.products).items():
        family = _FAMILIES[product]
        if family in times:
            costs += item_costs({product: cents}, times[family])
        elif billed_seconds := seconds.get(family, total_seconds):
            costs.append(_cost(product, cents, billed_seconds))
            per_minute += cents
    # Surcharges for long requests and short calls.
    cents_of = dict.fromkeys(_PRODUCTS["families"], 0.0)
    for cost in costs:
        cents_of[_FAMILIES[cost["product"]]] += cost["cost"]
    model, engine = cents_of["model"], cents_of["voice engine"]
    requests = tokens["average"] / _PRODUCTS["tokens_included"] if tokens else 0
    if requests > 1:
        costs += item_costs({"llm_token_surcharge": model * (requests - 1)})
    if 0 < total_seconds < _PRODUCTS["least_seconds"]:
        share = _PRODUCTS["least_seconds"] / total_seconds - 1
        costs += item_costs({"short_call_surcharge": (model + engine) * share})
    if transfer_leg_ms:
        leg = _cost(**_PRODUCTS["transfer_leg"], total_seconds=ceil(transfer_leg_ms / 1000))
        costs.append(leg | {"is_transfer_leg_cost": True})
    return {
        "total_duration_unit_price": number(round(per_minute / 60, 7)),
        "product_costs": costs,
        "combined_cost": number(round(sum(cost["cost"] for cost in costs), 7)),
        "total_duration_seconds": total_seconds,
    }


def item_costs(cents: Mapping[str, float], count: int = 1) -> list[Json]:
    """Return the costs of `count` items of each product; they have no unit price."""
    return [
        {"product": product, "cost": number(round(each * count, 7))}
        for product, each in cents.items()
        if count
    ]


def _cost(product: str, cents: float, total_seconds: int) -> Json:
    return {
        "unit_price": number(round(cents / 60, 7)),
        "product": product,
        "cost": number(round(cents / 60 * total_seconds, 7)),
    }


def _summary(values: list[int | float]) -> Json:
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
    """Return a percentile, interpolated as Retell does."""
    position = (len(ordered) - 1) * share
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return number(ordered[below] + (ordered[above] - ordered[below]) * (position - below))


# Values of an analysis without an answer; real ones have all three.
_NO_ANSWER = ("", "N/A", None)


def call_analysis(rng: Random, plan: Plan, slots: Slots) -> Json:
    """Return the analysis of a call that connected."""
    if plan.reason in ERRORS:
        return {**NO_CONVERSATION, "in_voicemail": False}
    is_cut = plan.reason == CUT_SHORT
    successful, sentiment = plan.ending.successful and not is_cut, plan.ending.sentiment
    if plan.agent.storage == BASIC:
        return {
            "in_voicemail": False,
            "user_sentiment": sentiment,
            "call_successful": successful,
        }
    if is_cut:
        sentiment = rng.choice(("Negative", "Neutral"))
        summary = f"The caller hung up before {plan.kind.dialogue.goal}."
        custom = {key: rng.choice(_NO_ANSWER) for key in plan.ending.analysis}
    else:
        if sentiment == "Positive" and rng.random() < 0.2:
            sentiment = "Neutral"
        summary = fill(plan.ending.summary, slots)
        custom = fill(plan.ending.analysis, slots)
    return {
        "in_voicemail": plan.reason == "voicemail_reached",
        "call_summary": summary,
        "user_sentiment": sentiment,
        "custom_analysis_data": custom,
        "call_successful": successful,
    }


def second_opinion(analysis: Json, noun: str = "call") -> Json:
    """Return the analysis of a re-run, which differs from the first."""
    custom = analysis.get("custom_analysis_data", {})
    again = analysis | {
        "user_sentiment": "Positive",
        f"{noun}_successful": not analysis[f"{noun}_successful"],
        "custom_analysis_data": custom | {"follow-up?": True},
    }
    # With basic_attributes_only there is no summary.
    if (name := f"{noun}_summary") in analysis:
        again[name] = f"{analysis[name]} The caller may be worth a follow-up.".lstrip()
    return again


_SPEAKERS = {"agent": "Agent", "user": "User", "transfer_target": "Transfer Target"}
_PUNCTUATION = " .,;:!?¡¿…"


def transcript_fields(entries: list[Json]) -> Json:
    """Return the transcript fields made from the entries: text, utterances, all entries."""
    said = [entry for entry in entries if entry["role"] in UTTERANCES]
    lines = [f"{_SPEAKERS[entry['role']]}: {entry['content']}\n" for entry in said]
    return {
        "transcript": "".join(lines),
        "transcript_object": said,
        "transcript_with_tool_calls": entries,
    }


def scrubbed(entries: list[Json], slots: Slots) -> list[Json]:
    """Return a copy of the entries without the caller's name, number and address."""
    marks = {slots["email"]: "[EMAIL]", slots["e164"]: "[PHONE]", slots["phone"]: "[PHONE]"}
    marks |= dict.fromkeys((slots["customer"], slots["first"], slots["last"]), "[NAME]")
    pieces = dict.fromkeys(slots["phone"].split(), "[PHONE]") | marks
    return [_scrubbed_entry(entry, marks, pieces) for entry in entries]


def _scrubbed_entry(entry: Json, marks: dict[str, str], pieces: dict[str, str]) -> Json:
    if "words" not in entry:
        texts = {key: entry[key] for key in ("arguments", "content") if key in entry}
        for secret, mark in marks.items():
            texts = {key: text.replace(secret, mark) for key, text in texts.items()}
        return entry | texts
    words = []
    for word in entry["words"]:
        bare = word["word"].strip(_PUNCTUATION)
        words.append(word | {"word": word["word"].replace(bare, pieces.get(bare, bare))})
    return entry | {"content": "".join(word["word"] for word in words), "words": words}


def from_the_start(record: Json) -> Json:
    """Return the fields that a call has from its start."""
    return {key: record[key] for key in _FROM_THE_START if key in record}


@dataclass(frozen=True)
class Call:
    """The final call object; `after_transfer` are the fields that change when a transfer ends."""

    plan: Plan
    record: Json
    entries: list[Json]
    start_ms: int
    end_ms: int
    after_transfer: Json

    @property
    def call_id(self) -> str:
        """Retell's id of the call."""
        return str(self.record["call_id"])

    def at_start(self) -> Json:
        """Return the object of the ongoing call."""
        state = {"call_status": "ongoing", "latency": {}, "call_cost": NO_COST}
        return from_the_start(self.record) | state

    def so_far(self, second: float) -> Json:
        """Return the object of the ongoing call with its transcript until `second`."""
        if self.plan.agent.storage == BASIC:
            return self.at_start()
        heard = [entry for entry in self.entries if starts_at(entry) <= second]
        return self.at_start() | transcript_fields(heard)


def make_call(rng: Random, account: Account, plan: Plan, given: Slots | None = None) -> Call:
    """Return the call of a plan; `given` are slots to use, such as a name."""
    dialogue = plan.kind.dialogue
    country = "GB" if dialogue.language == "en-GB" else plan.agent.country
    slots = dialogue.slots(rng, country, plan.start_ms) | dict(given or {})
    known = identity(rng, account, plan, slots)
    if plan.reason in NEVER_STARTED:
        return _never_started(rng, plan, known)
    timeline = Timeline(rng, plan.agent, plan.version, slots)
    for step in _steps(rng, plan):
        timeline.play(step)
    timeline.hang_up(plan.reason)
    entries = timeline.entries
    duration_ms = round(timeline.now * 1000)
    end_ms = plan.start_ms + duration_ms
    record = known | {
        "call_status": "error" if plan.reason in ERRORS else "ended",
        "start_timestamp": plan.start_ms,
        "end_timestamp": end_ms,
        "duration_ms": duration_ms,
        "disconnection_reason": "user_hangup" if plan.reason == CUT_SHORT else plan.reason,
        "latency": latency(rng, plan.agent, timeline.replies_ms),
        "call_analysis": call_analysis(rng, plan, slots),
    }
    tokens = token_usage(rng, plan.agent, len(timeline.replies_ms))
    if tokens:
        record["llm_token_usage"] = tokens
    record["call_cost"] = call_cost(plan, duration_ms, entries, tokens)
    record |= _content(rng, plan, slots, timeline)
    if plan.agent.storage != BASIC:
        record |= _media(rng, f"{account.media_url}/{known['call_id']}", plan.agent)
    after: Json = {}
    if plan.reason == "call_transfer":
        record["transfer_destination"] = plan.agent.transfer_to
        leg_ms = rng.randrange(60_000, 400_000)
        cost = call_cost(plan, duration_ms, entries, tokens, leg_ms)
        after = {"transfer_end_timestamp": end_ms + leg_ms, "call_cost": cost}
    return Call(plan, record, entries, plan.start_ms, end_ms, after)


def _never_started(rng: Random, plan: Plan, known: Json) -> Call:
    """Return a call that never connected: without times, transcript and cost."""
    record = known | {
        "call_status": "not_connected" if plan.reason in NOT_CONNECTED else "error",
        "duration_ms": 0,
        "transcript": "",
        "disconnection_reason": plan.reason,
        "call_cost": {"combined_cost": 0},
        "call_analysis": dict(NO_CONVERSATION),
    }
    ringing_ms = rng.randrange(4_000, 32_000)
    return Call(plan, record, [], plan.start_ms, plan.start_ms + ringing_ms, {})


def _steps(rng: Random, plan: Plan) -> list[Step]:
    dialogue = plan.kind.dialogue
    steps = list(dialogue.steps_to(plan.ending, rng))
    if plan.reason == "error_llm_websocket_open":
        return []
    if plan.reason == "error_no_audio_received":
        return [steps[0], {"pause": (16, 24)}]
    if plan.reason == CUT_SHORT:
        return steps[: rng.randrange(4, max(5, len(dialogue.opening)))]
    return steps


def _content(rng: Random, plan: Plan, slots: Slots, timeline: Timeline) -> Json:
    """Return transcripts, as the agent's storage setting allows."""
    if plan.agent.storage == BASIC:
        return {}
    entries, scrub = timeline.entries, plan.agent.storage == "everything_except_pii"
    fields = transcript_fields(entries)
    if scrub:
        fields["scrubbed_transcript_with_tool_calls"] = scrubbed(entries, slots)
    if plan.kind.session:
        for name, entries in _FIXED["sessions"].items():
            call_id = f"tool_call_{hex_digits(rng, 16)}"
            fields[name] = session = fill(entries, {**slots, "id": call_id})
            if scrub:
                fields[f"scrubbed_{name}"] = scrubbed(session, slots)
    if timeline.collected:
        fields["collected_dynamic_variables"] = timeline.collected
    return fields


def _media(rng: Random, folder: str, agent: Agent) -> dict[str, str]:
    """Return the links to recordings and logs, in a folder that cannot be guessed."""
    urls: dict[str, str] = dict(_FIXED["media"])
    if agent.storage == "everything_except_pii":
        urls |= _FIXED["scrubbed_media"]
    if agent.knowledge_base:
        urls |= _FIXED["knowledge_base_media"]
    folder = f"{folder}/{hex_digits(rng, 64)}"
    return {name: url.format(folder=folder) for name, url in urls.items()}


def cut_off(call: Call, reason: str, *, connected: bool) -> Call:
    """Return a call that ended at its `end_ms`, before anything was analysed."""
    record = call.record | {"duration_ms": 0, "call_analysis": dict(NO_CONVERSATION)}
    if connected:
        duration_ms = call.end_ms - call.start_ms
        heard = [entry for entry in call.entries if starts_at(entry) * 1000 <= duration_ms]
        record = from_the_start(call.record) | {
            "end_timestamp": call.end_ms,
            "duration_ms": duration_ms,
            "latency": {},
            "call_cost": call_cost(call.plan, duration_ms, heard, None),
            "call_analysis": {**NO_CONVERSATION, "in_voicemail": False},
        }
        if "transcript" in call.record:
            record |= transcript_fields(heard)
    record |= {"call_status": "ended", "disconnection_reason": reason}
    return replace(call, record=record, after_transfer={}, entries=[])
