"""Bytes -> event: what it is about, which call or chat it carries, what is wrong with it.

Nothing here refuses: a body that cannot be understood becomes an event with a `problem`, because
signed bytes are kept whatever they say. A webhook's body is an envelope with a payload; the API's
is a bare call or chat object, an event without a name.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

Fields = Mapping[str, Any]

# pydantic-core's parser stops at this depth; the slow path keeps to the same limit.
MAX_DEPTH = 200

# Envelope keys under which Retell puts the object an event is about. `data` is the twin of `call`
# in events of 2024.
PAYLOADS = {
    "call": ("call", "call_id"),
    "data": ("call", "call_id"),
    "chat": ("chat", "chat_id"),
    "call_inbound": ("call_inbound", "call_id"),
    "chat_inbound": ("chat_inbound", "chat_id"),
    "alert": ("alert", ""),
}
_ENTITY_TYPES = frozenset(entity_type for entity_type, _ in PAYLOADS.values())

# event -> the payload it comes with. The list is open: an unknown event is kept as it is.
# Source: https://docs.retellai.com/features/webhook-overview
EVENTS = {
    "call_started": "call",
    "call_ended": "call",
    "call_analyzed": "call",
    "transcript_updated": "call or chat",
    "transfer_started": "call",
    "transfer_bridged": "call",
    "transfer_cancelled": "call",
    "transfer_ended": "call",
    "chat_started": "chat",
    "chat_ended": "chat",
    "chat_analyzed": "chat",
    "call_inbound": "call_inbound",
    "chat_inbound": "chat_inbound",
    "alert_triggered": "alert",
}

# Text that a database column cannot hold as it is: NUL and lone surrogates, in JSON always escaped.
_UNSTORABLE_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Event:
    """One body, understood as far as it can be.

    `fields` are the payload's top-level keys that say something (null says nothing); `envelope`
    holds what the body says beside its payload. `problem` is None or why the body is quarantined.
    """

    body_sha256: str
    entity_type: str
    entity_id: str
    event: str | None
    fields: Fields
    envelope: Fields
    problem: str | None


def parse(body: bytes, *, source: str = "webhook", verbatim: bool = False) -> Event:
    """Understand a body: an envelope, or from the API a bare call or chat object.

    `verbatim` keeps text that no column can hold; else it becomes U+FFFD.
    """
    sha256 = hashlib.sha256(body).hexdigest()
    try:
        value = _from_json(body)
        if not verbatim and _UNSTORABLE_ESCAPE.search(body):
            value = _clean(value)
    except (ValueError, RecursionError) as error:
        return _quarantined(sha256, f"not usable JSON: {_reason(error)}")
    if not isinstance(value, dict):
        return _quarantined(sha256, "not a JSON object")
    # Only where nobody else could have sent it: a custom function's arguments may hold a call_id.
    is_bare = source == "api" and "event" not in value
    return _understand_object(sha256, value) if is_bare else _understand(sha256, value)


def _understand_object(sha256: str, value: dict[str, Any]) -> Event:
    for entity_type in ("call", "chat"):
        entity_id = value.get(f"{entity_type}_id")
        if isinstance(entity_id, str) and entity_id:
            fields = {k: v for k, v in value.items() if v is not None}
            return Event(sha256, entity_type, _storable(entity_id), None, fields, {}, None)
    return _quarantined(sha256, "no call_id")


def _understand(sha256: str, value: dict[str, Any]) -> Event:
    key = next((k for k in PAYLOADS if isinstance(value.get(k), dict)), None)
    entity_type, id_key = PAYLOADS.get(key or "", ("unknown", ""))
    payload = value[key] if key else {}
    entity_id, event = payload.get(id_key) if id_key else None, value.get("event")
    if not isinstance(entity_id, str) or not entity_id:
        entity_id = None
    problem = None
    if not isinstance(event, str) or not event:
        problem, event = "no event name", None
    elif key is None and event in EVENTS:
        problem = f"no {EVENTS[event]} object"
    elif key is None:
        # An event of tomorrow without a payload known today is data for later, not a fault; nor
        # does its name make it a call.
        entity_type = _storable(event) if event not in _ENTITY_TYPES else entity_type
    elif entity_id is None and entity_type in {"call", "chat"}:
        problem = f"no {id_key}"
    return Event(
        body_sha256=sha256,
        entity_type=entity_type,
        entity_id=_storable(entity_id) if entity_id else f"sha:{sha256}",
        event=_storable(event) if event else None,
        fields={k: v for k, v in payload.items() if v is not None},
        envelope={k: v for k, v in value.items() if k not in {"event", key, "event_timestamp"}},
        problem=problem,
    )


def _quarantined(sha256: str, problem: str) -> Event:
    return Event(sha256, "unknown", f"sha:{sha256}", None, {}, {}, problem)


def _reason(error: Exception) -> str:
    """Say where parsing stopped without repeating what stands there."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return re.sub(r"[^\x20-\x7e]", "?", str(error))[:80]


def _from_json(body: bytes) -> Any:
    """Strict JSON in UTF-8, last duplicate key wins. Raises ValueError or RecursionError."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        # The fast parser refuses lone surrogates, which JavaScript writes when it cuts a string
        # inside an emoji. Python's accepts them, and more than JSON allows, which is refused here.
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        _refuse_depth(value)
        return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise RecursionError


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_storable(key): _clean(item) for key, item in value.items()}
    return value


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)
