"""The one clock, elapsed times, local midnights, hours of a day, and lengths of time for people.

Functions that need the time get it, or `now_ms`, as an argument.
"""

import re
import time
from datetime import date, datetime
from zoneinfo import ZoneInfo

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")


def now_ms() -> int:
    """The time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def has_passed(length_ms: int, *, since: int, now_ms: int) -> bool:
    """Whether a length of time has passed since a time. A time in the future was written while the
    clock was ahead, and counts as long ago."""
    return not since <= now_ms < since + length_ms


def midnight_ms(day: date, zone: ZoneInfo) -> int:
    """The start of a local day, in milliseconds."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def parse_hours(text: str) -> tuple[int, int] | None:
    """The two times of a text such as 9:00-17:30, in minutes since midnight; None if there are no
    such times. The second may be the smaller one."""
    match = _HOURS.fullmatch(text)
    if match is None:
        return None
    h1, m1, h2, m2 = (int(part) for part in match.groups())
    start, end = 60 * h1 + m1, 60 * h2 + m2
    is_valid = m1 < 60 and m2 < 60 and start < 1440 and end <= 1440 and start != end
    return (start, end) if is_valid else None


def format_duration(seconds: float | None) -> str:
    """1:05, or 2:00:07 from an hour on."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.zfill(5)}"
