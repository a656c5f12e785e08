"""The figures of a period against those of the time before it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.browse.text import dollars, length, local_time

# Changes below this share are noise of everyday.
_SAME = 0.005


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time and the one it is compared with; milliseconds, ends exclusive."""

    title: str
    compared_with: str
    since: int
    until: int
    before_since: int
    before_until: int

    @property
    def params(self) -> dict[str, int]:
        """As the queries name them."""
        names = ("since", "until", "before_since", "before_until")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure for people. `change` is how it differs from before, `tone` whether that is good,
    bad or neither, `note` why there is no value."""

    name: str
    value: str
    change: str
    tone: str
    note: str = ""


def day_of(ms: int, zone: ZoneInfo) -> date:
    """The local day of a time."""
    return local_time(ms, zone).date()


def midnight(day: date, zone: ZoneInfo) -> int:
    """When a local day begins, in milliseconds."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def periods(latest_ms: int, now_ms: int, zone: ZoneInfo) -> tuple[Period, Period]:
    """The last day with calls, against the day before as far as it had come by now; and the 30 days
    up to it, against the 30 before.

    The last day with calls, and not today's date, for a file that nothing arrives in any more still
    has something to say.
    """
    day, today = day_of(latest_ms, zone), day_of(now_ms, zone)

    def at(days: int) -> int:
        return midnight(day + timedelta(days=days), zone)

    is_today = day >= today
    # A day that has just begun is not to look poor beside a whole one.
    elapsed = max(0, min(now_ms, at(1)) - at(0)) if is_today else at(1) - at(0)
    title = "Today" if is_today else ("Yesterday" if (today - day).days == 1 else "The last day")
    compared = "the day before until this hour" if is_today else "the day before"
    single = Period(title, compared, at(0), at(1), at(-1), min(at(0), at(-1) + elapsed))
    month = Period("30 days", "the 30 days before", at(-29), at(1), at(-59), at(-29))
    return single, month


def figures(halves: Mapping[int, Mapping[str, Any]], late: frozenset[str]) -> list[Figure]:
    """Six figures from the queries' columns: `halves` has 1 for the period, 0 for before it.

    `late` names columns that took too long to add up.
    """
    now, before = halves.get(1, {}), halves.get(0, {})

    def figure(name: str, column: str, write: Any, better: int = 0) -> Figure:
        value, old = now.get(column), before.get(column)
        note = "This took too long to add up." if column in late else ""
        shown = "–" if value is None else write(value)
        return Figure(name, shown, *_change(value, old, better), note)

    return [
        figure("Calls", "calls", lambda n: f"{n:,}"),
        figure("Minutes", "minutes", lambda n: f"{n:,.0f}"),
        figure("Cost", "cents", dollars),
        figure("Success", "success", lambda share: f"{100 * share:.0f} %", better=1),
        figure("Median answer", "p50_ms", length, better=-1),
        figure("95 % answered within", "p95_ms", length, better=-1),
    ]


def _change(value: float | None, old: float | None, better: int) -> tuple[str, str]:
    """The relative change in words, and good or bad where more (1) or less (-1) is better."""
    if value is None or not old:
        return "", ""
    share = value / old - 1
    if abs(share) < _SAME:
        return "the same", ""
    tone = "" if not better else "good" if share * better > 0 else "bad"
    return f"{'▲' if share > 0 else '▼'} {abs(share) * 100:.0f} %", tone
