"""Values of the tables as people read them: times, lengths, money, JSON. Pure."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def local_time(ms: int, zone: ZoneInfo) -> datetime:
    """The time in a zone. Raises OverflowError for what is no time in years of four digits."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)


def zone_name(at: datetime) -> str:
    """CEST, or UTC-03 where the zone has no letters of its own."""
    name = at.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


def when(ms: int | None, zone: ZoneInfo, form: str = "%Y-%m-%d %H:%M:%S") -> Markup | None:
    """A time element: local time with its zone to read, the exact value on hover."""
    if ms is None:
        return None
    try:
        at = local_time(ms, zone)
    except OverflowError:
        return None
    iso = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0} = {1} ms">{2} {3}</time>').format(
        iso, ms, at.strftime(form), zone_name(at)
    )


def clock(seconds: float | None) -> str:
    """1:05, or 2:00:07 from an hour on."""
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.zfill(5)}"


def dollars(cents: float | None) -> str:
    """$1.23, and two digits that say something below ten cents."""
    if cents is None:
        return ""
    amount = cents / 100
    if amount == 0 or abs(amount) >= 0.0995:
        return f"${amount:,.2f}" if amount >= 0 else f"-${-amount:,.2f}"
    # As many places as the second digit that is not 0 stands from the point.
    places = 1 - int(f"{amount:e}".split("e")[1])
    return f"${amount:.{places}f}" if amount > 0 else f"-${-amount:.{places}f}"


def length(ms: float | None) -> str:
    """A wait: 840 ms, 3.2 s."""
    if ms is None:
        return ""
    return f"{ms:,.0f} ms" if abs(ms) < 1000 else f"{ms / 1000:,.1f} s"


def pretty(text: str | None) -> str:
    """JSON on lines of its own, anything else as it is."""
    if not text or text[0] not in '{["':
        return text or ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else _laid_out(value, text)


def json_outline(text: str) -> tuple[str, str] | None:
    """For text that is a JSON object or list: what it holds in a few words, and it on lines."""
    if text[:1] not in ("{", "["):
        return None
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    what = "key" if isinstance(value, dict) else "item"
    count = f"{len(value):,} {what}{'' if len(value) == 1 else 's'}"
    return count, _laid_out(value, text)


def _laid_out(value: Any, text: str) -> str:
    """JSON on lines of its own, unless it is so deep that it would be mostly spaces."""
    lines = json.dumps(value, indent=2, ensure_ascii=False)
    return lines if len(lines) <= 1000 + 8 * len(text) else text


def words_of(name: str) -> str:
    """A name of Retell's for people: user_hangup -> user hangup."""
    return name.replace("_", " ")
