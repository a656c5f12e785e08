"""Bars and cells of the dashboards of calls: the calls that they lead to have the same figures."""

import html
import json
import re
from collections import Counter
from datetime import datetime
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest

from receiver import config
from receiver.browse.charts import DASHBOARDS
from receiver.browse.limits import Limits
from receiver.store import migrate, open_store, receive
from schema.disconnection_reasons import REASONS
from schema.products import product_family
from tests.support.browsing import START, add_tokens, bar_url, browsing, visitor

# Datasette serves files.
pytestmark = pytest.mark.sqlite
BERLIN = ZoneInfo("Europe/Berlin")
CHARTS = {
    (slug, name): chart
    for slug, dashboard in DASHBOARDS.items()
    for name, chart in dashboard.charts.items()
    if dashboard.kind == "call"
}
REASONS_OF_CALLS = ("user_hangup", "dial_busy", "call_transfer", "moon", None)
PRODUCTS = ("gpt-4o", "gpt_4o", "elevenlabs_tts", "us_twilio_telephony", "odd")


def made_up(count=160):
    """Calls of three agents in three weeks, of which each part is missing at times."""
    random = Random(11)
    for n in range(count):
        call = {
            "call_id": f"call_{n:03}",
            "call_status": "ended",
            "agent_id": f"agent_{n % 3}",
            "agent_name": f"Agent {n % 3}",
            "agent_version": n % 2,
            "direction": random.choice(("inbound", "outbound")),
            "start_timestamp": START + random.randrange(21 * 86_400_000),
            "duration_ms": random.randrange(1_000, 300_000),
            "disconnection_reason": random.choice(REASONS_OF_CALLS),
            "transfer_destination": random.choice(("+14155550199", None, None)),
            "call_cost": {
                "combined_cost": 10,
                "product_costs": [
                    {"product": product, "cost": random.randrange(1, 40) / 4}
                    for product in random.choices(PRODUCTS, k=3)
                ],
            },
            "call_analysis": {
                "call_successful": random.choice((True, False, None)),
                "user_sentiment": random.choice(("Positive", "negative ", "Neutral", None)),
            },
            "latency": {"e2e": {"p50": 800 + n, "p95": 1500 + n, "values": [700 + n, 900]}},
            "transcript_with_tool_calls": [*tools(random), *nodes(random)],
        }
        for name in ("start_timestamp", "direction", "call_analysis", "call_cost", "latency"):
            if random.random() < 0.05:
                del call[name]
        yield {k: v for k, v in call.items() if v is not None}


def tools(random):
    for n in range(random.randrange(4)):
        name = random.choice(("book", "find"))
        yield {"role": "tool_call_invocation", "tool_call_id": f"t{n}", "name": name, "time_sec": n}
        if random.random() < 0.9:
            content = random.choice(('{"success": false}', '{"success": true}', "not JSON"))
            answer = {"tool_call_id": f"t{n}", "content": content, "time_sec": n + 0.5}
            yield {"role": "tool_call_result", "successful": random.random() < 0.7, **answer}


def nodes(random):
    visited = ["begin", *random.choices(("Greet", "Find", "Book"), k=random.randrange(5))]
    for n, (before, after) in enumerate(pairwise(visited)):
        names = {"former_node_name": before, "new_node_name": after}
        yield {"role": "node_transition", "time_sec": 10 + n, **names}


class Call:
    """What a body says, read without the code under test."""

    def __init__(self, call):
        self.agent = call["agent_id"]
        self.reason = call.get("disconnection_reason")
        self.transferred = "transfer_destination" in call or self.reason == "call_transfer"
        self.outcome = REASONS.get(self.reason, ("unknown",))[0] if self.reason else "no end yet"
        self.connected = "start_timestamp" in call and self.outcome != "not_connected"
        analysis = call.get("call_analysis", {})
        self.success = analysis.get("call_successful")
        self.sentiment = (analysis.get("user_sentiment") or "").strip().lower() or None
        at = datetime.fromtimestamp(call.get("start_timestamp", START) / 1000, BERLIN)
        self.day, self.hour = at.date().isoformat(), at.strftime("%a %H")
        cost = call.get("call_cost", {"combined_cost": 0, "product_costs": []})
        self.cents = cost["combined_cost"]
        self.costs = [(p["product"].replace("-", "_"), p["cost"]) for p in cost["product_costs"]]
        self.latency = call.get("latency", {}).get("e2e")
        entries = call["transcript_with_tool_calls"]
        answers = {e["tool_call_id"]: e for e in entries if e["role"] == "tool_call_result"}
        self.tools = [
            (e["name"], answers.get(e["tool_call_id"]))
            for e in entries
            if e["role"] == "tool_call_invocation"
        ]
        self.steps = [
            (e["former_node_name"], e["new_node_name"])
            for e in entries
            if e["role"] == "node_transition"
        ]

        self.failed = any(answer and not answer["successful"] for _, answer in self.tools)
        self.refused = any(
            answer and answer["successful"] and answer["content"] == '{"success": false}'
            for _, answer in self.tools
        )

    def cents_of(self, family):
        return sum(c for product, c in self.costs if (product_family(product) or "other") == family)

    def results(self, row):
        """How often a tool did not run, or ran without success."""
        given = [answer for name, answer in self.tools if name == row["tool"] and answer]
        if row["what"] == "did not run":
            return sum(not answer["successful"] for answer in given)
        return sum(a["successful"] and a["content"] == '{"success": false}' for a in given)


@pytest.fixture(scope="module")
def calls():
    return {call["call_id"]: Call(call) for call in made_up()}


@pytest.fixture(scope="module")
def get(tmp_path_factory):
    """Get a page as jane who reads, max who is masked, or nora who is limited to an agent."""
    path = tmp_path_factory.mktemp("links") / "retell.db"
    migrate(path, timezone="Europe/Berlin")
    store = open_store(path)
    for call in made_up():
        body = json.dumps({"event": "call_analyzed", "call": call}).encode()
        store.add(receive(body, source="webhook", observed_at=START, received_at=START))
    store.close()
    environ = {"RETELL_API_KEY": "key", "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"}
    only_one = Limits(agents=("agent_1",))
    roles = {"jane": "reader", "max": "masked", "nora": ("masked", only_one)}
    with browsing(config.load(environ | {"CALLHOUSE_TIMEZONE": "Europe/Berlin"})) as served:
        yield visitor(served, add_tokens(path, roles), name="jane")


def dollars(cents):
    return pytest.approx(sum(cents) / 100, abs=1e-4)


def mean(values):
    values = list(values)
    return pytest.approx(sum(values) / len(values), abs=0.5)


def each(value, conditions):
    """The value, if every call meets the condition."""
    return {value if condition else "another" for condition in conditions}


# Chart -> the figures of a row, computed from the calls that it leads to. A set has the value of
# each of these calls.
FIGURES = {
    "calls": lambda c, _: {"calls": len(c), "outcome": {x.outcome for x in c}},
    "hours": lambda c, _: {
        "calls": len(c),
        "connected": pytest.approx(sum(x.connected for x in c) / len(c), abs=1e-4),
        "hour": {x.hour[-2:] for x in c},
        "weekday": {x.hour[:3] for x in c},
    },
    "successful_hours": lambda c, _: {
        "judged": len(c),
        "success": pytest.approx(sum(x.success for x in c) / len(c), abs=1e-4),
    },
    "days": lambda c, r: {
        "dollars": dollars(x.cents_of(r["family"]) for x in c),
        "day": {x.day for x in c},
        "family": each(r["family"], (x.cents_of(r["family"]) for x in c)),
    },
    "families": lambda c, r: {
        "family": each(r["family"], (x.cents_of(r["family"]) for x in c)),
        "dollars": dollars(x.cents_of(r["family"]) for x in c),
        "products": len(
            {p for x in c for p, _ in x.costs if (product_family(p) or "other") == r["family"]}
        ),
    },
    "products": lambda c, r: {
        "calls": len(c),
        "dollars": dollars(s for x in c for p, s in x.costs if p == r["product"]),
    },
    "agents": lambda c, _: {"calls": len(c), "dollars": dollars(x.cents for x in c)},
    "success": lambda c, _: {"judged": len(c), "successful": sum(x.success for x in c)},
    "sentiment": lambda c, _: {"calls": len(c), "sentiment": {x.sentiment for x in c}},
    "reasons": lambda c, _: {"calls": len(c)},
    "answers": lambda c, _: {"answers": sum(len(x.latency["values"]) for x in c if x.latency)},
    "medians": lambda c, _: {
        "calls": sum(x.latency is not None for x in c),
        "p50_ms": mean(x.latency["p50"] for x in c if x.latency),
    },
    "tails": lambda c, _: {"p95_ms": mean(x.latency["p95"] for x in c if x.latency)},
    "failures": lambda c, r: {
        "times": sum(x.results(r) for x in c),
        "what": each(r["what"], (x.results(r) for x in c)),
    },
    "durations": lambda c, r: {
        "uses": sum(n == r["tool"] for x in c for n, _ in x.tools),
        "tool": each(r["tool"], (r["tool"] in dict(x.tools) for x in c)),
    },
    "nodes": lambda c, r: {
        "times": sum(x.steps[-1][1] == r["node"] for x in c)
        if r["what"] == "ended there"
        else sum(former == r["node"] for x in c for former, _ in x.steps),
        "node": each(r["node"], (r["node"] in {n for s in x.steps for n in s} for x in c)),
        "what": each(
            r["what"], (r["what"] != "ended there" or x.steps[-1][1] == r["node"] for x in c)
        ),
    },
    "steps": lambda c, r: {
        "calls": len(c),
        "times": sum(" → ".join(step) == r["step"] for x in c for step in x.steps),
    },
}


def bars(get, page, chart, name):
    """The rows of a chart that have a value, each with its URL."""
    place = re.search(rf'aria-label="{chart.title}: .*?data-source="([^"]+)"', page)[1]
    for row in get(html.unescape(place), name).json()["rows"]:
        if all(row.get(column, 1) for column in ("share", "success", "times")):
            yield row, bar_url(page, chart.links, row)


def listed(get, url, calls, name):
    """The calls of a list, from its download."""
    path, _, query = url.partition("?")
    answer = get(f"{path}.json?{query}", name)
    assert answer.status_code == 200, answer.text
    return [calls[row["call_id"]] for row in answer.json()]


# A limited login has no sums of waits, which are of all agents.
CASES = [
    (*place, name)
    for place, chart in CHARTS.items()
    for name in ("jane", "max", "nora")
    if (chart.query, name) != ("answer_percentiles", "nora")
]


@pytest.mark.parametrize(("slug", "chart", "name"), CASES)
def test_calls_of_a_bar_have_its_figures(get, calls, slug, chart, name):
    page = get(f"/-/dashboards/{slug}?since=2026-05-01&until=2026-06-10", name).text
    found = [(row, url) for row, url in bars(get, page, CHARTS[slug, chart], name) if url]
    assert found
    for row, url in found[:: max(1, len(found) // (12 if name == "jane" else 3))]:
        shown = listed(get, url, calls, name)
        for column, value in FIGURES[chart](shown, row).items():
            expected = {row[column]} if isinstance(value, set) else row[column]
            assert value == expected, (column, row, url)


# Tile -> its calls, and of which calls they are a share.
TILES = {
    "Calls": (lambda _: True, None),
    "Connected": (lambda x: x.connected, lambda _: True),
    "Success": (
        lambda x: x.connected and x.success,
        lambda x: x.connected and x.success is not None,
    ),
    "Negative": (
        lambda x: x.connected and x.sentiment == "negative",
        lambda x: x.connected and x.sentiment,
    ),
    "Transferred": (lambda x: x.connected and x.transferred, lambda x: x.connected),
    "Tool calls": (lambda x: x.tools, None),
    "Did not run": (lambda x: x.failed, None),
    "Ran without success": (lambda x: x.refused, None),
}


@pytest.mark.parametrize("slug", sorted({slug for slug, _ in CHARTS}))
def test_each_tile_leads_to_its_calls(get, calls, slug):
    page = get(f"/-/dashboards/{slug}?since=2026-05-01&until=2026-06-10").text
    tiles = re.findall(r'<dt>(<a href="([^"]+)">)?([^<]+).*?class="value"[^>]*>([^<]*)', page)
    assert len(tiles) >= 3
    for _, url, title, value in tiles:
        if title == "Forecast for the month":
            continue
        if "month=" not in url:
            shown = listed(get, html.unescape(url), calls, "jane")
        if title in TILES:
            matches, of = TILES[title]
            assert {*shown} == {call for call in calls.values() if matches(call)}, title
            if of:
                share = 100 * len(shown) / sum(bool(of(call)) for call in calls.values())
                assert value == f"{share:.0f} %"


def test_each_bar_leads_to_calls(get):
    for (slug, _), chart in CHARTS.items():
        page = get(f"/-/dashboards/{slug}?since=2026-05-01&until=2026-06-10").text
        assert all(url for _, url in bars(get, page, chart, "jane")), chart.title


def test_each_chart_of_calls_is_compared():
    assert {name for _, name in CHARTS} == FIGURES.keys()
    assert Counter(name for _, name in CHARTS).most_common(1)[0][1] == 1
    assert all(chart.links for board in DASHBOARDS.values() for chart in board.charts.values())
