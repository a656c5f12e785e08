"""What Retell's API does with the agents of an account, as far as their webhooks need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from receiver.errors import Refusal
from receiver.sandbox.agents import AgentVersion
from receiver.sandbox.filters import BooleanFilter, StringFilter
from receiver.sandbox.orders import INVALID, Body, parsed
from receiver.sandbox.workspace import NOT_FOUND, Workspace

T = TypeVar("T")
# What an update cannot change.
_FIXED = ("agent_id", "version", "is_published", "last_modification_timestamp")


class AgentCriteria(Body):
    """`filter_criteria` of list-agents: all of them must hold."""

    channel: StringFilter | None = None
    is_transfer_agent: BooleanFilter | None = None
    query: str | None = None

    def match(self, settings: Mapping[str, Any]) -> bool:
        """Say whether an agent is asked for."""
        asked = (self.query or "").lower()
        return (
            (self.channel is None or self.channel.matches(settings["channel"]))
            and (self.is_transfer_agent is None or self.is_transfer_agent.matches(False))
            and (asked in settings["agent_name"].lower() or asked in settings["agent_id"])
        )


class AgentListOrder(Body):
    """The body of list-agents."""

    filter_criteria: AgentCriteria = AgentCriteria()


class PageOrder(Body):
    """The query of the lists of agents and versions; a query holds text alone."""

    limit: Annotated[int, Field(ge=1, le=1000, strict=False)] = 1000
    pagination_key: str | None = None
    sort_order: Literal["ascending", "descending"] = "descending"


class WebhookSettings(Body):
    """What of an agent decides about its webhooks."""

    nullable = frozenset({"webhook_url", "webhook_events", "webhook_timeout_ms"})

    agent_name: str = ""
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    webhook_timeout_ms: int | None = None
    data_storage_setting: Literal[
        "everything", "everything_except_pii", "basic_attributes_only"
    ] = "everything"
    opt_in_signed_url: bool = False


class AgentOperations:
    """One account's agents, shown and changed. Raises Refusal where Retell answers an error."""

    def __init__(self, workspace: Workspace, now_ms: Callable[[], int]) -> None:
        self._workspace, self._now_ms = workspace, now_ms

    def list_agents(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Return a page of agents, each once; their settings are not in it."""
        criteria = parsed(AgentListOrder.model_validate, body).filter_criteria
        latest = [versions[-1] for versions in self._workspace.agents.values()]
        found = [agent for agent in latest if criteria.match(agent.settings)]
        found.sort(key=lambda agent: agent.settings["last_modification_timestamp"])
        return _page(query, found, self._item)

    def list_versions(self, agent_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the versions of an agent."""
        return _page(query, self._versions(agent_id), _version_item)

    def get_agent(self, agent_id: str, version: str | None) -> dict[str, Any]:
        """Return a version with its settings, the latest by default."""
        return self._version(agent_id, version).settings

    def update_agent(self, agent_id: str, version: str | None, body: Any) -> dict[str, Any]:
        """Change settings of a version, the latest by default; null takes one away."""
        parsed(WebhookSettings.model_validate, body)
        with self._workspace.lock:
            agent = self._version(agent_id, version)
            settings = agent.settings | {n: v for n, v in body.items() if n not in _FIXED}
            settings["last_modification_timestamp"] = self._now_ms()
            agent.settings = {name: value for name, value in settings.items() if value is not None}
            return agent.settings

    def _versions(self, agent_id: str) -> list[AgentVersion]:
        try:
            return self._workspace.agents[agent_id]
        except KeyError:
            raise Refusal(404, NOT_FOUND) from None

    def _version(self, agent_id: str, version: str | None) -> AgentVersion:
        self._versions(agent_id)
        number = int(version) if version and version.isdecimal() else version
        return self._workspace.agent(agent_id, number)

    def _item(self, agent: AgentVersion) -> dict[str, Any]:
        settings = agent.settings
        versions = (candidate.version for candidate in self._versions(settings["agent_id"]))
        return {
            "agent_id": settings["agent_id"],
            "agent_name": settings["agent_name"],
            "channel": settings["channel"],
            "is_suspended": False,
            "tags": {
                version.tag: {"version": version.number} for version in versions if version.tag
            },
            "user_modified_timestamp": settings["last_modification_timestamp"],
        }


def _version_item(agent: AgentVersion) -> dict[str, Any]:
    settings = agent.settings
    return {
        name: settings[name] for name in ("version", "is_published", "last_modification_timestamp")
    }


def _page(
    query: Mapping[str, str], oldest_first: Sequence[T], item: Callable[[T], dict[str, Any]]
) -> dict[str, Any]:
    order = parsed(PageOrder.model_validate, dict(query))
    found = oldest_first if order.sort_order == "ascending" else oldest_first[::-1]
    start = order.pagination_key or "0"
    if not start.isdecimal():
        raise Refusal(400, f"{INVALID} pagination_key is not one of ours")
    end = int(start) + order.limit
    answer: dict[str, Any] = {
        "items": [item(one) for one in found[int(start) : end]],
        "has_more": end < len(found),
    }
    return answer | ({"pagination_key": str(end)} if answer["has_more"] else {})
