"""The statements that add hours and days up, and take them back."""

from schema.sql.macros import plain
from schema.sql.rollups import ROLLUPS
from schema.sql.zones import Zone


def _fill(table: str, columns: tuple[str, ...], query: str) -> str:
    """Put what `query` gives into a rollup table, numbered."""
    return (
        f"INSERT INTO {table} ({', '.join(columns)}, position) "
        f"SELECT *, row_number() OVER () FROM ({query}) figures"
    )


# With their figures, by foreign keys. No hour is longer, and that of a shorter one's neighbour is
# soon added up again.
UNSETTLE_HOUR = "DELETE FROM rollup_hours WHERE hour BETWEEN :since AND :at"
UNSETTLE_DAY = (
    "DELETE FROM rollup_days WHERE until > :at "
    "AND day = (SELECT day FROM rollup_days WHERE since <= :at ORDER BY day DESC LIMIT 1)"
)
HOUR_MS = 3_600_000
UNSETTLE_HOURS = "DELETE FROM rollup_hours"
UNSETTLE_DAYS = "DELETE FROM rollup_days"
# Both give a row only where they settle: another process may have been faster.
SETTLE_HOUR = (
    "INSERT INTO rollup_hours (hour) VALUES (:hour) ON CONFLICT (hour) DO NOTHING RETURNING hour"
)
FILL_HOUR = [_fill(f"rollup_{r.name}", ("hour", *r.columns[1:]), r.of_the_hour) for r in ROLLUPS]
FILL_DAY = [_fill(f"rollup_day_{r.name}", ("day", *r.columns[1:]), r.of_the_day) for r in ROLLUPS]


def unsettled_hours(zone: Zone) -> str:
    """From one hour with calls to the next, each step a search of an index. No call is older than
    1970."""
    first, hour = zone.words["local_hour"]("call_time(c)"), zone.hour_ms
    return plain(f"""
    WITH RECURSIVE hours (hour) AS (
        SELECT (SELECT {first} FROM calls c WHERE call_time(c) >= 0 ORDER BY call_time(c) LIMIT 1)
        UNION ALL
        SELECT (
            SELECT {first} FROM calls c WHERE call_time(c) >= hours.hour + {hour}
            ORDER BY call_time(c) LIMIT 1
        )
        FROM hours
        WHERE hours.hour + {hour} <= :now
    )
    SELECT hour, hour + {hour - 1} AS last FROM hours
    WHERE hour + {hour} <= :now
        AND hour NOT IN (SELECT hour FROM rollup_hours)
        AND :quiet_since >= (
            SELECT max(c.updated_at) FROM calls c
            WHERE call_time(c) BETWEEN hour AND hour + {hour - 1}
        )
    ORDER BY hour
""")


def days_over(zone: Zone) -> str:
    """The days that are over and have hours that are added up."""
    day, midnight = zone.words["local_day"], zone.words["local_midnight"]
    # Thirty hours after a midnight is the day after, also where clocks are put back. One step after
    # the other: a midnight within a midnight is a megabyte of SQL in some zones.
    return f"""
    SELECT day, since, until FROM (
        SELECT day, since, {midnight("(since + 108000000)")} AS until
        FROM (
            SELECT DISTINCT {day("hour")} AS day, {midnight("hour")} AS since FROM rollup_hours
        ) began
    ) days
    WHERE until <= :now AND day NOT IN (SELECT day FROM rollup_days)
    ORDER BY day
"""


def settle_day(zone: Zone) -> str:
    """Only a day that has no call in an hour that is not added up."""
    hour = zone.words["local_hour"]("call_time(c)")
    return plain(f"""
    INSERT INTO rollup_days (day, since, until)
    SELECT :day, :since, :until WHERE NOT EXISTS (
        SELECT 1 FROM calls c
        WHERE call_time(c) >= :since AND call_time(c) < :until
            AND {hour} NOT IN (SELECT hour FROM rollup_hours)
    )
    ON CONFLICT (day) DO NOTHING RETURNING day
""")
