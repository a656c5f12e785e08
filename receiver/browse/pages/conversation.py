"""The rows of one track -> a conversation to read: turns, notes between them, pages, markup. Pure.

Rows are mappings from column to value, as in schema/tables.py. Times are seconds from the start of
the call, positions are indexes in Retell's list. The size of a page is limited: texts are
shortened, lists end early, and a long conversation has several pages. The call as JSON is complete.
"""

import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Generic, TypeVar

from markupsafe import Markup

from receiver.browse.formatting import label, pretty_json

Rows = Sequence[Mapping[str, Any]]
# Text, start and end of a word; an unknown time is None.
Word = tuple[str, float | None, float | None]
T = TypeVar("T")

# A noticeable silence: a line in the conversation, shaded in the timeline.
PAUSE_SECONDS = 3.0
# Words of one utterance; real ones are shorter.
_MAX_WORDS = 5000
_MAX_WORDS_CHARACTERS = 1_000_000
_SPEAKERS = {"agent": "Agent", "user": "User", "transfer_target": "Transfer target"}

# A real call of two hours and twenty thousand words fits on one page.
MAX_ENTRIES = 2000
MAX_CHARACTERS = 2_000_000
MAX_TEXT = 50_000
# Limits of a list beside the conversation.
_MAX_ROWS = 500
_MAX_ROWS_CHARACTERS = 200_000
# Characters of markup around an entry and around a word.
_ENTRY_MARKUP, _WORD_MARKUP = 500, 60


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call. `after_word` is the index of a word in its turn; None is the end of the turn.

    `answered_no`: the tool ran, and its result says {"success": false}.
    """

    position: int
    name: str
    type: str | None
    arguments: str
    result: str | None
    successful: bool | None
    answered_no: bool
    seconds: float | None
    duration_ms: int | None
    after_word: int | None

    @property
    def outcome(self) -> str:
        """failed, unsuccessful, no result or done."""
        if self.successful is False:
            return "failed"
        if self.answered_no:
            return "unsuccessful"
        return "no result" if self.result is None else "done"


@dataclass(slots=True)
class Turn:
    """An utterance. `continues`: the turn before is by the same speaker; `answered_ms`: how long
    the user waited for this answer; `pause`: seconds of silence before it, if noticeable."""

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
        """The label of the role."""
        return _SPEAKERS.get(self.role) or label(self.role)


@dataclass(frozen=True, slots=True)
class Note:
    """An entry between the turns: a node transition, a keypad digit, an SMS, ...."""

    position: int
    kind: str
    text: str
    seconds: float | None


Entry = Turn | Note | ToolCall


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, notes, and the tools called before anybody spoke, in the order of Retell's list."""

    entries: list[Entry]

    @property
    def turns(self) -> list[Turn]:
        """The utterances alone."""
        return [entry for entry in self.entries if isinstance(entry, Turn)]

    def index_at(self, second: float) -> int:
        """The index of the last turn that starts before a moment, or else 0."""
        starts = [e.start if isinstance(e, Turn) else None for e in self.entries]
        return max((n for n, at in enumerate(starts) if at is not None and at <= second), default=0)

    @property
    def tools(self) -> list[ToolCall]:
        """Every tool call, in the order of the list."""
        loose = [entry for entry in self.entries if isinstance(entry, ToolCall)]
        return sorted(
            loose + [tool for turn in self.turns for tool in turn.tools],
            key=lambda tool: tool.position,
        )


def conversation(
    utterances: Rows, words: Rows, tool_calls: Rows, node_transitions: Rows, markers: Rows
) -> Conversation:
    """Join the rows of one track."""
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
        tool = _tool_call(row)
        if turn := turns.get(row["after_utterance"]):
            turn.tools.append(tool)
        else:
            entries.append(tool)
    entries += [_transition(row) for row in node_transitions]
    entries += [_marker(row) for row in markers]
    entries.sort(key=lambda entry: entry.position)
    _compare_neighbours([turns[position] for position in sorted(turns)])
    return Conversation(entries)


def _tool_call(row: Mapping[str, Any]) -> ToolCall:
    successful = row["successful"]
    return ToolCall(
        position=row["position"],
        name=row["name"] or "unnamed",
        type=row["type"],
        arguments=pretty_json(row["arguments"]),
        result=None if row["result"] is None else pretty_json(row["result"]),
        successful=None if successful is None else bool(successful),
        answered_no=answered_no(row["result"]),
        seconds=row["invoked_at_seconds"],
        duration_ms=row["duration_ms"],
        after_word=row["after_word"],
    )


def answered_no(result: str | None) -> bool:
    """Whether a result has "success": false, which the column `successful` does not show."""
    if not result or result[0] != "{":
        return False
    try:
        return json.loads(result).get("success") is False
    except (ValueError, RecursionError):
        return False


def _words(content: str, words: str | None) -> list[Word]:
    """The words with the content's own spaces between them; the content alone if they differ."""
    pieces: list[Word] = []
    at = 0
    if words and len(words) > _MAX_WORDS_CHARACTERS:
        return [(content, None, None)]
    for text, start, end in json.loads(words)[:_MAX_WORDS] if words else ():
        word = text.strip() if isinstance(text, str) else ""
        found = content.find(word, at)
        if found < 0:
            return [(content, None, None)]
        if pieces and found > at:
            pieces[-1] = (pieces[-1][0] + content[at:found], *pieces[-1][1:])
        at = found + len(word)
        pieces.append((word, _seconds(start), _seconds(end)))
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
    text = readable(row["body"] or "")
    return Note(row["position"], row["role"] or "unknown", text, row["time_seconds"])


def readable(text: str) -> str:
    """A message as people read it: of a JSON object, such as an SMS with a picture, its text,
    then its other values by name. Other text is unchanged."""
    if not text.startswith("{"):
        return text
    try:
        value = json.loads(text)
        content = value.pop("content", None) or value.pop("text", None)
        lines = [_inline(content)] if content else []
        lines += [f"{label(name)}: {_inline(each)}" for name, each in value.items() if each]
    except (ValueError, RecursionError):
        return text
    return "\n".join(lines) or text


def _inline(value: Any) -> str:
    """A JSON value on one line, its texts without quotes and braces."""
    if isinstance(value, dict):
        return ", ".join(map(_inline, value.values()))
    if isinstance(value, list):
        return "; ".join(map(_inline, value))
    return "" if value is None else str(value)


def _compare_neighbours(turns: Iterable[Turn]) -> None:
    """Set what depends on the turns before: interruptions, pauses, waits.

    Interruptions are those of call_metrics: a turn that starts before the other speaker ended.
    """
    before: Turn | None = None
    ends: dict[str, float] = defaultdict(float)
    speech_end = 0.0
    for turn in turns:
        if before:
            turn.continues = turn.role == before.role
        if turn.start is not None:
            if turn.start - speech_end >= PAUSE_SECONDS:
                turn.pause = turn.start - speech_end
            if before and not turn.continues:
                turn.interrupts = turn.start < ends[before.role]
                if turn.role == "agent" and before.role == "user" and before.end is not None:
                    turn.answered_ms = max(0, round(1000 * (turn.start - ends["user"])))
        if turn.end is not None:
            ends[turn.role] = max(ends[turn.role], turn.end)
            speech_end = max(speech_end, turn.end)
        before = turn


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Page `number` of `count` of a list; its first item has the index `since`."""

    items: list[T]
    number: int
    count: int
    since: int
    total: int


def page_of(
    items: Sequence[T], number: int, weigh: Callable[[T], int], *, index: int | None = None
) -> Page[T]:
    """The page of that number, or the nearest; or the page of the item at `index`."""
    starts, weight = [0], 0
    for at, item in enumerate(items):
        weight += weigh(item)
        is_full = weight > MAX_CHARACTERS or at - starts[-1] >= MAX_ENTRIES
        if is_full and at > starts[-1]:
            starts.append(at)
            weight = weigh(item)
    if index is not None:
        number = bisect_right(starts, index)
    number = max(1, min(number, len(starts)))
    since, until = (*starts, len(items))[number - 1 : number + 1]
    return Page([*items[since:until]], number, len(starts), since, len(items))


def limited(items: Iterable[T], weigh: Callable[[T], int]) -> list[T]:
    """The start of a list beside the conversation."""
    found: list[T] = []
    weight = 0
    for item in items:
        weight += weigh(item)
        if len(found) == _MAX_ROWS or (found and weight > _MAX_ROWS_CHARACTERS):
            break
        found.append(item)
    return found


def shorten(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with long texts cut. The words of an utterance are JSON and stay complete."""
    return {
        name: f"{value[:MAX_TEXT]}…"
        if isinstance(value, str) and len(value) > MAX_TEXT and name != "words"
        else value
        for name, value in row.items()
    }


def row_weight(row: Mapping[str, Any]) -> int:
    """Characters of a row on a page."""
    return _ENTRY_MARKUP + sum(len(value) for value in row.values() if isinstance(value, str))


def entry_weight(entry: Entry) -> int:
    """The approximate number of characters of an entry on a page."""
    if isinstance(entry, Turn):
        text = sum(len(word) + _WORD_MARKUP for word, _, _ in entry.words)
        return _ENTRY_MARKUP + text + sum(map(entry_weight, entry.tools))
    if isinstance(entry, ToolCall):
        # The page repeats the name.
        return _ENTRY_MARKUP + 4 * len(entry.name) + len(entry.arguments) + len(entry.result or "")
    return _ENTRY_MARKUP + len(entry.text) + 2 * len(entry.kind)


def parse_number(text: str | None) -> int | None:
    """The number of a page or entry in a URL, or None."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None


def parse_seconds(text: str | None) -> float | None:
    """The moment in a URL, or None."""
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text, re.ASCII) else None


def words_markup(turn: Turn) -> Markup:
    """The words of a turn, each a span with data-start and data-end in seconds for the player; tool
    calls are marked after their word.

    Built from strings instead of in the template: a call of two hours has twenty thousand words.
    """
    last = len(turn.words) - 1
    pieces = [_word_markup(word) for word in turn.words]
    for tool in turn.tools:
        at = last if tool.after_word is None else min(tool.after_word, last)
        pieces[at] += _tool_markup(tool)
    return Markup("".join(pieces))


def _word_markup(word: Word) -> str:
    text, start, end = word
    if start is None:
        return escape(text)
    # The space is outside, so that only the word is highlighted.
    visible = text.rstrip()
    until = "" if end is None else f" data-end={end:.2f}"
    return f"<span data-start={start:.2f}{until}>{escape(visible)}</span>{text[len(visible) :]}"


def _tool_markup(tool: ToolCall) -> str:
    title = escape(f"{tool.name}: {tool.outcome}")
    return f'<a class="mark" href="#tool-{tool.position}" title="{title}">{escape(tool.name)}</a> '
