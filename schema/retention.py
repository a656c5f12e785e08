"""Retention scopes: which rows of a call or chat are kept after a part of it was erased.

Each tombstone in the table erasures has a scope, which applies after the fold, for ever: `kept` is
the one rule for rows that are pruned, projected from a late event, rebuilt or copied. All scopes
except recordings delete the raw bodies too, which have the same content. Without them a later value
cannot be compared, so the call is closed: its rows no longer change.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from schema.personal import OPEN
from schema.tables import CALL_TABLES, CHAT_TABLES
from schema.transcript import Row

ALL, RAW, RECORDINGS = "all", "raw", "recordings"
TRANSCRIPTS, PERSONAL = "transcripts", "personal"
# In the order in which retention applies them: a later one removes everything that an earlier one
# does.
SCOPES = (RECORDINGS, RAW, TRANSCRIPTS, PERSONAL, ALL)
# Part of a setting's name -> its scope, and what it removes. The one that removes most comes first.
KEEP = {
    "CALLS": (ALL, "All rows, recordings and raw bodies"),
    "PERSONAL": (PERSONAL, "Numbers, words, variables, texts, recordings and raw bodies"),
    "TRANSCRIPTS": (TRANSCRIPTS, "Transcripts, their words and raw bodies"),
    "RAW": (RAW, "Raw bodies"),
    "RECORDINGS": (RECORDINGS, "Recordings and their links"),
}
CLOSING = frozenset({RAW, TRANSCRIPTS, PERSONAL, ALL})

_TABLES = {table.name: table for table in (*CALL_TABLES, *CHAT_TABLES)}
# All rows of these tables are deleted.
_DROPPED = {
    RECORDINGS: {"media"},
    TRANSCRIPTS: {"utterance_words"},
    PERSONAL: {"media", "utterance_words"},
}
_SPOKEN = {
    "transcripts": ("transcript",),
    "utterances": ("content", "metadata"),
    "tool_calls": ("arguments", "result"),
    "markers": ("body",),
    "chats": ("transcript",),
    "chat_messages": ("content", "arguments", "extra"),
}
# Of these, only names are kept, and not values.
_NAMED = {"unknowns", "chat_unknowns"}
_NAMES = {"key", "role", "product", "component"}


def _blank() -> dict[str, dict[str, set[int]]]:
    """Scope -> table -> positions of the columns that become null. Columns of keys are never among
    them."""
    personal = {
        name: {n for n, c in enumerate(t.names) if c not in OPEN[name] and c not in t.key}
        for name, t in _TABLES.items()
    }
    spoken = {
        name: {_TABLES[name].names.index(column) for column in columns}
        for name, columns in _SPOKEN.items()
    }
    return {TRANSCRIPTS: spoken, PERSONAL: personal}


_BLANK = _blank()
_WHAT = _TABLES["unknowns"].names.index("what")


def is_closed(scopes: Collection[str]) -> bool:
    """Whether later events change no row; only the hash and times of their bodies are stored."""
    return not CLOSING.isdisjoint(scopes)


def touched(scopes: Collection[str]) -> list[str]:
    """The tables whose rows `kept` may change."""
    return [
        name
        for name in _TABLES
        if any(
            name in _DROPPED.get(scope, ())
            or _BLANK.get(scope, {}).get(name)
            or (scope == PERSONAL and name in _NAMED)
            or scope == ALL
            for scope in scopes
        )
    ]


def kept(table: str, row: Row, scopes: Collection[str]) -> Row | None:
    """A row of a call's or chat's table after erasing; None if it is deleted. Idempotent."""
    if ALL in scopes or any(table in _DROPPED.get(scope, ()) for scope in scopes):
        return None
    if table in _NAMED and PERSONAL in scopes and row[_WHAT] not in _NAMES:
        return None
    blank = set[int]().union(*(_BLANK.get(scope, {}).get(table, ()) for scope in scopes))
    if not blank:
        return row
    summed = _SUMMED.get(table, {})
    return tuple(
        cell if n not in blank else summed[n](cell) if n in summed else None
        for n, cell in enumerate(row)
    )


def _success(result: Any) -> str | None:
    """Reduce a tool's result to whether it succeeded, which rollups count.

    Of duplicate keys the first one counts, as in SQL.
    """
    if result is None:
        return None
    try:
        answer = json.loads(
            result, object_pairs_hook=lambda pairs: dict(reversed(pairs)), parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        return "{}"
    success = answer.get("success") if isinstance(answer, Mapping) else None
    return json.dumps({"success": success}) if isinstance(success, bool) else "{}"


def _refuse(name: str) -> None:
    raise ValueError(name)


# Table -> position of a column that sums need -> the part of its value that they need.
_SUMMED: dict[str, dict[int, Callable[[Any], Any]]] = {
    "tool_calls": {_TABLES["tool_calls"].names.index("result"): _success},
    # Whether the call was transferred.
    "calls": {
        _TABLES["calls"].names.index("transfer_destination"): lambda to: None if to is None else ""
    },
}
