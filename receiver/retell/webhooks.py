"""The webhook URLs of an account's agents: which they are, and setting one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any
from urllib.parse import urlsplit

from receiver.errors import SettingsError, UnexpectedAnswer
from receiver.retell.client import Retell


@dataclass(frozen=True, slots=True)
class AgentWebhook:
    """The own webhook of an agent's newest version; without a URL, the account's counts."""

    agent_id: str
    agent_name: str | None
    channel: str
    version: int | None
    is_published: bool | None
    webhook_url: str | None
    webhook_events: list[str] | None


def agent_webhooks(retell: Retell) -> Iterator[AgentWebhook]:
    """The webhook of every agent of the account, one request each. Raises RetellError."""
    for item in retell.agents():
        channel = str(item.get("channel") or "voice")
        yield _webhook(retell.get_agent(item["agent_id"], channel=channel).value, channel)


def set_webhook(retell: Retell, agent_id: str, url: str, *, channel: str) -> AgentWebhook:
    """Set an agent's own webhook URL and return what the agent says then. Raises RetellError."""
    answer = retell.update_agent(agent_id, {"webhook_url": url}, channel=channel)
    return _webhook(answer.value, channel)


def channel_of(retell: Retell, agent_id: str) -> str:
    """Whether an agent is one for voice or for chat. Raises SettingsError if it is neither."""
    for item in retell.agents():
        if item["agent_id"] == agent_id:
            return str(item.get("channel") or "voice")
    raise SettingsError(
        f"the account has no agent {agent_id}", hint="`callhouse webhook show` lists them."
    )


def check_url(url: str) -> str:
    """The URL as Retell can call it. Raises SettingsError."""
    # Dynamic variables may stand anywhere in it.
    parts = urlsplit(re.sub(r"\{\{.*?\}\}", "x", url))
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", url):
        raise SettingsError("this is not a web address", hint="Write it as https://HOST/webhook.")
    return url


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "agent_id": str,
    "agent_name": (str, NoneType),
    "version": (int, NoneType),
    "is_published": (bool, NoneType),
    "webhook_url": (str, NoneType),
    "webhook_events": (list, NoneType),
}


def _webhook(agent: Any, channel: str) -> AgentWebhook:
    """Raises UnexpectedAnswer."""
    if not isinstance(agent, dict):
        raise UnexpectedAnswer("Retell's agent is no object", answered=200)
    for name, kinds in _FIELDS.items():
        if not isinstance(agent.get(name), kinds):
            raise UnexpectedAnswer(f"Retell's agent has no usable {name}", answered=200)
    return AgentWebhook(
        agent_id=agent["agent_id"],
        agent_name=agent.get("agent_name"),
        channel=channel,
        version=agent.get("version"),
        is_published=agent.get("is_published"),
        webhook_url=agent.get("webhook_url") or None,
        webhook_events=agent.get("webhook_events"),
    )
