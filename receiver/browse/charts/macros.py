"""Macros for the dashboards' SQL, expanded for the chosen days.

    in_days(h)      whether a row of a daily view is within the days and of the chosen account
    in_hours(h)     the same of a row of an hourly view
    chosen(h)       whether a row matches the chosen agent, version and direction
    chats_in_days(h)  the chats of the days and the chosen account, each with its local day
    period(X)       the day X, or with many days the first day of its week or month
    local_ms(X)     X in milliseconds, shifted so that it reads as local time in UTC
    agent_label(a)  the name of an agent, with the end of its id if several have that name

and those of schema/sql/macros.py.
datasette-dashboards removes [[ ]] whose parameter has no value.
"""

import re
from dataclasses import dataclass
from datetime import date

from schema.sql.macros import plain
from schema.sql.zones import zone_of

# Uses the index of starts.
_CHATS = """(
    SELECT
        c.agent_id, c.version AS agent_version, c.agent_name, c.direction,
        c.agent_number, c.user_number, c.chat_status, c.disconnection_reason,
        chat_outcome(c) AS outcome, lower(trim(c.user_sentiment)) AS sentiment, c.chat_successful,
        c.combined_cost_cents AS cents, c.product_costs,
        date({local_ms} / 1000, 'unixepoch') AS day
    FROM chats c
    WHERE (
            (c.start_timestamp >= {since_ms} AND c.start_timestamp < {until_ms})
            OR (c.start_timestamp IS NULL AND c.observed_at >= {since_ms}
                AND c.observed_at < {until_ms})
        )
        [[ AND c.account = :account]]
) """
# Without the plus signs, SQLite would make an index of all rolled-up hours for each query.
_OF_ACCOUNT = r"[[ AND +\1.account = :account]]"
_CHOSEN = (
    r"true[[ AND +\1.agent_id = :agent]]"
    r"[[ AND \1.agent_version = CAST(:version AS INTEGER)]]"
    r"[[ AND coalesce(\1.direction, 'web') = :direction]]"
)
_LABEL = (
    r"iif(count(*) OVER (PARTITION BY \1.name) > 1, "
    r"\1.name || ' …' || substr(\1.agent_id, -4), \1.name)"
)
# More do not fit on a chart, or exceed Datasette's limit of rows with eight rows each.
_MAX_DAYS, _MAX_WEEKS = 92, 105
_PERIODS = {
    "day": r"\1",
    "week": r"date(\1, 'weekday 0', '-6 days')",
    "month": r"substr(\1, 1, 7) || '-01'",
}


@dataclass(frozen=True, slots=True)
class Days:
    """The chosen days, both inclusive, in `timezone`. `since_ms` is the start of the first day,
    `until_ms` the end of the last."""

    since: date
    until: date
    since_ms: int
    until_ms: int
    timezone: str = "UTC"

    @property
    def step(self) -> str:
        """The unit of charts over time: day, week or month."""
        days = (self.until - self.since).days + 1
        if days <= _MAX_DAYS:
            return "day"
        return "week" if days <= 7 * _MAX_WEEKS else "month"


def expand(sql: str, days: Days) -> str:
    """Expand the macros; the parameters and [[ ]] stay."""
    hours = rf"\1.hour >= {days.since_ms} AND \1.hour < {days.until_ms}{_OF_ACCOUNT}"

    def shifted(time: str) -> str:
        return zone_of(days.timezone).local_ms(time, days.since_ms, days.until_ms)

    chats = _CHATS.format(
        local_ms=shifted("call_time(c)"),
        since_ms=days.since_ms,
        until_ms=days.until_ms,
    )

    for word, meaning in {
        r"\bin_days\((\w+)\)": r"\1.day >= :since AND \1.day <= :until" + _OF_ACCOUNT,
        r"\bin_hours\((\w+)\)": hours,
        r"\bchosen\((\w+)\)": _CHOSEN,
        r"\bchats_in_days\((\w+)\)": chats + r"\1",
        r"\bperiod\(([\w.]+)\)": _PERIODS[days.step],
        r"\bagent_label\((\w+)\)": _LABEL,
    }.items():
        sql = re.sub(word, meaning, sql)
    sql = re.sub(r"\blocal_ms\(([\w.]+)\)", lambda match: shifted(match[1]), sql)
    return plain(sql)
