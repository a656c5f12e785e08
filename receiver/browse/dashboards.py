"""Our dashboards, shown by datasette-dashboards' own view to whoever may see their database."""

import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from datasette import NotFound

from receiver.browse import queries
from receiver.browse.charts import DASHBOARDS, configuration, sql
from receiver.browse.charts.macros import Days, expand
from receiver.browse.comparison import MEASURES, compared
from receiver.browse.datasette_compat import dashboard_list, dashboard_view, filtered_query
from receiver.browse.pages import Reader, require_reader, rows, timezone
from receiver.browse.periods import day_of, midnight

if TYPE_CHECKING:
    from datasette import Request, Response
    from datasette.app import Datasette

DIRECTIONS = {"inbound": "inbound", "outbound": "outbound", "web": "web calls"}
# What is shown of a file that nobody has chosen days of: a change needs a while to prove itself.
_DAYS, _DAYS_OF_VERSIONS = 30, 90
_SPANS = {"7 days": 7, "30 days": 30, "90 days": 90, "A year": 365}


async def dashboards(datasette: "Datasette", request: "Request") -> "Response":
    """`/-/dashboards`: which there are. Raises Forbidden."""
    await require_reader(datasette, request)
    listed = {
        name: {"title": dashboard.title, "description": dashboard.description}
        for name, dashboard in DASHBOARDS.items()
    }
    return await dashboard_list(datasette, request, listed)


async def dashboard(datasette: "Datasette", request: "Request") -> "Response":
    """`/-/dashboards/<name>`. Raises Forbidden or NotFound."""
    reader = await require_reader(datasette, request)
    name = request.url_vars["slug"]
    if name not in DASHBOARDS:
        raise NotFound("There is no such dashboard.")
    is_comparison = name == "versions"
    first, days = await _days(reader, request, _DAYS_OF_VERSIONS if is_comparison else _DAYS)
    chosen = {
        "since": days.since.isoformat(),
        "until": days.until.isoformat(),
        "agent": request.args.get("agent", ""),
        "direction": request.args.get("direction", ""),
        "version": "" if is_comparison else request.args.get("version", ""),
    }
    if chosen["direction"] not in DIRECTIONS:
        chosen["direction"] = ""
    if not (chosen["agent"] and chosen["version"].isdecimal()):
        chosen["version"] = ""
    configured = configuration(name, reader.database, days) | {
        "filters": await _filters(reader, days, chosen, has_version=not is_comparison),
        "names": {slug: dashboard.title for slug, dashboard in DASHBOARDS.items()},
        "spans": _spans(first, days, chosen),
        "timezone": days.timezone,
        "has_calls": first is not None,
        "keeps": urlencode({name: value for name, value in chosen.items() if value}),
    }
    if is_comparison:
        found = await rows(reader, filtered_query(expand(sql("versions"), days), chosen), chosen)
        configured["versions"] = compared(found, only_newest=not chosen["agent"])
        configured["measures"] = [measure.name for measure in MEASURES]
    return await dashboard_view(datasette, request, {name: configured}, chosen)


async def _days(
    reader: Reader, request: "Request", count: int
) -> tuple[datetime.date | None, Days]:
    """The first day with calls, and the days that are asked for: by default the last so many up to
    the last with calls, and not to today, for an old file has something to say too."""
    zone = timezone(reader.datasette)
    [ends] = await rows(reader, queries.ENDS)
    if ends["last"] is None:
        first, last = None, datetime.datetime.now(zone).date()
    else:
        first, last = day_of(ends["first"], zone), day_of(ends["last"], zone)
    until = _date(request.args.get("until")) or last
    since = _date(request.args.get("since")) or until - datetime.timedelta(days=count - 1)
    since, until = min(since, until), max(since, until)
    after = until + datetime.timedelta(days=1)
    return first, Days(since, until, midnight(since, zone), midnight(after, zone), zone.key)


def _date(text: str | None) -> datetime.date | None:
    """A day of a year with four digits, around which there are others."""
    try:
        found = datetime.date.fromisoformat(text or "")
    except ValueError:
        return None
    return found if 1971 <= found.year <= 9998 else None


async def _filters(
    reader: Reader, days: Days, chosen: dict[str, str], *, has_version: bool
) -> dict[str, Any]:
    """The filters in datasette-dashboards' words; options are pairs of value and name, for names
    are for people and ids for queries."""
    agents = [
        (row["agent_id"], row["agent"])
        for row in await rows(reader, expand(sql("agents"), days), chosen)
    ]
    versions = []
    if chosen["agent"]:
        query = expand(sql("agent_versions"), days)
        versions = [
            (str(r["version"]), str(r["version"])) for r in await rows(reader, query, chosen)
        ]
    filters: dict[str, Any] = {
        "since": {"name": "From", "type": "date"},
        "until": {"name": "To", "type": "date"},
        "agent": {"name": "Agent", "type": "select", "options": _with(agents, chosen["agent"])},
        "version": {
            "name": "Version",
            "type": "select",
            "options": _with(versions, chosen["version"]),
            "needs": "" if chosen["agent"] else "choose an agent first",
        },
        "direction": {"name": "Direction", "type": "select", "options": [*DIRECTIONS.items()]},
    }
    if not has_version:
        del filters["version"]
    return filters


def _with(options: list[tuple[str, str]], value: str) -> list[tuple[str, str]]:
    """What was chosen stays in the form, also where no call of these days has it."""
    known = not value or any(value == option for option, _ in options)
    return options if known else [*options, (value, value)]


def _spans(
    first: datetime.date | None, days: Days, chosen: dict[str, str]
) -> list[tuple[str, str, bool]]:
    """Name, query and whether it is what is shown: days up to the last that is shown."""
    starts = {
        name: days.until - datetime.timedelta(days=count - 1) for name, count in _SPANS.items()
    }
    if first:
        starts["All"] = min(first, days.until)
    return [
        (
            name,
            urlencode({k: v for k, v in (chosen | {"since": since.isoformat()}).items() if v}),
            since == days.since,
        )
        for name, since in starts.items()
    ]
