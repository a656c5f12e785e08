"""Bytes -> event: what it is about, which call or chat it carries, what is wrong with it.

Nothing here refuses: a body that cannot be understood becomes an event with a `problem`, because
signed bytes are kept whatever they say.
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

# Names -> values as the bytes that spell them in JSON: most of them are never read, because another
# observation has the last word or has said the same.
Fields = Mapping[str, bytes]

# pydantic-core's parser stops at this depth; the slow path keeps to the same limit. What is deeper
# than the interpreter's stack, some 900 levels, is not even scanned.
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

# Text that a database column cannot hold: NUL and lone surrogates, in valid UTF-8 always escaped.
_UNSTORABLE_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
# Every escape, so that an escaped backslash is not taken for the beginning of another.
# Those that are no surrogate are passed over at once, however many there are.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<unstorable>\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2}))"
    rb"|(?:\\(?!u(?:0000|[dD][89a-fA-F])).)++"
    rb"|\\."
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Limits of what reaches the tables, so that any body is stored in bounded time. A real call of two
# hours has some 3,000 entries, 60,000 words and 250,000 values in each copy of its transcript. What
# is beyond stays in the raw body, and `problem` says that it does.

# Of a whole body. Beyond it, the body is kept and not read.
MAX_VALUES = 2_000_000
# Of one entry of a list: its words, mostly. Beyond it, the entry has no row.
MAX_ENTRY_VALUES = 100_000
# Entries of one list, and keys of one object; what comes first is taken.
MAX_ENTRIES = 10_000
MAX_KEYS = 5_000
# How deep objects within objects are looked into: call_analysis.custom_analysis_data.
_DEPTH = 2

# How the problem of a body begins of which something is left out of the tables.
CUT = "not all of it is in the tables: "

# Keys of an event, a call and a chat that are never left out.
KNOWN = (
    {"event", "event_timestamp", "call", "data", "chat", "call_inbound", "chat_inbound", "alert"}
    | Call.model_fields.keys()
    | Chat.model_fields.keys()
)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Event:
    """One body, understood as far as it can be.

    `fields` are the payload's top-level keys that say something (null says nothing); `envelope`
    holds what the body says beside its payload. `problem` is None, or why the body is quarantined,
    or what the tables lack of it because of a limit.
    """

    body_sha256: str
    entity_type: str
    entity_id: str
    event: str | None
    fields: Fields
    envelope: Fields
    problem: str | None

    @property
    def size(self) -> int:
        """Bytes of its fields."""
        return sum(map(len, self.fields.values()))


def parse(body: bytes, *, source: str = "webhook", verbatim: bool = False) -> Event:
    """Understand a body: an envelope, or from the API a bare call or chat object. Of what the
    tables cannot take, `problem` tells that it is left out.

    `verbatim` keeps text that no column can hold; else it becomes U+FFFD.
    """
    sha256 = hashlib.sha256(body).hexdigest()
    # Commas within text count too, which real calls allow.
    if not verbatim and len(body) > MAX_VALUES and _values(body) > MAX_VALUES:
        return _quarantined(sha256, f"more than {MAX_VALUES:,} values")
    try:
        # The scanner passes over the text in strings.
        body.decode("utf-8")
        cut: list[str] = []
        said = _scan(body, None) if verbatim else _scan(_storable_json(body), cut)
        # Only where nobody else could have sent it: a custom function may be given a call_id.
        if source == "api" and "event" not in said:
            event = _understand_object(sha256, said)
        else:
            event = _understand(sha256, said, None if verbatim else cut)
        if verbatim:
            return event
        # Most fields are too short for that, and not looked at.
        long = {k: within(v, cut) for k, v in event.fields.items() if len(v) > MAX_KEYS}
        if not cut:
            return event
        problem = event.problem or CUT + "; ".join(dict.fromkeys(cut))
        return replace(event, fields={**event.fields, **long}, problem=problem)
    except msgspec.ValidationError:
        return _quarantined(sha256, "not a JSON object")
    except (ValueError, RecursionError) as error:
        return _quarantined(sha256, f"not usable JSON: {_reason(error)}")


def _understand_object(sha256: str, said: Fields) -> Event:
    for entity_type in ("call", "chat"):
        entity_id = value(said.get(f"{entity_type}_id"))
        if isinstance(entity_id, str) and entity_id:
            fields = {k: v for k, v in said.items() if v != b"null"}
            return Event(sha256, entity_type, _storable(entity_id), None, fields, {}, None)
    return _quarantined(sha256, "no call_id")


def value(spelled: bytes | None) -> Any:
    """What a field says, the last of duplicate keys winning.

    None for what no column holds: nesting deeper than MAX_DEPTH, numbers of thousands of digits.
    """
    if spelled is None:
        return None
    try:
        return from_json(spelled, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        # The fast parser refuses numbers beyond a float's range, and lone surrogates.
        read = json.loads(spelled)
        _refuse_depth(read)
    except (ValueError, RecursionError):
        return None
    return read


def values(fields: Fields) -> dict[str, Any]:
    """What fields say."""
    return {name: value(spelled) for name, spelled in fields.items()}


def _understand(sha256: str, said: Fields, cut: list[str] | None) -> Event:
    key = next((k for k in PAYLOADS if said.get(k, b"").startswith(b"{")), None)
    entity_type, id_key = PAYLOADS.get(key or "", ("unknown", ""))
    payload = _scan(said[key], cut) if key else {}
    entity_id, event = value(payload.get(id_key)) if id_key else None, value(said.get("event"))
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
        fields={k: v for k, v in payload.items() if v != b"null"},
        envelope={k: v for k, v in said.items() if k not in {"event", key, "event_timestamp"}},
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


def _scan(body: bytes, cut: list[str] | None) -> Fields:
    """The keys of a JSON object and how their values are spelled, the last of duplicates.

    Keys beyond the limit are left out and noted in `cut`, if that is a list.
    Strict: raises ValueError for anything that is not JSON, deep inside too.
    """
    try:
        return object_within(body, cut)
    except msgspec.DecodeError as error:
        if isinstance(error, msgspec.ValidationError) or not _UNSTORABLE_ESCAPE.search(body):
            raise
    # It refuses lone surrogates, which JavaScript writes when it cuts a string inside an emoji;
    # they must be all that is wrong.
    _OBJECT.decode(_storable_json(body))
    return _scan_cut(body.decode())


def _scan_cut(text: str) -> Fields:
    """As `_scan`, of an object that is sound but for lone surrogates."""
    # Numbers stay text: whether they can be held is not asked here.
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
    """Where the next name or value begins, or the object ends."""
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
    if rb"\u" not in body or not _UNSTORABLE_ESCAPE.search(body):
        return body
    return _ESCAPE.sub(lambda m: rb"\ufffd" if m["unstorable"] else m[0], body)


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def is_usable(problem: str | None) -> bool:
    """Whether a body with this problem has rows."""
    return problem is None or problem.startswith(CUT)


def object_within(
    spelled: bytes, cut: list[str] | None, *, known: Collection[str] = KNOWN
) -> dict[str, bytes]:
    """An object's first keys, and those of `known` wherever they stand, as they are spelled.

    What was left out is added to `cut`; without it, nothing is. Raises msgspec.DecodeError.
    """
    said = _OBJECT.decode(spelled)
    if cut is not None and len(said) > MAX_KEYS:
        cut.append(f"an object has more than {MAX_KEYS:,} keys")
        names = [*islice(said, MAX_KEYS), *(n for n in known if n in said)]
        said = {name: said[name] for name in names}
    return {name: bytes(value) for name, value in said.items()}


def within(spelled: bytes, cut: list[str], *, depth: int = _DEPTH) -> bytes:
    """A value in JSON with no more keys and entries than the tables take.

    What was left out is added to `cut`.
    """
    # What is shorter, or has fewer commas, cannot have so many.
    if len(spelled) < 2 * MAX_KEYS or (
        len(spelled) < MAX_ENTRY_VALUES and spelled.count(b",") < MAX_KEYS
    ):
        return spelled
    if spelled.startswith(b"["):
        return _list_within(spelled, cut)
    if spelled.startswith(b"{") and depth:
        return _object_within(spelled, cut, depth)
    return spelled


def _list_within(spelled: bytes, cut: list[str]) -> bytes:
    found = [bytes(entry) for entry in _LIST.decode(spelled)[: MAX_ENTRIES + 1]]
    entries = [b"null" if _values(e) > MAX_ENTRY_VALUES else e for e in found[:MAX_ENTRIES]]
    if len(found) > MAX_ENTRIES:
        cut.append(f"a list has more than {MAX_ENTRIES:,} entries")
    elif entries == found:
        return spelled
    if entries != found[:MAX_ENTRIES]:
        cut.append(f"an entry has more than {MAX_ENTRY_VALUES:,} values")
    return b"[" + b",".join(entries) + b"]"


def _object_within(spelled: bytes, cut: list[str], depth: int) -> bytes:
    before = len(cut)
    taken = {
        name: within(value, cut, depth=depth - 1)
        for name, value in object_within(spelled, cut, known=()).items()
    }
    if len(cut) == before:
        return spelled
    said = (msgspec.json.encode(name) + b":" + value for name, value in taken.items())
    return b"{" + b",".join(said) + b"}"


def _values(spelled: bytes) -> int:
    return spelled.count(b",") + spelled.count(b"{") + spelled.count(b"[")
