"""The figures of each UTC hour: what fills the rollup tables, and views that are always exact."""

import importlib.resources
import re
from dataclasses import dataclass

from schema.words import plain

HOUR_MS = 3_600_000

_STATEMENT = re.compile(
    r"^CREATE VIEW (\w+) AS\nSELECT([\w,\s]+)\nFROM (\w+)\nUNION ALL\n(.*?);$",
    re.MULTILINE | re.DOTALL,
)

# The calls between hours that are rolled up, each gap a search of the index on their time, and the
# calls of no time. What bounds the first and the last gap are the bounds of a 64-bit integer.
_UNSETTLED = plain("""
    SELECT c.* FROM (
        SELECT
            -9223372036854775808 AS since,
            coalesce(min(hour) - 1, 9223372036854775807) AS until
        FROM rollup_hours
        UNION ALL
        SELECT
            hour + 3600000,
            coalesce(lead(hour) OVER (ORDER BY hour) - 1, 9223372036854775807)
        FROM rollup_hours
    ) gap
    CROSS JOIN calls c ON call_time(c) BETWEEN gap.since AND gap.until
    UNION ALL
    SELECT c.* FROM calls c WHERE call_time(c) IS NULL
""")
_OF_THE_HOUR = plain("""
    SELECT c.* FROM calls c WHERE call_time(c) BETWEEN :hour AND :hour + 3599999
""")


@dataclass(frozen=True, slots=True)
class Rollup:
    """A rollup table, and the view of its name's figures for every hour.

    `figures` is the SELECT of them from `unsettled_calls`, in the order of `columns`.
    """

    table: str
    view: str
    columns: tuple[str, ...]
    figures: str

    @property
    def of_the_hour(self) -> str:
        """The SELECT of what the table holds of `:hour`."""
        return f"WITH unsettled_calls AS ({_OF_THE_HOUR})\n{self.figures}"

    @property
    def create_view(self) -> str:
        """The statement that makes the view."""
        return (
            f"CREATE VIEW {self.view} AS\nWITH unsettled_calls AS ({_UNSETTLED})\n"
            f"SELECT {', '.join(self.columns)} FROM {self.table}\nUNION ALL\n{self.figures}"
        )


def _rollups() -> tuple[Rollup, ...]:
    text = (importlib.resources.files("schema") / "rollups.sql").read_text(encoding="utf-8")
    return tuple(
        Rollup(table, view, tuple(c.strip() for c in columns.split(",")), plain(figures))
        for view, columns, table, figures in _STATEMENT.findall(text)
    )


ROLLUPS = _rollups()
