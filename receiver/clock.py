"""The one clock, local midnights, and lengths of time for people.

Functions that need the time get it, or `now_ms`, as an argument.
"""

import time
from datetime import date, datetime
from zoneinfo import ZoneInfo


def now_ms() -> int:
    """The time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def midnight_ms(day: date, zone: ZoneInfo) -> int:
    """The start of a local day, in milliseconds."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def format_duration(seconds: float | None) -> str:
    """1:05, or 2:00:07 from an hour on."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.zfill(5)}"
