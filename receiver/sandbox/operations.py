"""The operations of Retell's API on an account's calls and agents: one method for each route."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, ClassVar

from receiver.errors import ApiError
from receiver.sandbox.calls import second_opinion
from receiver.sandbox.companies import AgentVersion
from receiver.sandbox.deliveries import Reporter
from receiver.sandbox.lists import meets, page, plain_page
from receiver.sandbox.orders import changes, next_ms, own_fields, parse
from receiver.sandbox.plans import BY_NUMBER, Placing, Scenario
from receiver.sandbox.recordings import NOT_FOUND, fetch, signed
from receiver.sandbox.templates import fill, read_data
from receiver.sandbox.wire import Event, Json, hex_digits, seconds
from receiver.sandbox.workspace import StoredCall, Workspace, live, stopped

IDEMPOTENT_MS = 3_600_000
ANALYSIS_MS = 2_000
_TOKEN_MS = 30_000
_REPLIES = read_data("data/replies.yaml")


@dataclass(kw_only=True)
class Operations:
    """Operations that calls and chats share. Raises ApiError where Retell responds with an
    error."""

    noun: ClassVar[str]

    workspace: Workspace
    reporter: Reporter
    _created: int = 0

    def random(self, kind: str = "") -> Random:
        """Return the random numbers of the next object of this kind."""
        self._created += 1
        return Random(f"{self.workspace.seed} {kind}{self._created}")

    def stored(self, id: str) -> StoredCall:
        """Return a call or chat. Raises ApiError 404."""
        stored = self.workspace.stored.get(id)
        if stored is None or f"{self.noun}_id" not in stored.call:
            raise ApiError(404, NOT_FOUND)
        return stored

    def get(self, id: str) -> Json:
        """Return the current object."""
        return self.stored(id).call

    def list_all(self, body: Any) -> Json:
        """Return a page."""
        order = parse(f"list-{self.noun}s", body)
        return page(self.workspace.listed(f"{self.noun}_id"), order)

    def update(self, id: str, body: Any) -> Json:
        """Change fields."""
        update = parse(f"update-{self.noun}", body)
        with self.workspace.lock:
            return self.stored(id).change(changes(self.changeable(id), update))

    def delete(self, id: str) -> None:
        """Delete a call or chat."""
        with self.workspace.lock:
            del self.workspace.stored[self.stored(id).id]

    def rerun_analysis(self, id: str) -> Json:
        """Analyse again, and report it."""
        analysis = f"{self.noun}_analysis"
        with self.workspace.lock:
            stored, before = self.stored(id), self.changeable(id)
            if analysis not in before:
                raise ApiError(400, f"{self.noun.title()} has not been analyzed yet.")
            entity = stored.change({analysis: second_opinion(before[analysis], self.noun)})
            at_ms, name = self.workspace.now_ms() + ANALYSIS_MS, f"{self.noun}_analyzed"
            self.reporter.post(id, stored.course, [Event(at_ms, name, id, {self.noun: entity})])
            return entity

    def changeable(self, id: str) -> Json:
        """Return an object that can be changed."""
        return self.stored(id).call


@dataclass(kw_only=True)
class CallOperations(Operations):
    """The calls of one account."""

    noun = "call"

    scenario: Scenario | None
    concurrency: int
    exports: list[Json] = field(default_factory=list)
    _placed: dict[str, tuple[int, Json]] = field(default_factory=dict)

    def concurrency_now(self) -> Json:
        """Return the limit and number of concurrent calls."""
        return self._reply("concurrency", now=self.workspace.live_calls(), limit=self.concurrency)

    def key_info(self) -> Json:
        """Return the workspace of the API key."""
        return self._reply("key", organisation=self.workspace.account.organisation)

    def list_exports(self) -> Json:
        """Return the exports that were requested."""
        return {"items": self.exports, "has_more": False}

    def request_export(self, channel: str) -> None:
        """Request an export; no file is created."""
        id = f"export_{hex_digits(Random(f'{self.workspace.seed} export {len(self.exports)}'), 20)}"
        export = self._reply("export", id=id, channel=channel, created_ms=self.workspace.now_ms())
        self.exports.insert(0, export)

    def create_phone_call(self, body: Any) -> Json:
        """Create a call; return it as registered."""
        order = parse("create-phone-call", body)
        key, now_ms = order.idempotency_key, self.workspace.now_ms()
        # One at a time, so that two requests with one key never create two calls.
        with self.workspace.lock:
            placed_ms, call = self._placed.get(key, (0, {}))
            if not call or now_ms - placed_ms >= IDEMPOTENT_MS:
                agent = self.workspace.agent_for(order.from_number, order)
                given = {"direction": "outbound"} | _given(order)
                call = self._create(given, agent, order.to_number)
                if key:
                    self._placed[key] = now_ms, call
            return call

    def register_phone_call(self, body: Any) -> Json:
        """Register a call that the caller's own telephony dials at once; return it."""
        order = parse("register-phone-call", body)
        agent = self.workspace.agent(order.agent_id, order.agent_version)
        given = {
            "direction": order.direction or "inbound",
            "from_number": order.from_number or "anonymous",
            "to_number": order.to_number or agent.agent.number,
        }
        return self._create(given | _given(order), agent, order.to_number)

    def receive_call(self, body: Any) -> Json:
        """Receive a call to a number, whose inbound webhook is called first; return the call."""
        order = parse("inbound", body)
        agent, given = self.reporter.ask("call_inbound", order)
        return self._create(
            given | _given(order) | {"direction": "inbound"}, agent, order.from_number
        )

    def create_batch_call(self, body: Any) -> Json:
        """Create the calls of a batch within its time windows, at any concurrency; return it."""
        order = parse("create-batch-call", body)
        with self.workspace.lock:
            batch_call_id = f"batch_call_{hex_digits(self.random(), 20)}"
            at_ms = int(order.trigger_timestamp or self.workspace.now_ms())
            window = order.call_time_window
            opens_ms = next_ms(window, at_ms) if window else at_ms
            batch: Json = {"batch_call_id": batch_call_id, "from_number": order.from_number}
            for task in order.tasks:
                scenario = BY_NUMBER.get(task.to_number, self.scenario)
                if scenario and scenario.error:
                    continue
                agent = self.workspace.agent_for(order.from_number, task)
                given = {"direction": "outbound", **batch, **_given(task)}
                begin = partial(self._begin, Placing(given, agent, scenario, opens_ms))
                if self.reporter.lives.paced and opens_ms > self.workspace.now_ms():
                    self.reporter.lives.add(batch_call_id, [(opens_ms, begin)])
                else:
                    begin()
        batch |= order.model_dump(include={"call_time_window"}, exclude_none=True)
        batch |= {"name": order.name or "Batch call", "scheduled_timestamp": at_ms}
        return batch | {"total_task_count": len(order.tasks)}

    def create_web_call(self, body: Any) -> Json:
        """Create a web call that is joined at once; return it as registered."""
        order = parse("create-web-call", body)
        agent = self.workspace.agent(order.agent_id, order.agent_version)
        return self._create(_given(order), agent, "", web=True)

    def join_web_call(self, body: Any) -> Json:
        """Create a web call; return the token for a browser to join it (v3)."""
        call = self.create_web_call(body)
        return self._reply("join", expires_ms=self.workspace.now_ms() + _TOKEN_MS, **call)

    def get(self, id: str) -> Json:
        """Return the current call object, with fresh links."""
        now_ms = self.workspace.now_ms()
        return signed(Random(f"{id} {now_ms}"), super().get(id), now_ms)

    def media(self, call_id: str, path: str, query: str) -> tuple[bytes, str]:
        """Return content and content type of the file that a call links to at this path."""
        return fetch(self.stored(call_id).call, path, query, self.workspace.now_ms())

    def stop_call(self, call_id: str, reason: str = "manual_stopped") -> None:
        """End a call now; its planned events are cancelled."""
        now_ms = self.workspace.now_ms()
        with self.workspace.lock:
            stored = self.stored(call_id)
            status = stored.call["call_status"]
            if stored.life is None or status not in ("registered", "ongoing"):
                raise ApiError(400, "Call is not ongoing.")
            stored.course += 1
            rng = Random(f"{call_id} stop")
            rest = stopped(rng, stored.life, now_ms, reason, connected=status == "ongoing")
            self.reporter.report(call_id, stored.course, rest)

    def listen_live(self, call_id: str) -> Json:
        """Return the token for a browser to listen to an ongoing call."""
        with self.workspace.lock:
            stored = self._live(call_id)
            rng = Random(f"{call_id} {len(stored.listeners)}")
            stored.listeners.append(f"listener_{hex_digits(rng, 20)}")
            return self._reply(
                "listen",
                access_token=hex_digits(rng, 64),
                call_id=call_id,
                expires_ms=self.workspace.now_ms() + _TOKEN_MS,
                listener=stored.listeners[-1],
            )

    def take_over(self, call_id: str, body: Any) -> Json:
        """Let a listener speak: the agent's part of the call ends as call_take_over."""
        participant = parse("take-over-live-call", body).participant_id
        if participant not in self._live(call_id).listeners:
            raise ApiError(400, "Participant is not listening to this call.")
        self.stop_call(call_id, "call_take_over")
        return {"success": True}

    def update_live(self, call_id: str, body: Any) -> Json:
        """Change an ongoing call, and add context to its transcript."""
        update = parse("update-live-call", body)
        with self.workspace.lock:
            stored = self._live(call_id)
            fields = update.fields_to_override
            changed = changes(stored.call, fields) if fields else {}
            if update.call_control and update.call_control.additional_context:
                start_ms = stored.call.get("start_timestamp", stored.created_ms)
                at_ms = max(0, self.workspace.now_ms() - start_ms)
                entry = {
                    "role": "injected",
                    "content": update.call_control.additional_context,
                    "time_sec": seconds(at_ms / 1000),
                }
                changed["injected"] = [*stored.changes.get("injected", []), entry]
            stored.change(changed)
        return {"success": True}

    def changeable(self, id: str) -> Json:
        """Return a call that is over."""
        call = super().changeable(id)
        if call["call_status"] in ("registered", "ongoing"):
            raise ApiError(400, "Call has not ended yet.")
        return call

    def _reply(self, name: str, **slots: Any) -> Json:
        reply: Json = fill(_REPLIES[name], slots)
        return reply

    def _live(self, call_id: str) -> StoredCall:
        stored = self.stored(call_id)
        if stored.call["call_status"] != "ongoing":
            raise ApiError(400, "Call is not ongoing.")
        return stored

    def _create(
        self, given: Json, agent: AgentVersion, person: str | None, *, web: bool = False
    ) -> Json:
        """Create a call; the person's number may choose its scenario."""
        scenario = BY_NUMBER.get(person or "", self.scenario)
        if scenario and scenario.error:
            raise ApiError(*scenario.error)
        with self.workspace.lock:
            if self.workspace.live_calls() >= self.concurrency:
                raise ApiError(
                    429, "Concurrency limit reached, please retry when a call has ended."
                )
            return self._begin(Placing(given, agent, scenario, self.workspace.now_ms(), web))

    def _begin(self, placing: Placing) -> Json:
        with self.workspace.lock:
            life = live(self.random(), self.workspace.account, placing)
            stored = StoredCall(life.registered, placing.created_ms, life)
            self.workspace.stored[stored.id] = stored
            self.reporter.report(life.call.call_id, 0, life.events)
            return life.registered


def _given(order: Any) -> Json:
    """The fields that a call copies from its order."""
    return own_fields(order, "from_number", "to_number", "custom_sip_headers")


# Fields that an update cannot change.
_KEPT = ("agent_id", "version", "is_published", "last_modification_timestamp")


@dataclass
class AgentOperations:
    """The agents of one account. Raises ApiError where Retell responds with an error."""

    workspace: Workspace

    def list_agents(self, query: Mapping[str, str], body: Any) -> Json:
        """Return a page of agents, without their settings."""
        order = parse("list-agents", body)
        found = [versions[-1] for versions in self.workspace.agents.values()]
        if asked := order.filter_criteria:
            found = [
                agent
                for agent in found
                if meets(asked.channel, agent.settings["channel"])
                and meets(asked.is_transfer_agent, False)
                and (asked.query or "").lower()
                in f"{agent.settings['agent_name'].lower()}\n{agent.settings['agent_id']}"
            ]
        found.sort(key=lambda agent: agent.settings["last_modification_timestamp"])
        return plain_page(query, found, self._item)

    def list_versions(self, agent_id: str, query: Mapping[str, str]) -> Json:
        """Return a page of the versions of an agent."""
        names = [name for name in _KEPT if name != "agent_id"]
        return plain_page(
            query, self._versions(agent_id), lambda agent: {n: agent.settings[n] for n in names}
        )

    def get_agent(self, agent_id: str, query: Mapping[str, str]) -> Json:
        """Return a version with its settings, the latest by default."""
        return self._version(agent_id, query).settings

    def update_agent(self, agent_id: str, query: Mapping[str, str], body: Any) -> Json:
        """Change settings of a version, the latest by default; null removes one."""
        parse("update-agent", body)
        with self.workspace.lock:
            agent = self._version(agent_id, query)
            settings = agent.settings | {n: v for n, v in body.items() if n not in _KEPT}
            settings["last_modification_timestamp"] = self.workspace.now_ms()
            agent.settings = {name: value for name, value in settings.items() if value is not None}
            return agent.settings

    def _versions(self, agent_id: str) -> list[AgentVersion]:
        if agent_id not in self.workspace.agents:
            raise ApiError(404, NOT_FOUND)
        return self.workspace.agents[agent_id]

    def _version(self, agent_id: str, query: Mapping[str, str]) -> AgentVersion:
        self._versions(agent_id)
        version = query.get("version", "")
        return self.workspace.agent(
            agent_id, int(version) if version.isdecimal() else version or None
        )

    def _item(self, agent: AgentVersion) -> Json:
        versions = (each.version for each in self._versions(agent.settings["agent_id"]))
        tags = {version.tag: {"version": version.number} for version in versions if version.tag}
        item: Json = fill(_REPLIES["agent"], agent.settings)
        return item | {"tags": tags}
