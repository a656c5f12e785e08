"""The state of an account: its calls, chats and agents. Every method is thread-safe."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from receiver.errors import ApiError
from receiver.sandbox.calls import (
    NO_COST,
    Call,
    carrier_variables,
    cut_off,
    from_the_start,
    make_call,
)
from receiver.sandbox.companies import Account, AgentVersion, account_agents
from receiver.sandbox.days import call_events, twisted, updates
from receiver.sandbox.plans import Placing, planned
from receiver.sandbox.timeline import starts_at
from receiver.sandbox.wire import Event, Json

# Fields that an invented call gets from its company, and a placed call from its order.
_FROM_THE_ORDER = ("metadata", "retell_llm_dynamic_variables", "batch_call_id")
_NOT_REGISTERED = ("start_timestamp", "telephony_identifier")


@dataclass(frozen=True)
class Life:
    """A call as registered, and its events, each with the call object from then on."""

    registered: Json
    call: Call
    events: tuple[Event, ...]


def live(rng: Random, account: Account, placing: Placing) -> Life:
    """Return the life of a call."""
    ringing_ms = rng.randrange(1_000, 3_000) if placing.web else rng.randrange(4_000, 15_000)
    start_ms = placing.created_ms + ringing_ms
    plan, given = planned(rng, placing, start_ms), placing.given
    # The slots of the dialogue that the order sets: the person's name and number.
    slots: dict[str, str] = {}
    if number := given.get("from_number" if placing.inbound else "to_number"):
        slots |= {"e164": number, "phone": number}
    if name := given.get("retell_llm_dynamic_variables", {}).get("customer_name", "").strip():
        slots |= {"customer": name, "first": name.split()[0], "last": name.split()[-1]}
    call = make_call(rng, account, plan, slots)
    record = {name: call.record[name] for name in call.record if name not in _FROM_THE_ORDER}
    headers = record["custom_sip_headers"] | given.get("custom_sip_headers", {})
    record |= given | {"custom_sip_headers": headers}
    if placing.inbound:
        variables = given.get("retell_llm_dynamic_variables", {}) | carrier_variables(headers)
        record["retell_llm_dynamic_variables"] = variables
    record["agent_name"] = placing.agent.settings["agent_name"]
    # Retell's own client requires all fields of the cost, even without speech.
    record["call_cost"] = NO_COST | record["call_cost"]
    call = replace(call, record=record)
    events = twisted(rng, call, call_events(rng, call))
    if "transcript_updated" in placing.agent.webhook_events and call.entries:
        events += updates(rng, call)
    events.sort(key=lambda event: event.at_ms)
    registered = {
        name: value
        for name, value in from_the_start(record).items()
        if name not in _NOT_REGISTERED and "session" not in name
    }
    registered |= {"custom_sip_headers": given.get("custom_sip_headers", {})}
    registered |= {"call_status": "registered", "latency": {}, "call_cost": NO_COST}
    return Life(registered, call, tuple(events))


def stopped(rng: Random, life: Life, at_ms: int, reason: str, *, connected: bool) -> list[Event]:
    """Return the events after a call is ended at `at_ms`, which replace the planned ones."""
    if not connected:
        call = replace(life.call, record=life.registered, end_ms=at_ms)
    elif at_ms < life.call.start_ms:
        # Without waiting, the call is ahead of the clock.
        call = life.call
    else:
        call = replace(life.call, end_ms=at_ms)
    events = call_events(rng, cut_off(call, reason, connected=connected))
    return [event for event in events if event.name != "call_started"]


ASSET_NOT_FOUND = "Cannot find requested asset under given api key."
_LIVE = ("registered", "ongoing")


def clock_ms() -> int:
    """The time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass
class StoredCall:
    """A call or chat: the current object, and its events, unless it is a past call.

    `changes` are the fields that requests have changed; events do not undo them. `course` counts
    how often the planned events were replaced: those of an earlier course are ignored.
    """

    call: Json
    created_ms: int
    life: Life | None = None
    changes: Json = field(default_factory=dict)
    course: int = 0
    listeners: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Its call_id or chat_id."""
        return str(self.call.get("call_id") or self.call["chat_id"])

    @property
    def position(self) -> tuple[int, str]:
        """Its unique position in lists: its start, or without one its creation, and its id."""
        return self.call.get("start_timestamp", self.created_ms), self.id

    def change(self, changes: Json) -> Json:
        """Change fields permanently; return the object."""
        self.changes = self.changes | changes
        self.call = changed(self.call, changes)
        return self.call


class Workspace:
    """The calls, chats and agents of the account; the calls and chats by their ids. A caller that
    reads and then writes must hold the lock."""

    def __init__(
        self, account: Account, seed: int = 1, now_ms: Callable[[], int] = clock_ms
    ) -> None:
        self.account, self.seed, self.now_ms = account, seed, now_ms
        self.lock = threading.RLock()
        self.agents: dict[str, list[AgentVersion]] = account_agents(account)
        self.stored: dict[str, StoredCall] = {}

    def advance(self, id: str, course: int, entity: Json) -> None:
        """Set the object, with its changes, unless the course was replaced or it was deleted."""
        with self.lock:
            stored = self.stored.get(id)
            if stored is not None and stored.course == course:
                stored.call = changed(entity, stored.changes)

    def listed(self, key: str = "call_id") -> list[StoredCall]:
        """Return all calls, or with `key` chat_id all chats."""
        with self.lock:
            return [each for each in list(self.stored.values()) if key in each.call]

    def live_calls(self) -> int:
        """Return how many calls are not over."""
        return sum(stored.call["call_status"] in _LIVE for stored in self.listed())

    def agent(self, agent_id: str, version: int | str | None = None) -> AgentVersion:
        """Return a version by number, tag, `latest` or `latest_published`; the latest without.
        Raises ApiError 422."""
        with self.lock:
            for candidate in reversed(self.agents.get(agent_id, [])):
                tags = (None, "latest", "latest_published", candidate.version.tag)
                if version == candidate.version.number or version in tags:
                    return candidate
        raise ApiError(422, ASSET_NOT_FOUND)

    def agent_of(self, entity: Json) -> AgentVersion:
        """Return the agent of a call or chat."""
        version = entity.get("agent_version", entity.get("version"))
        return self.agent(entity["agent_id"], version)

    def bound_agents(self) -> dict[str, AgentVersion]:
        """Return the agent of each number, in its latest version."""
        return {versions[-1].agent.number: versions[-1] for versions in self.agents.values()}

    def agent_for(self, number: str, order: Any) -> AgentVersion:
        """Return the agent of an order: its own, or else the one bound to the number, or else the
        campaign's. Raises ApiError 422."""
        bound = self.bound_agents()
        agent = bound.get(number) or next(a for a in bound.values() if a.agent.campaign)
        agent_id = order.override_agent_id or agent.settings["agent_id"]
        return self.agent(agent_id, order.override_agent_version)


def changed(call: Json, changes: Json) -> Json:
    """Return the call with the changes, and without fields that its storage setting forbids."""
    injected = changes.get("injected", [])
    call = call | {name: value for name, value in changes.items() if name != "injected"}
    if injected and "transcript_with_tool_calls" in call:
        entries = [e for e in call["transcript_with_tool_calls"] if e not in injected]
        entries = sorted([*entries, *injected], key=starts_at)
        call["transcript_with_tool_calls"] = entries
    setting = changes.get("data_storage_setting", "everything")
    if setting == "everything":
        return call
    scrubbed = setting == "everything_except_pii"
    return {name: value for name, value in call.items() if not _content(name, scrubbed)}


def _content(name: str, scrubbed: bool) -> bool:
    """Whether a field has speech or recordings; with `scrubbed`, scrubbed fields are kept."""
    content = (
        "transcript" in name
        or "message" in name
        or (name.endswith("_url") and name != "opt_in_signed_url")
    )
    return content and not (scrubbed and name.startswith("scrubbed_"))
