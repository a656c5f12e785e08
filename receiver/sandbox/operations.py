"""What Retell's API does with an account: one method for each route that is served."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from receiver.errors import Refusal
from receiver.sandbox.analysis import second_opinion
from receiver.sandbox.events import Event
from receiver.sandbox.identity import Account
from receiver.sandbox.life import Life, Placing, live, stopped
from receiver.sandbox.listing import ListOrder, page
from receiver.sandbox.orders import CallOrder, CallUpdate, PhoneCallOrder, WebCallOrder, parsed
from receiver.sandbox.reporting import Reporter
from receiver.sandbox.scenarios import BY_NUMBER, Scenario
from receiver.sandbox.workspace import CUSTOM_ATTRIBUTES, Held, Workspace

_TIGHTNESS = ("everything", "everything_except_pii", "basic_attributes_only")
_ANALYSIS_MS = 2_000
_TOKEN_MS = 30_000


class Operations:
    """The calls of one account, made and changed. Raises Refusal where Retell answers an error."""

    def __init__(
        self,
        *,
        seed: int,
        account: Account,
        workspace: Workspace,
        reporter: Reporter,
        scenario: Scenario | None,
        concurrency: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._seed, self._account, self._now_ms = seed, account, now_ms
        self._workspace, self._reporter = workspace, reporter
        self._scenario, self._concurrency = scenario, concurrency
        self._created = 0

    def create_phone_call(self, body: Any) -> dict[str, Any]:
        """Create a call and let it live; return it as registered."""
        order = parsed(PhoneCallOrder.model_validate, body)
        key, now_ms = order.idempotency_key, self._now_ms()
        # One at a time, so that two requests with one key never make two calls.
        with self._workspace.lock:
            if key and (call := self._workspace.same_order(key, now_ms)):
                return call
            scenario = BY_NUMBER.get(order.to_number, self._scenario)
            agent = self._workspace.agent_of_number(order.from_number)
            agent_id = order.override_agent_id or agent.settings["agent_id"]
            agent = self._workspace.agent(agent_id, order.override_agent_version)
            given: dict[str, Any] = {
                "from_number": order.from_number,
                "to_number": order.to_number,
                "direction": "outbound",
            }
            if order.custom_sip_headers:
                given["custom_sip_headers"] = order.custom_sip_headers
            call = self._create(Placing(given | _own(order), agent, scenario, now_ms))
            if key:
                self._workspace.remember_order(key, now_ms, call)
            return call

    def create_web_call(self, body: Any) -> dict[str, Any]:
        """Create a web call that is joined at once; return it as registered."""
        order = parsed(WebCallOrder.model_validate, body)
        agent = self._workspace.agent(order.agent_id, order.agent_version)
        placing = Placing(_own(order), agent, self._scenario, self._now_ms(), web=True)
        with self._workspace.lock:
            return self._create(placing)

    def join_web_call(self, body: Any) -> dict[str, Any]:
        """Create a web call; return what a browser needs to join it (v3)."""
        call = self.create_web_call(body)
        return {
            "call_id": call["call_id"],
            "access_token": call["access_token"],
            "expires_at": self._now_ms() + _TOKEN_MS,
            "ice_servers": [{"urls": ["stun:stun.example.com:3478"]}],
            "transport": "gateway",
        }

    def get_call(self, call_id: str) -> dict[str, Any]:
        """Return a call as it is now."""
        return self._workspace.held(call_id).call

    def list_calls(self, body: Any) -> dict[str, Any]:
        """Return a page of calls."""
        return page(self._workspace.filed(), parsed(ListOrder.model_validate, body))

    def update_call(self, call_id: str, body: Any) -> dict[str, Any]:
        """Change what is stored of a call that is over."""
        update = parsed(CallUpdate.model_validate, body)
        with self._workspace.lock:
            call = self._over(call_id)
            changes: dict[str, Any] = {}
            if update.metadata is not None:
                changes["metadata"] = update.metadata
            if update.custom_attributes is not None:
                known = {
                    n: v for n, v in update.custom_attributes.items() if n in CUSTOM_ATTRIBUTES
                }
                changes["custom_attributes"] = call.get("custom_attributes", {}) | known
            if update.data_storage_setting is not None:
                before = _TIGHTNESS.index(call["data_storage_setting"])
                if _TIGHTNESS.index(update.data_storage_setting) < before:
                    raise Refusal(400, "The data storage setting can only become stricter.")
                changes["data_storage_setting"] = update.data_storage_setting
            return self._workspace.change(call_id, changes)

    def delete_call(self, call_id: str) -> None:
        """Forget a call."""
        self._workspace.remove(call_id)

    def stop_call(self, call_id: str) -> None:
        """End a call now: what was to come of it does not."""
        now_ms = self._now_ms()
        with self._workspace.lock:
            held = self._workspace.held(call_id)
            status = held.call["call_status"]
            if held.life is None or status not in ("registered", "ongoing"):
                raise Refusal(400, "Call is not ongoing.")
            held.course += 1
            rng = Random(f"{call_id} stop")
            rest = stopped(rng, held.life, now_ms, connected=status == "ongoing")
            self._reporter.report(call_id, held.course, rest)

    def rerun_analysis(self, call_id: str) -> dict[str, Any]:
        """Analyse a call again, and report that it was analysed."""
        with self._workspace.lock:
            call = self._over(call_id)
            if "call_analysis" not in call:
                raise Refusal(400, "Call has not been analyzed yet.")
            analysis = second_opinion(call["call_analysis"])
            call = self._workspace.change(call_id, {"call_analysis": analysis})
            again = Event(self._now_ms() + _ANALYSIS_MS, "call_analyzed", call_id, {"call": call})
            self._reporter.report(call_id, self._workspace.held(call_id).course, [again])
            return call

    def _over(self, call_id: str) -> dict[str, Any]:
        call = self._workspace.held(call_id).call
        if call["call_status"] in ("registered", "ongoing"):
            raise Refusal(400, "Call has not ended yet.")
        return call

    def _create(self, placing: Placing) -> dict[str, Any]:
        scenario = placing.scenario
        if scenario and scenario.refusal:
            raise Refusal(*scenario.refusal)
        if self._workspace.live_calls() >= self._concurrency:
            raise Refusal(429, "Concurrency limit reached, please retry when a call has ended.")
        self._created += 1
        rng = Random(f"{self._seed} {self._created}")
        life: Life = live(rng, self._account, placing)
        call_id = life.call.call_id
        self._workspace.hold(Held(life.registered, placing.created_ms, life))
        self._reporter.report(call_id, 0, life.events)
        return life.registered


def _own(order: CallOrder) -> dict[str, Any]:
    """What every call takes over from its order, as far as it was given."""
    given = {"metadata": order.metadata, "retell_llm_dynamic_variables": None}
    given["retell_llm_dynamic_variables"] = order.retell_llm_dynamic_variables
    return {name: value for name, value in given.items() if value is not None}
