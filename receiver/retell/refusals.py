"""A refusal of Retell's API -> the error it is, with Retell's words but no private ones."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from receiver.errors import (
    BadRequest,
    KeyRefused,
    NotAtRetell,
    PaymentRequired,
    RateLimited,
    RetellError,
    RetellFailed,
    UnexpectedAnswer,
    UnusableReference,
)

ERRORS: dict[int, tuple[type[RetellError], str]] = {
    400: (BadRequest, "Retell refuses the request"),
    401: (KeyRefused, "Retell refuses the API key"),
    402: (PaymentRequired, "Retell wants a payment first"),
    403: (KeyRefused, "Retell forbids this to the API key"),
    404: (NotAtRetell, "Retell does not find it"),
    422: (UnusableReference, "Retell does not find what the request names"),
    429: (RateLimited, "Retell throttles the account"),
}
_FAILED: tuple[type[RetellError], str] = (RetellFailed, "Retell had an error")
_UNKNOWN = (UnexpectedAnswer, "This is not one of the answers that Retell documents")
# What could be a phone number, an address or a key in Retell's own words.
_PRIVATE = re.compile(r"(?<!\w)\+?\d[\d ().-]{3,}\d(?!\w)|\S+@\S+|\bkey_\w+")
_MAX_SAID = 200


def refusal(
    response: httpx.Response, body: Mapping[str, Any] | None, *, now_ms: int
) -> RetellError:
    """The error that a status other than 2xx stands for; `body` is what was asked."""
    status = response.status_code
    if status >= 500:
        kind, what = _FAILED
    else:
        kind, what = ERRORS.get(status, _UNKNOWN)
    said = _said(response, body)
    return kind(
        f"{what} ({status})" + (f": {said}" if said else ""),
        answered=status,
        wait_seconds=_asked_wait(response.headers, now_ms=now_ms),
    )


def _asked_wait(headers: httpx.Headers, *, now_ms: int) -> float | None:
    """Seconds until Retell wants to be asked again; None if it does not say.

    Both headers count seconds from now; a number that can only be a time of day is one.
    """
    for name in ("Retry-After", "RateLimit-Reset"):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text):
            seconds = float(text)
            return max(0.0, seconds - now_ms / 1000) if seconds > 1_000_000_000 else seconds
    return None


def _said(response: httpx.Response, body: Mapping[str, Any] | None) -> str:
    """Retell's own words, without what was sent and what could be a number, an address or a key."""
    try:
        message = json.loads(response.content)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    if not isinstance(message, str):
        return ""
    for text in sorted(set(_texts(body)), key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", message)
    printable = "".join(c if c.isprintable() else " " for c in _PRIVATE.sub("…", message))
    return printable[:_MAX_SAID]


def _texts(value: Any) -> Iterator[str]:
    """Every string value in what was sent."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)
