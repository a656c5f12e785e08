"""Signing and posting JSON files by hand, as Retell would."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from receiver import clock
from receiver.errors import NotAnEvent
from receiver.retell.answers import Client
from receiver.webhook.signature import sign

TIMEOUT_SECONDS = 30.0
# As much as is repeated of what a receiver says of a refusal.
_MAX_SAID = 300


@dataclass(frozen=True, slots=True)
class Sent:
    """A file's answer: the HTTP status and how long it took, in milliseconds."""

    event: str
    entity_id: str
    status: int
    milliseconds: float
    error: str


def body_of(
    path: Path, event: str | None = None, *, max_bytes: int = 16 * 1024 * 1024
) -> tuple[bytes, str, str]:
    """A file as (body, event, entity_id): a webhook body as it is, byte for byte; a bare call or
    chat object wrapped as call_analyzed or chat_analyzed, or as `event`. Raises NotAnEvent."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise NotAnEvent(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > max_bytes:
        raise NotAnEvent(f"{path} is longer than CALLHOUSE_MAX_BODY_BYTES, {max_bytes:,}")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise NotAnEvent(f"{path} is not JSON") from None
    if not isinstance(value, dict):
        raise NotAnEvent(f"{path} is not a JSON object")
    if "event" in value:
        if event is not None:
            value["event"] = event
            raw = compact(value)
        payload: Any = next((value[k] for k in ("call", "data", "chat") if k in value), {})
        return raw, str(value["event"]), _id(payload)
    for kind in ("call", "chat"):
        if f"{kind}_id" in value:
            name = event or f"{kind}_analyzed"
            return compact({"event": name, kind: value}), name, _id(value)
    raise NotAnEvent(f"{path} is neither a webhook body nor a call or chat object")


def compact(value: Any) -> bytes:
    """JSON as Retell's JavaScript writes it: no spaces, non-ASCII unescaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def post(client: Client, url: str, body: bytes, *, key: str, at_ms: int) -> httpx.Response:
    """Post one body signed at `at_ms`."""
    headers = {
        "Content-Type": "application/json",
        "X-Retell-Signature": sign(body, key=key, now_ms=at_ms),
    }
    return client.request("POST", url, content=body, headers=headers)


def send(
    client: Client, url: str, path: Path, *, key: str, event: str | None, max_bytes: int
) -> Sent:
    """Post one file and say what came back. Raises NotAnEvent, httpx.HTTPError."""
    body, name, entity_id = body_of(path, event, max_bytes=max_bytes)
    response = post(client, url, body, key=key, at_ms=clock.now_ms())
    milliseconds = response.elapsed.total_seconds() * 1000
    return Sent(name, entity_id, response.status_code, milliseconds, _error(response))


def _error(response: httpx.Response) -> str:
    if response.is_success:
        return ""
    try:
        answer = response.json()
        said = f"{answer['error']}. {answer['hint']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        said = response.reason_phrase or "refused"
    # On a terminal, what is not printable could do anything.
    return "".join(c if c.isprintable() else " " for c in said[:_MAX_SAID])


def _id(payload: Any) -> str:
    if not isinstance(payload, dict):
        return ""
    return str(payload.get("call_id") or payload.get("chat_id") or "")
