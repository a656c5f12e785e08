"""The dashboard of chats: each figure against the same one computed in Python from raw bodies."""

import asyncio
import html
import json
import re
import statistics
from collections import Counter, defaultdict
from datetime import date, datetime
from random import Random
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest

from receiver import config
from receiver.browse.charts import DASHBOARDS
from receiver.browse.charts.macros import Days
from receiver.browse.formatting import format_dollars
from receiver.browse.limits import Limits
from receiver.browse.pages import DATABASE, Reader
from receiver.browse.pages.dashboard_totals import fetch_totals
from receiver.browse.pages.home import home
from receiver.store import migrate, open_store, receive
from receiver.store.connection import connect
from schema.disconnection_reasons import REASONS
from schema.products import product_family
from tests.support.browsing import add_tokens, bar_url, browsing, visitor
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite

DAY = 86_400_000
BERLIN = ZoneInfo("Europe/Berlin")
# Midnight of 12 May 2026 in Berlin, and half past ten there.
MIDNIGHT = 1_778_536_800_000
NOW = MIDNIGHT + 37_800_000
SINCE, UNTIL = "2026-04-13", "2026-05-12"
# What a field of another type is.
ODD = ({}, [], "", "x", None)
REASONS_OF_CHATS = ("user_hangup", "inactivity", "error_asr", "moon_phase", None)


def made_up(count=500, days=60):
    """Chats of two accounts and three agents, of which each field is missing at times."""
    random, chats = Random(7), []
    for n in range(count):
        at = NOW - random.randrange(days * DAY)
        agent = random.randrange(3)
        chat = {
            "chat_id": f"chat_{n:04}",
            "agent_id": f"agent_{agent}",
            "version": random.randrange(2),
            "chat_status": random.choice(("ended", "ongoing", "error")),
            "start_timestamp": at,
            "end_timestamp": at + random.randrange(1_000, 900_000),
            "disconnection_reason": random.choice(REASONS_OF_CHATS),
            "chat_cost": {
                "combined_cost": 3,
                "product_costs": [
                    {"product": random.choice(("gpt-4o", "sms_message")), "cost": n % 7 + 0.5},
                    {"product": "odd", "cost": {}},
                ],
            },
            "chat_analysis": {
                "chat_successful": random.random() < 0.6,
                "user_sentiment": random.choice(("Positive", " negative", "Neutral", "Mixed")),
            },
        }
        chat["chat_cost"]["combined_cost"] = chat["chat_cost"]["product_costs"][0]["cost"]
        if random.random() < 0.5:
            numbers = {"agent_number": f"+1800555010{agent}", "user_number": f"+1415555{n % 9:04}"}
            chat |= {"direction": random.choice(("inbound", "outbound")), **numbers}
        for name in list(chat):
            if name != "chat_id" and random.random() < 0.04:
                chat[name] = random.choice(ODD)
        chats.append((at, {name: value for name, value in chat.items() if value is not None}))
    return chats


class Body:
    """What a body says, read without the code under test; a value of another type is None."""

    def __init__(self, at, chat):
        self.id, self.at = chat["chat_id"], at
        self.agent, self.status = text(chat, "agent_id"), text(chat, "chat_status")
        self.reason, self.direction = text(chat, "disconnection_reason"), text(chat, "direction")
        self.number = text(chat, "agent_number") or None
        self.person = text(chat, "user_number") or None
        version = chat.get("version")
        self.version = int(version) if isinstance(version, int) else None
        cost = chat.get("chat_cost")
        self.cents = cost["combined_cost"] if isinstance(cost, dict) and cost else None
        self.products = cost["product_costs"] if isinstance(cost, dict) and cost else []
        analysis = chat.get("chat_analysis")
        analysis = analysis if isinstance(analysis, dict) else {}
        self.success = analysis.get("chat_successful")
        self.sentiment = (analysis.get("user_sentiment") or "").strip().lower() or None
        self.day = datetime.fromtimestamp(at / 1000, BERLIN).date().isoformat()
        self.account = "south" if n_of(chat) % 2 else "north"

    @property
    def outcome(self):
        if self.reason is None:
            return "no end yet" if self.status is None else self.status
        return REASONS.get(self.reason, ("unknown",))[0]


def n_of(chat):
    return int(chat["chat_id"][-4:])


def text(chat, name):
    value = chat.get(name)
    return value if isinstance(value, str) else None


@pytest.fixture(scope="module")
def chats():
    return [Body(at, chat) for at, chat in made_up()]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    path = tmp_path_factory.mktemp("chats") / "retell.db"
    migrate(path, timezone="Europe/Berlin")
    db = connect(path, busy_timeout_ms=1000)
    db.executemany("INSERT INTO account_keys VALUES (?, ?)", [("k0", "north"), ("k1", "south")])
    db.close()
    store = open_store(path)
    for at, chat in made_up():
        body = json.dumps({"event": "chat_analyzed", "chat": chat}).encode()
        key = f"k{n_of(chat) % 2}"
        store.add(receive(body, source="webhook", observed_at=at, received_at=at, key_id=key))
    # The name of an agent is only in its calls.
    call = {"call_id": "call_1", "agent_id": "agent_1", "agent_name": "Support"}
    body = json.dumps({"event": "call_ended", "call": call | {"start_timestamp": NOW}}).encode()
    store.add(receive(body, source="webhook", observed_at=NOW, received_at=NOW, key_id="k1"))
    store.close()
    environ = {"RETELL_API_KEY": "key", "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"}
    with browsing(config.load(environ | {"CALLHOUSE_TIMEZONE": "Europe/Berlin"})) as served:
        yield served


@pytest.fixture(scope="module")
def get(served):
    """Get a page as jane who reads, max who is masked, or nora who is limited to an agent."""
    roles = {
        "jane": "reader",
        "max": "masked",
        "nora": ("reader", Limits(agents=("agent_2",))),
        "alma": ("masked", Limits(accounts=("south",))),
    }
    tokens = add_tokens(served.callhouse_settings.database_path, roles)
    return visitor(served, tokens, name="jane")


def page_of(get, name="jane", **chosen):
    asked = {"since": SINCE, "until": UNTIL} | chosen
    page = get(f"/-/dashboards/chats?{urlencode(asked)}", name)
    assert page.status_code == 200, page.text
    return page.text


def charts(get, page, name="jane"):
    """Chart -> its rows, as the page fetches them."""
    found = {}
    for slug, url in re.findall(r'id="(chat\w+)".*?data-source="([^"]+)"', page, re.DOTALL):
        answer = get(html.unescape(url).replace("_shape=objects", "_shape=array"), name)
        assert answer.status_code == 200, answer.text
        found[slug] = answer.json()
    return found


def dollars(cents):
    return pytest.approx(sum(cents) / 100, abs=1e-4)


def share(part, whole):
    return pytest.approx(part / whole, abs=1e-4)


def check(found, chats):
    """Every row of every chart but the agents' against the bodies."""
    days = Counter((c.day, c.outcome) for c in chats)
    assert {(r["day"], r["outcome"]): r["chats"] for r in found["chats"]} == days
    costs = defaultdict(list)
    for chat in chats:
        for product in chat.products:
            if not isinstance(product["cost"], dict):
                costs[chat.day, product_family(product["product"]) or "other"].append(
                    product["cost"]
                )
    assert {(r["day"], r["family"]): r["dollars"] for r in found["chat_cost"]} == {
        key: dollars(cents) for key, cents in costs.items()
    }
    judged = defaultdict(list)
    for chat in chats:
        judged[chat.day] += [] if chat.success is None else [chat.success]
    assert {r["day"]: (r["successful"], r["judged"]) for r in found["chat_success"]} == {
        day: (sum(values), len(values)) for day, values in judged.items() if values
    }
    feelings = Counter((c.day, c.sentiment) for c in chats if c.sentiment)
    assert {(r["day"], r["filter"]): r["chats"] for r in found["chat_sentiment"]} == feelings
    for row in found["chat_sentiment"]:
        of_day = sum(n for (day, _), n in feelings.items() if day == row["day"])
        assert row["share"] == share(row["chats"], of_day)
        assert row["sentiment"] == {"mixed": "unknown"}.get(row["filter"], row["filter"])
    reasons = Counter(c.status if c.reason is None else c.reason for c in chats)
    del reasons[None]
    assert {r["reason"]: r["chats"] for r in found["chat_reasons"]} == reasons
    numbers = Counter(c.number for c in chats if c.number is not None)
    if "chat_numbers" in found:
        assert {r["number"]: r["chats"] for r in found["chat_numbers"]} == numbers
        for row in found["chat_numbers"]:
            those = [c for c in chats if c.number == row["number"]]
            assert row["people"] == len({c.person for c in those if c.person is not None})
            assert row["inbound"] == sum(c.direction == "inbound" for c in those)


def check_agents(rows, chats):
    groups = defaultdict(list)
    for chat in chats:
        groups[chat.agent, chat.version].append(chat)
    assert {(r["filter"], r["version"]): r["chats"] for r in rows} == {
        key: len(those) for key, those in groups.items()
    }
    for row in rows:
        those = groups[row["filter"], row["version"]]
        cents = [c.cents for c in those if c.cents is not None]
        judged = [c.success for c in those if c.success is not None]
        felt = [c.sentiment for c in those if c.sentiment]
        assert row["dollars"] == (dollars(cents) if cents else None)
        assert row["success"] == (share(sum(judged), len(judged)) if judged else None)
        assert row["negative"] == (share(felt.count("negative"), len(felt)) if felt else None)
        name = {"agent_1": "Support", None: "unknown"}.get(row["filter"], row["filter"])
        version = "" if row["version"] is None else f" v{row['version']}"
        assert row["agent"] == f"{name}{version}"


CHOSEN = [
    {},
    {"agent": "agent_1", "version": "0"},
    {"direction": "inbound"},
    {"direction": "web"},
    {"account": "south"},
    {"account": "north", "agent": "agent_2"},
]


def matching(chats, **chosen):
    return [
        c for c in chats
        if chosen.get("account", c.account) == c.account
        and chosen.get("agent", c.agent) == c.agent
        and chosen.get("version", str(c.version)) == str(c.version)
        and chosen.get("direction", c.direction or "web") == (c.direction or "web")
    ]  # fmt: skip


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: "-".join(chosen) or "all")
def test_charts_equal_the_bodies(get, chats, chosen):
    found = charts(get, page_of(get, **chosen))
    assert set(found) == set(DASHBOARDS["chats"].charts)
    those = matching([c for c in chats if SINCE <= c.day <= UNTIL], **chosen)
    check(found, those)
    check_agents(found["chat_agents"], those)


def test_limited_and_masked_logins_chart_their_chats(get, chats):
    of_days = [c for c in chats if SINCE <= c.day <= UNTIL]
    for name, chosen in (("nora", {"agent": "agent_2"}), ("alma", {"account": "south"})):
        found = charts(get, page_of(get, name), name)
        check(found, matching(of_days, **chosen))
        check_agents(found["chat_agents"], matching(of_days, **chosen))
    masked = charts(get, page_of(get, "max"), "max")
    check(masked, of_days)
    assert "chat_numbers" not in masked
    assert "+1800" not in page_of(get, "max")


def test_bars_of_cost_and_success_lead_to_chats(get, chats):
    page = page_of(get)
    found, by_id = charts(get, page), {c.id: c for c in chats}
    for slug in ("chat_cost", "chat_success"):
        assert found[slug], slug
        for row in found[slug][:20]:
            path, _, query = link_of(page, slug, row).partition("?")
            those = [by_id[c["chat_id"]] for c in get(f"{path}.json?{query}").json()]
            if slug == "chat_success":
                assert (len(those), sum(c.success for c in those)) == (
                    row["judged"],
                    row["successful"],
                )
                continue
            costs = [
                [
                    p["cost"]
                    for p in c.products
                    if (product_family(p["product"]) or "other") == row["family"]
                ]
                for c in those
            ]
            assert all(costs)
            assert row["dollars"] == dollars(
                cents for of_chat in costs for cents in of_chat if not isinstance(cents, dict)
            )


def link_of(page, slug, row):
    return bar_url(page, DASHBOARDS["chats"].charts[slug].links, row)


@pytest.mark.parametrize("chosen", [{}, {"account": "south", "direction": "inbound"}])
def test_each_bar_leads_to_the_chats_it_counts(get, chosen):
    page, checked = page_of(get, since="2026-05-01", **chosen), set()
    for slug, rows in charts(get, page).items():
        for row in rows[:12]:
            if (url := link_of(page, slug, row)) and "chats" in row and row.get("version", 0) == 0:
                listed = re.sub(r"<[^>]+>", "", get(url).text)
                assert re.search(rf"\b{row['chats']} chats?\b", listed), (slug, row, url)
                checked.add(slug)
    assert {"chats", "chat_agents"} <= checked


def test_weeks_lead_to_the_chats_of_their_days(get, chats):
    page = page_of(get, since="2025-12-01")
    rows = charts(get, page)["chats"]
    assert {datetime.fromisoformat(r["day"]).weekday() for r in rows} == {0}
    assert sum(r["chats"] for r in rows) == len(chats)
    row = max(rows, key=lambda row: row["chats"])
    assert row["until"] > row["since"] >= row["day"]
    listed = re.sub(r"<[^>]+>", "", get(link_of(page, "chats", row)).text)
    assert re.search(rf"\b{row['chats']} chats", listed)


def relative(now, before):
    change = now / before - 1
    sign = "▲" if change > 0 else "▼"
    return "the same" if abs(change) < 0.005 else f"{sign} {abs(change) * 100:.0f} %"


def points(now, before):
    value, old = (statistics.fmean(half) for half in (now, before))
    change = 100 * (value - old)
    text = "the same" if abs(change) < 0.5 else f"{'▲' if change > 0 else '▼'} {abs(change):.0f} pt"
    return f"{100 * value:.0f} %", text


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: "-".join(chosen) or "all")
def test_totals_equal_the_bodies_and_their_difference(served, chats, chosen):
    """Nine days and a part of one, against as much before."""
    since, until = MIDNIGHT - 9 * DAY, MIDNIGHT + DAY
    first, last = (datetime.fromtimestamp(at / 1000, BERLIN).date() for at in (since, MIDNIGHT))

    async def shown():
        await served.invoke_startup()
        days = Days(first, last, since, until, "Europe/Berlin")
        return await fetch_totals(
            Reader(served, DATABASE), "chats", days, chosen, stored_since=date(2026, 1, 1),
            now_ms=NOW,
        )  # fmt: skip

    those = matching(chats, **chosen)
    now = [c for c in those if since <= c.at < until]
    before = [c for c in those if since - 10 * DAY <= c.at < NOW - 10 * DAY]
    cents = [[c.cents for c in half if c.cents is not None] for half in (now, before)]
    felt = [[c.sentiment == "negative" for c in h if c.sentiment] for h in (now, before)]
    judged = [[c.success for c in h if c.success is not None] for h in (now, before)]
    expected = {
        "Chats": (f"{len(now):,}", relative(len(now), len(before))),
        "Cost": (format_dollars(sum(cents[0])), relative(*map(sum, cents))),
        "Cost of a chat": (
            format_dollars(statistics.fmean(cents[0])),
            relative(*map(statistics.fmean, cents)),
        ),
        "Success": points(*judged),
        "Negative": points(*felt),
    }
    found = asyncio.run(shown())
    assert {f.name: (f.value, f.change) for f in found.figures} == expected
    for figure in found.figures:
        assert "kind=chat" in urlsplit(figure.url).query or figure.name == "Cost of a chat"


def test_agents_of_chats_can_be_chosen(get):
    page = page_of(get)
    options = re.findall(r'<option value="([^"]*)"[^>]*>([^<]*)</option>', page)
    assert ("agent_1", "Support") in options
    assert ("agent_0", "agent_0") in options
    assert ("web", "no direction") in options
    of_one = page_of(get, agent="agent_1")
    assert '<option value="1">1</option>' in of_one


def test_days_end_with_the_last_chat(get, served):
    page = get("/-/dashboards/chats").text
    assert f'name="until" value="{UNTIL}"' in page
    assert f'name="since" value="{SINCE}"' in page


@pytest.mark.parametrize("account", ["", "south"])
@pytest.mark.parametrize("period", ["today", "7-days", "30-days"])
def test_home_has_the_chats_and_their_cost(get, served, chats, period, account):
    days = {"today": 1, "7-days": 7, "30-days": 30}[period]

    async def shown():
        await served.invoke_startup()
        return await home(
            Reader(served, DATABASE), Asked(period=period, account=account), now_ms=NOW
        )

    count, cost = asyncio.run(shown()).chats
    those = matching(chats, **({"account": account} if account else {}))
    # The only call is of now, so there is nothing to compare with.
    now = [c for c in those if MIDNIGHT - (days - 1) * DAY <= c.at < MIDNIGHT + DAY]
    assert count.value == f"{len(now):,} chats"
    assert cost.value == format_dollars(sum(c.cents for c in now if c.cents is not None))
    listed = re.sub(r"<[^>]+>", "", get(count.url).text)
    assert f"{len(now)} chats" in listed


class Asked:
    """A request with these parameters."""

    actor = None

    def __init__(self, **args):
        self.args = args


def test_home_without_calls_names_the_chats(browse, store):
    assert "There are chats" not in browse("/").text
    stored(store, {"event": "chat_ended", "chat": {"chat_id": "chat_1"}})
    assert '<a href="/-/dashboards/chats">There are chats.</a>' in browse("/").text
    # Without a start, a chat has the time of its report.
    assert '<div class="charts"' in browse("/-/dashboards/chats").text


def test_chats_that_overflow_have_a_dashboard(browse, store):
    for n in range(3):
        cost = {"combined_cost": 1e300, "product_costs": [{"product": "x", "cost": 1e300}]}
        times = {"start_timestamp": -(2**63), "end_timestamp": 2**63 - 1} if n else {}
        chat = {"chat_id": f"chat_{n}", "version": 2**63 - 1, "duration_ms": 2**63 - 1} | times
        stored(store, {"event": "chat_ended", "chat": chat | {"chat_cost": cost}})
    page = browse("/-/dashboards/chats")
    assert page.status_code == 200
    for url in re.findall(r'data-source="([^"]+)"', page.text):
        assert browse(html.unescape(url)).status_code == 200
