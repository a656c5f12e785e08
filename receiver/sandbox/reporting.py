"""From the life of a call to its webhooks: which events go where, and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from receiver.sandbox.agents import AgentVersion
from receiver.sandbox.day import webhook_body
from receiver.sandbox.delivering import TIMEOUT_MS, Deliverer, Outgoing
from receiver.sandbox.events import Event
from receiver.sandbox.mischief import Mischief, Sending
from receiver.sandbox.schedule import Schedule
from receiver.sandbox.workspace import Held, Workspace, changed

_PLACEHOLDER = re.compile(r"\{\{\s*([\w-]+)\s*\}\}")


class Reporter:
    """Lets calls live at their time and sends what their agents report."""

    def __init__(
        self,
        *,
        seed: int,
        webhook_url: str | None,
        mischief: Mischief,
        workspace: Workspace,
        lives: Schedule,
        posts: Schedule,
        deliverer: Deliverer,
    ) -> None:
        self._seed, self.webhook_url, self._mischief = seed, webhook_url, mischief
        self._workspace, self._deliverer = workspace, deliverer
        # Apart, so that a slow receiver does not slow the calls down.
        self._lives, self._posts = lives, posts

    def report(self, call_id: str, course: int, events: Sequence[Event]) -> None:
        """Plan the events of a call: its state changes with each, and a webhook goes out."""
        turns = [(event.at_ms, self._turn(event, course)) for event in events]
        if self._lives.paced:
            self._lives.add(call_id, turns)
        else:
            for _, turn in turns:
                turn()
        sendings = self._mischief.sendings(self._seed, events)
        self._posts.add(call_id, [(s.send_ms, self._sender(s, course)) for s in sendings])

    def report_past(self, events: Sequence[tuple[Event, int | None]], *, backdated: bool) -> int:
        """Send what happened in the past now, in the order of then; return how many webhooks.

        With each event comes when it was sent again, if it was. With `backdated` the signatures
        are of then too, for a receiver that tolerates old ones.
        """
        again = {id(event): (again_ms,) for event, again_ms in events if again_ms is not None}
        sendings = [
            replace(sending, copies_ms=sending.copies_ms + again.get(id(sending.event), ()))
            for sending in self._mischief.sendings(self._seed, [event for event, _ in events])
        ]
        actions = [(s.send_ms, self._past_sender(s, backdated)) for s in sendings]
        self._posts.add(sendings[0].event.entity_id, actions, at_once=True)
        return sum(1 if s.dropped else 1 + len(s.copies_ms) for s in sendings)

    def _turn(self, event: Event, course: int) -> Callable[[], None]:
        def become() -> None:
            self._workspace.become(event.entity_id, course, event.content["call"])

        return become

    def _sender(self, sending: Sending, course: int) -> Callable[[], None]:
        def send() -> None:
            held = self._workspace.find(sending.event.entity_id)
            if held is None or held.course != course:
                return
            agent = self._agent(held)
            if sending.event.name in agent.webhook_events:
                self._send(_with_changes(sending, held), held, agent)

        return send

    def _past_sender(self, sending: Sending, backdated: bool) -> Callable[[], None]:
        def send() -> None:
            held = self._workspace.find(sending.event.entity_id)
            agent = self._agent(held) if held else None
            self._send(sending, held, agent, past=True, backdated=backdated)

        return send

    def _send(
        self,
        sending: Sending,
        held: Held | None,
        agent: AgentVersion | None,
        *,
        past: bool = False,
        backdated: bool = False,
    ) -> None:
        event, url = sending.event, self._url(held, agent)
        if url is None:
            return
        stamped = agent.agent.event_timestamps if agent else True
        outgoing = Outgoing(
            url=url,
            event=event.name,
            call_id=event.entity_id,
            body=webhook_body(event, stamped),
            due_ms=sending.send_ms,
            copies_ms=sending.copies_ms,
            timeout_ms=(agent and agent.settings.get("webhook_timeout_ms")) or TIMEOUT_MS,
            skew_ms=sending.skew_ms,
            signed_ms=sending.send_ms if backdated else None,
            at_once=past,
        )
        if sending.dropped:
            self._deliverer.drop(outgoing)
        else:
            self._deliverer.send(outgoing)

    def _agent(self, held: Held) -> AgentVersion:
        return self._workspace.agent(held.call["agent_id"], held.call["agent_version"])

    def _url(self, held: Held | None, agent: AgentVersion | None) -> str | None:
        """The agent's URL, else the account's, with the call's dynamic variables filled in."""
        url = (agent and agent.settings.get("webhook_url")) or self.webhook_url
        variables = held.call.get("retell_llm_dynamic_variables", {}) if held else {}
        return url and _PLACEHOLDER.sub(lambda name: variables.get(name[1], name[0]), url)


def _with_changes(sending: Sending, held: Held) -> Sending:
    """What requests have changed of a call shows in its later webhooks too."""
    if not held.changes:
        return sending
    content = sending.event.content
    call = changed(content["call"], held.changes)
    return replace(sending, event=replace(sending.event, content=content | {"call": call}))
