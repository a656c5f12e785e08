"""Compare each version of an agent with the version before: figures, intervals, verdict. Pure.

Confidence intervals are 95 %.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby, pairwise
from typing import Any

from schema.statistics import Estimate, difference, mean, share

# With fewer calls on either side there is no verdict.
MIN_CALLS = 30
UNKNOWN = "not yet known"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure to compare. `better`: 1 where more is better, -1 where less is better, else 0;
    `filters`: those of the calls behind it."""

    name: str
    estimate: Callable[[Mapping[str, Any]], Estimate | None]
    better: int
    write: Callable[[float], str]
    write_change: Callable[[float, float], str]
    filters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A formatted measure of one version, and its difference from the version before, if any.

    `low`, `value` and `high` are percent of the width of the column's drawing; `filters` are those
    of its calls.
    """

    measure: str
    estimate: str
    interval: str
    count: int
    change: str
    verdict: str
    tone: str
    low: float
    value: float
    high: float
    filters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Version:
    """A row of the table; a cell is None if nothing was measured."""

    agent_id: str
    agent: str
    version: int
    before: int | None
    calls: int
    first_day: date
    last_day: date
    cells: list[Cell | None]


def verdict(change: Estimate, better: int) -> tuple[str, str]:
    """better, worse, more, fewer or not yet known; and its tone: good, bad or empty."""
    if change.count < MIN_CALLS or change.low <= 0 <= change.high:
        return UNKNOWN, ""
    sign = 1 if change.low > 0 else -1
    if not better:
        return ("more" if sign > 0 else "fewer"), ""
    return ("better", "good") if sign == better else ("worse", "bad")


def _percent(share: float) -> str:
    return f"{100 * share:.{_places(share)}f} %"


def _milliseconds(ms: float) -> str:
    return f"{ms:,.0f} ms"


def _cost(cents: float) -> str:
    sign = "−" if cents < 0 else ""
    return f"{sign}${abs(cents) / 100:,.{3 if cents < 100 else 2}f}"


def _places(share: float) -> int:
    return 0 if share == 0 or abs(share) >= 0.0995 else 1


def _points(low: float, high: float) -> str:
    places = max(_places(low), _places(high))
    return f"{_signed(low, 100, places)} to {_signed(high, 100, places)} points"


def _signed(value: float, times: float, places: int) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value * times):.{places}f}"


def _range(write: Callable[[float], str]) -> Callable[[float, float], str]:
    def written(low: float, high: float) -> str:
        return " to ".join(f"{'−' if end < 0 else '+'}{write(abs(end))}" for end in (low, high))

    return written


def _share_of(name: str, part: str, count: str, better: int, **filters: str) -> Measure:
    def estimate(row: Mapping[str, Any]) -> Estimate | None:
        return share(row[part], row[count])

    return Measure(name, estimate, better, _percent, _points, filters)


def _mean_of(
    name: str, what: str, better: int, write: Callable[[float], str], **filters: str
) -> Measure:
    def estimate(row: Mapping[str, Any]) -> Estimate | None:
        return mean(row[f"{what}_sum"], row[f"{what}_squares"], row[f"{what}_count"])

    return Measure(name, estimate, better, write, _range(write), filters)


MEASURES = (
    _share_of("Success", "successful", "judged", 1, success="yes"),
    _share_of("Negative", "negative", "with_sentiment", -1, sentiment="negative"),
    _share_of("Transferred", "transferred", "calls", 0, transferred="yes"),
    _mean_of("Median answer", "answer_ms", -1, _milliseconds),
    _mean_of("Cost of a call", "cost_cents", -1, _cost, sort="-cost"),
)


def compare_versions(found: Iterable[Mapping[str, Any]], *, only_newest: bool) -> list[Version]:
    """The versions in `found`, the ordered rows of charts/versions.sql: the newest of each agent
    first. `only_newest`: one version per agent, of agents with an earlier version."""
    pairs: list[tuple[Mapping[str, Any] | None, Mapping[str, Any]]] = []
    for _, versions in groupby(found, key=lambda row: row["agent_id"]):
        of_agent = list(pairwise([None, *versions]))[::-1]
        if only_newest:
            of_agent = [pair for pair in of_agent[:1] if pair[0]]
        pairs += [(before, now) for before, now in of_agent if now]
    if only_newest:
        pairs.sort(key=lambda pair: -pair[1]["calls"])
    estimates = [[m.estimate(now) for m in MEASURES] for _, now in pairs]
    scales = [_scale(column) for column in zip(*estimates, strict=True)]
    return [
        Version(
            agent_id=now["agent_id"],
            agent=now["agent_name"] or now["agent_id"],
            version=now["agent_version"],
            before=before["agent_version"] if before else None,
            calls=now["calls"],
            first_day=date.fromisoformat(now["first_day"]),
            last_day=date.fromisoformat(now["last_day"]),
            cells=[
                _cell(measure, measure.estimate(before) if before else None, estimate, *scale)
                for measure, estimate, scale in zip(MEASURES, row, scales, strict=True)
            ],
        )
        for (before, now), row in zip(pairs, estimates, strict=True)
    ]


def _scale(column: Iterable[Estimate | None]) -> tuple[float, float]:
    """Start and width of a column's intervals."""
    known = [estimate for estimate in column if estimate]
    low = min((estimate.low for estimate in known), default=0.0)
    high = max((estimate.high for estimate in known), default=1.0)
    return low, (high - low) or 1.0


def _cell(
    measure: Measure, before: Estimate | None, now: Estimate | None, start: float, width: float
) -> Cell | None:
    if now is None:
        return None
    change = word = tone = ""
    if before:
        more = difference(before, now)
        word, tone = verdict(more, measure.better)
        change = measure.write_change(more.low, more.high)
    return Cell(
        measure=measure.name,
        estimate=measure.write(now.value),
        interval=f"{measure.write(now.low)} to {measure.write(now.high)}",
        count=now.count,
        change=change,
        verdict=word,
        tone=tone,
        low=100 * (now.low - start) / width,
        value=100 * (now.value - start) / width,
        high=100 * (now.high - start) / width,
        filters=measure.filters,
    )
