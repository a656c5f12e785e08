"""Webhooks on their way: signed, posted, tried again. Source: https://docs.retellai.com/features/webhook"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from receiver.sandbox.schedule import Schedule
from receiver.signature import sign

TIMEOUT_MS = 10_000
# Three retries are documented, the time between them is not.
RETRY_AFTER_MS = (5_000, 15_000, 30_000)


@dataclass(frozen=True)
class Outgoing:
    """One webhook to send. It is signed when it is sent, plus `skew_ms`, or at `signed_ms`."""

    url: str
    event: str
    call_id: str
    body: bytes
    due_ms: int
    copies_ms: tuple[int, ...] = ()
    timeout_ms: int = TIMEOUT_MS
    skew_ms: int = 0
    signed_ms: int | None = None
    at_once: bool = False


@dataclass
class Delivery:
    """What became of a webhook: the last HTTP status, None without an answer, and how many
    attempts it took; none for one that was dropped."""

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


class Deliverer:
    """Sends webhooks in the order of the schedule and keeps a log of them."""

    def __init__(
        self,
        *,
        key: str,
        schedule: Schedule,
        now_ms: Callable[[], int],
        say: Callable[[Delivery], None],
    ) -> None:
        self._key, self._schedule, self._now_ms, self._say = key, schedule, now_ms, say
        self._lock = threading.Lock()
        self._last_signed_ms: dict[str, int] = {}
        self._client = httpx.Client(trust_env=False)
        self.log: list[Delivery] = []

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def drop(self, outgoing: Outgoing) -> None:
        """Note a webhook that is never sent."""
        self._say(self._logged(outgoing))

    def send(self, outgoing: Outgoing) -> None:
        """Send a webhook now, and have it tried again if it is not answered 2xx."""
        signature = self._sign(outgoing)
        self._post(outgoing, self._logged(outgoing), signature)

        def copy() -> None:
            self._post(outgoing, self._logged(outgoing), signature)

        copies = [(at_ms, copy) for at_ms in outgoing.copies_ms]
        self._schedule.add(outgoing.call_id, copies, at_once=outgoing.at_once)

    def _logged(self, outgoing: Outgoing) -> Delivery:
        digest = hashlib.sha256(outgoing.body).hexdigest()
        delivery = Delivery(outgoing.url, outgoing.event, outgoing.call_id, digest)
        with self._lock:
            self.log.append(delivery)
        return delivery

    def _post(self, outgoing: Outgoing, delivery: Delivery, signature: str) -> None:
        headers = {"Content-Type": "application/json", "X-Retell-Signature": signature}
        timeout = outgoing.timeout_ms / 1000
        try:
            answer = self._client.post(
                outgoing.url, content=outgoing.body, headers=headers, timeout=timeout
            )
            delivery.status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            delivery.status = None
        delivery.attempts += 1
        self._say(delivery)
        if not delivery.arrived and delivery.attempts <= len(RETRY_AFTER_MS):
            self._retry(outgoing, delivery)

    def _retry(self, outgoing: Outgoing, delivery: Delivery) -> None:
        """Try again later, signed anew: the first signature may be too old by then."""
        due_ms = outgoing.due_ms + sum(RETRY_AFTER_MS[: delivery.attempts])
        if self._schedule.paced:
            due_ms = self._now_ms() + RETRY_AFTER_MS[delivery.attempts - 1]

        def retry() -> None:
            self._post(outgoing, delivery, self._sign(outgoing))

        self._schedule.add(outgoing.call_id, [(due_ms, retry)], at_once=outgoing.at_once)

    def _sign(self, outgoing: Outgoing) -> str:
        at_ms = outgoing.signed_ms
        if at_ms is None:
            # No two of a call at the same time, however fast life goes: their order must show.
            with self._lock:
                last_ms = self._last_signed_ms.get(outgoing.call_id, 0)
                at_ms = max(self._now_ms(), last_ms + 1)
                self._last_signed_ms[outgoing.call_id] = at_ms
        return sign(outgoing.body, key=self._key, now_ms=at_ms + outgoing.skew_ms)
