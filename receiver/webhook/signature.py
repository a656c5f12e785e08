"""Retell's webhook signature: which key signed a body, and when; and callhouse's own test event.

The header is `X-Retell-Signature: v=<unix ms>,d=<hex>`. The digest is HMAC-SHA256 over the raw body
followed directly by the decimal timestamp, keyed with the API key as text.
Source: https://docs.retellai.com/features/secure-webhook
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from receiver.errors import ForgedSignature, MalformedSignature, MissingSignature, StaleSignature
from schema.events import Event

TOLERANCE_MS = 300_000

# ASCII digits only and a bounded length: Retell's own pattern passes non-ASCII digits and
# 5,000-digit numbers to int().
_HEADER = re.compile(rb"v=([0-9]{1,16}),d=([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Signed:
    """An authentic signature: its time in milliseconds and the id of the key that made it."""

    at_ms: int
    key_id: str


def sign(body: bytes, *, key: str, now_ms: int) -> str:
    """Return the header value Retell would send with `body` at `now_ms`."""
    return f"v={now_ms},d={_digest(body, now_ms, key)}"


def verify(
    body: bytes,
    header: str | bytes | None,
    *,
    keys: Iterable[str],
    now_ms: int,
    tolerance_ms: int = TOLERANCE_MS,
) -> None:
    """Return nothing if one of `keys` signed `body` within the tolerance, both ways inclusive.

    Raises MissingSignature, MalformedSignature, ForgedSignature or StaleSignature.
    """
    authenticate(body, header, keys=keys, now_ms=now_ms, tolerance_ms=tolerance_ms)


def authenticate(
    body: bytes,
    header: str | bytes | None,
    *,
    keys: Iterable[str],
    now_ms: int,
    tolerance_ms: int = TOLERANCE_MS,
) -> Signed:
    """Like `verify`, but return the time and the key of the signature."""
    at_ms, digest = parse_header(header)
    # All keys are tried, so that the duration does not depend on which one matches.
    signers = [
        key
        for key in keys
        if key and hmac.compare_digest(_digest(body, at_ms, key).encode(), digest)
    ]
    if not signers:
        raise ForgedSignature("the signature does not match the body")
    # The age is checked after the digest, because an authentic but stale event means a wrong clock,
    # which health reports separately.
    if abs(now_ms - at_ms) > tolerance_ms:
        raise StaleSignature("the signature's time is outside the tolerance")
    return Signed(at_ms=at_ms, key_id=key_id(signers[0]))


def parse_header(header: str | bytes | None) -> tuple[int, bytes]:
    """The time in milliseconds and the digest that a header claims.

    Raises MissingSignature or MalformedSignature.
    """
    if not header:
        raise MissingSignature("the X-Retell-Signature header is missing")
    # WSGI passes headers as Latin-1 text; other characters cannot match.
    raw = header.encode("latin-1", "replace") if isinstance(header, str) else header
    match = _HEADER.fullmatch(raw)
    if match is None:
        raise MalformedSignature("the X-Retell-Signature header is malformed")
    return int(match[1]), match[2]


def key_id(key: str) -> str:
    """The id of a key, which does not reveal it: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _digest(body: bytes, at_ms: int, key: str) -> str:
    mac = hmac.new(key.encode(), body, hashlib.sha256)
    # Leading zeros are rejected, as in Retell's library: nothing separates the number from the
    # body, so a zero could be moved from one to the other.
    mac.update(b"%d" % at_ms)
    return mac.hexdigest()


# The test event of `callhouse webhook test`, which checks a webhook URL. The receiver verifies it
# like any other event and answers without storing it. It cannot replace one of Retell's events: it
# has its own name, and otherwise only a nonce and padding.
PROBE_EVENT = "callhouse_test"
# Headers of an error response: the error, and the SHA-256 of the body as it arrived, which
# distinguishes a changed body from a wrong key.
OUTCOME_HEADER = "X-Callhouse-Outcome"
BODY_HEADER = "X-Callhouse-Body-Sha256"
_PROBE_FIELDS = {"nonce", "text"}


def is_probe(event: Event) -> bool:
    """Whether an event is the test event and contains nothing else."""
    return (
        event.event == event.entity_type == PROBE_EVENT and event.envelope.keys() == _PROBE_FIELDS
    )


def probe_answer(event: Event, *, received_at_ms: int) -> dict[str, Any]:
    """The JSON response to the test event."""
    return {"callhouse": {"received_at_ms": received_at_ms, "body_sha256": event.body_sha256}}
