"""The dashboards and their charts; each chart has a file of SQL beside this one."""

import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from receiver.browse.charts import vega
from receiver.browse.charts.macros import Days, expand

_SPAN = {"since": "since", "until": "until"}
_CONNECTED = _SPAN | {"connected": "is_connected"}
_JUDGED = {"success": "is_judged"}
_HOUR = {"weekday": "weekday", "hour": "hour"}
_NODES = {"node": "filter", "next_node": "next_node"}
_OUTCOME = "By the reason why the call ended. Not connected: nobody answered."


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: `query` is the name of its SQL file, `display` returns the Vega-Lite specification
    for the chosen days."""

    title: str
    description: str
    query: str
    display: Callable[[Days], dict[str, Any]]
    is_wide: bool = False
    # Filter of the page of calls -> the column with its value: a bar leads to what it counts.
    links: Mapping[str, str] = field(default_factory=dict)
    # Not for masked readers.
    is_personal: bool = False

    @property
    def ignores_agent(self) -> bool:
        """Whether the chart filters only by days, not by agent, version and direction."""
        return "chosen(" not in sql(self.query)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of charts, of calls or of chats. The page `versions` has a table instead."""

    title: str
    description: str
    charts: dict[str, Chart] = field(default_factory=dict)
    kind: str = "call"


@cache
def sql(name: str) -> str:
    """The SQL of a file, with its macros."""
    file = importlib.resources.files("receiver.browse") / "charts" / f"{name}.sql"
    return file.read_text(encoding="utf-8").strip().rstrip(";")


DASHBOARDS = {
    "volume": Dashboard(
        "Volume",
        "How many calls there are, when they come, and how they end.",
        {
            "calls": Chart(
                "Calls by outcome",
                _OUTCOME,
                "calls_by_outcome",
                lambda days: vega.stacked(days, "outcome", "calls", vega.OUTCOMES, "minutes"),
                is_wide=True,
                links=_SPAN | {"outcome": "filter"},
            ),
            "hours": Chart(
                "When people call",
                "Calls in each hour of the week.",
                "hour_of_week",
                lambda _: vega.week_heatmap("calls", ",d"),
                links=_HOUR,
            ),
            "successful_hours": Chart(
                "When calls succeed",
                "Share of connected, analysed calls in which the agent reached its goal, in each "
                f"hour of the week. Grey and faded: fewer than {vega.FEW} such calls.",
                "hour_of_week",
                lambda _: vega.week_heatmap("success", ".0%", count="judged"),
                links=_HOUR | _JUDGED | {"connected": "is_connected"},
            ),
        },
    ),
    "cost": Dashboard(
        "Cost",
        "Cost of calls in US dollars, without the charges of your own carrier. Chats have a "
        "dashboard of their own.",
        {
            "days": Chart(
                "Cost by family",
                "Cost of calls, by family of products.",
                "cost_by_family_and_day",
                lambda days: vega.stacked(days, "family", "dollars", vega.FAMILIES, form="$,.2f"),
                is_wide=True,
                links=_SPAN | {"product": "filter"},
            ),
            "families": Chart(
                "Families",
                "Cost of each family of products, including transferred legs.",
                "cost_by_family",
                lambda _: vega.ranked(
                    "family",
                    "dollars",
                    "$,.2f",
                    kind="family",
                    colours=vega.FAMILIES,
                    share=".1%",
                    products=",d",
                    transfer_leg_dollars="$,.2f",
                ),
                links={"product": "filter"},
            ),
            "agents": Chart(
                "Agents",
                "Cost of each agent's calls. Point at a bar for the cost per call and per "
                "successful call.",
                "cost_by_agent",
                lambda _: vega.ranked(
                    "agent",
                    "dollars",
                    "$,.2f",
                    calls=",d",
                    dollars_per_call="$,.3f",
                    dollars_per_success="$,.3f",
                ),
                links={"agent": "filter"},
            ),
            "products": Chart(
                "Products",
                "Cost of the twenty most expensive products, in the colour of their family.",
                "cost_by_product",
                lambda _: vega.ranked(
                    "product",
                    "dollars",
                    "$,.2f",
                    kind="family",
                    colours=vega.FAMILIES,
                    family="",
                    calls=",d",
                    share=".1%",
                    dollars_per_call="$,.4f",
                ),
                is_wide=True,
                links={"product": "filter"},
            ),
        },
    ),
    "quality": Dashboard(
        "Quality",
        "Whether calls reach their goal, how callers feel, and how calls end.",
        {
            "success": Chart(
                "Success",
                "Share of connected, analysed calls in which the agent reached its goal, with its "
                "95 % confidence interval: few calls make it wide.",
                "success_by_day",
                lambda days: vega.share_with_band(days, "success", "successful", "judged"),
                links=_CONNECTED | _JUDGED,
            ),
            "sentiment": Chart(
                "Sentiment",
                "Sentiment of callers, as shares of connected calls with a sentiment.",
                "sentiment_by_day",
                lambda days: vega.stacked(
                    days, "sentiment", "share", vega.SENTIMENTS, "calls", form=".0%", is_share=True
                ),
                links=_CONNECTED | {"sentiment": "sentiment"},
            ),
            "reasons": Chart(
                "Disconnection reasons",
                "Why calls ended, coloured by outcome.",
                "disconnection_reasons",
                lambda _: vega.ranked(
                    "reason",
                    "calls",
                    ",d",
                    kind="outcome",
                    colours=vega.OUTCOMES,
                    share=".1%",
                    description="",
                ),
                is_wide=True,
                links={"outcome": "reason"},
            ),
        },
    ),
    "speed": Dashboard(
        "Speed",
        "How long callers wait for an answer, in milliseconds, and which part takes the time.",
        {
            "answers": Chart(
                "Time to answer",
                "From the end of the caller's words to the agent's answer, over all answers: half "
                "are faster than p50, 95 % are faster than p95.",
                "answer_percentiles",
                lambda days: vega.lines(days, "percentile", "ms", vega.PERCENTILES, "answers"),
                is_wide=True,
                links=_SPAN,
            ),
            "medians": Chart(
                "Median by component",
                "The median of each call, averaged over calls.",
                "latency_by_component",
                lambda days: vega.lines(days, "component", "p50_ms", None, "calls"),
                links=_SPAN,
            ),
            "tails": Chart(
                "95th percentile by component",
                "The 95th percentile of each call, averaged over calls.",
                "latency_by_component",
                lambda days: vega.lines(days, "component", "p95_ms", None, "calls"),
                links=_SPAN,
            ),
        },
    ),
    "flow": Dashboard(
        "Tools and flow",
        "Which tools fail, which are slow, and how far conversations get.",
        {
            "failures": Chart(
                "Tools that fail",
                'Share of tool calls that did not run, or ran and returned "success": false. The '
                "twenty tools that failed most often.",
                "tool_failures",
                lambda _: vega.stacked_bars(
                    "tool", "share", ".1%", vega.FAILURES, times=",d", uses=",d"
                ),
                links={"tool": "filter", "tool_result": "result"},
            ),
            "durations": Chart(
                "Tools that take long",
                "Average time from invocation to result, in milliseconds.",
                "tool_durations",
                lambda _: vega.ranked("tool", "average_ms", ",d", uses=",d", longest_ms=",d"),
                links={"tool": "filter"},
            ),
            "nodes": Chart(
                "How far conversations get",
                "How often each node of a flow was visited, and how often the call ended there. "
                "Choose an agent first: nodes of the same name are counted together.",
                "node_visits",
                lambda _: vega.stacked_bars("node", "times", ",d", vega.VISITS, visits=",d"),
                links=_NODES,
            ),
            "steps": Chart(
                "Where they go next",
                "How often each transition was taken. Point at a bar for its share of the "
                "transitions out of that node.",
                "node_steps",
                lambda _: vega.ranked("step", "times", ",d", calls=",d", share=".0%"),
                links=_NODES,
            ),
        },
    ),
    "chats": Dashboard(
        "Chats",
        "The number of chats, their outcomes and cost, by API and by SMS.",
        {
            "chats": Chart(
                "Chats by outcome",
                "By the reason why the chat ended, or by its status if there is no reason.",
                "chats_by_outcome",
                lambda days: vega.stacked(days, "outcome", "chats", vega.CHAT_OUTCOMES),
                is_wide=True,
                links=_SPAN | {"outcome": "filter"},
            ),
            "chat_cost": Chart(
                "Cost by family",
                "Cost of chats, by family of products.",
                "chat_cost_by_family",
                lambda days: vega.stacked(days, "family", "dollars", vega.FAMILIES, form="$,.2f"),
                is_wide=True,
                links=_SPAN | {"product": "filter"},
            ),
            "chat_success": Chart(
                "Success",
                "Share of analysed chats in which the agent reached its goal, with its 95 % "
                "confidence interval.",
                "chat_success",
                lambda days: vega.share_with_band(days, "success", "successful", "judged"),
                links=_SPAN | _JUDGED,
            ),
            "chat_sentiment": Chart(
                "Sentiment",
                "Sentiment of the people who wrote, as shares of chats with a sentiment.",
                "chat_sentiment",
                lambda days: vega.stacked(
                    days, "sentiment", "share", vega.SENTIMENTS, "chats", form=".0%", is_share=True
                ),
                links=_SPAN | {"sentiment": "filter"},
            ),
            "chat_agents": Chart(
                "Agents and versions",
                "Chats of each version of an agent. Point at a bar for success, sentiment and "
                "cost.",
                "chats_by_agent",
                lambda _: vega.ranked(
                    "agent",
                    "chats",
                    ",d",
                    success=".0%",
                    negative=".0%",
                    dollars="$,.2f",
                    dollars_per_chat="$,.4f",
                ),
                is_wide=True,
                links={"agent": "filter", "version": "version"},
            ),
            "chat_reasons": Chart(
                "Reasons",
                "Why chats ended, or their status where Retell named no reason, coloured by "
                "outcome.",
                "chat_reasons",
                lambda _: vega.ranked(
                    "reason",
                    "chats",
                    ",d",
                    kind="outcome",
                    colours=vega.CHAT_OUTCOMES,
                    share=".1%",
                    description="",
                ),
                links={"outcome": "filter"},
            ),
            "chat_numbers": Chart(
                "Numbers",
                "Chats by SMS of each of the agents' numbers, with how many people wrote.",
                "chat_numbers",
                lambda _: vega.ranked(
                    "number", "chats", ",d", people=",d", inbound=",d", dollars="$,.2f"
                ),
                links={"agent_number": "filter"},
                is_personal=True,
            ),
        },
        kind="chat",
    ),
    "versions": Dashboard(
        "Versions",
        "Each version of an agent compared with the version before: what a changed prompt did.",
    ),
}


def configuration(
    name: str, database: str, days: Days, *, is_masked: bool = False
) -> dict[str, Any]:
    """The dashboard as datasette-dashboards is configured, on one of Datasette's databases."""
    dashboard = DASHBOARDS[name]
    return {
        "title": dashboard.title,
        "description": dashboard.description,
        "charts": {
            slug: {
                "title": chart.title,
                "description": chart.description,
                "db": database,
                "query": expand(sql(chart.query), days),
                "library": "vega-lite",
                "display": chart.display(days),
                "is_wide": chart.is_wide,
                "ignores_agent": chart.ignores_agent,
                "links": chart.links,
            }
            for slug, chart in dashboard.charts.items()
            if not (is_masked and chart.is_personal)
        },
    }
