"""Rows of one track -> a conversation to read: turns, what happened between them. Pure.

Rows are mappings from column to value, as in schema/tables.py. Times are seconds from the call's
start, positions are indexes in Retell's list.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from receiver.browse.text import pretty

Rows = Sequence[Mapping[str, Any]]
# Text, start and end of a word; a time that is not known is None.
Word = tuple[str, float | None, float | None]

# Words of one utterance; real ones are shorter.
_MAX_WORDS = 5000
_MAX_WORDS_CHARACTERS = 1_000_000

# A pause that a listener notices: said in the text, shaded in the bar.
PAUSE_SECONDS = 3.0
_SPEAKERS = {"agent": "Agent", "user": "User", "transfer_target": "Transfer target"}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A use of a tool. `after_word` is the index of the word in its turn; None is the turn's end.

    `said_no` when it ran and its answer says {"success": false}.
    """

    position: int
    name: str
    type: str | None
    arguments: str
    result: str | None
    successful: bool | None
    said_no: bool
    seconds: float | None
    duration_ms: int | None
    after_word: int | None

    @property
    def outcome(self) -> str:
        """In a word or two."""
        if self.successful is False:
            return "failed"
        if self.said_no:
            return "said no"
        return "no result" if self.result is None else "done"


@dataclass(slots=True)
class Turn:
    """An utterance. `continues` if the same speaker goes on; `answered_ms` after which wait the
    agent answered the user; `pause` the silence before it, if one notices it."""

    position: int
    role: str
    start: float | None
    end: float | None
    words: list[Word]
    tools: list[ToolCall] = field(default_factory=list)
    continues: bool = False
    interrupts: bool = False
    answered_ms: int | None = None
    pause: float | None = None

    @property
    def speaker(self) -> str:
        """Who speaks, for people."""
        return _SPEAKERS.get(self.role, self.role)


@dataclass(frozen=True, slots=True)
class Note:
    """Something between the turns: a step to another node, a keypad digit, an SMS, ...."""

    position: int
    kind: str
    text: str
    seconds: float | None


Entry = Turn | Note | ToolCall


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, notes, and the tools invoked before anybody spoke, in their order."""

    entries: list[Entry]

    @property
    def turns(self) -> list[Turn]:
        """The utterances alone."""
        return [entry for entry in self.entries if isinstance(entry, Turn)]

    @property
    def tools(self) -> list[ToolCall]:
        """Every use of a tool, in the order of the list."""
        loose = [entry for entry in self.entries if isinstance(entry, ToolCall)]
        return sorted(
            loose + [tool for turn in self.turns for tool in turn.tools],
            key=lambda tool: tool.position,
        )


def conversation(
    utterances: Rows, words: Rows, tool_calls: Rows, node_transitions: Rows, markers: Rows
) -> Conversation:
    """Put the rows of one track together."""
    timed = {row["position"]: row["words"] for row in words}
    turns = {
        row["position"]: Turn(
            position=row["position"],
            role=row["role"] or "unknown",
            start=row["start_seconds"],
            end=row["end_seconds"],
            words=_words(row["content"] or "", timed.get(row["position"])),
        )
        for row in utterances
    }
    entries: list[Entry] = [*turns.values()]
    for row in tool_calls:
        tool = tool_call(row)
        if turn := turns.get(row["after_utterance"]):
            turn.tools.append(tool)
        else:
            entries.append(tool)
    entries += [_transition(row) for row in node_transitions]
    entries += [_marker(row) for row in markers]
    entries.sort(key=lambda entry: entry.position)
    _relate([turns[position] for position in sorted(turns)])
    return Conversation(entries)


def tool_call(row: Mapping[str, Any]) -> ToolCall:
    """One row of tool_calls."""
    successful = row["successful"]
    return ToolCall(
        position=row["position"],
        name=row["name"] or "unnamed",
        type=row["type"],
        arguments=pretty(row["arguments"]),
        result=None if row["result"] is None else pretty(row["result"]),
        successful=None if successful is None else bool(successful),
        said_no=_said_no(row["result"]),
        seconds=row["invoked_at_seconds"],
        duration_ms=row["duration_ms"],
        after_word=row["after_word"],
    )


def _said_no(result: str | None) -> bool:
    """Whether a tool answered "success": false, which `successful` does not tell."""
    if not result or result[0] != "{":
        return False
    try:
        return json.loads(result).get("success") is False
    except (ValueError, RecursionError):
        return False


def _words(content: str, words: str | None) -> list[Word]:
    """Words with the content's own spaces between them; the content whole if they do not fit."""
    pieces: list[Word] = []
    at = 0
    if words and len(words) > _MAX_WORDS_CHARACTERS:
        return [(content, None, None)]
    for text, start, end in json.loads(words)[:_MAX_WORDS] if words else ():
        said = text.strip() if isinstance(text, str) else ""
        found = content.find(said, at)
        if found < 0:
            return [(content, None, None)]
        if pieces and found > at:
            pieces[-1] = (pieces[-1][0] + content[at:found], *pieces[-1][1:])
        at = found + len(said)
        pieces.append((said, _seconds(start), _seconds(end)))
    if not pieces:
        return [(content, None, None)]
    pieces[-1] = (pieces[-1][0] + content[at:], *pieces[-1][1:])
    return pieces


def _seconds(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _transition(row: Mapping[str, Any]) -> Note:
    former = row["former_node_name"] or row["former_node_id"] or "?"
    new = row["new_node_name"] or row["new_node_id"] or "?"
    kind = row["transition_type"]
    how = "" if kind in (None, "normal") else f" ({kind.replace('_', ' ')})"
    return Note(row["position"], "node_transition", f"{former} → {new}{how}", row["time_seconds"])


def _marker(row: Mapping[str, Any]) -> Note:
    return Note(row["position"], row["role"] or "unknown", row["body"] or "", row["time_seconds"])


def _relate(turns: Iterable[Turn]) -> None:
    """Say of each turn how it stands to the ones before it.

    Interruptions are those of call_metrics: a turn begun before the other speaker's had ended.
    """
    before: Turn | None = None
    ends: dict[str, float] = defaultdict(float)
    spoken_until = 0.0
    for turn in turns:
        if before:
            turn.continues = turn.role == before.role
        if turn.start is not None:
            if turn.start - spoken_until >= PAUSE_SECONDS:
                turn.pause = turn.start - spoken_until
            if before and not turn.continues:
                turn.interrupts = turn.start < ends[before.role]
                if turn.role == "agent" and before.role == "user" and before.end is not None:
                    turn.answered_ms = max(0, round(1000 * (turn.start - ends["user"])))
        if turn.end is not None:
            ends[turn.role] = max(ends[turn.role], turn.end)
            spoken_until = max(spoken_until, turn.end)
        before = turn
