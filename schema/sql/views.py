"""The browsing views as plain SQLite SQL, with the configured time zone written into them."""

import importlib.resources
import re

from schema.sql.macros import plain
from schema.sql.rollups import ROLLUPS
from schema.sql.zones import Zone

_STATEMENT = re.compile(r"^(CREATE VIEW (\w+) AS\n.*?);$", re.MULTILINE | re.DOTALL)
_LOCAL = re.compile(r"\b(local_\w+)\(((?:[^()]|\([^()]*\))*)\)")


def views(timezone: str = "UTC", *, rolled_up: bool = True) -> dict[str, str]:
    """View name -> its CREATE VIEW statement, in the order in which they can be created.

    Days and ISO times are those of `timezone`, an IANA name. Not `rolled_up`, they count every call
    and so hold whatever zone the rollup tables are for. Raises zoneinfo.ZoneInfoNotFoundError (a
    KeyError) or ValueError for what is no zone.
    """
    zone = Zone(timezone)
    found = {}
    for rollup in ROLLUPS:
        found[rollup.hourly] = rollup.create_hourly(zone.hour_ms, rolled_up=rolled_up)
        found[rollup.daily] = rollup.create_daily(zone.hour_ms, rolled_up=rolled_up)
    text = (importlib.resources.files("schema.sql") / "views.sql").read_text(encoding="utf-8")
    found |= {name: sql for sql, name in _STATEMENT.findall(text)}
    return {name: _expand(sql, zone).rstrip() for name, sql in found.items()}


def _expand(sql: str, zone: Zone) -> str:
    """Replace the words of our SQL files. An argument may hold a plain word, nothing deeper."""
    return plain(_LOCAL.sub(lambda match: zone.words[match[1]](match[2]), sql))
