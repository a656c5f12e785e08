"""Figures of a conversation, derived once from its utterances when the call is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from schema.transcript import Row

# Columns of an utterances row.
_ROLE, _START, _END, _WORDS = 3, 5, 6, 7
# Column of a tool_calls row.
_SUCCESSFUL = 12


@dataclass(slots=True)
class _Turn:
    """Consecutive utterances of one speaker, in seconds."""

    role: str
    start: float | None
    end: float | None


def metrics_row(call_id: str, utterances: Sequence[Row], tool_calls: Sequence[Row]) -> Row:
    """The call_metrics row. A figure that the entries do not tell is None."""
    turns = _turns(_by_time(utterances))
    agent_talk, agent_pace = _talk(row for row in utterances if row[_ROLE] == "agent")
    user_talk, user_pace = _talk(row for row in utterances if row[_ROLE] == "user")
    lengths = [t.end - t.start for t in turns if t.start is not None and t.end is not None]
    return (
        call_id,
        agent_talk,
        user_talk,
        _silence(utterances),
        len(turns),
        _interruptions(turns),
        _rounded(max(lengths, default=None)),
        _first_response(turns),
        agent_pace,
        user_pace,
        len(tool_calls),
        sum(row[_SUCCESSFUL] is False for row in tool_calls),
    )


def _talk(rows: Iterable[Row]) -> tuple[float | None, float | None]:
    """Seconds of talk, and words per minute of it."""
    timed = [row for row in rows if row[_START] is not None and row[_END] is not None]
    talk = _rounded(sum(max(0.0, row[_END] - row[_START]) for row in timed))
    words = sum(row[_WORDS] for row in timed)
    return (talk, _rounded(60 * words / talk)) if talk else (None, None)


def _silence(utterances: Sequence[Row]) -> float | None:
    spans = sorted(
        (row[_START], row[_END])
        for row in utterances
        if row[_START] is not None and row[_END] is not None
    )
    if not spans:
        return None
    silence = spoken_until = 0.0
    for start, end in spans:
        silence += max(0.0, start - spoken_until)
        spoken_until = max(spoken_until, end)
    return _rounded(silence)


def _by_time(utterances: Sequence[Row]) -> list[Row]:
    """In the order in which they began: Retell lists them as their recognition finished.

    One without a time stays behind the one before it in the list.
    """
    began, last = [], 0.0
    for row in utterances:
        last = row[_START] if row[_START] is not None else last
        began.append(last)
    order = sorted(range(len(utterances)), key=began.__getitem__)
    return [utterances[n] for n in order]


def _turns(utterances: Sequence[Row]) -> list[_Turn]:
    turns: list[_Turn] = []
    for row in utterances:
        if turns and turns[-1].role == row[_ROLE]:
            ends = [end for end in (turns[-1].end, row[_END]) if end is not None]
            turns[-1].end = max(ends, default=None)
        else:
            turns.append(_Turn(row[_ROLE], row[_START], row[_END]))
    return turns


def _interruptions(turns: Sequence[_Turn]) -> int:
    return sum(
        before.end is not None and turn.start is not None and turn.start < before.end
        for before, turn in pairwise(turns)
    )


def _first_response(turns: Sequence[_Turn]) -> float | None:
    """Seconds from the end of the user's first turn to the agent's answer, 0 if it overlaps."""
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        return None
    answer = next((turn for turn in turns[first + 1 :] if turn.role == "agent"), None)
    end = turns[first].end
    if answer is None or answer.start is None or end is None:
        return None
    return _rounded(max(0.0, answer.start - end))


def _rounded(value: float | None) -> float | None:
    # Milliseconds: more would be noise of binary fractions.
    return None if value is None else round(value, 3)
