"""The agents of the sandbox's account, as Retell's API shows them: one object a version."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from receiver.sandbox.companies import AGENTS, Agent, Version
from receiver.sandbox.identity import Account

DEFAULT_EVENTS = ("call_started", "call_ended", "call_analyzed")
TRANSFER_EVENTS = ("transfer_started", "transfer_bridged", "transfer_cancelled", "transfer_ended")
# When the account's agents were last worked on: 2026-03-02, a Monday.
_MADE_MS = 1_772_409_600_000


@dataclass
class AgentVersion:
    """A version: what plays when it is on the line, and its settings in Retell's shape."""

    agent: Agent
    version: Version
    settings: dict[str, Any]

    @property
    def webhook_events(self) -> tuple[str, ...]:
        """The events it reports; Retell's default without a setting."""
        return tuple(self.settings.get("webhook_events") or DEFAULT_EVENTS)


def account_agents(account: Account) -> dict[str, list[AgentVersion]]:
    """Return the versions of each agent, oldest first, by agent_id."""
    return {
        account.agent_ids[agent.key]: [
            AgentVersion(agent, version, _settings(account, agent, version))
            for version in agent.versions
        ]
        for agent in AGENTS
    }


def _settings(account: Account, agent: Agent, version: Version) -> dict[str, Any]:
    agent_id = account.agent_ids[agent.key]
    return {
        "agent_id": agent_id,
        "version": version.number,
        "is_published": True,
        "agent_name": version.name,
        "channel": "voice",
        "response_engine": _engine(agent, agent_id),
        "voice_id": "retell-Nora",
        "language": agent.scripts[0].language,
        "data_storage_setting": agent.storage,
        "opt_in_signed_url": agent.signed_urls,
        # Transfers too: the cost of a call that was put through is final with `transfer_ended`.
        "webhook_events": [*DEFAULT_EVENTS, *TRANSFER_EVENTS],
        "last_modification_timestamp": _MADE_MS,
    }


def _engine(agent: Agent, agent_id: str) -> dict[str, Any]:
    digits = sha256(agent_id.encode()).hexdigest()[:12]
    if agent.custom_llm:
        return {"type": "custom-llm", "llm_websocket_url": f"wss://llm.example.com/{digits}"}
    if agent.flow:
        return {
            "type": "conversation-flow",
            "conversation_flow_id": f"conversation_flow_{digits}",
            "version": 0,
        }
    return {"type": "retell-llm", "llm_id": f"llm_{digits}", "version": 0}
