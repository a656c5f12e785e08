"""The account's state: its calls and its agents. Every method may be called from any thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from receiver.errors import Refusal
from receiver.sandbox.agents import AgentVersion, account_agents
from receiver.sandbox.identity import Account
from receiver.sandbox.life import Life
from receiver.sandbox.listing import Filed

NOT_FOUND = "Not Found"
ASSET_NOT_FOUND = "Cannot find requested asset under given api key."
IDEMPOTENT_MS = 3_600_000
_LIVE = ("registered", "ongoing")
# The account's own attributes; update-call ignores all others.
CUSTOM_ATTRIBUTES = ("customer_tier", "campaign")


@dataclass
class Held:
    """A call: the object as it is now, and how it came about, unless it is history.

    `changes` are what requests have changed; they stay whatever the call becomes. `course` counts
    how often the rest of its life was replaced: what was planned before is void.
    """

    call: dict[str, Any]
    filed_ms: int
    life: Life | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    course: int = 0


class Workspace:
    """What the account has."""

    def __init__(self, account: Account) -> None:
        self.lock = threading.RLock()
        self.agents: dict[str, list[AgentVersion]] = account_agents(account)
        self._held: dict[str, Held] = {}
        self._idempotent: dict[str, tuple[int, dict[str, Any]]] = {}

    def hold(self, held: Held) -> None:
        """Take a new call in."""
        with self.lock:
            self._held[held.call["call_id"]] = held

    def find(self, call_id: str) -> Held | None:
        """Return a call, or None if there is none."""
        with self.lock:
            return self._held.get(call_id)

    def held(self, call_id: str) -> Held:
        """Return a call. Raises Refusal 404."""
        held = self.find(call_id)
        if held is None:
            raise Refusal(404, NOT_FOUND)
        return held

    def become(self, call_id: str, course: int, call: dict[str, Any]) -> dict[str, Any] | None:
        """Let the call be in that state and return it as it is then; None if its life took another
        course meanwhile, or it was deleted."""
        with self.lock:
            held = self._held.get(call_id)
            if held is None or held.course != course:
                return None
            held.call = changed(call, held.changes)
            return held.call

    def change(self, call_id: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change fields of a call for good. Raises Refusal 404."""
        with self.lock:
            held = self.held(call_id)
            held.changes = held.changes | changes
            held.call = changed(held.call, changes)
            return held.call

    def remove(self, call_id: str) -> None:
        """Forget a call. Raises Refusal 404."""
        with self.lock:
            self.held(call_id)
            del self._held[call_id]

    def filed(self) -> list[Filed]:
        """Return all calls, for a list."""
        with self.lock:
            return [Filed(held.call, held.filed_ms) for held in self._held.values()]

    def calls(self) -> dict[str, dict[str, Any]]:
        """Return all call objects as they are now."""
        with self.lock:
            return {call_id: held.call for call_id, held in self._held.items()}

    def live_calls(self) -> int:
        """Return how many calls are not over."""
        with self.lock:
            return sum(held.call["call_status"] in _LIVE for held in self._held.values())

    def same_order(self, key: str, now_ms: int) -> dict[str, Any] | None:
        """Return the call that was created with this idempotency key within the hour."""
        with self.lock:
            created_ms, call = self._idempotent.get(key, (0, {}))
            return call if call and now_ms - created_ms < IDEMPOTENT_MS else None

    def remember_order(self, key: str, now_ms: int, call: dict[str, Any]) -> None:
        """Note with which idempotency key a call was created."""
        with self.lock:
            self._idempotent[key] = (now_ms, call)

    def agent(self, agent_id: str, version: int | str | None = None) -> AgentVersion:
        """Return a version by number, tag, `latest` or `latest_published`; the latest without.
        Raises Refusal 422."""
        with self.lock:
            for candidate in reversed(self.agents.get(agent_id, [])):
                tags = (None, "latest", "latest_published", candidate.version.tag)
                if version == candidate.version.number or version in tags:
                    return candidate
        raise Refusal(422, ASSET_NOT_FOUND)

    def agent_of_number(self, number: str) -> AgentVersion:
        """Return the agent bound to one of the account's numbers; the campaign's for any other
        number, as if that had been imported for it."""
        bound = {versions[-1].agent.number: versions[-1] for versions in self.agents.values()}
        return bound.get(number) or next(a for a in bound.values() if a.agent.campaign)


def changed(call: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the call with the changes, and without what its storage setting forbids to keep."""
    call = call | changes
    setting = changes.get("data_storage_setting", "everything")
    if setting == "everything":
        return call
    scrubbed = setting == "everything_except_pii"
    return {name: value for name, value in call.items() if not _content(name, scrubbed)}


def _content(name: str, scrubbed: bool) -> bool:
    """Whether a field holds what was said or recorded; scrubbed ones stay where only PII goes."""
    content = "transcript" in name or (name.endswith("_url") and name != "opt_in_signed_url")
    return content and not (scrubbed and name.startswith("scrubbed_"))
