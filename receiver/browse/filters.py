"""Filters of tables and views take what their cells show: yes, 2:05, $0.50, a local day.

Datasette compares a filter's text with the stored value; see `cells.py` for what people see of it.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.browse.cells import FLAGS, ISO_COLUMNS, TIME_COLUMNS, TONES

_COMPARISONS = frozenset({"exact", "not", "gt", "gte", "lt", "lte", "in", "notin"})
_WORDS = {"yes": "1", "no": "0", "true": "1", "false": "0"}
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})")
_DOLLARS = re.compile(r"(-?)\$([\d,]*\.?\d+)")
# A day, and the time of it; the zone's name, which cells show, says nothing more.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?))?(?: [A-Z][A-Z0-9+-]*)?")
# A day or second that is excluded or included is so in full.
_BOUNDS = {"gt": ("gte", True), "gte": ("gte", False), "lt": ("lt", False), "lte": ("lt", True)}
# A view's column without a type, so that it can be sorted by an index: compared as a number.
_UNTYPED = frozenset({"started_at_ms"})


def stored(column: str, lookup: str, shown: str, zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    """Yield each lookup and value to compare a column with, for what a cell of it shows."""
    is_ms = column.endswith("_timestamp") or column in TIME_COLUMNS or column == "started_at_ms"
    if (column in ISO_COLUMNS or is_ms) and (time := _TIME.fullmatch(shown.strip())):
        yield from _times(lookup, time, zone, is_ms=is_ms)
        return
    if lookup not in _COMPARISONS:
        yield lookup, shown
    elif lookup in ("in", "notin") and not shown.startswith("["):
        yield lookup, ",".join(_value(column, part.strip()) for part in shown.split(","))
    else:
        yield lookup, _value(column, shown)


def _value(column: str, shown: str) -> str:
    text = shown.strip().lower()
    if column in FLAGS:
        return _WORDS.get(text, shown)
    if column in ("sentiment", "user_sentiment"):
        return text.capitalize() if text in TONES or text == "unknown" else shown
    if column.startswith("duration") and (clock := _CLOCK.fullmatch(text)):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        whole = hours * 3600 + minutes * 60 + seconds
        if column == "duration":
            return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        return str(whole * 1000 if column == "duration_ms" else whole)
    if money := _DOLLARS.fullmatch(text):
        amount = float(money[1] + money[2].replace(",", ""))
        if column.endswith("_dollars"):
            return str(amount)
        if column.endswith("_cents"):
            return str(round(amount * 100, 7))
    return shown


def _times(
    lookup: str, time: re.Match[str], zone: ZoneInfo, *, is_ms: bool
) -> Iterator[tuple[str, str]]:
    """A local day, minute or second, for a column of milliseconds or of ISO text."""
    try:
        start = datetime.fromisoformat(f"{time[1]}T{time[2] or '00:00'}")
    except ValueError:
        yield lookup, time[0]
        return
    step = {10: "days", 16: "minutes", 19: "seconds"}[len(f"{time[1]} {time[2] or ''}".strip())]
    bounds = start, start + timedelta(**{step: 1})
    since, until = (
        # ISO text in a view has an offset after the seconds, so that it is above the text without.
        str(int(at.replace(tzinfo=zone).timestamp() * 1000)) if is_ms else f"{at:%Y-%m-%dT%H:%M:%S}"
        for at in bounds
    )
    if lookup in ("exact", "date"):
        yield "gte", since
        yield "lt", until
    elif lookup in _BOUNDS:
        bound, is_end = _BOUNDS[lookup]
        yield bound, until if is_end else since
    else:
        yield lookup, time[0]


def typed(column: str, value: Any) -> Any:
    """The parameter as its column compares it: a column of a view may have no type."""
    if column in _UNTYPED and isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value) if "." in value else int(value)
    return value
