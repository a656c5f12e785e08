"""What is going on: the figures of Datasette's first page."""

import asyncio
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from datasette import Forbidden

from receiver import clock
from receiver.browse import queries
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.pages import Reader, require_reader, rows, timezone
from receiver.browse.periods import Figure, Period, day_of, figures, periods

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# A figure that is not there by then is left out: the page is what people wait for every morning.
_LIMIT_MS = 450
# A day that is not over is held against a part of another one: call by call.
_OF_A_DAY = {
    queries.AMOUNTS: ("calls", "minutes", "cents"),
    queries.SUCCESS: ("success",),
    queries.WAITS_OF_HOURS: ("p50_ms", "p95_ms"),
}
_OF_DAYS = {
    queries.DAYS: ("calls", "minutes", "cents", "success"),
    queries.WAITS_OF_DAYS: ("p50_ms", "p95_ms"),
}


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the chart; `height` is its share of the busiest, in percent."""

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
    """The figures; None for who may not see the database. Datasette shows the rest of the page."""
    try:
        reader = await require_reader(datasette, request)
    except Forbidden:
        return None
    zone = timezone(datasette)
    shown = Home(zone.key)
    [latest] = await rows(reader, queries.LATEST)
    if latest["at"] is None:
        return shown
    now_ms = clock.now_ms() if now_ms is None else now_ms
    single, month = periods(latest["at"], now_ms, zone)
    shown.newest = await rows(reader, queries.NEWEST)
    of_days = {name: day_of(at, zone).isoformat() for name, at in month.params.items()}
    one, thirty, shown.days, shown.attention = await asyncio.gather(
        _figures(reader, _OF_A_DAY, single.params),
        _figures(reader, _OF_DAYS, of_days),
        _days(reader, day_of(latest["at"], zone)),
        _in_time(reader, queries.ATTENTION, {}),
    )
    shown.periods = [(single, one), (month, thirty)]
    return shown


async def _in_time(reader: Reader, sql: str, params: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows, or None if they are not there in time."""
    try:
        return await rows(reader, sql, params, limit_ms=_LIMIT_MS)
    except QueryInterrupted:
        return None


async def _figures(
    reader: Reader, columns: dict[str, tuple[str, ...]], params: dict[str, Any]
) -> list[Figure]:
    """The figures of a period by the columns that each query gives."""
    halves: dict[int, dict[str, Any]] = {}
    late: set[str] = set()
    answers = await asyncio.gather(*(_in_time(reader, sql, params) for sql in columns))
    for names, answer in zip(columns.values(), answers, strict=True):
        if answer is None:
            late.update(names)
        for row in answer or ():
            halves.setdefault(row["half"], {}).update(row)
    return figures(halves, frozenset(late))


async def _days(reader: Reader, last: date) -> list[Day]:
    """The last 30 days, also those without a call."""
    days = [last - timedelta(days=n) for n in range(29, -1, -1)]
    found = await _in_time(reader, queries.CALLS_BY_DAY, {"since": days[0].isoformat()})
    if found is None:
        return []
    calls = {row["day"]: row["calls"] for row in found}
    most = max(calls.values(), default=0) or 1
    return [
        Day(index, day, calls.get(day.isoformat(), 0), 100 * calls.get(day.isoformat(), 0) / most)
        for index, day in enumerate(days)
    ]
