"""The words of the dashboards' SQL, replaced for the days that a reader looks at.

    in_days(h)      whether a row of a daily view is of these days
    in_hours(h)     whether a row of an hourly view is of an hour of them
    chosen(h)       whether it is of the agent, version and direction that were chosen, if any were
    period(X)       the day X, or the first day of its week or month where there are many days
    local_ms(X)     X, in milliseconds, moved so that it reads as local time where UTC is read
    agent_label(a)  the name of an agent, with the end of its agent_id where others have that name

and those of schema/sql/macros.py. What stands in [[ ]] is datasette-dashboards' own: it is left out
unless its parameter has a value.
"""

import re
from dataclasses import dataclass
from datetime import date
from functools import cache

from schema.sql.macros import plain
from schema.sql.zones import Zone

_CHOSEN = (
    r"true[[ AND \1.agent_id = :agent]]"
    r"[[ AND \1.agent_version = CAST(:version AS INTEGER)]]"
    r"[[ AND coalesce(\1.direction, 'web') = :direction]]"
)
_LABEL = (
    r"iif(count(*) OVER (PARTITION BY \1.name) > 1, "
    r"\1.name || ' …' || substr(\1.agent_id, -4), \1.name)"
)
# As many days, then weeks, as fit on a chart and in an answer of Datasette's with eight rows each.
_MOST_DAYS, _MOST_WEEKS = 92, 105
_PERIODS = {
    "day": r"\1",
    "week": r"date(\1, 'weekday 0', '-6 days')",
    "month": r"substr(\1, 1, 7) || '-01'",
}


@dataclass(frozen=True, slots=True)
class Days:
    """The days that a reader looks at, both ends included; `since_ms` is the first millisecond of
    the first, `until_ms` that of the day after the last. Dates are local to `timezone`."""

    since: date
    until: date
    since_ms: int
    until_ms: int
    timezone: str = "UTC"

    @property
    def step(self) -> str:
        """What charts over time show: each day, week or month."""
        days = (self.until - self.since).days + 1
        if days <= _MOST_DAYS:
            return "day"
        return "week" if days <= 7 * _MOST_WEEKS else "month"


def expand(sql: str, days: Days) -> str:
    """Replace the words; `:since`, `:until` and what [[ ]] holds stay."""
    hours = rf"\1.hour >= {days.since_ms} AND \1.hour < {days.until_ms}"

    def local_ms(match: re.Match[str]) -> str:
        return _zone(days.timezone).local_ms(match[1], days.since_ms, days.until_ms)

    for word, meaning in {
        r"\bin_days\((\w+)\)": r"\1.day >= :since AND \1.day <= :until",
        r"\bin_hours\((\w+)\)": hours,
        r"\bchosen\((\w+)\)": _CHOSEN,
        r"\bperiod\(([\w.]+)\)": _PERIODS[days.step],
        r"\bagent_label\((\w+)\)": _LABEL,
    }.items():
        sql = re.sub(word, meaning, sql)
    return plain(re.sub(r"\blocal_ms\(([\w.]+)\)", local_ms, sql))


@cache
def _zone(timezone: str) -> Zone:
    return Zone(timezone)
