"""The home page: figures of the last day and of 30 days, each compared with the time before.

A query over its time limit leaves its figure out, so that the page stays fast.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from datasette import Forbidden

from receiver import clock
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.formatting import (
    format_dollars,
    format_milliseconds,
    local_day,
    midnight_ms,
)
from receiver.browse.pages import Reader, fetch_rows, require_reader, timezone
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_LIMIT_MS = 450
# Smaller changes are noise.
_MIN_CHANGE = 0.005

# The years 2 to 9998: in every time zone, there are days before and after. Older versions stored
# impossible times, which pages skip.
_FIRST_MS, _LAST_MS = -62_104_060_800_000, 253_370_764_799_999
_IS_DATED = f"started_at_ms BETWEEN {_FIRST_MS} AND {_LAST_MS}"
_LATEST = f"SELECT max(started_at_ms) AS at FROM call_log WHERE {_IS_DATED}"
FIRST_AND_LAST = f"""
SELECT min(started_at_ms) AS first, max(started_at_ms) AS last FROM (
    SELECT (SELECT min(started_at_ms) FROM call_log WHERE {_IS_DATED}) AS started_at_ms
    UNION ALL SELECT max(started_at_ms) FROM call_log WHERE {_IS_DATED}
)
"""

# Each period is a range of the index calls_at; `half` is 1 in it and 0 in the time before. A call
# that never connected counts as a call and in no other figure, as in the views.
_CALL_TIME = plain("call_time(c)")
_IN_PERIOD = f"{_CALL_TIME} >= :before_since AND {_CALL_TIME} < :until"
_BETWEEN_HALVES = f"({_CALL_TIME} >= :before_until AND {_CALL_TIME} < :since)"
_AMOUNTS = f"""
SELECT
    {_CALL_TIME} >= :since AS half,
    count(*) AS calls,
    -- A sum of integers may overflow, which is an error.
    sum(c.duration_ms + 0.0) / 60000.0 AS minutes,
    sum(c.combined_cost_cents) AS cents
FROM calls c WHERE {_IN_PERIOD} AND NOT {_BETWEEN_HALVES} GROUP BY 1
"""
_SUCCESS = plain(f"""
SELECT {_CALL_TIME} >= :since AS half, avg(a.call_successful) AS success
FROM calls c
JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE {_IN_PERIOD} AND NOT {_BETWEEN_HALVES}
    AND is_connected(c, r)
GROUP BY 1
""")
# The same for whole days, from rollups.
_DAYS = plain("""
SELECT
    h.day >= :since AS half,
    sum(h.calls) AS calls,
    sum(h.duration_ms_sum) / 60000.0 AS minutes,
    sum(h.cost_cents_sum) AS cents,
    1.0 * sum(h.successful_count) FILTER (WHERE are_connected(h, r))
        / sum(h.judged_count) FILTER (WHERE are_connected(h, r))
        AS success
FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE h.day >= :before_since AND h.day < :until AND NOT (h.day >= :before_until AND h.day < :since)
GROUP BY 1
""")


def _wait_percentiles(view: str, at: str) -> str:
    """Percentiles over every answer of every call, from counts of answers by length of wait."""
    return f"""
WITH
    waits AS (
        SELECT {at} >= :since AS half, wait_ms, sum(answers) AS answers
        FROM {view}
        WHERE {at} >= :before_since AND {at} < :until
            AND NOT ({at} >= :before_until AND {at} < :since)
        GROUP BY 1, 2
    ),
    ranked AS (
        SELECT
            half, wait_ms,
            1.0 * sum(answers) OVER (PARTITION BY half ORDER BY wait_ms)
                / sum(answers) OVER (PARTITION BY half) AS reached
        FROM waits
    )
SELECT
    half,
    min(CASE WHEN reached >= 0.5 THEN wait_ms END) AS p50_ms,
    min(CASE WHEN reached >= 0.95 THEN wait_ms END) AS p95_ms
FROM ranked GROUP BY half
"""


_CALLS_BY_DAY = "SELECT day, sum(calls) AS calls FROM daily_calls WHERE day >= :since GROUP BY day"
_ATTENTION = "SELECT what, count(*) AS entries FROM needs_attention GROUP BY what ORDER BY what"
_NEWEST = "SELECT * FROM call_log ORDER BY started_at_ms DESC LIMIT 8"

# Query -> the columns it fills. An unfinished day is compared with part of the day before, so it
# needs single calls and hours; the 30 days use whole days.
_DAY_QUERIES = {
    _AMOUNTS: ("calls", "minutes", "cents"),
    _SUCCESS: ("success",),
    _wait_percentiles("hourly_waits", "hour"): ("p50_ms", "p95_ms"),
}
_MONTH_QUERIES = {
    _DAYS: ("calls", "minutes", "cents", "success"),
    _wait_percentiles("daily_waits", "day"): ("p50_ms", "p95_ms"),
}


@dataclass(frozen=True, slots=True)
class Period:
    """A range of time and the one it is compared with, in milliseconds, ends exclusive."""

    title: str
    compared_with: str
    since: int
    until: int
    before_since: int
    before_until: int

    @property
    def params(self) -> dict[str, int]:
        """The ranges, as the queries name them."""
        names = ("since", "until", "before_since", "before_until")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Figure:
    """A formatted figure. `change`: the difference from before; `tone`: good, bad or empty;
    `note`: why there is no value."""

    name: str
    value: str
    change: str
    tone: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the chart; `height` is its percentage of the busiest day."""

    index: int
    day: date
    calls: int
    height: float


@dataclass(slots=True)
class Home:
    """What the page shows; rows as in the views."""

    timezone: str
    periods: list[tuple[Period, list[Figure]]] = field(default_factory=list)
    days: list[Day] = field(default_factory=list)
    attention: list[dict[str, Any]] | None = field(default_factory=list)
    newest: list[dict[str, Any]] = field(default_factory=list)


async def home(
    datasette: "Datasette", request: "Request", *, now_ms: int | None = None
) -> Home | None:
    """The content of the page; None for a visitor who may not read the database."""
    try:
        reader = await require_reader(datasette, request)
    except Forbidden:
        return None
    zone = timezone(datasette)
    shown = Home(zone.key)
    [latest] = await fetch_rows(reader, _LATEST)
    if latest["at"] is None:
        return shown
    now_ms = clock.now_ms() if now_ms is None else now_ms
    day, month = periods(latest["at"], now_ms, zone)
    shown.newest = await fetch_rows(reader, _NEWEST)
    month_params = {name: local_day(at, zone).isoformat() for name, at in month.params.items()}
    of_day, of_month, shown.days, shown.attention = await asyncio.gather(
        _fetch_figures(reader, _DAY_QUERIES, day.params),
        _fetch_figures(reader, _MONTH_QUERIES, month_params),
        _fetch_days(reader, local_day(latest["at"], zone)),
        _fetch_in_time(reader, _ATTENTION, {}),
    )
    shown.periods = [(day, of_day), (month, of_month)]
    return shown


async def _fetch_in_time(
    reader: Reader, sql: str, params: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """The rows, or None after the time limit."""
    try:
        return await fetch_rows(reader, sql, params, limit_ms=_LIMIT_MS)
    except QueryInterrupted:
        return None


async def _fetch_figures(
    reader: Reader, queries: dict[str, tuple[str, ...]], params: dict[str, Any]
) -> list[Figure]:
    halves: dict[int, dict[str, Any]] = {}
    late: set[str] = set()
    results = await asyncio.gather(*(_fetch_in_time(reader, sql, params) for sql in queries))
    for names, result in zip(queries.values(), results, strict=True):
        if result is None:
            late.update(names)
        for row in result or ():
            halves.setdefault(row["half"], {}).update(row)
    return figures(halves, frozenset(late))


async def _fetch_days(reader: Reader, last: date) -> list[Day]:
    """The last 30 days, including those without a call."""
    days = [last - timedelta(days=n) for n in range(29, -1, -1)]
    found = await _fetch_in_time(reader, _CALLS_BY_DAY, {"since": days[0].isoformat()})
    if found is None:
        return []
    calls = {row["day"]: row["calls"] for row in found}
    most = max(calls.values(), default=0) or 1
    return [
        Day(index, day, calls.get(day.isoformat(), 0), 100 * calls.get(day.isoformat(), 0) / most)
        for index, day in enumerate(days)
    ]


def periods(latest_ms: int, now_ms: int, zone: ZoneInfo) -> tuple[Period, Period]:
    """The last day with calls, compared with the day before up to the same time of day, and the
    30 days up to it, compared with the 30 days before.

    The last day with calls instead of today, so that an old file has figures too.
    """
    day, today = local_day(latest_ms, zone), local_day(now_ms, zone)

    def at(days: int) -> int:
        return midnight_ms(day + timedelta(days=days), zone)

    is_today = day >= today
    # Compare an unfinished day with as much of the day before.
    elapsed = max(0, min(now_ms, at(1)) - at(0)) if is_today else at(1) - at(0)
    title = "Today" if is_today else ("Yesterday" if (today - day).days == 1 else "The last day")
    compared = "yesterday up to this time" if is_today else "the day before"
    single = Period(title, compared, at(0), at(1), at(-1), min(at(0), at(-1) + elapsed))
    month = Period("30 days", "the 30 days before", at(-29), at(1), at(-59), at(-29))
    return single, month


def figures(halves: Mapping[int, Mapping[str, Any]], late: frozenset[str]) -> list[Figure]:
    """Six figures from the columns of the queries: `halves` has 1 for the period, 0 for the time
    before. `late` names the columns whose query took too long."""
    now, before = halves.get(1, {}), halves.get(0, {})

    def figure(name: str, column: str, write: Any, better: int = 0) -> Figure:
        value, old = now.get(column), before.get(column)
        note = "This figure takes too long to compute." if column in late else ""
        shown = "–" if value is None else write(value)
        return Figure(name, shown, *_change(value, old, better), note)

    return [
        figure("Calls", "calls", lambda n: f"{n:,}"),
        figure("Minutes", "minutes", lambda n: f"{n:,.0f}"),
        figure("Cost", "cents", format_dollars),
        figure("Success", "success", lambda share: f"{100 * share:.0f} %", better=1),
        figure("Median answer", "p50_ms", format_milliseconds, better=-1),
        figure("95 % answered within", "p95_ms", format_milliseconds, better=-1),
    ]


def _change(value: float | None, old: float | None, better: int) -> tuple[str, str]:
    """The relative change, and good or bad where more (1) or less (-1) is better."""
    if value is None or not old:
        return "", ""
    share = value / old - 1
    if abs(share) < _MIN_CHANGE:
        return "the same", ""
    tone = "" if not better else "good" if share * better > 0 else "bad"
    return f"{'▲' if share > 0 else '▼'} {abs(share) * 100:.0f} %", tone
