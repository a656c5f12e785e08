"""Send events as webhooks at their time, with retries and faults."""

import hashlib
import heapq
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any
from zlib import crc32

import httpx

from receiver.errors import ApiError, CallhouseError
from receiver.sandbox.companies import AgentVersion
from receiver.sandbox.orders import parse
from receiver.sandbox.wire import Event, Json, webhook_body
from receiver.sandbox.workspace import StoredCall, Workspace, changed
from receiver.webhook.signature import sign

Action = Callable[[], object]
_LANES = 8


class Schedule:
    """Runs actions when they are due, in several threads. The actions of one call run in one
    thread, so they never overlap.

    `speed` is how many times faster than real time it runs; 0 does not wait, but keeps the order.
    With `paced`, actions wait for their time.
    """

    def __init__(self, *, speed: float, now_ms: Callable[[], int], lanes: int) -> None:
        self._speed, self._now_ms = speed, now_ms
        self.paced = speed > 0
        self._changed = threading.Condition()
        self._queues: list[list[tuple[float, int, int, Action]]] = [[] for _ in range(lanes)]
        self._count, self._pending, self._closed = 0, 0, False
        self._failures: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._run, args=(queue,), daemon=True) for queue in self._queues
        ]
        for thread in self._threads:
            thread.start()

    def add(
        self, key: str, actions: Iterable[tuple[int, Action]], *, at_once: bool = False
    ) -> None:
        """Schedule actions about `key`, each with a time in milliseconds. They are added together,
        so that none runs before an earlier one is known. With `at_once` they do not wait."""
        now_ms, waits = self._now_ms(), self.paced and not at_once
        queue = self._queues[crc32(key.encode()) % len(self._queues)]
        with self._changed:
            for due_ms, action in actions:
                run_ms = now_ms + (due_ms - now_ms) / self._speed if waits else 0
                self._count += 1
                self._pending += 1
                heapq.heappush(queue, (run_ms, due_ms, self._count, action))
            self._changed.notify_all()

    def settle(self, timeout_seconds: float | None) -> None:
        """Wait until every action has run. Raises CallhouseError after the timeout, and errors of
        actions."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pending, timeout_seconds):
                raise CallhouseError(f"{self._pending} actions have not run")
            if self._failures:
                raise self._failures.pop()

    def wake(self) -> None:
        """Read the clock again after it was set."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; scheduled actions do not run any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, queue: list[tuple[float, int, int, Action]]) -> None:
        while True:
            with self._changed:
                while not self._closed and (not queue or queue[0][0] > self._now_ms()):
                    self._changed.wait((queue[0][0] - self._now_ms()) / 1000 if queue else None)
                if self._closed:
                    return
                action = heapq.heappop(queue)[3]
            try:
                action()
            except Exception as failure:
                # `settle` raises it.
                self._failures.append(failure)
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()


_DUPLICATE_MS = 10_500  # an answer that came after the timeout of ten seconds
_LATE_MS = 600_000
_FUTURE_MS = 600_000


TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class Sending:
    """How an event is sent: time, copies with the same signature, clock error, and later changes.
    It is signed when it is sent, or at `signed_ms`."""

    event: Event
    send_ms: int
    copies_ms: tuple[int, ...] = ()
    skew_ms: int = 0
    dropped: bool = False
    url: str = ""
    body: bytes = b""
    timeout_ms: int = TIMEOUT_MS
    signed_ms: int | None = None


@dataclass(frozen=True)
class Mischief:
    """The share of webhooks with each fault, from 0 to 1."""

    drop: float = 0.0
    """Never sent."""
    duplicate: float = 0.0
    """Sent twice, the same bytes with the same signature."""
    delay: float = 0.0
    """Sent up to two minutes late, after newer events."""
    reorder: float = 0.0
    """Swapped with the call's next event."""
    resign_late: float = 0.0
    """Sent again ten minutes after the call's last event, with a new signature."""
    future: float = 0.0
    """Signed by a clock that is ten minutes ahead, so the receiver must reject it."""

    def sendings(self, seed: int, events: Sequence[Event]) -> list[Sending]:
        """Return how the events of one call are sent, in order of time."""
        if not events:
            return []
        # Seeded by the call, so that its faults do not depend on other calls.
        rng = Random(f"{seed} {events[-1].entity_id} {len(events)}")
        again = [() if event.again_ms is None else (event.again_ms,) for event in events]
        planned = [Sending(e, e.at_ms, ms) for e, ms in zip(events, again, strict=True)]
        for place in range(len(planned) - 1):
            if rng.random() < self.reorder:
                first, second = planned[place : place + 2]
                planned[place] = replace(first, send_ms=second.send_ms)
                planned[place + 1] = replace(second, send_ms=first.send_ms)
        last_ms = max(sending.send_ms for sending in planned)
        late = []
        for place, sending in enumerate(planned):
            if rng.random() < self.delay:
                sending = replace(sending, send_ms=sending.send_ms + rng.randrange(20_000, 120_000))
            if rng.random() < self.duplicate:
                again_ms = sending.send_ms + _DUPLICATE_MS
                sending = replace(sending, copies_ms=(*sending.copies_ms, again_ms))
            if rng.random() < self.future:
                sending = replace(sending, skew_ms=_FUTURE_MS)
            if rng.random() < self.resign_late:
                late.append(Sending(sending.event, last_ms + _LATE_MS))
            if rng.random() < self.drop:
                sending = replace(sending, dropped=True, copies_ms=())
            planned[place] = sending
        return sorted([*planned, *late], key=lambda sending: sending.send_ms)


# Three retries are documented, the time between them is not.
RETRY_AFTER_MS = (5_000, 15_000, 30_000)
# Timeout of an inbound webhook: the caller hears ringing.
INBOUND_RETRIES = 2
_PLACEHOLDER = re.compile(r"\{\{\s*([\w-]+)\s*\}\}")


@dataclass
class Delivery:
    """A webhook: the last HTTP status, None without a response, and the number of attempts, 0 if it
    was dropped."""

    url: str
    event: str
    call_id: str
    body_sha256: str
    status: int | None = None
    attempts: int = 0

    @property
    def arrived(self) -> bool:
        """Whether it was answered 2xx."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(kw_only=True)
class Reporter:
    """Changes the state of calls at the time of their events, and sends and logs the webhooks;
    `say` is called for each."""

    key: str
    webhook_url: str | None
    mischief: Mischief
    workspace: Workspace
    speed: float
    say: Callable[[Delivery], None]
    log: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now_ms = self.workspace.now_ms
        # Separate schedules, so that a slow receiver does not delay the calls.
        self.lives = Schedule(speed=self.speed, now_ms=self.now_ms, lanes=1)
        self.posts = Schedule(speed=self.speed, now_ms=self.now_ms, lanes=_LANES)
        self._lock = threading.Lock()
        self._last_signed_ms: dict[str, int] = {}
        self._client = httpx.Client(trust_env=False)

    def close(self) -> None:
        """Stop, and close the connections."""
        self.lives.close()
        self.posts.close()
        self._client.close()

    def report(self, call_id: str, course: int, events: Sequence[Event]) -> None:
        """Schedule the events of a call: each changes its state and sends a webhook."""
        advance = self.workspace.advance
        turns = [(e.at_ms, partial(advance, call_id, course, e.content[_noun(e)])) for e in events]
        if self.lives.paced:
            self.lives.add(call_id, turns)
        else:
            for _, turn in turns:
                turn()
        self.post(call_id, course, events)

    def post(self, call_id: str, course: int, events: Sequence[Event]) -> None:
        """Schedule the webhooks of events that change nothing."""
        sendings = self.mischief.sendings(self.workspace.seed, events)
        self.posts.add(call_id, [(s.send_ms, partial(self._report, s, course)) for s in sendings])

    def report_past(self, events: Sequence[Event], *, backdated: bool) -> int:
        """Send past events now, in their order; return the number of webhooks. With `backdated` the
        signatures have the events' times, for a receiver that tolerates that."""
        sendings = self.mischief.sendings(self.workspace.seed, events)
        actions: list[tuple[int, Action]] = []
        for sending in sendings:
            stored = self.workspace.stored.get(sending.event.entity_id)
            if backdated:
                sending = replace(sending, signed_ms=sending.send_ms)
            actions.append((sending.send_ms, partial(self._send, sending, stored)))
        self.posts.add(events[0].entity_id, actions, at_once=True)
        return sum(1 if s.dropped else 1 + len(s.copies_ms) for s in sendings)

    def ask(self, name: str, order: Any) -> tuple[AgentVersion, Json]:
        """Call the account's inbound webhook; return the agent and fields of the call or chat. A
        missing or unusable answer counts as empty. Raises ApiError 403 without an agent."""
        bound = self.workspace.bound_agents().get(order.to_number)
        asked = order.model_dump(include={"from_number", "to_number"})
        if bound is not None:
            asked |= {"agent_id": bound.settings["agent_id"], "agent_version": bound.version.number}
        answer = self._answer(Event(self.now_ms(), name, "", {name: asked}))
        try:
            used = parse("inbound answer", answer[name] if isinstance(answer, dict) else {})
            agent_id = used.override_agent_id or asked.get("agent_id", "")
            agent = self.workspace.agent(agent_id, used.override_agent_version)
        except (KeyError, ApiError):
            if bound is None:
                raise ApiError(403, "Rejected: no agent takes it.") from None
            return bound, {}
        fields = used.model_dump(include={"metadata", "dynamic_variables"}, exclude_none=True)
        if "dynamic_variables" in fields:
            fields["retell_llm_dynamic_variables"] = fields.pop("dynamic_variables")
        return agent, fields

    def _answer(self, event: Event) -> Any:
        """The JSON of the webhook's 2xx answer in one of three attempts; None without one."""
        if self.webhook_url is None:
            return None
        body = webhook_body(event, stamped=True)
        sending = Sending(event, event.at_ms, url=self.webhook_url, body=body)
        delivery = self._logged(sending)
        while delivery.attempts <= INBOUND_RETRIES:
            answer = self._attempt(sending, delivery, self._sign(sending))
            if answer is not None and delivery.arrived:
                with suppress(ValueError):
                    return answer.json()
                return None
        return None

    def _report(self, sending: Sending, course: int) -> None:
        stored, name = self.workspace.stored.get(sending.event.entity_id), sending.event.name
        if stored is None or stored.course != course:
            return
        # Agents of chats report their three events, unless they are told otherwise.
        if name.startswith("chat_") or name in self.workspace.agent_of(stored.call).webhook_events:
            self._send(_with_changes(sending, stored), stored)

    def _send(self, sending: Sending, stored: StoredCall | None) -> None:
        """Send an event to the agent's URL, else to the account's, with the call's dynamic
        variables filled in."""
        agent = self.workspace.agent_of(stored.call) if stored else None
        settings = agent.settings if agent else {}
        url = settings.get("webhook_url") or self.webhook_url
        if url is None:
            return
        variables = stored.call.get("retell_llm_dynamic_variables", {}) if stored else {}
        url = _PLACEHOLDER.sub(lambda name: variables.get(name[1], name[0]), url)
        body = webhook_body(sending.event, agent.agent.event_timestamps if agent else True)
        timeout_ms = settings.get("webhook_timeout_ms") or TIMEOUT_MS
        sending = replace(sending, url=url, body=body, timeout_ms=timeout_ms)
        if sending.dropped:
            self.say(self._logged(sending))
            return
        signature = self._sign(sending)

        def post() -> None:
            self._post(sending, self._logged(sending), signature)

        post()
        self.posts.add(sending.event.entity_id, [(at_ms, post) for at_ms in sending.copies_ms])

    def _logged(self, sending: Sending) -> Delivery:
        digest = hashlib.sha256(sending.body).hexdigest()
        event = sending.event
        delivery = Delivery(sending.url, event.name, event.entity_id, digest)
        with self._lock:
            self.log.append(delivery)
        return delivery

    def _attempt(
        self, sending: Sending, delivery: Delivery, signature: str
    ) -> httpx.Response | None:
        headers = {"Content-Type": "application/json", "X-Retell-Signature": signature}
        timeout = sending.timeout_ms / 1000
        answer = None
        with suppress(httpx.HTTPError, httpx.InvalidURL):
            answer = self._client.post(
                sending.url, content=sending.body, headers=headers, timeout=timeout
            )
        delivery.status = answer.status_code if answer is not None else None
        delivery.attempts += 1
        self.say(delivery)
        return answer

    def _post(self, sending: Sending, delivery: Delivery, signature: str = "") -> None:
        """Send a webhook, and again later with a new signature, since the first may be too old
        then, until it is answered 2xx."""
        self._attempt(sending, delivery, signature or self._sign(sending))
        if delivery.arrived or delivery.attempts > len(RETRY_AFTER_MS):
            return
        due_ms = sending.send_ms + sum(RETRY_AFTER_MS[: delivery.attempts])
        if self.posts.paced:
            due_ms = self.now_ms() + RETRY_AFTER_MS[delivery.attempts - 1]
        self.posts.add(delivery.call_id, [(due_ms, partial(self._post, sending, delivery))])

    def _sign(self, sending: Sending) -> str:
        at_ms, call_id = sending.signed_ms, sending.event.entity_id
        if at_ms is None:
            # Times of one call differ, at any speed: they are the order of its events.
            with self._lock:
                at_ms = max(self.now_ms(), self._last_signed_ms.get(call_id, 0) + 1)
                self._last_signed_ms[call_id] = at_ms
        return sign(sending.body, key=self.key, now_ms=at_ms + sending.skew_ms)


def _with_changes(sending: Sending, stored: StoredCall) -> Sending:
    """The event with the changes that requests have made to its call or chat."""
    content, noun = sending.event.content, _noun(sending.event)
    call = changed(content[noun], stored.changes)
    return replace(sending, event=replace(sending.event, content=content | {noun: call}))


def _noun(event: Event) -> str:
    return "call" if "call" in event.content else "chat"
