"""Periods of home and dashboards: each is compared with the one before. Pure."""

from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from receiver.browse.formatting import local_day
from receiver.clock import midnight_ms

# Name in the address -> number of days, and the name for people.
PERIODS = {"today": 1, "7-days": 7, "30-days": 30}
TITLES = {"today": "Today", "7-days": "7 days", "30-days": "30 days"}
DEFAULT = "7-days"


@dataclass(frozen=True, slots=True)
class Period:
    """Local days, both inclusive, and the time it is compared with.

    Times are milliseconds, ends exclusive. `before_until` is earlier than `before_end` where the
    last day is not over: the time before has the same hours.
    """

    name: str
    title: str
    compared_with: str
    first: date
    last: date
    since: int
    until: int
    before_since: int
    before_until: int
    # The midnight before `before_until`.
    before_midnight: int
    # The midnight at which that day ends.
    before_end: int
    before_first: date

    @property
    def is_day(self) -> bool:
        """Whether it is a single day."""
        return self.first == self.last

    @property
    def is_whole(self) -> bool:
        """Whether the time before consists of whole days."""
        return self.before_until == self.before_end

    @property
    def params(self) -> dict[str, int]:
        """The times, as the queries of single calls name them."""
        names = ("since", "until", "before_since", "before_until")
        return {name: getattr(self, name) for name in names}


def period_of(name: str, latest_ms: int, now_ms: int, zone: ZoneInfo) -> Period:
    """The period that ends with the last day with calls, so that an old file has figures too."""
    last, today = local_day(latest_ms, zone), local_day(now_ms, zone)
    count = PERIODS[name]
    is_over = last < today
    title = TITLES[name]
    if count == 1 and is_over:
        title = "Yesterday" if (today - last).days == 1 else "The last day"
    if count > 1:
        compared = f"the {count} days before"
    else:
        compared = "the day before" if is_over else "yesterday up to this time"
    first = last - timedelta(days=count - 1)
    before = first - timedelta(days=count), last - timedelta(days=count)
    return _compared((name, title, compared), (first, last), before, now_ms, zone)


def chosen_period(first: date, last: date, now_ms: int, zone: ZoneInfo) -> Period:
    """The period of chosen days. Days that are still to come have nothing to compare."""
    last = max(first, min(last, local_day(now_ms, zone)))
    before = days_before(first, last)
    compared = f"{before[0]:%-d %B} to {before[1]:%-d %B %Y}"
    if before[0] == before[1]:
        compared = f"{before[0]:%A %-d %B %Y}"
    if now_ms < midnight_ms(last + timedelta(days=1), zone):
        compared += ", up to this time of the day"
    return _compared(("", "", compared), (first, last), before, now_ms, zone)


def days_before(first: date, last: date) -> tuple[date, date]:
    """The days to compare with: of less than a week, the same weekdays of the week before; of a
    month from its first day on, the same days of the month before; else as many days."""
    count = (last - first).days + 1
    if count < 7:
        return first - timedelta(days=7), last - timedelta(days=7)
    end = first - timedelta(days=1)
    if first.day == 1 and (first.year, first.month) == (last.year, last.month):
        is_whole = (last + timedelta(days=1)).day == 1
        return end.replace(day=1), end if is_whole else end.replace(day=min(last.day, end.day))
    return first - timedelta(days=count), end


def _compared(
    names: tuple[str, str, str],
    days: tuple[date, date],
    before: tuple[date, date],
    now_ms: int,
    zone: ZoneInfo,
) -> Period:
    def at(day: date, after: int = 0) -> int:
        return midnight_ms(day + timedelta(days=after), zone)

    last_midnight, until = at(days[1]), at(days[1], 1)
    before_midnight, before_end = at(before[1]), at(before[1], 1)
    before_until = before_end
    if now_ms < until:
        # Compare an unfinished day with as much of the day before. It may have 23 or 25 hours.
        before_until = min(before_end, before_midnight + max(0, now_ms - last_midnight))
    return Period(
        *names,
        first=days[0],
        last=days[1],
        since=at(days[0]),
        until=until,
        before_since=at(before[0]),
        before_until=before_until,
        before_midnight=before_midnight,
        before_end=before_end,
        before_first=before[0],
    )
