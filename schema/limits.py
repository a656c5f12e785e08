"""How much of one body reaches the tables, so that any body is stored in bounded time.

A real call of two hours has some 3,000 entries, 60,000 words and 250,000 values in each copy of its
transcript. What is beyond these limits stays in the raw body, and `problem` says that it does.
"""

from collections.abc import Collection
from itertools import islice

import msgspec

from schema.models import Call, Chat

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


def has_too_many_values(body: bytes) -> bool:
    """Whether reading a body could take long. Commas within text count, which real calls allow."""
    return len(body) > MAX_VALUES and _values(body) > MAX_VALUES


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
