"""Figures of a period and their difference from the period before, for all pages.

Pure, except for URLs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from receiver.browse.charts.versions import UNKNOWN, verdict
from receiver.browse.formatting import format_milliseconds
from receiver.browse.pages.call_filters import calls_url
from receiver.browse.pages.periods import Period
from schema.statistics import Estimate, difference, mean, share

if TYPE_CHECKING:
    from datasette.app import Datasette

# Smaller changes are noise.
_MIN_CHANGE = 0.005
# Sums over connected calls, as the queries of sums.py name them.
_OF_CONNECTED = (
    *("successful", "judged", "negative", "with_sentiment", "transferred"),
    *("answer_ms", "answer_squares", "answers"),
)


@dataclass(slots=True)
class Totals:
    """Sums over calls; those of _OF_CONNECTED over connected calls alone."""

    calls: int = 0
    connected: int = 0
    ms: float = 0.0
    cents: float = 0.0
    cents_squares: float = 0.0
    with_cost: int = 0
    successful: int = 0
    judged: int = 0
    negative: int = 0
    with_sentiment: int = 0
    transferred: int = 0
    answer_ms: float = 0.0
    answer_squares: float = 0.0
    answers: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of the queries."""
        names = ["calls", "ms", "cents", "cents_squares", "with_cost"]
        if row["connected"]:
            self.connected += row["calls"]
            names += _OF_CONNECTED
        for name in names:
            setattr(self, name, getattr(self, name) + (row[name] or 0))

    @property
    def cost_of_call(self) -> Estimate | None:
        """The cost of a call in cents, of those with a cost."""
        return mean(self.cents, self.cents_squares, self.with_cost)

    @property
    def answer_of_call(self) -> Estimate | None:
        """The median time to answer of a call, on average."""
        return mean(self.answer_ms, self.answer_squares, self.answers)


@dataclass(frozen=True, slots=True)
class Figure:
    """A formatted figure. `change`: the difference from before; `tone`: good, bad or empty;
    `note`: what it counts, or why there is no value; `url`: the calls behind it."""

    name: str
    value: str
    change: str = ""
    tone: str = ""
    note: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses of the calls of a period that match `chosen` filters."""

    datasette: "Datasette"
    period: Period
    chosen: Mapping[str, str]

    def calls(self, **filters: str | int | None) -> str:
        """The calls of the period with these filters."""
        days = {"since": self.period.first.isoformat(), "until": self.period.last.isoformat()}
        return calls_url(self.datasette, **{**days, **self.chosen, **filters})

    def of_agent(self, agent: str | None, **filters: str) -> str:
        """Those of an agent; empty for the calls without one, as there is no such filter."""
        return "" if agent is None else self.calls(agent=agent, **filters)


def totals(rows: Iterable[Mapping[str, Any]]) -> dict[int, Totals]:
    """The sums of the period, 1, and of the time before, 0."""
    halves = {1: Totals(), 0: Totals()}
    for row in rows:
        halves[row["half"]].add(row)
    return halves


def relative_change(value: float, old: float) -> str:
    """The relative change, such as ▲ 10 %; empty without a value before."""
    if not old:
        return ""
    change = value / old - 1
    if abs(change) < _MIN_CHANGE:
        return "the same"
    return f"{'▲' if change > 0 else '▼'} {abs(change) * 100:.0f} %"


def amount_figure(
    name: str,
    value: float | None,
    old: float | None,
    write: Callable[[float], str],
    note: str = "",
    url: str = "",
) -> Figure:
    """An amount and its change in percent, without a colour."""
    if value is None:
        return Figure(name, "–", note=note, url=url)
    change = "" if old is None else relative_change(value, old)
    return Figure(name, write(value), change, note=note, url=url)


def wait_figures(waits: Mapping[int, Mapping[str, Any]], url: str) -> list[Figure]:
    """Two percentiles of the time to answer; `url` has the calls of all answers."""
    note = "From the end of a turn to the agent's answer."
    now, before = waits.get(1, {}), waits.get(0, {})
    return [
        amount_figure(name, now.get(column), before.get(column), format_milliseconds, note, url)
        for name, column in (("Median answer", "p50_ms"), ("95 % answered within", "p95_ms"))
    ]


def share_figure(
    name: str, now: Any, before: Any, of: str, count: str, better: int, note: str, url: str = ""
) -> Figure:
    """A share, and its difference in points, with a tone if it is significant."""
    value = share(getattr(now, of), getattr(now, count))
    if value is None:
        return Figure(name, "–", note=note, url=url)
    shown = f"{100 * value.value:.0f} %"
    old = share(getattr(before, of), getattr(before, count))
    if old is None:
        return Figure(name, shown, note=note, url=url)
    points, tone, range_ = points_change(old, value, better)
    return Figure(name, shown, points, tone, f"{note} {range_}", url)


def mean_figure(
    name: str,
    now: Estimate | None,
    before: Estimate | None,
    better: int,
    write: Callable[[float], str],
    note: str,
    url: str = "",
) -> Figure:
    """A mean, and its change in percent, with a tone if it is significant."""
    if now is None:
        return Figure(name, "–", note=note, url=url)
    if before is None:
        return Figure(name, write(now.value), note=note, url=url)
    change = relative_change(now.value, before.value)
    _, tone = verdict(difference(before, now), better)
    return Figure(name, write(now.value), change, tone, note, url)


def points_change(old: Estimate, now: Estimate, better: int) -> tuple[str, str, str]:
    """The difference of two shares in points, its tone, and its interval in words.

    It has a tone only if the interval excludes zero and there are at least 30 calls.
    """
    change = difference(old, now)
    points = 100 * change.value
    text = "the same" if abs(points) < 0.5 else f"{'▲' if points > 0 else '▼'} {abs(points):.0f} pt"
    interval = f"Difference {100 * change.low:+.1f} to {100 * change.high:+.1f} points"
    interval = interval.replace("-", "−")
    word, tone = verdict(change, better)
    return text, tone, f"{interval}: may be chance." if word == UNKNOWN else f"{interval}."
