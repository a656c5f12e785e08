"""Transcript entries -> rows: utterances with their words, tool calls, transitions, markers, and
the figures of the conversation."""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from operator import itemgetter
from typing import Any

from pydantic_core import to_json

from schema.models import Entry

Row = tuple[Any, ...]

TRACK_TABLES = ("utterances", "utterance_words", "tool_calls", "node_transitions", "markers")
UTTERANCE_ROLES = frozenset({"agent", "user", "transfer_target"})

_NUMBERS = frozenset({int, float})
_WORD = itemgetter("word", "start", "end")
# Columns of an utterances row.
_ROLE, _START, _END, _WORDS = 3, 5, 6, 7
# Column of a tool_calls row.
_SUCCESSFUL = 12


def json_text(value: Any) -> str | None:
    """Compact JSON for a column, with non-ASCII text unescaped; None for None, null for non-finite
    numbers."""
    return None if value is None else to_json(value, inf_nan_mode="null").decode()


def text(value: Any) -> str | None:
    """Return text unchanged, anything else as JSON."""
    return value if value is None or isinstance(value, str) else json_text(value)


def track_rows(call_id: str, track: str, entries: Any) -> dict[str, list[Row]]:
    """The rows of a list's entries by table. An entry that is not an object has no row."""
    rows: dict[str, list[Row]] = {table: [] for table in TRACK_TABLES}
    spoken: dict[int, Sequence[Sequence[Any]]] = {}
    invocations: list[tuple[int, Entry]] = []
    results: dict[str | None, deque[tuple[int, Entry]]] = defaultdict(deque)
    for position, raw in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(raw, dict):
            continue
        key, role = (call_id, track, position), raw.get("role")
        # Most entries are utterances, and their few fields need no model.
        if isinstance(role, str) and role in UTTERANCE_ROLES:
            words = spoken[position] = _words(raw.get("words"))
            content = text(raw.get("content"))
            began_at, ended_at = _first(words, 1), _first(reversed(words), 2)
            count = len(words) or len((content or "").split())
            metadata = json_text(raw.get("metadata"))
            rows["utterances"].append((*key, role, content, began_at, ended_at, count, metadata))
            if words:
                rows["utterance_words"].append((*key, json_text(words)))
            continue
        entry = Entry.model_validate(raw)
        if entry.role == "tool_call_invocation":
            invocations.append((position, entry))
        elif entry.role == "tool_call_result":
            results[entry.tool_call_id].append((position, entry))
        elif entry.role == "node_transition":
            rows["node_transitions"].append((*key, *_transition(entry)))
        else:
            rows["markers"].append((*key, entry.role, entry.time_sec, _marker_body(entry)))
    if invocations or results:
        calls = _tool_calls(invocations, results, spoken)
        rows["tool_calls"] = [(call_id, track, *row) for row in calls]
    return rows


def _first(words: Iterable[Sequence[Any]], column: int) -> float | None:
    """The first valid time in a column of words, in seconds."""
    for word in words:
        if (at := seconds(word[column])) is not None:
            return at
    return None


def _words(words: Any) -> Sequence[Sequence[Any]]:
    """Retell's words -> [[word, start, end], …]. The words, with spaces, join to the content."""
    if not isinstance(words, list):
        return []
    try:
        # A call has mostly words, and nearly all of them have all three keys.
        return list(map(_WORD, words))
    except (KeyError, TypeError):
        pass
    return [
        [w.get("word"), w.get("start"), w.get("end")] if isinstance(w, dict) else [w, None, None]
        for w in words
    ]


def seconds(value: Any) -> float | None:
    """A time in seconds, or None if it is not valid."""
    return float(value) if type(value) in _NUMBERS and -1e12 < value < 1e12 else None


def _transition(entry: Entry) -> Row:
    return (
        entry.former_node_id,
        entry.former_node_name,
        entry.new_node_id,
        entry.new_node_name,
        entry.transition_type,
        entry.time_sec,
    )


def _marker_body(entry: Entry) -> str | None:
    content = entry.model_dump(exclude_unset=True, exclude={"role", "time_sec"})
    if len(content) == 1 and isinstance(text := content.get("digit", content.get("content")), str):
        return text
    return json_text(content) if content else None


def _tool_calls(
    invocations: Iterable[tuple[int, Entry]],
    results: dict[str | None, deque[tuple[int, Entry]]],
    spoken: Mapping[int, Sequence[Sequence[Any]]],
) -> list[Row]:
    """Pair invocations with results: the n-th of an id with its n-th, because ids repeat."""
    speech, rows = _Speech(spoken), []
    for position, invocation in invocations:
        waiting = results[invocation.tool_call_id]
        result_position, result = waiting.popleft() if waiting else (None, None)
        after = speech.until(position, invocation.time_sec)
        rows.append(_tool_call(position, invocation, after, result_position, result))
    # A result without an invocation has a row at its own position.
    for orphans in results.values():
        for position, result in orphans:
            rows.append(_tool_call(position, None, (None, None), position, result))
    return sorted(rows)


def _tool_call(
    position: int,
    invocation: Entry | None,
    after: tuple[int | None, int | None],
    result_position: int | None,
    result: Entry | None,
) -> Row:
    entry = invocation or result or Entry()
    invoked_at = invocation.time_sec if invocation else None
    result_at = result.time_sec if result else None
    return (
        position,
        entry.tool_call_id,
        entry.name,
        entry.type,
        text(invocation.arguments) if invocation else None,
        invoked_at,
        *after,
        result_position,
        text(result.content) if result else None,
        result.successful if result else None,
        result_at,
        None if invoked_at is None or result_at is None else round(1000 * (result_at - invoked_at)),
    )


class _Speech:
    """The start of each word of a list, to find the word at which a tool was invoked."""

    def __init__(self, spoken: Mapping[int, Sequence[Sequence[Any]]]) -> None:
        self._positions = list(spoken)
        self._begun = sorted(
            [
                (start, utterance, index)
                for utterance, words in spoken.items()
                for index, (_, start, _) in enumerate(words)
                if type(start) in _NUMBERS
            ]
        )

    def until(self, position: int, time: float | None) -> tuple[int | None, int | None]:
        """Position of the utterance, and index of the word, that last began before `time`.

        The list is ordered by the end of recognition, so times are used if there are any; otherwise
        the utterance before it.
        """
        if time is None or not self._begun:
            before = bisect_left(self._positions, position)
            return (self._positions[before - 1] if before else None), None
        begun = bisect_right(self._begun, (time, math.inf))
        return self._begun[begun - 1][1:] if begun else (None, None)


@dataclass(slots=True)
class _Turn:
    """Consecutive utterances of one speaker, in seconds."""

    role: str
    start: float | None
    end: float | None


def metrics_row(call_id: str, utterances: Sequence[Row], tool_calls: Sequence[Row]) -> Row:
    """The row of call_metrics. A figure that cannot be computed is None."""
    turns = _turns(utterances)
    agent_talk, agent_pace = _talk(row for row in utterances if row[_ROLE] == "agent")
    user_talk, user_pace = _talk(row for row in utterances if row[_ROLE] == "user")
    lengths = [t.end - t.start for t in turns if t.start is not None and t.end is not None]
    interruptions = sum(
        before.end is not None and turn.start is not None and turn.start < before.end
        for before, turn in pairwise(turns)
    )
    return (
        call_id,
        agent_talk,
        user_talk,
        _silence(utterances),
        len(turns),
        interruptions,
        _rounded(max(lengths, default=None)),
        _first_response(turns),
        agent_pace,
        user_pace,
        len(tool_calls),
        sum(row[_SUCCESSFUL] is False for row in tool_calls),
    )


def _talk(rows: Iterable[Row]) -> tuple[float | None, float | None]:
    """Seconds of talk, and words per minute of talk."""
    timed = [row for row in rows if row[_START] is not None and row[_END] is not None]
    talk = _rounded(sum(max(0.0, row[_END] - row[_START]) for row in timed))
    words = sum(row[_WORDS] for row in timed)
    return (talk, _rounded(60 * words / talk)) if talk else (None, None)


def _silence(utterances: Iterable[Row]) -> float | None:
    """Seconds of silence before the last utterance ends."""
    silence, spoken_until = 0.0, None
    for start, end in sorted(
        (row[_START], row[_END])
        for row in utterances
        if row[_START] is not None and row[_END] is not None
    ):
        silence += max(0.0, start - (spoken_until or 0.0))
        spoken_until = max(spoken_until or 0.0, end)
    return None if spoken_until is None else _rounded(silence)


def _turns(utterances: Iterable[Row]) -> list[_Turn]:
    """Turns ordered by their start: Retell lists utterances in the order in which recognition
    finished. An utterance without a time follows the one before it in the list."""
    timed: list[tuple[float, Row]] = []
    for row in utterances:
        last = timed[-1][0] if timed else 0.0
        timed.append((last if row[_START] is None else row[_START], row))
    turns: list[_Turn] = []
    for _, row in sorted(timed, key=itemgetter(0)):
        if turns and turns[-1].role == row[_ROLE]:
            ends = [end for end in (turns[-1].end, row[_END]) if end is not None]
            turns[-1].end = max(ends, default=None)
        else:
            turns.append(_Turn(row[_ROLE], row[_START], row[_END]))
    return turns


def _first_response(turns: Sequence[_Turn]) -> float | None:
    """Seconds from the end of the user's first turn to the agent's answer; 0 if they overlap."""
    after_user = dropwhile(lambda turn: turn.role != "user", turns)
    first = next(after_user, None)
    answer = next((turn for turn in after_user if turn.role == "agent"), None)
    if first is None or first.end is None or answer is None or answer.start is None:
        return None
    return _rounded(max(0.0, answer.start - first.end))


def _rounded(value: float | None) -> float | None:
    # Rounded to milliseconds: more digits would be noise of binary fractions.
    return None if value is None else round(value, 3)
