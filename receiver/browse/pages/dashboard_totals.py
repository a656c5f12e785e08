"""The totals above the charts of a dashboard, compared with the days before."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from receiver.browse.charts.macros import Days
from receiver.browse.formatting import format_dollars, format_milliseconds
from receiver.browse.pages import Reader, timezone
from receiver.browse.pages.figures import (
    Figure,
    Links,
    Totals,
    amount_figure,
    mean_figure,
    share_figure,
    totals,
    wait_figures,
)
from receiver.browse.pages.periods import chosen_period
from receiver.browse.pages.sums import (
    FILTERS,
    fetch_chats,
    fetch_groups,
    fetch_tools,
    fetch_waits,
)
from receiver.clock import format_duration


@dataclass(frozen=True, slots=True)
class DashboardTotals:
    """The totals of a dashboard; `compared_with` says what with, or why with nothing."""

    figures: list[Figure]
    compared_with: str
    is_compared: bool


@dataclass(frozen=True, slots=True)
class Tools:
    """Sums over tool calls, as `fetch_tools` names them."""

    tool_calls: int = 0
    failed: int = 0
    said_no: int = 0


def _volume(now: Totals, before: Totals, links: Links) -> list[Figure]:
    return [
        amount_figure("Calls", now.calls, before.calls, "{:,}".format, url=links.calls()),
        share_figure(
            *("Connected", now, before, "connected", "calls", 1, "Of all calls."),
            links.calls(connected="yes"),
        ),
        amount_figure(
            *("Minutes", now.ms / 60_000, before.ms / 60_000, "{:,.0f}".format),
            url=links.calls(sort="-duration"),
        ),
        amount_figure(
            "Average length",
            _ratio(now.ms / 1000, now.connected),
            _ratio(before.ms / 1000, before.connected),
            format_duration,
            "Of connected calls.",
            links.calls(connected="yes", sort="-duration"),
        ),
    ]


def _cost(now: Totals, before: Totals, links: Links) -> list[Figure]:
    return [
        amount_figure(
            *("Cost", now.cents, before.cents, format_dollars), url=links.calls(sort="-cost")
        ),
        mean_figure(
            *("Cost of a call", now.cost_of_call, before.cost_of_call, -1, format_dollars),
            "Of calls with a cost.",
            links.calls(sort="-cost"),
        ),
        amount_figure(
            "Cost of a minute",
            _ratio(now.cents, now.ms / 60_000),
            _ratio(before.cents, before.ms / 60_000),
            format_dollars,
            url=links.calls(sort="-cost"),
        ),
        amount_figure(
            "Cost of a success",
            _ratio(now.cents, now.successful),
            _ratio(before.cents, before.successful),
            format_dollars,
            "The cost of all calls, for each connected call that reached its goal.",
            links.calls(success="yes", connected="yes", sort="-cost"),
        ),
    ]


def _quality(now: Totals, before: Totals, links: Links) -> list[Figure]:
    return [
        share_figure(
            *("Success", now, before, "successful", "judged", 1, "Of connected, analysed calls."),
            links.calls(success="yes", connected="yes"),
        ),
        share_figure(
            *("Negative", now, before, "negative", "with_sentiment", -1),
            "Of connected calls with a sentiment.",
            links.calls(sentiment="negative", connected="yes"),
        ),
        # Without a tone: whether transfers are good depends on the agent.
        share_figure(
            *("Transferred", now, before, "transferred", "connected", 0, "Of connected calls."),
            links.calls(transferred="yes", connected="yes"),
        ),
    ]


def _speed(
    now: Totals, before: Totals, waits: Mapping[int, Mapping[str, Any]], links: Links
) -> list[Figure]:
    url = links.calls(connected="yes")
    return [
        *(wait_figures(waits, url) if waits else ()),
        mean_figure(
            *("Median of a call", now.answer_of_call, before.answer_of_call, -1),
            format_milliseconds,
            "The median time to answer of each connected call, on average.",
            url,
        ),
    ]


def _flow(now: Tools, before: Tools, links: Links) -> list[Figure]:
    note = "Of all tool calls."
    return [
        amount_figure(
            *("Tool calls", now.tool_calls, before.tool_calls, "{:,}".format),
            url=links.calls(tool_result="any"),
        ),
        share_figure(
            *("Did not run", now, before, "failed", "tool_calls", -1, note),
            links.calls(tool_result="failed"),
        ),
        share_figure(
            *("Ran without success", now, before, "said_no", "tool_calls", -1, note),
            links.calls(tool_result="no-success"),
        ),
    ]


def _chats(now: Totals, before: Totals, links: Links) -> list[Figure]:
    return [
        amount_figure("Chats", now.calls, before.calls, "{:,}".format, url=links.calls()),
        amount_figure(
            *("Cost", now.cents, before.cents, format_dollars), url=links.calls(sort="-cost")
        ),
        mean_figure(
            *("Cost of a chat", now.cost_of_call, before.cost_of_call, -1, format_dollars),
            "Of chats with a cost.",
            links.calls(sort="-cost"),
        ),
        share_figure(
            *("Success", now, before, "successful", "judged", 1, "Of analysed chats."),
            links.calls(success="yes"),
        ),
        share_figure(
            *("Negative", now, before, "negative", "with_sentiment", -1),
            "Of chats with a sentiment.",
            links.calls(sentiment="negative"),
        ),
    ]


_OF_CALLS: Mapping[str, Callable[[Totals, Totals, Links], list[Figure]]] = {
    "volume": _volume,
    "cost": _cost,
    "quality": _quality,
    "chats": _chats,
}


async def fetch_totals(
    reader: Reader,
    name: str,
    days: Days,
    chosen: Mapping[str, str],
    *,
    stored_since: date,
    now_ms: int,
) -> DashboardTotals:
    """The totals of the dashboard `name`; no figure where a query takes too long."""
    period = chosen_period(days.since, days.until, now_ms, timezone(reader.datasette))
    filters = {key: chosen.get(key, "") for key in FILTERS}
    figures: list[Figure] = []
    kind = {"kind": "chat"} if name == "chats" else {}
    links = Links(reader.datasette, period, filters | kind)
    # A time before that is stored in part says nothing about a change.
    is_compared = period.before_first >= stored_since
    halves = {1, 0} if is_compared else {1}
    if name == "flow":
        tools = await fetch_tools(reader, period, filters)
        if tools is not None:
            tools = {half: row for half, row in tools.items() if half in halves}
            now, before = (Tools(**tools.get(half, {})) for half in (1, 0))
            figures = _flow(now, before, links)
    else:
        of_waits = fetch_waits(reader, period, filters) if name == "speed" else _nothing()
        fetch = fetch_chats if name == "chats" else fetch_groups
        rows, waits = await asyncio.gather(fetch(reader, period, filters), of_waits)
        if rows is not None:
            found = totals(row for row in rows if row["half"] in halves)
            if name == "speed":
                waits = {half: row for half, row in waits.items() if half in halves}
                figures = _speed(found[1], found[0], waits, links)
            else:
                figures = _OF_CALLS[name](found[1], found[0], links)
    compared = f"Compared with {period.compared_with}."
    if not is_compared:
        thing = "chat" if name == "chats" else "call"
        compared = f"Not compared: the first stored {thing} is of {stored_since:%-d %B %Y}."
    return DashboardTotals(figures, compared, is_compared)


async def _nothing() -> dict[int, dict[str, Any]]:
    return {}


def _ratio(amount: float, count: float) -> float | None:
    return amount / count if count else None
