"""The SQL of the views, for the configured time zone."""

import importlib.resources
import re

from schema.sql.macros import plain
from schema.sql.rollups import ROLLUPS
from schema.sql.zones import Zone

_STATEMENT = re.compile(r"^(CREATE VIEW (\w+) AS\n.*?);$", re.MULTILINE | re.DOTALL)
_LOCAL = re.compile(r"\b(local_\w+)\(((?:[^()]|\([^()]*\))*)\)")


def views(
    timezone: str = "UTC", *, rolled_up: bool = True, postgres: bool = False
) -> dict[str, str]:
    """View name -> CREATE VIEW statement, in the order in which they can be created.

    Days and ISO times are those of `timezone`, an IANA name. Without `rolled_up` the views count
    every call and do not read the rollup tables. With `postgres`, views that differ between SQLite
    and PostgreSQL are PostgreSQL's. Raises zoneinfo.ZoneInfoNotFoundError (a KeyError) or
    ValueError for an unknown zone.
    """
    zone = Zone(timezone)
    found = {}
    for rollup in ROLLUPS:
        found[rollup.hourly] = rollup.create_hourly(zone.hour_ms, rolled_up=rolled_up)
        found[rollup.daily] = rollup.create_daily(zone.hour_ms, rolled_up=rolled_up)
    for file in ("views.sql", *(["postgres/views.sql"] if postgres else [])):
        found |= {name: sql for sql, name in _STATEMENT.findall(read(file))}
    return {name: _expand(sql, zone).rstrip() for name, sql in found.items()}


def read(file: str) -> str:
    """Read a file in `schema/sql/`."""
    return (importlib.resources.files("schema.sql") / file).read_text(encoding="utf-8")


def _expand(sql: str, zone: Zone) -> str:
    """Expand the macros. An argument may contain a macro without arguments of its own."""
    return plain(_LOCAL.sub(lambda match: zone.words[match[1]](match[2]), sql))
