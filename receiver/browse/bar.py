"""A conversation -> the geometry of the bar: who speaks when, over the length of the call. Pure.

x and widths are percent of the call's length, so that the drawing stretches without distortion.
"""

from dataclasses import dataclass
from math import ceil

from receiver.browse.conversation import PAUSE_SECONDS, Conversation, ToolCall, Turn
from receiver.browse.text import clock, length

_MIN_WIDTH = 0.15
# Distances between two labels that read as times, in seconds.
_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_MOST_TICKS = 8
# Of a call of many thousand turns, no more is drawn in a lane.
_MOST_DRAWN = 3000
_MAX_LABEL = 120
# An answer this late stands at the top of its lane.
_SLOWEST_MS = 4_000


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time: speech, silence or a tool at work; `kind` is its class in the drawing."""

    x: float
    width: float
    start: float
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Point:
    """A moment. `level` is 0 at the bottom of its lane, 1 at the top."""

    x: float
    start: float
    label: str
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """Everything drawn, each lane in order of time."""

    seconds: float
    agent: list[Span]
    user: list[Span]
    silences: list[Span]
    tools: list[Span]
    interruptions: list[Point]
    answers: list[Point]
    ticks: list[Point]
    is_cut: bool

    @property
    def note(self) -> str:
        """What is not drawn."""
        return f"The first {_MOST_DRAWN:,} turns are drawn." if self.is_cut else ""

    @property
    def summary(self) -> str:
        """What the drawing shows, for who cannot see it."""
        return (
            f"Over {clock(self.seconds)}: {len(self.agent)} utterances of the agent, "
            f"{len(self.user)} of the other side, {len(self.silences)} silences of "
            f"{PAUSE_SECONDS:.0f} seconds or more, {len(self.interruptions)} interruptions, "
            f"{len(self.tools)} tool calls. {self.note}"
        ).rstrip()


def bar(conversation: Conversation, duration_seconds: float | None) -> Bar | None:
    """Draw it; None if no time is known of anything that was said."""
    turns = [turn for turn in conversation.turns if turn.start is not None and turn.end is not None]
    seconds = max([duration_seconds or 0.0, *(turn.end or 0.0 for turn in turns)])
    if not turns or not seconds:
        return None
    tools = [tool for tool in conversation.tools if tool.seconds is not None]
    silences = _silences(turns, seconds)
    is_cut = max(len(turns), len(tools), len(silences)) > _MOST_DRAWN
    turns, tools, silences = turns[:_MOST_DRAWN], tools[:_MOST_DRAWN], silences[:_MOST_DRAWN]
    scale = 100 / seconds
    return Bar(
        seconds=seconds,
        agent=[_speech(turn, scale) for turn in turns if turn.role == "agent"],
        user=[_speech(turn, scale) for turn in turns if turn.role != "agent"],
        silences=silences,
        tools=[_tool(tool, scale) for tool in tools],
        interruptions=[
            Point(t.start * scale, t.start, f"{clock(t.start)} {t.speaker} interrupts")
            for t in turns
            if t.interrupts and t.start is not None
        ],
        answers=[
            Point(
                t.start * scale,
                t.start,
                f"{clock(t.start)} answered after {length(t.answered_ms)}",
                min(1.0, t.answered_ms / _SLOWEST_MS),
            )
            for t in turns
            if t.answered_ms is not None and t.start is not None
        ],
        ticks=_ticks(seconds),
        is_cut=is_cut,
    )


def _speech(turn: Turn, scale: float) -> Span:
    start, end = turn.start or 0.0, turn.end or 0.0
    text = "".join(word for word, _, _ in turn.words)
    label = text if len(text) <= 90 else f"{text[:89]}…"
    return _span(start, end, scale, turn.role, f"{turn.speaker}: {label}")


def _tool(tool: ToolCall, scale: float) -> Span:
    start = tool.seconds or 0.0
    return _span(start, start + (tool.duration_ms or 0) / 1000, scale, tool.outcome, tool.name)


def _span(start: float, end: float, scale: float, kind: str, label: str) -> Span:
    width = max(_MIN_WIDTH, (end - start) * scale)
    label = f"{clock(start)} {label[:_MAX_LABEL]}"
    return Span(start * scale, width, start, kind.replace(" ", "-"), label)


def _silences(turns: list[Turn], seconds: float) -> list[Span]:
    """From the end of all speech before to the next, the end of the call included."""
    found, until, scale = [], 0.0, 100 / seconds
    spoken = sorted((turn.start or 0.0, turn.end or 0.0) for turn in turns)
    for start, end in [*spoken, (seconds, seconds)]:
        if start - until >= PAUSE_SECONDS:
            label = f"nobody speaks for {start - until:.0f} s"
            found.append(_span(until, start, scale, "silence", label))
        until = max(until, end)
    return found


def _ticks(seconds: float) -> list[Point]:
    # Days and years of a call are a mistake of the sender's, and get whole hours.
    hours = 3600 * ceil(seconds / _MOST_TICKS / 3600)
    step = next((s for s in _STEPS if seconds / s <= _MOST_TICKS), hours)
    return [Point(100 * at / seconds, at, clock(at)) for at in range(0, int(seconds) + 1, step)]
