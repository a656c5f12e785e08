"""Periods of the home page: each is compared with the one before. Pure."""

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

    Times are milliseconds, ends exclusive. `before_until` is earlier than `since` where the last
    day is not over: the time before has the same hours.
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
    # The midnight at which the part of a day begins that ends at `before_until`.
    before_midnight: int

    @property
    def is_day(self) -> bool:
        """Whether it is a single day."""
        return self.first == self.last

    @property
    def params(self) -> dict[str, int]:
        """The times, as the queries of single calls name them."""
        names = ("since", "until", "before_since", "before_until")
        return {name: getattr(self, name) for name in names}


def period_of(name: str, latest_ms: int, now_ms: int, zone: ZoneInfo) -> Period:
    """The period that ends with the last day with calls, so that an old file has figures too."""
    last, today = local_day(latest_ms, zone), local_day(now_ms, zone)
    count = PERIODS[name]

    def at(days: int) -> int:
        return midnight_ms(last + timedelta(days=days), zone)

    is_over = last < today
    # Compare an unfinished day with as much of the day of the period before.
    elapsed = at(1) - at(0) if is_over else max(0, min(now_ms, at(1)) - at(0))
    before_midnight = at(-count)
    # A day may have 23 or 25 hours.
    before_until = min(at(1 - count), before_midnight + elapsed)
    if is_over:
        before_until = at(1 - count)
    title = TITLES[name]
    if count == 1 and is_over:
        title = "Yesterday" if (today - last).days == 1 else "The last day"
    if count > 1:
        compared = f"the {count} days before"
    else:
        compared = "the day before" if is_over else "yesterday up to this time"
    return Period(
        name=name,
        title=title,
        compared_with=compared,
        first=last - timedelta(days=count - 1),
        last=last,
        since=at(1 - count),
        until=at(1),
        before_since=at(1 - 2 * count),
        before_until=before_until,
        before_midnight=before_midnight,
    )
