"""Rollups: statements that fill the tables of hourly and daily sums, and exact views of them."""

import importlib.resources
import re
from dataclasses import dataclass

from schema.sql.macros import plain
from schema.sql.zones import Zone

_STATEMENT = re.compile(
    r"^CREATE VIEW hourly_(\w+) AS\nSELECT([\w,\s]+)\nFROM rollup_\w+\nUNION ALL\n(.*?);$",
    re.MULTILINE | re.DOTALL,
)
_HOUR = "local_hour(call_time(c))"
_ALL_CALLS = "SELECT * FROM calls"

# Columns of GROUP BY. The others are sums or maximums.
_GROUPS = frozenset(
    {"agent_id", "agent_version", "direction", "disconnection_reason", "started", "product"}
    | {"component", "name", "type", "former_node", "new_node", "wait_ms", "account"}
)
_LARGEST = frozenset({"agent_name", "max_ms", "longest_ms"})

# The smallest integer, written so that PostgreSQL accepts it.
_FIRST, _LAST = "-9223372036854775807 - 1", 2**63 - 1


def _gaps(table: str, since: str, until: str) -> str:
    """The gaps between the spans of time in a table."""
    return f"""
    SELECT {_FIRST} AS since, coalesce(min({since}) - 1, {_LAST}) AS until FROM {table}
    UNION ALL
    SELECT {until}, coalesce(lead({since}) OVER (ORDER BY {since}) - 1, {_LAST}) FROM {table}"""


def remaining_calls(hour_ms: int) -> str:
    """The calls outside rolled-up hours: a search of the index calls_at for each gap between such
    hours, and the calls without a time."""
    return plain(f"""
    SELECT c.* FROM ({_gaps("rollup_hours", "hour", f"hour + {hour_ms}")}
    ) gap
    CROSS JOIN calls c WHERE call_time(c) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE call_time(c) IS NULL
""")


@dataclass(frozen=True, slots=True)
class Rollup:
    """Sums of one kind, by hour and by day: two tables, and a view of each.

    `figures` selects the sums of an hour from `remaining_calls`, in the order of `columns`, which
    begin with the hour. Statements contain macros.
    """

    name: str
    columns: tuple[str, ...]
    figures: str

    @property
    def hourly(self) -> str:
        """The view of all hours."""
        return f"hourly_{self.name}"

    @property
    def daily(self) -> str:
        """The view of all days."""
        return f"daily_{self.name}"

    @property
    def _rest(self) -> str:
        return ", ".join(self.columns[1:])

    def create_hourly(self, hour_ms: int, *, rolled_up: bool) -> str:
        """The statement that creates the view of hours."""
        if not rolled_up:
            return f"CREATE VIEW {self.hourly} AS\n{self.hours_of(_ALL_CALLS)}"
        return (
            f"CREATE VIEW {self.hourly} AS\nWITH remaining_calls AS ({remaining_calls(hour_ms)})\n"
            f"SELECT {', '.join(self.columns)} FROM rollup_{self.name}\nUNION ALL\n{self.figures}"
        )

    def create_daily(self, hour_ms: int, *, rolled_up: bool) -> str:
        """The statement that creates the view of days: days that are rolled up, hours whose day is
        not, and calls. A day that is not rolled up has several rows per group."""
        if not rolled_up:
            return f"CREATE VIEW {self.daily} AS\n{self.days_of(_ALL_CALLS)}"
        return f"""CREATE VIEW {self.daily} AS
WITH
    remaining_calls AS ({remaining_calls(hour_ms)}),
    remaining_days AS ({_gaps("rollup_days", "since", "until")}),
    counted ({", ".join(self.columns)}) AS ({self.figures})
SELECT day, {self._rest} FROM rollup_day_{self.name}
UNION ALL
SELECT local_day(h.hour) AS day, {self._rest}
FROM remaining_days gap CROSS JOIN rollup_{self.name} h WHERE h.hour BETWEEN gap.since AND gap.until
UNION ALL
SELECT local_day(h.hour) AS day, {self._rest} FROM counted h"""

    def hours_of(self, calls: str) -> str:
        """The SELECT that computes the view of hours from `calls`, itself a SELECT."""
        return f"{self._counted(calls)}SELECT {', '.join(self.columns)} FROM counted"

    def days_of(self, calls: str, day: str = "local_day(h.hour)") -> str:
        """The SELECT that computes the view of days from `calls`; `day` is that of `h.hour`."""
        return f"{self._counted(calls)}SELECT {day} AS day, {self._rest} FROM counted h"

    def _counted(self, calls: str) -> str:
        return (
            f"WITH remaining_calls AS ({calls}),\n"
            f"counted ({', '.join(self.columns)}) AS (\n{self.figures}\n)\n"
        )

    @property
    def of_the_hour(self) -> str:
        """The SELECT that computes the rows of an hour from the calls between `:hour` and
        `:last`."""
        calls = "SELECT c.* FROM calls c WHERE call_time(c) BETWEEN :hour AND :last"
        figures = self.figures.replace(_HOUR, "CAST(:hour AS BIGINT)")
        return plain(f"WITH remaining_calls AS ({calls})\n{figures}")

    def of_calls(self, condition: str) -> str:
        """The SELECT of the sums over the calls `c` that meet a condition, without hour or day."""
        counted = self._counted(f"SELECT c.* FROM calls c WHERE {condition}")
        counted = counted.replace(_HOUR, "CAST(0 AS BIGINT)")
        return plain(f"{counted}SELECT {self._rest} FROM counted")

    @property
    def of_the_day(self) -> str:
        """The SELECT that computes the rows of a day from the hours between `:since` and
        `:until`."""
        columns = [":day", *map(_added, self.columns[1:])]
        groups = [name for name in self.columns if name in _GROUPS]
        return (
            f"SELECT {', '.join(columns)} FROM rollup_{self.name} "
            f"WHERE hour >= :since AND hour < :until GROUP BY {', '.join(groups)}"
        )


def _added(column: str) -> str:
    if column in _GROUPS:
        return column
    return f"{'max' if column in _LARGEST else 'sum'}({column})"


def _rollups() -> tuple[Rollup, ...]:
    text = (importlib.resources.files("schema.sql") / "rollups.sql").read_text(encoding="utf-8")
    return tuple(
        Rollup(name, tuple(column.strip() for column in columns.split(",")), figures)
        for name, columns, figures in _STATEMENT.findall(text)
    )


ROLLUPS = _rollups()


def _fill(table: str, columns: tuple[str, ...], query: str) -> str:
    """Insert the result of `query` into a rollup table, numbered."""
    return (
        f"INSERT INTO {table} ({', '.join(columns)}, position) "
        f"SELECT *, row_number() OVER () FROM ({query}) figures"
    )


# Their rows are deleted by foreign keys. No hour is longer; if one is shorter, its neighbour is
# soon rolled up again.
INVALIDATE_HOUR = "DELETE FROM rollup_hours WHERE hour BETWEEN :since AND :at"
INVALIDATE_DAY = (
    "DELETE FROM rollup_days WHERE until > :at "
    "AND day = (SELECT day FROM rollup_days WHERE since <= :at ORDER BY day DESC LIMIT 1)"
)
HOUR_MS = 3_600_000
INVALIDATE_HOURS = "DELETE FROM rollup_hours"
INVALIDATE_DAYS = "DELETE FROM rollup_days"
# Both return a row only if they inserted it: another process may have been faster.
MARK_HOUR = (
    "INSERT INTO rollup_hours (hour) VALUES (:hour) ON CONFLICT (hour) DO NOTHING RETURNING hour"
)
FILL_HOUR = [_fill(f"rollup_{r.name}", ("hour", *r.columns[1:]), r.of_the_hour) for r in ROLLUPS]
FILL_DAY = [_fill(f"rollup_day_{r.name}", ("day", *r.columns[1:]), r.of_the_day) for r in ROLLUPS]


def hours_to_fill(zone: Zone) -> str:
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


def days_to_fill(zone: Zone) -> str:
    """The days that are over and have rolled-up hours."""
    day, midnight = zone.words["local_day"], zone.words["local_midnight"]
    # Thirty hours after midnight is the next day, even if clocks are set back. In two steps: one
    # nested expression would be a megabyte of SQL in some zones.
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


def mark_day(zone: Zone) -> str:
    """Only a day whose calls are all in rolled-up hours."""
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
