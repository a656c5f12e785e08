"""The fields that hold what was said: the three transcripts, their scrubbed copies, sessions."""

from __future__ import annotations

from random import Random
from typing import Any

from receiver.sandbox.script import Slots
from receiver.sandbox.timeline import UTTERANCES
from receiver.sandbox.wire import compact, hex_digits

_SPEAKERS = {"agent": "Agent", "user": "User", "transfer_target": "Transfer Target"}
_PUNCTUATION = " .,;:!?¡¿…"


def transcript_fields(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the three views of one list of entries: as text, as utterances, with everything."""
    said = [entry for entry in entries if entry["role"] in UTTERANCES]
    lines = [f"{_SPEAKERS[entry['role']]}: {entry['content']}\n" for entry in said]
    return {
        "transcript": "".join(lines),
        "transcript_object": said,
        "transcript_with_tool_calls": entries,
    }


def scrubbed(entries: list[dict[str, Any]], slots: Slots) -> list[dict[str, Any]]:
    """Return a copy of the entries without the caller's name, number and address."""
    marks = {slots["email"]: "[EMAIL]", slots["e164"]: "[PHONE]", slots["phone"]: "[PHONE]"}
    marks |= dict.fromkeys((slots["customer"], slots["first"], slots["last"]), "[NAME]")
    pieces = dict.fromkeys(slots["phone"].split(), "[PHONE]") | marks
    return [_scrubbed_entry(entry, marks, pieces) for entry in entries]


def session_tool(
    rng: Random, name: str, arguments: dict[str, Any], result: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the entries of an integration that runs before or after the call itself."""
    call_id = f"tool_call_{hex_digits(rng, 16)}"
    return [
        {
            "role": "tool_call_invocation",
            "tool_call_id": call_id,
            "name": name,
            "arguments": compact(arguments),
            "type": "integration_app",
        },
        {
            "role": "tool_call_result",
            "tool_call_id": call_id,
            "successful": True,
            "content": compact(result),
        },
    ]


def _scrubbed_entry(
    entry: dict[str, Any], marks: dict[str, str], pieces: dict[str, str]
) -> dict[str, Any]:
    if "words" not in entry:
        texts = {key: entry[key] for key in ("arguments", "content") if key in entry}
        for secret, mark in marks.items():
            texts = {key: text.replace(secret, mark) for key, text in texts.items()}
        return entry | texts
    words = [word | {"word": _scrubbed_word(word["word"], pieces)} for word in entry["words"]]
    return entry | {"content": "".join(word["word"] for word in words), "words": words}


def _scrubbed_word(word: str, pieces: dict[str, str]) -> str:
    bare = word.strip(_PUNCTUATION)
    return word.replace(bare, pieces[bare]) if bare in pieces else word
