"""Events posted in process, authentic and not, and what every refusal looks like."""

from contextlib import contextmanager
from dataclasses import replace

from receiver.webhook.app import create_app
from receiver.webhook.signature import sign
from tests.support.webhooks import KEY, NOW_MS

ENDED = {"event": "call_ended", "call": {"call_id": "call_a", "call_status": "ended"}}
CANARY = b'{"event":"call_ended","call":{"call_id":"canary-7f3a"}}'
LIMIT = 1000
OLD = NOW_MS - 300_001
REFUSED = {
    "missing": (None, "missing"),
    "empty": ("", "missing"),
    "malformed": ("sha256=canary", "malformed"),
    "not ASCII": ("v=\xe9canary", "malformed"),
    "two": (", ".join([sign(CANARY, key=KEY, now_ms=NOW_MS)] * 2), "malformed"),
    "wrong key": (sign(CANARY, key="key_canary", now_ms=NOW_MS), "forged"),
    "another body": (sign(CANARY + b" ", key=KEY, now_ms=NOW_MS), "forged"),
    "forged and old": (sign(CANARY, key="key_canary", now_ms=OLD), "forged"),
    "old": (sign(CANARY, key=KEY, now_ms=OLD), "stale"),
    "ahead": (sign(CANARY, key=KEY, now_ms=NOW_MS + 300_001), "stale"),
}


@contextmanager
def clients(settings):
    """Yield start(): a client of an app with some settings changed and a clock."""
    apps = []

    def start(*, now_ms=lambda: NOW_MS, health_cache_seconds=0, **changes):
        options = {"now_ms": now_ms, "health_cache_seconds": health_cache_seconds}
        apps.append(create_app(replace(settings, **changes), **options))
        return apps[-1].test_client()

    yield start
    for app in apps:
        app.extensions["callhouse"]["store"].close()
        app.extensions["callhouse"]["counters"].close()


def post_as_is(client, body: bytes, header: str | None, *, path="/webhook", **more):
    headers = {} if header is None else {"X-Retell-Signature": header}
    return client.post(path, data=body, headers=headers, **more)


def assert_refused(response, status: int) -> dict:
    """A refusal is JSON of two sentences and repeats nothing of the request."""
    assert response.status_code == status
    assert response.content_type == "application/json"
    assert response.json.keys() == {"error", "hint"}
    assert all(isinstance(text, str) and text for text in response.json.values())
    shown = response.data + repr(list(response.headers)).encode()
    assert b"canary" not in shown
    return response.json


def body_of_bytes(length: int) -> bytes:
    body = b'{"event":"call_ended","call":{"call_id":"call_a","transcript":"%s"}}'
    return body % (b"x" * (length - len(body) + 2))
