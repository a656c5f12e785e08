"""A second implementation of schema.events with Python's own JSON parser.

Only `check_reading` calls schema.events, to compare.
"""

import json
from collections.abc import Iterator
from typing import Any

from schema.events import EVENTS, MAX_DEPTH, parse, values

PAYLOADS = {
    "call": ("call", "call_id"),
    "data": ("call", "call_id"),
    "chat": ("chat", "chat_id"),
    "call_inbound": ("call_inbound", "call_id"),
    "chat_inbound": ("chat_inbound", "chat_id"),
    "alert": ("alert", None),
}


class Pairs(list):
    """A JSON object with its duplicate names."""


class Digits:
    """An integer that is too long for Python's parser."""


def check_reading(body: bytes) -> None:
    """Raise AssertionError unless both implementations give the same event."""
    event, expected = parse(body), understood(body)
    if expected is None:
        assert event.problem is not None
        assert event.problem.startswith(("not usable JSON: ", "not a JSON object"))
        expected = {"problem": event.problem, "event": None, "entity_type": "unknown"}
        expected |= {"entity_id": None, "fields": {}, "envelope": {}}
    found = {name: getattr(event, name) for name in expected} | {
        "fields": values(event.fields),
        "envelope": values(event.envelope),
        "entity_id": None if event.entity_id == f"sha:{event.body_sha256}" else event.entity_id,
    }
    # Compared as text, because 1, 1.0 and true are equal, and 0.0 and -0.0.
    assert repr(found) == repr(expected), found
    verbatim = parse(body, verbatim=True)
    for name in ("problem", "event", "entity_type", "entity_id"):
        assert getattr(verbatim, name) == getattr(event, name), name
    assert len(verbatim.fields) >= len(event.fields)


def understood(body: bytes) -> dict[str, Any] | None:
    """The expected attributes of `parse`; None if the body is not a JSON object."""
    try:
        read = json.loads(
            body.decode(),
            object_pairs_hook=Pairs,
            parse_int=_integer,
            parse_constant=_refuse,
        )
    except ValueError:
        return None
    if not isinstance(read, Pairs):
        return None
    fields = _by_name(read)
    key = next((k for k in PAYLOADS if isinstance(fields.get(k), Pairs)), None)
    entity_type, id_key = PAYLOADS.get(key, ("unknown", None))
    payload = _by_name(fields[key]) if key else {}
    entity_id = held(payload.get(id_key))
    has_id = isinstance(entity_id, str) and entity_id != ""
    event = held(fields.get("event"))
    has_event = isinstance(event, str) and event != ""
    problem = None
    if not has_event:
        problem = "no event name"
    elif key is None and event in EVENTS:
        problem = f"no {EVENTS[event]} object"
    elif key is None:
        named_like_an_object = event in {kind for kind, _ in PAYLOADS.values()}
        entity_type = "unknown" if named_like_an_object else event
    elif entity_type in ("call", "chat") and not has_id:
        problem = f"no {id_key}"
    return {
        "problem": problem,
        "event": event if has_event else None,
        "entity_type": entity_type,
        "entity_id": entity_id if has_id else None,
        "fields": {name: held(raw) for name, raw in payload.items() if raw is not None},
        "envelope": {
            name: held(raw)
            for name, raw in fields.items()
            if name not in ("event", "event_timestamp", key)
        },
    }


def clean(text: str) -> str:
    """Text that a column can store."""
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def held(raw: Any) -> Any:
    """A field's value; None if no column can store it: too deep, or a number that is too long."""
    if any(isinstance(item, Digits) for item in _all(raw)):
        return None
    try:
        return _plain(raw, ancestors=0)
    except OverflowError:
        return None


def _all(raw: Any) -> Iterator[Any]:
    yield raw
    if isinstance(raw, list):
        for item in raw:
            yield from _all(item[1] if isinstance(raw, Pairs) else item)


def _plain(raw: Any, ancestors: int) -> Any:
    if ancestors > MAX_DEPTH:
        raise OverflowError
    if isinstance(raw, Pairs):
        return {name: _plain(item, ancestors + 1) for name, item in _by_name(raw).items()}
    if isinstance(raw, list):
        return [_plain(item, ancestors + 1) for item in raw]
    return clean(raw) if isinstance(raw, str) else raw


def _by_name(pairs: Pairs) -> dict[str, Any]:
    """The last of duplicates wins, in the first one's place."""
    return {clean(name): item for name, item in pairs}


def _integer(digits: str) -> int | Digits:
    try:
        return int(digits)
    except ValueError:
        return Digits()


def _refuse(constant: str) -> None:
    raise ValueError(constant)
