"""Bytes -> event.

A body that cannot be parsed becomes an event with a `problem` instead of an error, because every
signed body is stored.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec
from pydantic_core import from_json

from schema.models import Call, Chat

# Field names -> JSON bytes. Most are never decoded, because a higher observation overrides them or
# has the same bytes.
RawFields = Mapping[str, bytes]

# The limit of pydantic-core's parser, which the slow path applies too. A body deeper than the
# interpreter's stack, about 900 levels, is not scanned at all.
MAX_DEPTH = 200

# Envelope keys of the object that an event is about. Events of 2024 have the call under both `call`
# and `data`.
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

# Text that a database column cannot store: NUL and lone surrogates. In valid UTF-8, JSON always
# escapes them.
# With [u], the literal prefix has one byte, which `re` finds three times as fast as two.
_UNSTORABLE_ESCAPE = re.compile(rb"\\[u](?:0000|[dD][89a-fA-F])")
# Matches every escape, so that an escaped backslash is not taken for the beginning of another.
# Several that are not surrogates are one match.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<unstorable>\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2}))"
    rb"|(?:\\(?!u(?:0000|[dD][89a-fA-F])).)++"
    rb"|\\."
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Limits of what is projected, so that any body is stored in bounded time. A real call of two hours
# has about 3,000 entries, 60,000 words and 250,000 values in each copy of its transcript. The rest
# stays in the raw body, and `problem` says so.

# Per body. A larger one is stored and not decoded.
MAX_VALUES = 2_000_000
# Per entry of a list, mostly its words. A larger entry has no row.
MAX_ENTRY_VALUES = 100_000
# Entries of one list, and keys of one object. The first ones are projected.
MAX_ENTRIES = 10_000
MAX_KEYS = 5_000
# The depth to which nested objects are limited: call_analysis.custom_analysis_data.
_DEPTH = 2

# The beginning of the problem of a body that is not completely in the tables.
CUT = "not all of it is in the tables: "

# Keys that are always projected, whatever the number of keys.
KNOWN = (
    {"event", "event_timestamp", "call", "data", "chat", "call_inbound", "chat_inbound", "alert"}
    | Call.model_fields.keys()
    | Chat.model_fields.keys()
)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Event:
    """A parsed body.

    `fields` are the payload's top-level keys except those with null; `envelope` are the keys beside
    the payload. `problem` is None, or why the body is quarantined, or what is not in the tables
    because of a limit.
    """

    body_sha256: str
    entity_type: str
    entity_id: str
    event: str | None
    fields: RawFields
    envelope: RawFields
    problem: str | None

    @property
    def size(self) -> int:
        """Bytes of its fields and of the keys beside them."""
        return sum(map(len, (*self.fields.values(), *self.envelope.values())))


def parse(body: bytes, *, source: str = "webhook", verbatim: bool = False) -> Event:
    """Parse a body: an envelope, or from the API a bare call or chat object.

    `verbatim` keeps text that no column can store and applies no limits; otherwise such text
    becomes U+FFFD.
    """
    sha256 = hashlib.sha256(body).hexdigest()
    # Commas within text are counted too; real calls are far below the limit.
    if not verbatim and len(body) > MAX_VALUES and _values(body) > MAX_VALUES:
        return _quarantined(sha256, f"more than {MAX_VALUES:,} values")
    try:
        # The scanner does not validate the text in strings.
        body.decode("utf-8")
        cut: list[str] = []
        envelope = _scan(body, None) if verbatim else _scan(_storable_json(body), cut)
        # Only from the API: a request of a custom function may have a call_id too.
        if source == "api" and "event" not in envelope:
            event = _parse_object(sha256, envelope)
        else:
            event = _parse_envelope(sha256, envelope, None if verbatim else cut)
        if verbatim:
            return event
        # Shorter fields cannot reach a limit.
        long = {k: within(v, cut) for k, v in event.fields.items() if len(v) > MAX_KEYS}
        if not cut:
            return event
        problem = event.problem or CUT + "; ".join(dict.fromkeys(cut))
        return replace(event, fields={**event.fields, **long}, problem=problem)
    except msgspec.ValidationError:
        return _quarantined(sha256, "not a JSON object")
    except (ValueError, RecursionError) as error:
        return _quarantined(sha256, f"not usable JSON: {_reason(error)}")


def _parse_object(sha256: str, payload: RawFields) -> Event:
    for entity_type in ("call", "chat"):
        entity_id = value(payload.get(f"{entity_type}_id"))
        if isinstance(entity_id, str) and entity_id:
            fields = {k: v for k, v in payload.items() if v != b"null"}
            return Event(sha256, entity_type, _storable(entity_id), None, fields, {}, None)
    return _quarantined(sha256, "no call_id")


def value(raw: bytes | None) -> Any:
    """Decode a field; the last of duplicate keys wins.

    None for what no column can store: too deep nesting, and numbers of thousands of digits.
    """
    if raw is None:
        return None
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        # The fast parser rejects numbers beyond a float's range, and lone surrogates.
        decoded = json.loads(raw)
        _refuse_depth(decoded)
    except (ValueError, RecursionError):
        return None
    return decoded


def values(fields: RawFields) -> dict[str, Any]:
    """Decode fields."""
    return {name: value(raw) for name, raw in fields.items()}


def _parse_envelope(sha256: str, envelope: RawFields, cut: list[str] | None) -> Event:
    key = next((k for k in PAYLOADS if envelope.get(k, b"").startswith(b"{")), None)
    entity_type, id_key = PAYLOADS.get(key or "", ("unknown", ""))
    payload = _scan(envelope[key], cut) if key else {}
    entity_id, event = value(payload.get(id_key)) if id_key else None, value(envelope.get("event"))
    if not isinstance(entity_id, str) or not entity_id:
        entity_id = None
    problem = None
    if not isinstance(event, str) or not event:
        problem, event = "no event name", None
    elif key is None and event in EVENTS:
        problem = f"no {EVENTS[event]} object"
    elif key is None:
        # A new event with an unknown payload is not a problem: it is stored for later. Its name
        # does not make it a call.
        entity_type = _storable(event) if event not in _ENTITY_TYPES else entity_type
    elif entity_id is None and entity_type in {"call", "chat"}:
        problem = f"no {id_key}"
    return Event(
        body_sha256=sha256,
        entity_type=entity_type,
        entity_id=_storable(entity_id) if entity_id else f"sha:{sha256}",
        event=_storable(event) if event else None,
        fields={k: v for k, v in payload.items() if v != b"null"},
        envelope={k: v for k, v in envelope.items() if k not in {"event", key, "event_timestamp"}},
        problem=problem,
    )


def _quarantined(sha256: str, problem: str) -> Event:
    return Event(sha256, "unknown", f"sha:{sha256}", None, {}, {}, problem)


def _reason(error: Exception) -> str:
    """Where parsing stopped, without the content there."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return re.sub(r"[^\x20-\x7e]", "?", str(error))[:80]


def _scan(body: bytes, cut: list[str] | None) -> RawFields:
    """The keys of a JSON object and the bytes of their values; of duplicate keys the last one.

    Keys beyond the limit are left out and added to `cut`, if that is a list. Strict: raises
    ValueError for anything that is not JSON, deep inside too.
    """
    try:
        return object_within(body, cut)
    except msgspec.DecodeError as error:
        if isinstance(error, msgspec.ValidationError) or not _UNSTORABLE_ESCAPE.search(body):
            raise
    # It rejects lone surrogates, which JavaScript writes when it cuts a string inside an emoji.
    # Nothing else may be invalid.
    _OBJECT.decode(_storable_json(body))
    return _scan_cut(body.decode())


def _scan_cut(text: str) -> RawFields:
    """Like `_scan`, for an object that is valid except for lone surrogates."""
    # Numbers are not converted: they may be too large.
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    fields, at = {}, _token(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        start = _token(text, at)
        _, end = decoder.raw_decode(text, start)
        fields[name] = text[start:end].encode()
        at = _token(text, end)
    return fields


def _token(text: str, at: int) -> int:
    """The index at which the next name or value begins, or the object ends."""
    while text[at] in " \t\r\n:,":
        at += 1
    return at


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


def _storable_json(body: bytes) -> bytes:
    """The body with every escape of unstorable text replaced."""
    if not _UNSTORABLE_ESCAPE.search(body):
        return body
    return _ESCAPE.sub(lambda m: rb"\ufffd" if m["unstorable"] else m[0], body)


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def is_usable(problem: str | None) -> bool:
    """Whether a body with this problem has rows."""
    return problem is None or problem.startswith(CUT)


def object_within(
    raw: bytes, cut: list[str] | None, *, known: Collection[str] = KNOWN
) -> dict[str, bytes]:
    """An object's first keys and all keys of `known`, with the bytes of their values.

    Keys that are left out are added to `cut`; without it, none is. Raises msgspec.DecodeError.
    """
    fields = _OBJECT.decode(raw)
    if cut is not None and len(fields) > MAX_KEYS:
        cut.append(f"an object has more than {MAX_KEYS:,} keys")
        names = [*islice(fields, MAX_KEYS), *(n for n in known if n in fields)]
        fields = {name: fields[name] for name in names}
    return {name: bytes(value) for name, value in fields.items()}


def within(raw: bytes, cut: list[str], *, depth: int = _DEPTH) -> bytes:
    """A JSON value with no more keys and entries than the limits allow.

    What is left out is added to `cut`.
    """
    # A shorter value, or one with fewer commas, cannot reach a limit.
    if len(raw) < 2 * MAX_KEYS or (len(raw) < MAX_ENTRY_VALUES and raw.count(b",") < MAX_KEYS):
        return raw
    if raw.startswith(b"["):
        return _list_within(raw, cut)
    if raw.startswith(b"{") and depth:
        return _object_within(raw, cut, depth)
    return raw


def _list_within(raw: bytes, cut: list[str]) -> bytes:
    found = [bytes(entry) for entry in _LIST.decode(raw)[: MAX_ENTRIES + 1]]
    entries = [b"null" if _values(e) > MAX_ENTRY_VALUES else e for e in found[:MAX_ENTRIES]]
    if len(found) > MAX_ENTRIES:
        cut.append(f"a list has more than {MAX_ENTRIES:,} entries")
    elif entries == found:
        return raw
    if entries != found[:MAX_ENTRIES]:
        cut.append(f"an entry has more than {MAX_ENTRY_VALUES:,} values")
    return b"[" + b",".join(entries) + b"]"


def _object_within(raw: bytes, cut: list[str], depth: int) -> bytes:
    before = len(cut)
    limited = {
        name: within(value, cut, depth=depth - 1)
        for name, value in object_within(raw, cut, known=()).items()
    }
    if len(cut) == before:
        return raw
    members = (msgspec.json.encode(name) + b":" + value for name, value in limited.items())
    return b"{" + b",".join(members) + b"}"


def _values(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"{") + raw.count(b"[")
