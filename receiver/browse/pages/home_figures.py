"""The figures of the home page, computed from sums by agent and reason. Pure, except for URLs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.browse.formatting import format_dollars, label, local_time
from receiver.browse.pages.call_filters import NO_END
from receiver.browse.pages.figures import (
    Figure,
    Links,
    Totals,
    amount_figure,
    relative_change,
    share_figure,
    wait_figures,
)
from receiver.browse.pages.periods import Period
from receiver.clock import format_duration

# Rows of the tables.
_AGENTS, _REASONS = 12, 6
# Categories of reasons with which a call fails, whatever its analysis says.
_FAILED = frozenset({"error", "limit", "not_connected"})


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent's figures."""

    name: str
    url: str
    figures: list[Figure]


@dataclass(frozen=True, slots=True)
class Reason:
    """Failed calls with one reason; `width` is its percentage of the most frequent one."""

    name: str
    why: str
    calls: int
    share: str
    width: float
    url: str


@dataclass(frozen=True, slots=True)
class Step:
    """A bar of the chart: parts from below, as percentages of the highest bar. One that is cut off
    has the shares of its calls."""

    index: int
    title: str
    url: str
    successful: float
    connected: float
    calls: float
    is_cut: bool


def figures(
    halves: Mapping[int, Totals],
    waits: Mapping[int, Mapping[str, Any]],
    links: Links,
    *,
    is_late: bool = False,
) -> list[Figure]:
    """The eight figures of the period."""
    now, before = halves[1], halves[0]
    late = "This figure takes too long to compute." if is_late else ""

    def amount(name: str, value: float, old: float, write: Any, **filters: str) -> Figure:
        shown = None if is_late else value
        return amount_figure(name, shown, old, write, late, links.calls(**filters))

    def part(name: str, of: str, count: str, better: int, note: str, **filters: str) -> Figure:
        url = links.calls(**filters)
        return share_figure(name, now, before, of, count, better, late or note, url)

    return [
        amount("Calls", now.calls, before.calls, "{:,}".format),
        part("Connected", "connected", "calls", 1, "Of all calls.", connected="yes"),
        part(
            *("Success", "successful", "judged", 1, "Of analysed calls."),
            success="yes",
            connected="yes",
        ),
        part(
            *("Negative", "negative", "with_sentiment", -1, "Of calls with a sentiment."),
            sentiment="negative",
            connected="yes",
        ),
        amount("Minutes", now.ms / 60_000, before.ms / 60_000, "{:,.0f}".format, sort="-duration"),
        amount("Cost", now.cents, before.cents, format_dollars, sort="-cost"),
        *wait_figures(waits, links.calls(connected="yes")),
    ]


def chat_figures(halves: Mapping[int, Totals], links: Links) -> tuple[Figure, Figure] | None:
    """How many chats the period has and what they cost; None without any."""
    now, before = halves[1], halves[0]
    if not now.calls:
        return None
    word = "{:,} chat" if now.calls == 1 else "{:,} chats"
    return (
        amount_figure("Chats", now.calls, before.calls, word.format, url=links.calls()),
        amount_figure(
            *("Cost", now.cents, before.cents, format_dollars), url=links.calls(sort="-cost")
        ),
    )


def agent_rows(
    rows: Iterable[Mapping[str, Any]], names: Mapping[str, str], links: Links
) -> tuple[list[AgentRow], int]:
    """The agents with the most calls in the period, and the number of others. `names` by id."""
    found: dict[str | None, dict[int, Totals]] = {}
    for row in rows:
        halves = found.setdefault(row["agent_id"], {1: Totals(), 0: Totals()})
        halves[row["half"]].add(row)
    busy = sorted(
        ((agent, halves) for agent, halves in found.items() if halves[1].calls),
        key=lambda pair: (-pair[1][1].calls, str(pair[0])),
    )
    shown = [
        AgentRow(
            names.get(agent or "") or agent or "No agent",
            links.of_agent(agent),
            _agent_figures(halves[1], halves[0], agent, links),
        )
        for agent, halves in busy[:_AGENTS]
    ]
    return shown, len(busy) - len(shown)


def _agent_figures(now: Totals, before: Totals, agent: str | None, links: Links) -> list[Figure]:
    each = now.ms / now.connected / 1000 if now.connected else None
    return [
        Figure(
            *("Calls", f"{now.calls:,}", relative_change(now.calls, before.calls)),
            url=links.of_agent(agent),
        ),
        share_figure(
            *("Success", now, before, "successful", "judged", 1, "Of analysed calls."),
            links.of_agent(agent, success="yes", connected="yes"),
        ),
        share_figure(
            *("Negative", now, before, "negative", "with_sentiment", -1),
            "Of calls with a sentiment.",
            links.of_agent(agent, sentiment="negative", connected="yes"),
        ),
        Figure(
            "Average length",
            "–" if each is None else format_duration(each),
            url=links.of_agent(agent, connected="yes", sort="-duration"),
        ),
        Figure("Cost", format_dollars(now.cents), url=links.of_agent(agent, sort="-cost")),
        Figure(
            "Cost per success",
            format_dollars(now.cents / now.successful) if now.successful else "–",
            url=links.of_agent(agent, success="yes", connected="yes", sort="-cost"),
        ),
    ]


def failures(rows: Iterable[Mapping[str, Any]], links: Links) -> tuple[int, list[Reason]]:
    """The number of failed calls of the period, and the most frequent reasons.

    Failed are calls that did not connect or ended by an error or a limit, and connected calls whose
    analysis says that the agent did not reach its goal.
    """
    found: dict[tuple[str | None, bool], int] = {}
    always_fail: set[str | None] = set()
    for row in rows:
        if row["half"] != 1:
            continue
        if row["category"] in _FAILED:
            always_fail.add(row["reason"])
        is_failed = row["category"] in _FAILED or not row["connected"]
        is_failed = is_failed and row["reason"] is not None
        count = row["calls"] if is_failed else row["judged"] - row["successful"]
        if count and (is_failed or row["connected"]):
            key = (row["reason"], is_failed)
            found[key] = found.get(key, 0) + count

    def filters_of(reason: str | None, is_failed: bool) -> dict[str, str]:
        if reason in always_fail:
            return {}
        return {"connected": "no"} if is_failed else {"connected": "yes", "success": "no"}

    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda pair: (-pair[1], str(pair[0])))[:_REASONS]
    most = ordered[0][1] if ordered else 1
    return total, [
        Reason(
            name=label(reason or "no end yet"),
            why="" if is_failed else "goal not reached",
            calls=count,
            share=f"{100 * count / total:.0f} %",
            width=100 * count / most,
            url=links.calls(outcome=reason or NO_END, **filters_of(reason, is_failed)),
        )
        for (reason, is_failed), count in ordered
    ]


def steps_of(
    rows: Iterable[Mapping[str, Any]], period: Period, zone: ZoneInfo, links: Links
) -> list[Step]:
    """A bar for each hour of a day, or for each day, including those without a call."""
    found = {row["at"]: row for row in rows}
    marks: list[tuple[Any, str, str]] = []
    if period.is_day:
        at = period.since
        while at < period.until:
            local = local_time(at, zone)
            text = local.date().isoformat()
            url = links.calls(since=text, until=text, hour=local.hour)
            marks.append((at, local.strftime("%H:%M"), url))
            at += 3_600_000
    else:
        for n in range((period.last - period.first).days + 1):
            day = period.first + timedelta(days=n)
            text = day.isoformat()
            url = links.calls(since=text, until=text)
            marks.append((text, day.strftime("%a %-d %B"), url))
    most = _highest_bar([row["calls"] for row in found.values()])
    steps = []
    for index, (at, name, url) in enumerate(marks):
        row = found.get(at, {"calls": 0, "connected": 0, "successful": 0})
        words = (
            f"{name}: {row['calls']:,} calls, {row['connected']:,} connected, "
            f"{row['successful']:,} successful"
        )
        whole = max(row["calls"], most)
        parts = {part: 100 * row[part] / whole for part in ("successful", "connected", "calls")}
        steps.append(Step(index, words, url, **parts, is_cut=row["calls"] > most))
    return steps


def _highest_bar(calls: list[int]) -> int:
    """The number of calls of the highest bar: the most, unless few bars have more than three times
    the calls of all others, which would be flat."""
    ordered = sorted(calls, reverse=True)
    others = ordered[max(1, len(ordered) // 10) :]
    if others and ordered[0] > 3 * others[0]:
        return 2 * others[0]
    return max(ordered, default=0) or 1


def reasons_to_listen(call: Mapping[str, Any]) -> list[str]:
    """Why a call is among the worst."""
    sentiment = (call["sentiment"] or "").strip().lower()
    return [
        *(["Not successful"] if call["success"] == 0 else []),
        *(["Negative"] if sentiment == "negative" else []),
        *([label(call["outcome"])] if call["category"] == "error" else []),
    ]
