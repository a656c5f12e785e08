"""What is going on: the figures of Datasette's first page."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from datasette import Forbidden
from datasette.database import QueryInterrupted

from receiver.browse import queries
from receiver.browse.pages import Reader, require_reader, rows, timezone
from receiver.browse.periods import Figure, Period, day_of, figures, midnight, periods

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# A figure that is not there by then is left out: the page is what people wait for every morning.
_LIMIT_MS = 450
_COLUMNS = {
    queries.AMOUNTS: ("calls", "minutes", "cents"),
    queries.SUCCESS: ("success",),
    queries.LATENCY: ("p50_ms", "p95_ms"),
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
    now_ms = round(time.time() * 1000) if now_ms is None else now_ms
    single, month = periods(latest["at"], now_ms, zone)
    shown.newest = await rows(reader, queries.NEWEST)
    # What is quick first: the figures of a month may use up their time.
    one, shown.days, shown.attention = await asyncio.gather(
        _figures(reader, single),
        _days(reader, day_of(latest["at"], zone)),
        _in_time(reader, queries.ATTENTION, {}),
    )
    shown.periods = [(single, one), (month, await _figures(reader, month))]
    return shown


async def _in_time(reader: Reader, sql: str, params: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The rows, or None if they are not there in time."""
    try:
        return await rows(reader, sql, params, limit_ms=_LIMIT_MS)
    except QueryInterrupted:
        return None


async def _figures(reader: Reader, period: Period) -> list[Figure]:
    halves: dict[int, dict[str, Any]] = {}
    late: set[str] = set()
    answers = await asyncio.gather(*(_in_time(reader, sql, period.params) for sql in _COLUMNS))
    for columns, answer in zip(_COLUMNS.values(), answers, strict=True):
        if answer is None:
            late.update(columns)
        for row in answer or ():
            halves.setdefault(row["half"], {}).update(row)
    return figures(halves, frozenset(late))


async def _days(reader: Reader, last: date) -> list[Day]:
    """The last 30 days, also those without a call."""
    zone = timezone(reader.datasette)
    days = [last - timedelta(days=n) for n in range(29, -1, -1)]
    ends = [(midnight(d, zone), midnight(d + timedelta(days=1), zone)) for d in days]
    found = await _in_time(reader, queries.CALLS_BY_DAY, {"days": json.dumps(ends)})
    if found is None:
        return []
    most = max(row["calls"] for row in found) or 1
    return [
        Day(index, day, row["calls"], 100 * row["calls"] / most)
        for index, (day, row) in enumerate(zip(days, found, strict=True))
    ]
