"""A conversation -> the timeline of who speaks when, as a drawing. Pure.

x and widths are percent of the call's length, so that the drawing scales without distortion.
"""

from dataclasses import dataclass
from math import ceil

from receiver.browse.formatting import format_milliseconds
from receiver.browse.pages.conversation import PAUSE_SECONDS, Conversation, ToolCall, Turn
from receiver.clock import format_duration

_MIN_WIDTH = 0.15
# Distances between two labels of the time axis, in seconds.
_STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_MAX_TICKS = 8
# A lane draws no more spans, for calls of many thousand turns.
_MAX_DRAWN = 3000
_MAX_LABEL = 120
# A wait this long is drawn at the top of its lane.
_SLOWEST_MS = 4_000


@dataclass(frozen=True, slots=True)
class Span:
    """Speech, silence or a tool call over time; `kind` is its CSS class."""

    x: float
    width: float
    start: float
    end: float
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Point:
    """A point in time. `level` is 0 at the bottom of its lane, 1 at the top."""

    x: float
    start: float
    label: str
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeakerTimeline:
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
        """Which part is drawn, if not everything is."""
        return f"The first {_MAX_DRAWN:,} turns are drawn." if self.is_cut else ""

    @property
    def summary(self) -> str:
        """The drawing as text, for screen readers."""
        return (
            f"Over {format_duration(self.seconds)}: {len(self.agent)} utterances of the agent, "
            f"{len(self.user)} of the user, {len(self.silences)} silences of "
            f"{PAUSE_SECONDS:.0f} seconds or more, {len(self.interruptions)} interruptions, "
            f"{len(self.tools)} tool calls. {self.note}"
        ).rstrip()


def speaker_timeline(
    conversation: Conversation, duration_seconds: float | None
) -> SpeakerTimeline | None:
    """Lay out the timeline; None without the time of any utterance."""
    turns = [turn for turn in conversation.turns if turn.start is not None and turn.end is not None]
    seconds = max([duration_seconds or 0.0, *(turn.end or 0.0 for turn in turns)])
    if not turns or not seconds:
        return None
    tools = [tool for tool in conversation.tools if tool.seconds is not None]
    silences = _silences(turns, seconds)
    is_cut = max(len(turns), len(tools), len(silences)) > _MAX_DRAWN
    turns, tools, silences = turns[:_MAX_DRAWN], tools[:_MAX_DRAWN], silences[:_MAX_DRAWN]
    scale = 100 / seconds
    return SpeakerTimeline(
        seconds=seconds,
        agent=[_speech(turn, scale) for turn in turns if turn.role == "agent"],
        user=[_speech(turn, scale) for turn in turns if turn.role != "agent"],
        silences=silences,
        tools=[_tool(tool, scale) for tool in tools],
        interruptions=[
            Point(t.start * scale, t.start, f"{format_duration(t.start)} {t.speaker} interrupts")
            for t in turns
            if t.interrupts and t.start is not None
        ],
        answers=[
            Point(
                t.start * scale,
                t.start,
                f"{format_duration(t.start)} answered after {format_milliseconds(t.answered_ms)}",
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
    label = f"{format_duration(start)} {label[:_MAX_LABEL]}"
    return Span(start * scale, width, start, end, kind.replace(" ", "-"), label)


def _silences(turns: list[Turn], seconds: float) -> list[Span]:
    """The gaps between utterances, and the one before the end of the call."""
    found, until, scale = [], 0.0, 100 / seconds
    spoken = sorted((turn.start or 0.0, turn.end or 0.0) for turn in turns)
    for start, end in [*spoken, (seconds, seconds)]:
        if start - until >= PAUSE_SECONDS:
            label = f"silence of {start - until:.0f} s"
            found.append(_span(until, start, scale, "silence", label))
        until = max(until, end)
    return found


def _ticks(seconds: float) -> list[Point]:
    # Impossible lengths, of days or years, get multiples of whole hours.
    hours = 3600 * ceil(seconds / _MAX_TICKS / 3600)
    step = next((s for s in _STEPS if seconds / s <= _MAX_TICKS), hours)
    return [
        Point(100 * at / seconds, at, format_duration(at))
        for at in range(0, int(seconds) + 1, step)
    ]
