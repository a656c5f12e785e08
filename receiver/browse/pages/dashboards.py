"""/-/dashboards: callhouse's dashboards, rendered by the view of datasette-dashboards."""

import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from datasette import NotFound, Response

from receiver.browse.charts import DASHBOARDS, configuration, sql
from receiver.browse.charts.macros import Days, expand
from receiver.browse.charts.versions import MEASURES, compare_versions
from receiver.browse.datasette_compat import dashboard_list, dashboard_view, filtered_query
from receiver.browse.formatting import LABELS, local_day
from receiver.browse.pages import Reader, fetch_rows, require_reader, run_in_thread, timezone
from receiver.browse.pages.call_filters import (
    calls_url,
    period_days,
)
from receiver.browse.pages.call_sources import (
    PERIODS,
)
from receiver.browse.pages.dashboard_totals import fetch_totals
from receiver.browse.pages.home import ACCOUNTS
from receiver.browse.pages.month_cost import read_month_cost
from receiver.browse.pages.sums import (
    FIRST_AND_LAST,
    FIRST_AND_LAST_OF_CHATS,
)
from receiver.clock import midnight_ms, now_ms
from schema.products import product_label

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

DIRECTIONS = {
    "call": {"inbound": "inbound", "outbound": "outbound", "web": "web calls"},
    "chat": {"inbound": "inbound", "outbound": "outbound", "web": "no direction"},
}
# The chosen agent's name and versions, of calls or chats.
_AGENTS = {"call": "agents", "chat": "chat_agents"}
_VERSIONS = {"call": "agent_versions", "chat": "chat_agent_versions"}
_ENDS = {"call": FIRST_AND_LAST, "chat": FIRST_AND_LAST_OF_CHATS}
_PRODUCTS = (
    "SELECT DISTINCT h.product FROM daily_costs h WHERE in_days(h) AND h.product IS NOT NULL"
)
# Shown by default. Comparing versions needs more calls.
_DEFAULT_DAYS, _DEFAULT_DAYS_OF_VERSIONS = 30, 90
_PRESETS = ("this-week", "last-week", "this-month", "last-month")
_SPANS = {"7 days": 7, "30 days": 30, "90 days": 90, "A year": 365}


async def dashboards(datasette: "Datasette", request: "Request") -> Response:
    """`/-/dashboards`: the list. Raises Forbidden."""
    await require_reader(datasette, request)
    listed = {
        name: {"title": dashboard.title, "description": dashboard.description}
        for name, dashboard in DASHBOARDS.items()
    }
    return await dashboard_list(datasette, request, listed)


async def versions(datasette: "Datasette", request: "Request") -> Response:
    """`/-/versions`: a redirect to the dashboard, which takes the place of Datasette's own page."""
    query = f"?{request.query_string}" if request.query_string else ""
    return Response.redirect(datasette.urls.path("/-/dashboards/versions") + query)


async def dashboard(datasette: "Datasette", request: "Request") -> Response:
    """`/-/dashboards/<name>`. Raises Forbidden or NotFound."""
    reader = await require_reader(datasette, request)
    name = request.url_vars["slug"]
    if name not in DASHBOARDS:
        raise NotFound("There is no such dashboard.")
    kind = DASHBOARDS[name].kind
    is_comparison = name == "versions"
    count = _DEFAULT_DAYS_OF_VERSIONS if is_comparison else _DEFAULT_DAYS
    first, last, days = await _chosen_days(reader, request, count, _ENDS[kind])
    chosen = {
        "since": days.since.isoformat(),
        "until": days.until.isoformat(),
        "account": request.args.get("account", ""),
        "agent": request.args.get("agent", ""),
        "direction": request.args.get("direction", ""),
        "version": "" if is_comparison else request.args.get("version", ""),
    }
    if chosen["direction"] not in DIRECTIONS[kind]:
        chosen["direction"] = ""
    if not (chosen["agent"] and chosen["version"].isdecimal()):
        chosen["version"] = ""
    things = {name: value for name, value in chosen.items() if value}
    things |= {"kind": "chat"} if kind == "chat" else {}
    configured = configuration(name, reader.database, days, is_masked=reader.is_masked) | {
        "filters": await _filters(reader, days, chosen, kind, has_version=not is_comparison),
        "things": "chats" if kind == "chat" else "calls",
        "things_url": calls_url(datasette, **things),
        "things_of_days_url": calls_url(datasette, since=things["since"], until=things["until"]),
        "labels": LABELS | await _fetch_product_labels(reader, days, chosen)
        if name == "cost"
        else LABELS,
        "names": {slug: dashboard.title for slug, dashboard in DASHBOARDS.items()},
        "spans": _spans(first, last, days, chosen),
        "timezone": days.timezone,
        "has_calls": first is not None,
        "query": urlencode({name: value for name, value in chosen.items() if value}),
    }
    if is_comparison:
        query = filtered_query(expand(sql("versions"), days), chosen)
        found = await fetch_rows(reader, query, chosen)
        configured["versions"] = compare_versions(found, only_newest=not chosen["agent"])
        configured["measures"] = [measure.name for measure in MEASURES]
    elif first is not None:
        configured["totals"] = await fetch_totals(
            reader, name, days, chosen, stored_since=first, now_ms=now_ms()
        )
    settings = getattr(datasette, "callhouse_settings", None)
    if name == "cost" and settings and not reader.is_limited:
        configured["month"] = await run_in_thread(
            reader, partial(read_month_cost, settings, now_ms=now_ms())
        )
    return await dashboard_view(datasette, request, {name: configured}, chosen)


async def _fetch_product_labels(
    reader: Reader, days: Days, chosen: dict[str, str]
) -> dict[str, str]:
    """The labels of the products of these days; raw names are data, so no list has them all."""
    found = await fetch_rows(reader, filtered_query(expand(_PRODUCTS, days), chosen), chosen)
    return {row["product"]: product_label(row["product"]) for row in found}


async def _chosen_days(
    reader: Reader, request: "Request", count: int, ends_sql: str
) -> tuple[datetime.date | None, datetime.date, Days]:
    """The first and the last day that `ends_sql` finds, and the chosen days: by default `count`
    days up to the last day, so that an old file has charts too."""
    zone = timezone(reader.datasette)
    [ends] = await fetch_rows(reader, ends_sql)
    if ends["last"] is None:
        first, last = None, datetime.datetime.now(zone).date()
    else:
        first, last = local_day(ends["first"], zone), local_day(ends["last"], zone)
    until = _date(request.args.get("until")) or last
    since = _date(request.args.get("since")) or until - datetime.timedelta(days=count - 1)
    since, until = min(since, until), max(since, until)
    after = until + datetime.timedelta(days=1)
    times = midnight_ms(since, zone), midnight_ms(after, zone)
    return first, last, Days(since, until, *times, zone.key)


def _date(text: str | None) -> datetime.date | None:
    """The day, if it is valid and in the years 1971 to 9998."""
    try:
        found = datetime.date.fromisoformat(text or "")
    except ValueError:
        return None
    return found if 1971 <= found.year <= 9998 else None


async def _filters(
    reader: Reader, days: Days, chosen: dict[str, str], kind: str, *, has_version: bool
) -> dict[str, Any]:
    """The filters in the format of datasette-dashboards, except that options are pairs of value and
    label: queries need ids, people read names."""
    accounts = [(row["account"], row["account"]) for row in await fetch_rows(reader, ACCOUNTS)]
    query = filtered_query(expand(sql(_AGENTS[kind]), days), chosen)
    agents = [(r["agent_id"], r["agent"]) for r in await fetch_rows(reader, query, chosen)]
    versions = []
    if chosen["agent"]:
        query = filtered_query(expand(sql(_VERSIONS[kind]), days), chosen)
        versions = [
            (str(r["version"]), str(r["version"])) for r in await fetch_rows(reader, query, chosen)
        ]
    filters: dict[str, Any] = {
        "since": {"name": "From", "type": "date"},
        "until": {"name": "To", "type": "date"},
        "account": {
            "name": "Account",
            "type": "select",
            "options": _with_chosen(accounts, chosen["account"]),
        },
        "agent": {
            "name": "Agent",
            "type": "select",
            "options": _with_chosen(agents, chosen["agent"]),
        },
        "version": {
            "name": "Version",
            "type": "select",
            "options": _with_chosen(versions, chosen["version"]),
            "needs": "" if chosen["agent"] else "choose an agent first",
        },
        "direction": {
            "name": "Direction",
            "type": "select",
            "options": [*DIRECTIONS[kind].items()],
        },
    }
    if not has_version:
        del filters["version"]
    if len(accounts) < 2 and not chosen["account"]:
        del filters["account"]
    return filters


def _with_chosen(options: list[tuple[str, str]], value: str) -> list[tuple[str, str]]:
    """The options, with the chosen one even if no call of these days has it."""
    known = not value or any(value == option for option, _ in options)
    return options if known else [*options, (value, value)]


def _spans(
    first: datetime.date | None, last: datetime.date, days: Days, chosen: dict[str, str]
) -> list[tuple[str, str, bool]]:
    """Links to 7 days, this week, ...: name, query string, whether it is the current one. Weeks and
    months are those of the last day with calls."""
    spans = {
        name: (days.until - datetime.timedelta(days=count - 1), days.until)
        for name, count in _SPANS.items()
    }
    spans |= {PERIODS[name]: period_days(name, last) for name in _PRESETS}
    if first:
        spans["All"] = (min(first, days.until), days.until)
    shown = []
    for name, (since, until) in spans.items():
        asked = chosen | {"since": since.isoformat(), "until": until.isoformat()}
        query = urlencode({key: value for key, value in asked.items() if value})
        shown.append((name, query, (since, until) == (days.since, days.until)))
    return shown
