"""Forward events to further URLs: at least once, in order per call, from the outbox.

The receiver adds an event to the outbox in the transaction that stores it. This job posts the
original bytes with Retell's signature, or signed with a secret of the target in the Standard
Webhooks format. A 2xx removes the event. Anything else is retried with growing pauses, and an event
that is never accepted is dead until it is replayed. Source:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from receiver.clock import has_passed
from receiver.config_file import Target
from receiver.jobs.worker import Run
from receiver.retell.http import Client, UnusableAnswer
from receiver.store import outbox
from receiver.store.engine import reading
from receiver.store.outbox import Failure, OutboxRow

TIMEOUT_SECONDS = 15.0
# Concurrent requests to one target, for different calls.
AT_ONCE = 8
# The first pause of an event that was not accepted, which doubles, and the longest one.
FIRST_PAUSE_MS = 5_000
LAST_PAUSE_MS = 900_000
# An event is given up after this time, or after so many refusals (4xx).
MAX_AGE_MS = 3 * 86_400_000
MAX_REFUSALS = 10
# The longest pause for a target if every request fails.
LAST_TARGET_PAUSE_MS = 30_000
# The interval at which dead events are counted.
_COUNT_MS = 60_000
# By the specification, the target is gone permanently.
_GONE = 410
# 4xx that are temporary: timeout, too early, too many requests.
_TEMPORARY = frozenset({408, 425, 429})


def forward(run: Run) -> str | None:
    """Send due events to each target, all targets concurrently."""
    targets = run.settings.file.forward
    memory: _Memory = run.memory.setdefault("forward", _Memory())
    queues = [memory.queues.setdefault(target.name, _Queue(target)) for target in targets]
    with ThreadPoolExecutor(max(len(queues), 1)) as pool:
        for sent in [pool.submit(queue.send, run) for queue in queues]:
            sent.result()
    # Counting reads the whole outbox.
    now_ms = run.now_ms()
    is_counted = not has_passed(_COUNT_MS, since=memory.counted_ms, now_ms=now_ms)
    if not is_counted or any(q.has_given_up for q in queues):
        with reading(run.settings.database) as connection:
            counts = outbox.queue_counts(connection)
        memory.dead = sum(count.events for count in counts if count.state == "dead")
        memory.counted_ms = now_ms
    dead = memory.dead
    return f"{dead:,} events were given up: see `callhouse forward list`" if dead else None


@dataclass(slots=True)
class _Memory:
    """The state of this process: a queue per target, and the number of dead events at a time."""

    queues: dict[str, "_Queue"] = field(default_factory=dict)
    dead: int = 0
    counted_ms: int = 0


class _Queue:
    """The state of a target: its connections, and its recent failures."""

    def __init__(self, target: Target) -> None:
        self._target = target
        # Created with the first event: a new client reads the certificates of all authorities.
        self._client: Client | None = None
        self._failed_in_a_row = 0
        # The last pause after failed requests, and when it began.
        self._pause_ms, self._paused_ms = 0, 0
        self.has_given_up = False

    def send(self, run: Run) -> None:
        """Send due events until none is left or the target does not answer."""
        self.has_given_up = False
        while has_passed(self._pause_ms, since=self._paused_ms, now_ms=run.now_ms()):
            run.check()
            # While it fails, one event at a time is sent as a test.
            limit = 1 if self._failed_in_a_row else AT_ONCE
            now_ms = run.now_ms()
            latest_ms = now_ms + LAST_PAUSE_MS
            with reading(run.settings.database) as connection:
                rows = outbox.due(
                    connection, self._target.name, now_ms=now_ms, latest_ms=latest_ms, limit=limit
                )
            if not rows:
                return
            self._client = self._client or Client(
                total_seconds=TIMEOUT_SECONDS, timeout=TIMEOUT_SECONDS
            )
            failures = _send_all(run, self._client, self._target, rows)
            failed = {failure.row.key for failure in failures}
            outbox.write_attempts(
                run.store, [row for row in rows if row.key not in failed], failures
            )
            self.has_given_up |= any(f.next_attempt_at is None for f in failures)
            is_away = len(failures) == len(rows) and not any(f.is_refused for f in failures)
            self._failed_in_a_row = self._failed_in_a_row + 1 if is_away else 0
            if is_away:
                pause_ms = 1000 * 2 ** min(self._failed_in_a_row - 1, 10)
                self._pause_ms, self._paused_ms = min(pause_ms, LAST_TARGET_PAUSE_MS), run.now_ms()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


def close(run: Run) -> None:
    """Close the connections to all targets."""
    memory: _Memory = run.memory.get("forward", _Memory())
    for queue in memory.queues.values():
        queue.close()


def _send_all(run: Run, client: Client, target: Target, rows: Sequence[OutboxRow]) -> list[Failure]:
    """Send events of different calls concurrently; return those that were not accepted."""
    with ThreadPoolExecutor(len(rows)) as pool:
        results = list(pool.map(lambda row: _send(run, client, target, row), rows))
    return [result for result in results if result is not None]


def _send(run: Run, client: Client, target: Target, row: OutboxRow) -> Failure | None:
    headers = {"Content-Type": "application/json", "User-Agent": "callhouse"}
    headers |= signature_headers(target, row, now_ms=run.now_ms())
    try:
        status = client.request("POST", target.url, content=row.body, headers=headers).status_code
    except UnusableAnswer as error:
        # The answer's body does not matter.
        status = error.status
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Only the class: the message can contain the URL, which may have a token.
        return _failure(row, None, type(error).__name__, now_ms=run.now_ms())
    if 200 <= status < 300:
        return None
    return _failure(row, status, f"status {status}", now_ms=run.now_ms())


def _failure(row: OutboxRow, status: int | None, problem: str, *, now_ms: int) -> Failure:
    attempts = row.attempts + 1
    is_refused = status is not None and 400 <= status < 500 and status not in _TEMPORARY
    if (
        status == _GONE
        or (is_refused and attempts >= MAX_REFUSALS)
        or now_ms - row.received_at >= MAX_AGE_MS
    ):
        return Failure(row, attempts, None, problem, is_refused=is_refused)
    pause_ms = min(FIRST_PAUSE_MS * 2 ** min(attempts - 1, 20), LAST_PAUSE_MS)
    return Failure(row, attempts, now_ms + pause_ms, problem, is_refused=is_refused)


def signature_headers(target: Target, row: OutboxRow, *, now_ms: int) -> dict[str, str]:
    """The headers by which the target verifies the event."""
    if target.secret is None:
        return {"X-Retell-Signature": row.signature} if row.signature else {}
    # The same id for each attempt, so that the target can ignore repetitions.
    message_id, timestamp = f"evt_{row.body_sha256[:32]}", str(now_ms // 1000)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": standard_signature(target.secret, message_id, timestamp, row.body),
    }


def standard_signature(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The signature of the Standard Webhooks format, version 1."""
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
