"""A time zone as SQL: its offsets from UTC between 2020 and 2040, written out as a CASE."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

_FIRST_YEAR, _LAST_YEAR = 2020, 2040
_HOUR, _DAY = 3600, 86_400


class Zone:
    """Days and hours of an IANA time zone.

    `hour_ms` is the length of a rolled-up hour: half an hour where a zone switches by half an hour
    (Australia/Lord_Howe), so that every day begins with an hour. Raises
    zoneinfo.ZoneInfoNotFoundError (a KeyError) or ValueError for an unknown zone.
    """

    def __init__(self, timezone: str) -> None:
        self._eras = _eras(ZoneInfo(timezone))
        rests = {era.offset % _HOUR for era in self._eras}
        self.hour_ms = (_HOUR if len(rests) == 1 else _HOUR // 2) * 1000
        self._shift_ms = self._eras[0].offset * 1000 % self.hour_ms

    @property
    def words(self) -> dict[str, Callable[[str], str]]:
        """Macros for SQL files: each formats the SQL for an argument in milliseconds."""
        eras = self._eras
        is_utc = len(eras) == 1 and eras[0].offset == 0

        def iso(x: str, era: _Era) -> str:
            return _strftime("%Y-%m-%dT%H:%M:%S" + ("Z" if is_utc else _suffix(era.offset)), x, era)

        def day(x: str, era: _Era) -> str:
            return _strftime("%Y-%m-%d", x, era)

        return {
            "local_iso": lambda x: _case([(e.since, iso(x, e)) for e in eras], x),
            "local_day": lambda x: _case([(e.since, day(x, e)) for e in eras], x),
            "local_midnight": lambda x: _case([m for e in eras for m in _midnights(x, e)], x),
            "local_hour": self._hour,
        }

    def local_ms(self, x: str, since_ms: int, until_ms: int) -> str:
        """SQL that adds the UTC offset to milliseconds, so that formatting them as UTC gives local
        time. Correct between `since_ms` and `until_ms`."""
        branches, ends = [], until_ms
        for era in self._eras:
            since = (era.since or 0) * 1000
            if since < ends and ends > since_ms:
                branches.append((era.since, f"({x}{_plus(era.offset * 1000)})"))
            ends = min(ends, since)
        return _case(branches, x)

    def _hour(self, x: str) -> str:
        shifted = f"({x}{_plus(self._shift_ms)})"
        return f"({shifted} / {self.hour_ms} * {self.hour_ms}{_plus(-self._shift_ms)})"


@dataclass(frozen=True, slots=True)
class _Era:
    """A span of time with one UTC offset; times and offset in seconds.

    `since` is None for the oldest. The local day in which it begins starts at `first_midnight`; the
    next day, the first one completely under this offset, starts at `second_midnight`.
    """

    offset: int
    since: int | None = None
    first_midnight: int = 0
    second_midnight: int = 0


@cache
def zone_of(timezone: str) -> Zone:
    """The zone, computed once."""
    return Zone(timezone)


def _eras(zone: ZoneInfo) -> list[_Era]:
    """Newest first, so that a CASE finds recent times early."""
    start, end = (
        int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (_FIRST_YEAR, _LAST_YEAR + 1)
    )
    eras = [_Era(_offset(zone, start))]
    for since in _transitions(zone, start, end):
        first, second = (_midnight(zone, since, days_later=n) for n in (0, 1))
        eras.append(_Era(_offset(zone, since), since, first, second))
    return eras[::-1]


def _transitions(zone: ZoneInfo, start: int, end: int) -> Iterator[int]:
    """The first second of each new offset. A zone never changes its offset twice in a day."""
    days = ((day, _offset(zone, day)) for day in range(start, end + _DAY, _DAY))
    for (day, before), (_, after) in pairwise(days):
        if before != after:
            yield _change_within(zone, day)


def _change_within(zone: ZoneInfo, day: int) -> int:
    before = _offset(zone, day)
    seconds = range(day, day + _DAY + 1)
    return seconds[bisect_left(seconds, True, key=lambda s: _offset(zone, s) != before)]


def _offset(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset() or timedelta()
    return offset // timedelta(seconds=1)


def _midnight(zone: ZoneInfo, second: int, *, days_later: int) -> int:
    """The second at which the local day of `second`, or a later one, begins. If midnight occurs
    twice, the first counts; if it is skipped, the moment of the change counts."""
    day = datetime.fromtimestamp(second, zone).date() + timedelta(days=days_later)
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _strftime(form: str, x: str, era: _Era) -> str:
    return f"strftime('{form}', {x} / 1000{_plus(era.offset)}, 'unixepoch')"


def _midnights(x: str, era: _Era) -> Iterator[tuple[int | None, str]]:
    """The local day of a transition has two offsets."""
    start = None if era.since is None else era.second_midnight
    shifted = f"({x} / 1000{_plus(era.offset)})"
    yield start, f"({shifted} / {_DAY} * {_DAY}{_plus(-era.offset)}) * 1000"
    if era.since is not None:
        yield era.since, f"{era.first_midnight * 1000}"


def _case(branches: list[tuple[int | None, str]], x: str) -> str:
    """A CASE with the value of the newest start that is not after `x`; the last one has no
    start."""
    *newer, (_, oldest) = branches
    if not newer:
        return oldest
    whens = "\n        ".join(f"WHEN {x} >= {start}000 THEN {sql}" for start, sql in newer)
    return f"CASE\n        {whens}\n        ELSE {oldest}\n    END"


def _plus(offset: int) -> str:
    return f" {'-' if offset < 0 else '+'} {abs(offset)}" if offset else ""


def _suffix(offset: int) -> str:
    """Format an offset such as +05:30. No zone has had an offset with seconds since 1972."""
    hours, minutes = divmod(abs(offset) // 60, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"
