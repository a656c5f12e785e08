"""Signed webhooks: the tests' key and clock, written bodies, and posting them."""

import json

from receiver.webhook.signature import sign
from tests.support import ROOT

KEY = "key_0123456789abcdef0123456789ab"
PAYLOADS = ROOT / "tests/payloads"
# The tests' clock: 2026-05-13 19:08:15 UTC.
NOW_MS = 1_778_699_295_274


def post(client, body, *, key=KEY, at_ms=NOW_MS, path="/webhook"):
    """Post a body (bytes, or a value to serialise) signed at `at_ms`."""
    if not isinstance(body, bytes):
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"X-Retell-Signature": sign(body, key=key, now_ms=at_ms)}
    return client.post(path, data=body, headers=headers, content_type="application/json")


def payload(name: str) -> dict:
    """A written fixture by its file name without .json."""
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))
