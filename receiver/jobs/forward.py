"""Forward events to further URLs: at least once, in order per call, from the outbox.

The receiver adds an event to the outbox in the transaction that stores it. Here it is posted with
the original bytes: with Retell's signature as it came, or signed by a secret of the target in the
Standard Webhooks format. A 2xx removes it, anything else is tried again with growing pauses, and
what is never accepted is dead until somebody replays it.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from receiver.config_file import Target
from receiver.jobs.worker import Run
from receiver.retell.http import Client
from receiver.store import outbox
from receiver.store.engine import reading
from receiver.store.outbox import Failure, OutboxRow

TIMEOUT_SECONDS = 15.0
# Requests to one target at a time, of different calls.
AT_ONCE = 8
# The first pause of an event that was not accepted, which doubles, and the longest one.
FIRST_PAUSE_MS = 5_000
LAST_PAUSE_MS = 900_000
# An event is given up after this time, or after so many refusals (4xx).
MAX_AGE_MS = 3 * 86_400_000
MAX_REFUSALS = 10
# The longest pause of a target of which every request fails.
LAST_TARGET_PAUSE_MS = 30_000
# The target is gone for good, says the specification.
_GONE = 410
# 4xx that are about the moment, not about the event: timeout, too early, too many requests.
_TEMPORARY = frozenset({408, 425, 429})


def forward(run: Run) -> str | None:
    """Send what is due to each target, the targets side by side."""
    targets = run.settings.file.forward
    with ThreadPoolExecutor(max(len(targets), 1)) as pool:
        for sent in [pool.submit(_forward_to, run, target) for target in targets]:
            sent.result()
    with reading(run.settings.database) as connection:
        dead = sum(c.events for c in outbox.queue_counts(connection) if c.state == "dead")
    return f"{dead:,} events were given up: see `callhouse forward list`" if dead else None


def _forward_to(run: Run, target: Target) -> None:
    """Send what is due to a target until nothing is, or it does not answer."""
    failed_before, resume_ms = run.memory.get(target.name, (0, 0))
    with Client(total_seconds=TIMEOUT_SECONDS, timeout=TIMEOUT_SECONDS) as client:
        # While it fails, one event at a time finds out whether it still does.
        while run.now_ms() >= resume_ms:
            run.check()
            limit = 1 if failed_before else AT_ONCE
            with reading(run.settings.database) as connection:
                rows = outbox.due(connection, target.name, now_ms=run.now_ms(), limit=limit)
            if not rows:
                break
            failures = _send_all(run, client, target, rows)
            failed = {failure.row.key for failure in failures}
            outbox.settle(run.store, [row for row in rows if row.key not in failed], failures)
            is_away = len(failures) == len(rows) and not any(f.is_refused for f in failures)
            failed_before = failed_before + 1 if is_away else 0
            if failed_before:
                pause_ms = min(1000 * 2 ** min(failed_before - 1, 10), LAST_TARGET_PAUSE_MS)
                resume_ms = run.now_ms() + pause_ms
    run.memory[target.name] = failed_before, resume_ms


def _send_all(run: Run, client: Client, target: Target, rows: Sequence[OutboxRow]) -> list[Failure]:
    """Send events of different calls at the same time; return those that were not accepted."""
    with ThreadPoolExecutor(len(rows)) as pool:
        results = list(pool.map(lambda row: _send(run, client, target, row), rows))
    return [result for result in results if result is not None]


def _send(run: Run, client: Client, target: Target, row: OutboxRow) -> Failure | None:
    headers = {"Content-Type": "application/json", "User-Agent": "callhouse"}
    headers |= signature_headers(target, row, now_ms=run.now_ms())
    try:
        status = client.request("POST", target.url, content=row.body, headers=headers).status_code
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
    # The same id for each attempt, so that the target can ignore an event that it has.
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
