"""The operations of Retell's API on an account: one method for each route."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from receiver.errors import Refusal
from receiver.sandbox.calls import second_opinion
from receiver.sandbox.companies import Account, AgentVersion, read_data
from receiver.sandbox.days import Event
from receiver.sandbox.deliveries import Reporter
from receiver.sandbox.lists import BooleanFilter, CallListOrder, StringFilter, meets, page
from receiver.sandbox.orders import (
    INVALID,
    BatchOrder,
    Body,
    CallUpdate,
    InboundOrder,
    LiveFields,
    LiveUpdate,
    Order,
    PhoneCallOrder,
    RegisterOrder,
    Storage,
    TakeOver,
    WebCallOrder,
    changes,
)
from receiver.sandbox.plans import BY_NUMBER, Scenario
from receiver.sandbox.recordings import file_of, is_expired, kind_of, signed
from receiver.sandbox.wire import hex_digits, seconds
from receiver.sandbox.workspace import (
    NOT_FOUND,
    Life,
    Placing,
    StoredCall,
    Workspace,
    live,
    stopped,
)

_ANALYSIS_MS = 2_000
_TOKEN_MS = 30_000
_FIXED = read_data("data/calls.yaml")


@dataclass(kw_only=True)
class Operations:
    """The calls of one account. Raises Refusal where Retell responds with an error."""

    seed: int
    account: Account
    workspace: Workspace
    reporter: Reporter
    scenario: Scenario | None
    concurrency: int
    now_ms: Callable[[], int]
    exports: list[dict[str, Any]] = field(default_factory=list)
    _created: int = 0

    def concurrency_now(self) -> dict[str, Any]:
        """Return how many calls the account may have at once, and has now."""
        return {
            "current_concurrency": self.workspace.live_calls(),
            "concurrency_limit": self.concurrency,
            "base_concurrency": self.concurrency,
            **_FIXED["concurrency"],
        }

    def key_info(self) -> dict[str, str]:
        """Return the workspace of the API key."""
        return {"org_id": self.account.organisation, **_FIXED["key"]}

    def request_export(self, channel: str) -> None:
        """Request an export, of which no file is made."""
        id = f"export_{hex_digits(Random(f'{self.seed} export {len(self.exports)}'), 20)}"
        given = {"export_request_id": id, "channel": channel, "created_timestamp": self.now_ms()}
        self.exports.insert(0, _FIXED["export"] | given)

    def create_phone_call(self, body: Any) -> dict[str, Any]:
        """Create a call; return it as registered."""
        order = PhoneCallOrder.parse(body)
        key, now_ms = order.idempotency_key, self.now_ms()
        # One at a time, so that two requests with one key never create two calls.
        with self.workspace.lock:
            if key and (call := self.workspace.same_order(key, now_ms)):
                return call
            scenario = BY_NUMBER.get(order.to_number, self.scenario)
            agent = self.workspace.agent_for(order.from_number, order)
            given = {"direction": "outbound"} | _own(order)
            call = self._create(Placing(given, agent, scenario, now_ms))
            if key:
                self.workspace.remember_order(key, now_ms, call)
            return call

    def register_phone_call(self, body: Any) -> dict[str, Any]:
        """Register a call that the caller's own telephony dials at once; return it."""
        order = RegisterOrder.parse(body)
        agent = self.workspace.agent(order.agent_id, order.agent_version)
        scenario = BY_NUMBER.get(order.to_number or "", self.scenario)
        given = {
            "direction": order.direction,
            "from_number": order.from_number or "anonymous",
            "to_number": order.to_number or agent.agent.number,
        }
        with self.workspace.lock:
            return self._create(Placing(given | _own(order), agent, scenario, self.now_ms()))

    def receive_call(self, body: Any) -> dict[str, Any]:
        """Let somebody call a number, whose webhook is asked first; return the call."""
        order = InboundOrder.parse(body)
        agent, given = self.reporter.ask("call_inbound", order)
        given |= order.model_dump(exclude={"content"}) | {"direction": "inbound"}
        scenario = BY_NUMBER.get(order.from_number, self.scenario)
        with self.workspace.lock:
            return self._create(Placing(given, agent, scenario, self.now_ms()))

    def create_batch_call(self, body: Any) -> dict[str, Any]:
        """Create the calls of a batch within its time windows, at any concurrency; return it."""
        order = BatchOrder.parse(body)
        with self.workspace.lock:
            self._created += 1
            batch_call_id = f"batch_call_{hex_digits(Random(f'{self.seed} {self._created}'), 20)}"
            at_ms = int(order.trigger_timestamp or self.now_ms())
            window = order.call_time_window
            opens_ms = window.next_ms(at_ms) if window else at_ms
            for task in order.tasks:
                scenario = BY_NUMBER.get(task.to_number, self.scenario)
                if scenario and scenario.refusal:
                    continue
                agent = self.workspace.agent_for(order.from_number, task)
                given = {
                    "from_number": order.from_number,
                    "direction": "outbound",
                    "batch_call_id": batch_call_id,
                } | _own(task)
                begin = partial(self._begin, Placing(given, agent, scenario, opens_ms))
                if self.reporter.lives.paced and opens_ms > self.now_ms():
                    self.reporter.lives.add(batch_call_id, [(opens_ms, begin)])
                else:
                    begin()
        batch = {
            "batch_call_id": batch_call_id,
            "name": order.name or "Batch call",
            "from_number": order.from_number,
            "scheduled_timestamp": at_ms,
            "total_task_count": len(order.tasks),
        }
        return batch | (
            {"call_time_window": window.model_dump(exclude_none=True)} if window else {}
        )

    def create_web_call(self, body: Any) -> dict[str, Any]:
        """Create a web call that is joined at once; return it as registered."""
        order = WebCallOrder.parse(body)
        agent = self.workspace.agent(order.agent_id, order.agent_version)
        placing = Placing(_own(order), agent, self.scenario, self.now_ms(), web=True)
        with self.workspace.lock:
            return self._create(placing)

    def join_web_call(self, body: Any) -> dict[str, Any]:
        """Create a web call; return what a browser needs to join it (v3)."""
        call = self.create_web_call(body)
        return {
            "call_id": call["call_id"],
            "access_token": call["access_token"],
            "expires_at": self.now_ms() + _TOKEN_MS,
            **_FIXED["gateway"],
        }

    def get_call(self, call_id: str) -> dict[str, Any]:
        """Return the current call object, with fresh links."""
        call = self.workspace.get(call_id).call
        now_ms = self.now_ms()
        return signed(Random(f"{call_id} {now_ms}"), call, now_ms)

    def media(self, call_id: str, path: str, query: str) -> tuple[bytes, str]:
        """Return content and content type of the file that a call links to at this path."""
        call = self.workspace.get(call_id).call
        kind = kind_of(call, path)
        if kind is None:
            raise Refusal(404, NOT_FOUND)
        if is_expired(call, query, self.now_ms()):
            raise Refusal(403, "Access denied: the link has expired or is not signed.")
        return file_of(call, kind)

    def list_calls(self, body: Any) -> dict[str, Any]:
        """Return a page of calls."""
        return page(self.workspace.listed(), CallListOrder.parse(body))

    def update_call(self, call_id: str, body: Any) -> dict[str, Any]:
        """Change fields of a call that is over."""
        update = CallUpdate.parse(body)
        with self.workspace.lock:
            call = self._over(call_id)
            return self.workspace.change(call_id, changes(call, update))

    def _live(self, call_id: str) -> StoredCall:
        stored = self.workspace.get(call_id)
        if stored.call["call_status"] != "ongoing":
            raise Refusal(400, "Call is not ongoing.")
        return stored

    def delete_call(self, call_id: str) -> None:
        """Delete a call."""
        self.workspace.remove(call_id)

    def stop_call(self, call_id: str, reason: str = "manual_stopped") -> None:
        """End a call now; its planned events are cancelled."""
        now_ms = self.now_ms()
        with self.workspace.lock:
            stored = self.workspace.get(call_id)
            status = stored.call["call_status"]
            if stored.life is None or status not in ("registered", "ongoing"):
                raise Refusal(400, "Call is not ongoing.")
            stored.course += 1
            rng = Random(f"{call_id} stop")
            rest = stopped(rng, stored.life, now_ms, reason, connected=status == "ongoing")
            self.reporter.report(call_id, stored.course, rest)

    def listen_live(self, call_id: str) -> dict[str, Any]:
        """Return what a browser needs to listen to an ongoing call."""
        with self.workspace.lock:
            stored = self._live(call_id)
            rng = Random(f"{call_id} {len(stored.listeners)}")
            stored.listeners.append(f"listener_{hex_digits(rng, 20)}")
            return {
                "access_token": hex_digits(rng, 64),
                "expires_at": self.now_ms() + _TOKEN_MS,
                "participant_id": stored.listeners[-1],
                "room_name": call_id,
                **_FIXED["gateway"],
            }

    def take_over(self, call_id: str, body: Any) -> dict[str, Any]:
        """Let a listener speak: the agent's part of the call ends as call_take_over."""
        participant = TakeOver.parse(body).participant_id
        if participant not in self._live(call_id).listeners:
            raise Refusal(400, "Participant is not listening to this call.")
        self.stop_call(call_id, "call_take_over")
        return {"success": True}

    def update_live(self, call_id: str, body: Any) -> dict[str, Any]:
        """Change an ongoing call, and add context to its transcript."""
        update = LiveUpdate.parse(body)
        with self.workspace.lock:
            stored = self._live(call_id)
            changed = changes(stored.call, update.fields_to_override or LiveFields())
            if update.call_control and update.call_control.additional_context:
                start_ms = stored.call.get("start_timestamp", stored.created_ms)
                at_ms = max(0, self.now_ms() - start_ms)
                entry = {
                    "role": "injected",
                    "content": update.call_control.additional_context,
                    "time_sec": seconds(at_ms / 1000),
                }
                changed["injected"] = [*stored.changes.get("injected", []), entry]
            self.workspace.change(call_id, changed)
        return {"success": True}

    def rerun_analysis(self, call_id: str) -> dict[str, Any]:
        """Analyse a call again and send call_analyzed."""
        with self.workspace.lock:
            call = self._over(call_id)
            if "call_analysis" not in call:
                raise Refusal(400, "Call has not been analyzed yet.")
            analysis = second_opinion(call["call_analysis"])
            call = self.workspace.change(call_id, {"call_analysis": analysis})
            again = Event(self.now_ms() + _ANALYSIS_MS, "call_analyzed", call_id, {"call": call})
            self.reporter.report(call_id, self.workspace.get(call_id).course, [again])
            return call

    def _over(self, call_id: str) -> dict[str, Any]:
        call = self.workspace.get(call_id).call
        if call["call_status"] in ("registered", "ongoing"):
            raise Refusal(400, "Call has not ended yet.")
        return call

    def _create(self, placing: Placing) -> dict[str, Any]:
        scenario = placing.scenario
        if scenario and scenario.refusal:
            raise Refusal(*scenario.refusal)
        if self.workspace.live_calls() >= self.concurrency:
            raise Refusal(429, "Concurrency limit reached, please retry when a call has ended.")
        return self._begin(placing)

    def _begin(self, placing: Placing) -> dict[str, Any]:
        with self.workspace.lock:
            self._created += 1
            life: Life = live(Random(f"{self.seed} {self._created}"), self.account, placing)
            self.workspace.add(StoredCall(life.registered, placing.created_ms, life))
            self.reporter.report(life.call.call_id, 0, life.events)
            return life.registered


_COPIED = {
    "from_number", "to_number", "metadata", "retell_llm_dynamic_variables", "custom_sip_headers"
}  # fmt: skip


def _own(order: Order) -> dict[str, Any]:
    """The fields that a call copies from its order."""
    return order.model_dump(include=_COPIED, exclude_none=True)


T = TypeVar("T")
# What an update cannot change.
_KEPT = ("agent_id", "version", "is_published", "last_modification_timestamp")


class AgentCriteria(Body):
    """`filter_criteria` of list-agents: all must be met."""

    channel: StringFilter | None = None
    is_transfer_agent: BooleanFilter | None = None
    query: str | None = None

    def match(self, settings: Mapping[str, Any]) -> bool:
        """Return whether an agent meets the criteria."""
        asked = (self.query or "").lower()
        return (
            (self.channel is None or meets(self.channel, settings["channel"]))
            and (self.is_transfer_agent is None or meets(self.is_transfer_agent, False))
            and (asked in settings["agent_name"].lower() or asked in settings["agent_id"])
        )


class AgentListOrder(Body):
    """The body of list-agents."""

    filter_criteria: AgentCriteria = AgentCriteria()


class PageOrder(Body):
    """The query of the lists of agents and versions; its values are strings."""

    limit: Annotated[int, Field(ge=1, le=1000, strict=False)] = 1000
    pagination_key: str | None = None
    sort_order: Literal["ascending", "descending"] = "descending"


class WebhookSettings(Body):
    """The settings of an agent that affect its webhooks."""

    nullable = frozenset({"webhook_url", "webhook_events", "webhook_timeout_ms"})

    agent_name: str = ""
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    webhook_timeout_ms: int | None = None
    data_storage_setting: Storage = "everything"
    opt_in_signed_url: bool = False


@dataclass
class AgentOperations:
    """The agents of one account. Raises Refusal where Retell responds with an error."""

    workspace: Workspace
    now_ms: Callable[[], int]

    def list_agents(self, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Return a page of agents, without their settings."""
        criteria = AgentListOrder.parse(body).filter_criteria
        latest = [versions[-1] for versions in self.workspace.agents.values()]
        found = [agent for agent in latest if criteria.match(agent.settings)]
        found.sort(key=lambda agent: agent.settings["last_modification_timestamp"])
        return _page(query, found, self._item)

    def list_versions(self, agent_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the versions of an agent."""
        return _page(query, self._versions(agent_id), _version_item)

    def get_agent(self, agent_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a version with its settings, the latest by default."""
        return self._version(agent_id, query).settings

    def update_agent(self, agent_id: str, query: Mapping[str, str], body: Any) -> dict[str, Any]:
        """Change settings of a version, the latest by default; null removes one."""
        WebhookSettings.parse(body)
        with self.workspace.lock:
            agent = self._version(agent_id, query)
            settings = agent.settings | {n: v for n, v in body.items() if n not in _KEPT}
            settings["last_modification_timestamp"] = self.now_ms()
            agent.settings = {name: value for name, value in settings.items() if value is not None}
            return agent.settings

    def _versions(self, agent_id: str) -> list[AgentVersion]:
        try:
            return self.workspace.agents[agent_id]
        except KeyError:
            raise Refusal(404, NOT_FOUND) from None

    def _version(self, agent_id: str, query: Mapping[str, str]) -> AgentVersion:
        self._versions(agent_id)
        version = query.get("version")
        number = int(version) if version and version.isdecimal() else version
        return self.workspace.agent(agent_id, number)

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
    return {name: agent.settings[name] for name in _KEPT if name != "agent_id"}


def _page(
    query: Mapping[str, str], oldest_first: Sequence[T], item: Callable[[T], dict[str, Any]]
) -> dict[str, Any]:
    order = PageOrder.parse(dict(query))
    found = oldest_first if order.sort_order == "ascending" else oldest_first[::-1]
    start = order.pagination_key or "0"
    if not start.isdecimal():
        raise Refusal(400, f"{INVALID} pagination_key is not valid")
    end = int(start) + order.limit
    answer: dict[str, Any] = {
        "items": [item(one) for one in found[int(start) : end]],
        "has_more": end < len(found),
    }
    return answer | ({"pagination_key": str(end)} if answer["has_more"] else {})
