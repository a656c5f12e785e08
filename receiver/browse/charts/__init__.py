"""Dashboards: which there are, the charts of each, and their SQL, a file each.

`configuration` writes one as datasette-dashboards has it in its configuration.
"""

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from receiver.browse.charts import vega
from receiver.browse.charts.macros import Days, expand

_WAYS_TO_END = "By what ended the call; not_connected are those that nobody answered."


@dataclass(frozen=True, slots=True)
class Chart:
    """A question and how its answer is drawn: `query` is the name of a file of SQL, `display`
    makes the Vega-Lite specification for some days."""

    title: str
    description: str
    query: str
    display: Callable[[Days], dict[str, Any]]
    is_wide: bool = False

    @property
    def is_of_all(self) -> bool:
        """Whether only days can be chosen, not agent, version and direction."""
        return "chosen(" not in sql(self.query)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of charts."""

    title: str
    description: str
    charts: dict[str, Chart] = field(default_factory=dict)


@cache
def sql(name: str) -> str:
    """The SQL of a file, with its words."""
    file = importlib.resources.files("receiver.browse") / "charts" / f"{name}.sql"
    return file.read_text(encoding="utf-8").strip().rstrip(";")


DASHBOARDS = {
    "volume": Dashboard(
        "Volume",
        "How many calls there are, when, and how they end.",
        {
            "calls": Chart(
                "Calls by outcome",
                _WAYS_TO_END,
                "calls_by_outcome",
                lambda days: vega.stacked(days, "outcome", "calls", vega.OUTCOMES, "minutes"),
                is_wide=True,
            ),
            "hours": Chart(
                "When people call",
                "Calls in each hour of the week.",
                "hour_of_week",
                lambda _: vega.week("calls", ",d"),
            ),
            "successful_hours": Chart(
                "When calls succeed",
                "Share of connected, analysed calls in which the agent reached its goal, in each "
                "hour of the week.",
                "hour_of_week",
                lambda _: vega.week("success", ".0%"),
            ),
        },
    ),
    "cost": Dashboard(
        "Cost",
        "What the money goes to. In US dollars, without your own carrier's charges.",
        {
            "days": Chart(
                "Cost by product",
                "The seven products that cost most, and all others.",
                "cost_by_day",
                lambda days: vega.stacked(days, "product", "dollars", None, form="$,.2f"),
                is_wide=True,
            ),
            "products": Chart(
                "Products",
                "What each product cost, transferred legs included.",
                "cost_by_product",
                lambda _: vega.ranked(
                    "product", "dollars", "$,.2f", calls=",d", share=".1%", dollars_per_call="$,.4f"
                ),
            ),
            "agents": Chart(
                "Agents",
                "What the calls of each agent cost; point at one for the cost of a call and of a "
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
            ),
        },
    ),
    "quality": Dashboard(
        "Quality",
        "Whether calls reach their goal, how callers feel, and how calls end.",
        {
            "success": Chart(
                "Success",
                "Share of connected, analysed calls in which the agent reached its goal. Where "
                "there are few calls the band is wide: it holds the true share 95 times of 100.",
                "success_by_day",
                lambda days: vega.share_with_band(days, "success", "successful", "judged"),
            ),
            "sentiment": Chart(
                "Sentiment",
                "How callers felt, as shares of connected calls with any sentiment.",
                "sentiment_by_day",
                lambda days: vega.stacked(
                    days, "sentiment", "share", vega.SENTIMENTS, "calls", form=".0%", most=1
                ),
            ),
            "reasons": Chart(
                "Disconnection reasons",
                "Why calls ended, in the colour of their outcome.",
                "disconnection_reasons",
                lambda _: vega.ranked(
                    "reason", "calls", ",d", colour=vega.OUTCOMES, share=".1%", description=""
                ),
                is_wide=True,
            ),
        },
    ),
    "speed": Dashboard(
        "Speed",
        "How long callers wait for an answer, in milliseconds, and which part takes the time.",
        {
            "answers": Chart(
                "Time to answer",
                "From the end of the caller's words to the agent's, over every answer: half are "
                "quicker than p50, 95 of 100 quicker than p95.",
                "answer_percentiles",
                lambda days: vega.lines(days, "percentile", "ms", vega.PERCENTILES, "answers"),
                is_wide=True,
            ),
            "medians": Chart(
                "Median by component",
                "Average over calls of the call's median.",
                "latency_by_component",
                lambda days: vega.lines(days, "component", "p50_ms", None, "calls"),
            ),
            "tails": Chart(
                "95th percentile by component",
                "Average over calls of the call's 95th percentile.",
                "latency_by_component",
                lambda days: vega.lines(days, "component", "p95_ms", None, "calls"),
            ),
        },
    ),
    "flow": Dashboard(
        "Tools and flow",
        "Which tools fail, which keep callers waiting, and how far conversations come.",
        {
            "failures": Chart(
                "Tools that fail",
                'Share of uses that did not run, or ran and answered "success": false. The twenty '
                "that failed most often.",
                "tool_failures",
                lambda _: vega.parts("tool", "share", ".1%", vega.FAILURES, times=",d", uses=",d"),
            ),
            "durations": Chart(
                "Tools that take long",
                "Average time from invocation to result, in milliseconds.",
                "tool_durations",
                lambda _: vega.ranked("tool", "average_ms", ",d", uses=",d", longest_ms=",d"),
            ),
            "nodes": Chart(
                "How far conversations come",
                "How often each node of a flow was visited, and how often the call ended there. "
                "Choose an agent: nodes of the same name are counted together.",
                "node_visits",
                lambda _: vega.parts("node", "times", ",d", vega.VISITS, visits=",d"),
            ),
            "steps": Chart(
                "Where they go next",
                "How often each step was taken; point at one for its share of the steps out of "
                "that node.",
                "node_steps",
                lambda _: vega.ranked("step", "times", ",d", calls=",d", share=".0%"),
            ),
        },
    ),
    "versions": Dashboard(
        "Versions",
        "Each version of an agent against the one before it: what a changed prompt did.",
    ),
}


def configuration(name: str, database: str, days: Days) -> dict[str, Any]:
    """A dashboard in datasette-dashboards' words, over a database of Datasette's."""
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
                "is_of_all": chart.is_of_all,
            }
            for slug, chart in dashboard.charts.items()
        },
    }
