"""The home page: each figure against the same one computed in Python from the events."""

import asyncio
import html
import json
import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from receiver import config
from receiver.browse.limits import Limits
from receiver.browse.pages import DATABASE, Reader
from receiver.browse.pages.figures import Links
from receiver.browse.pages.home import home
from receiver.browse.pages.home_figures import steps_of
from receiver.browse.pages.periods import period_of
from receiver.store import migrate, open_store, receive, roll_up
from receiver.store.connection import connect
from schema.disconnection_reasons import REASONS
from tests.support.browsing import browsing, fetched
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite

DAY = 86_400_000
MIDNIGHT = 1_778_544_000_000
# Half past ten on the last day.
NOW = MIDNIGHT + 37_800_000
ENDS = (
    "user_hangup",
    "agent_hangup",
    "dial_no_answer",
    "error_llm_websocket_open",
    "call_transfer",
)


def made_up(count=900, days=60):
    """Calls of two accounts over the days up to NOW: of an agent each, of one of both, of none."""
    random, calls = Random(3), []
    for n in range(count):
        at = NOW - random.randrange(days * DAY)
        if n % 10 == 0:
            # Some are in the hour that is not over, of the days that periods are compared with.
            at = NOW - random.choice((1, 7, 30)) * DAY + random.randrange(-1_800_000, 1_800_000)
        reason = random.choice(ENDS)
        is_connected = reason != "dial_no_answer"
        agent = random.randrange(3)
        call = {
            "call_id": f"call_{n:04}",
            "call_status": "ended",
            "direction": "inbound",
            "from_number": f"+1415555{n:04}",
            "agent_id": f"agent_{agent}",
            "agent_name": f"Agent {agent}",
            "start_timestamp": at if is_connected else None,
            "duration_ms": random.randrange(5_000, 90_000) if is_connected else 0,
            "disconnection_reason": reason,
            "call_cost": {"combined_cost": random.randrange(1, 400) / 10},
        }
        if n % 43 == 0:
            del call["agent_id"], call["agent_name"]
        if is_connected:
            # Accounts have different ones, see account_of.
            waits = [(300 if n % 2 else 700) + m for m in range(n % 7 * 10)]
            call["latency"] = {"e2e": {"p50": 500, "values": waits}}
        if is_connected and random.random() < 0.9:
            call["call_analysis"] = {
                "call_successful": random.random() < (0.9 if at > NOW - 7 * DAY else 0.5),
                "user_sentiment": random.choice(("Positive", "Neutral", "Negative")),
            }
        calls.append((at, call))
    return calls


def account_of(call):
    own = {"agent_0": "north", "agent_2": "south"}
    is_even = int(call["call_id"].removeprefix("call_")) % 2 == 0
    return own.get(call.get("agent_id"), "north" if is_even else "south")


@pytest.fixture(scope="module")
def calls():
    return made_up()


@pytest.fixture(scope="module")
def served(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("home") / "retell.db"
    migrate(path, timezone="UTC")
    db = connect(path, busy_timeout_ms=1000)
    db.executemany("INSERT INTO account_keys VALUES (?, ?)", [("k0", "north"), ("k1", "south")])
    db.close()
    store = open_store(path)
    for at, call in calls:
        body = json.dumps({"event": "call_analyzed", "call": call}).encode()
        key = {"north": "k0", "south": "k1"}[account_of(call)]
        store.add(receive(body, source="webhook", observed_at=at, received_at=at, key_id=key))
    for _ in roll_up(store, timezone="UTC", now_ms=NOW - 3 * DAY):
        pass
    store.close()
    settings = config.load({"RETELL_API_KEY": "key", "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"})
    with browsing(settings, {"nora": ("reader", Limits(accounts=("north",)))}) as served:
        yield served


class Asked:
    """A request with these parameters."""

    actor = None

    def __init__(self, **args):
        self.args = args


def shown(served, **args):
    """The content of the page at NOW."""

    async def content():
        await served.invoke_startup()
        return await home(Reader(served, DATABASE), Asked(**args), now_ms=NOW)

    return asyncio.run(content())


def between(calls, since, until, account=""):
    return [
        call for at, call in calls
        if since <= at < until and account in ("", account_of(call))
    ]  # fmt: skip


def halves(calls, period, account=""):
    count = {"today": 1, "7-days": 7, "30-days": 30}[period]
    first = MIDNIGHT - (count - 1) * DAY
    return (
        between(calls, first, MIDNIGHT + DAY, account),
        between(calls, first - count * DAY, NOW - count * DAY, account),
    )


def connected(calls):
    return [c for c in calls if c["disconnection_reason"] != "dial_no_answer"]


def judged(calls):
    return [c["call_analysis"]["call_successful"] for c in connected(calls) if "call_analysis" in c]


def negative(calls):
    found = [c["call_analysis"]["user_sentiment"] for c in calls if "call_analysis" in c]
    return [s == "Negative" for s in found]


def percent(part, whole):
    return f"{100 * part / whole:.0f} %" if whole else "–"


def points(now, before):
    if not now or not before:
        return ""
    change = 100 * (sum(now) / len(now) - sum(before) / len(before))
    return "the same" if abs(change) < 0.5 else f"{'▲' if change > 0 else '▼'} {abs(change):.0f} pt"


def relative(now, before):
    if not before:
        return ""
    change = now / before - 1
    sign = "▲" if change > 0 else "▼"
    return "the same" if abs(change) < 0.005 else f"{sign} {abs(change) * 100:.0f} %"


@pytest.mark.parametrize("account", ["", "north"])
@pytest.mark.parametrize("period", ["today", "7-days", "30-days"])
def test_figures_equal_those_of_the_events(served, calls, period, account):
    now, before = halves(calls, period, account)
    found = {f.name: f for f in shown(served, period=period, account=account).figures}
    minutes = [sum(c["duration_ms"] for c in half) / 60_000 for half in (now, before)]
    cents = [sum(c["call_cost"]["combined_cost"] for c in half) for half in (now, before)]
    answered = [[c in connected(half) for c in half] for half in (now, before)]
    assert {n: (f.value, f.change) for n, f in found.items() if "answer" not in n.lower()} == {
        "Calls": (f"{len(now):,}", relative(len(now), len(before))),
        "Connected": (percent(sum(answered[0]), len(now)), points(*answered)),
        "Success": (
            percent(sum(judged(now)), len(judged(now))), points(judged(now), judged(before)),
        ),
        "Negative": (
            percent(sum(negative(now)), len(negative(now))),
            points(negative(now), negative(before)),
        ),
        "Minutes": (f"{minutes[0]:,.0f}", relative(*minutes)),
        "Cost": (f"${cents[0] / 100:,.2f}", relative(*cents)),
    }  # fmt: skip


@pytest.mark.parametrize("account", ["", "north", "south"])
@pytest.mark.parametrize("period", ["today", "7-days"])
def test_answers_equal_those_of_the_events(served, calls, period, account):
    now, _ = halves(calls, period, account)
    waits = sorted(w for c in connected(now) for w in c["latency"]["e2e"]["values"])
    found = {f.name: f.value for f in shown(served, period=period, account=account).figures}
    for name, share in (("Median answer", 0.5), ("95 % answered within", 0.95)):
        # Counted in steps of 10 ms, of which the middle is shown.
        wait = waits[math.ceil(share * len(waits)) - 1] // 10 * 10 + 5
        assert found[name] == f"{wait} ms"


def test_success_is_coloured_where_it_changed(served):
    """Made up as 90 % in the last 7 days, and 50 % before."""
    [success] = [f for f in shown(served, period="7-days").figures if f.name == "Success"]
    assert success.tone == "good"
    assert "chance" not in success.note


def test_agents_equal_those_of_the_events(served, calls):
    page = shown(served, period="30-days")
    now, _ = halves(calls, "30-days")
    found = {row.name: [f.value for f in row.figures] for row in page.agents}
    for n in range(3):
        own = [c for c in now if c.get("agent_id") == f"agent_{n}"]
        successful = sum(judged(own))
        cents = sum(c["call_cost"]["combined_cost"] for c in own)
        seconds = sum(c["duration_ms"] for c in own) / len(connected(own)) / 1000
        assert found[f"Agent {n}"] == [
            f"{len(own):,}",
            percent(successful, len(judged(own))),
            percent(sum(negative(own)), len(negative(own))),
            f"{int(seconds) // 60}:{int(seconds) % 60:02}",
            f"${cents / 100:,.2f}",
            f"${cents / successful / 100:,.{2 if cents / successful >= 9.995 else 3}f}",
        ]
    calls_of = [int(row.figures[0].value) for row in page.agents]
    assert calls_of == sorted(calls_of, reverse=True)


def test_agents_of_two_accounts_are_counted_apart(served, calls):
    for account in ("north", "south"):
        now, _ = halves(calls, "30-days", account)
        found = {
            row.name: row.figures[0].value
            for row in shown(served, period="30-days", account=account).agents
        }
        counts = Counter(call.get("agent_name", "No agent") for call in now)
        assert found == {name: str(count) for name, count in counts.items()}
        assert len(found) == 3


def test_reader_limited_to_an_account_sees_its_figures(served):
    def figures(user, query):
        text = fetched(served, f"/?{query}", user).text
        found = re.findall(r"<dt>.*?</dd>", text, re.DOTALL)
        return [re.sub(r"<[^>]+>|\s+", " ", tile) for tile in found]

    for period in ("7-days", "30-days"):
        own = figures("nora", f"period={period}")
        assert own == figures("admin", f"period={period}&account=north")
        assert len(own) >= 6


def test_failures_equal_those_of_the_events(served, calls):
    now, _ = halves(calls, "30-days")
    expected = {}
    for call in now:
        reason = call["disconnection_reason"]
        is_failed = REASONS[reason][0] in ("error", "limit", "not_connected")
        is_missed = call.get("call_analysis", {}).get("call_successful") is False
        if is_failed or is_missed:
            key = (reason, is_failed)
            expected[key] = expected.get(key, 0) + 1
    page = shown(served, period="30-days")
    assert page.failed == sum(expected.values())
    found = [(reason.calls, bool(reason.why)) for reason in page.reasons]
    wanted = sorted(((n, not failed) for (_, failed), n in expected.items()), reverse=True)
    assert sorted(found, reverse=True) == wanted[:6]


@pytest.mark.parametrize("account", ["", "north"])
@pytest.mark.parametrize("period", ["today", "7-days"])
def test_bars_equal_those_of_the_events(served, calls, period, account):
    page = shown(served, period=period, account=account)
    now, _ = halves(calls, period)
    width, count = (3_600_000, 24) if period == "today" else (DAY, 7)
    first = MIDNIGHT if period == "today" else MIDNIGHT - 6 * DAY
    assert len(page.steps) == count
    for n, step in enumerate(page.steps):
        own = between(calls, first + n * width, first + (n + 1) * width, account)
        counts = [len(own), len(connected(own)), sum(judged(own))]
        assert [int(x) for x in re.findall(r"(\d+) (?:calls|conn|succ)", step.title)] == counts
    highest = max(step.calls for step in page.steps)
    assert highest == (100 if now else 0)


def test_worst_calls_are_unsuccessful_and_negative_first(served, calls):
    now, _ = halves(calls, "30-days")

    def score(call):
        analysis = call.get("call_analysis", {})
        is_error = call["disconnection_reason"].startswith("error")
        return (
            2 * (analysis.get("call_successful") is False)
            + 2 * (analysis.get("user_sentiment") == "Negative")
            + is_error,
            call["duration_ms"],
        )

    expected = sorted(now, key=score, reverse=True)[:5]
    page = shown(served, period="30-days")
    assert [call["call_id"] for call, _ in page.worst] == [call["call_id"] for call in expected]
    assert all("Not successful" in why and "Negative" in why for _, why in page.worst)


@pytest.fixture
def rare(store, settings):
    """Calls that few have the like of: judged and never connected, without an end or an agent."""
    judged = {"call_successful": True, "user_sentiment": "Negative"}
    failed = judged | {"call_successful": False}
    ended = {"disconnection_reason": "agent_hangup", "agent_id": "agent_0"}
    rows = (
        ended | {"call_analysis": judged, "start_timestamp": NOW},
        ended | {"call_analysis": judged},
        ended | {"disconnection_reason": "dial_busy", "start_timestamp": NOW},
        {"call_analysis": failed, "start_timestamp": NOW},
    )
    for n, call in enumerate(rows):
        event = {"event": "call_analyzed", "call": {"call_id": f"call_{n}", **call}}
        stored(store, event, at=NOW)
    with browsing(settings) as served:
        yield served


def count_behind(served, url):
    text = fetched(served, f"{url}&count=all").text
    return int(re.search(r'<p class="totals" role="status"><strong>(\d+)', text)[1])


def test_rare_calls_are_behind_their_figures(rare):
    page = shown(rare)
    figures = {figure.name: figure for figure in page.figures}
    assert {n: count_behind(rare, figures[n].url) for n in ("Success", "Negative")} == {
        "Success": 1,
        "Negative": 2,
    }
    found = {reason.name: reason for reason in page.reasons}
    assert found["Agent hung up"].calls == count_behind(rare, found["Agent hung up"].url) == 1
    assert found["Line busy"].calls == count_behind(rare, found["Line busy"].url) == 1
    assert found["No end yet"].calls == count_behind(rare, found["No end yet"].url) == 1
    agents = {agent.name: agent for agent in page.agents}
    assert count_behind(rare, agents["agent_0"].url) == 3
    # There is no filter for these.
    assert {agents["No agent"].url, *(f.url for f in agents["No agent"].figures)} == {""}


def test_hours_of_today_lead_to_their_calls(rare):
    counts = {
        step: int(re.search(r": (\d+) calls", step.title)[1])
        for step in shown(rare, period="today").steps
    }
    assert sum(counts.values()) > 0
    for step, calls in counts.items():
        if calls:
            assert count_behind(rare, step.url) == calls
            assert f"hour={int(step.title[:2])}" in step.url


def bars(counts):
    """The bars of 30 days of which the last have these numbers of calls, half of them connected."""
    zone = ZoneInfo("UTC")
    days = [datetime.fromtimestamp(NOW / 1000, zone) - timedelta(days=n) for n in range(30)]
    rows = [
        {"at": f"{at:%Y-%m-%d}", "calls": count, "connected": count / 2, "successful": 0}
        for at, count in zip(days, counts, strict=False)
    ]
    period = period_of("30-days", NOW, NOW, zone)
    site = SimpleNamespace(urls=SimpleNamespace(path=lambda path: path))
    return steps_of(rows, period, zone, Links(site, period, {}))[::-1]


def test_day_of_many_calls_is_cut_off():
    shown = bars([900, 20, 10, 15])
    assert [(bar.calls, bar.is_cut) for bar in shown[:2]] == [(100, True), (50, False)]
    assert [(bar.calls, bar.connected) for bar in shown[:3:2]] == [(100, 50), (25, 12.5)]
    assert "900 calls" in shown[0].title


@pytest.mark.parametrize("counts", [[], [5], [60, 20, 10, 25], [900] * 4 + [10] * 26])
def test_bars_that_are_not_rare_are_whole(counts):
    shown = bars(counts)
    assert not any(bar.is_cut for bar in shown)
    assert max(bar.calls for bar in shown) == (100 if counts else 0)


def test_every_link_of_the_page_opens(served):
    """And the number on a tile is the number of calls behind it."""

    def get(path):
        return fetched(served, path)

    page = get("/?period=30-days").text
    found = {html.unescape(url) for url in re.findall(r'href="(/-/calls[^"#]*)"', page)}
    assert len(found) > 20
    for url in sorted(found):
        assert get(url).status_code == 200, url
    [row] = re.findall(r'<a href="([^"]+)">Calls</a></dt><dd><span class="value">(\d+)', page)
    assert f"{row[1]} calls" in re.sub(r"<[^>]+>", "", get(html.unescape(row[0])).text)


def test_unknown_period_and_account_are_ignored(served):
    page = shown(served, period="century", account="west")
    assert page.period.name == "7-days"
    assert [title for title, _, _ in page.accounts] == ["All accounts", "north", "south"]
    now = datetime.fromtimestamp(NOW / 1000, UTC)
    assert page.period.last == now.date()


def test_call_without_agent_is_counted(store, settings):
    stored(store, {"event": "call_ended", "call": {"call_id": "c", "start_timestamp": NOW}}, at=NOW)
    with browsing(settings) as served:
        page = shown(served)
    assert page.figures[0].value == "1"
    assert [row.name for row in page.agents] == ["No agent"]


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_agent_has_name_of_newest_version_everywhere(store, settings, newest):
    for n, reason in enumerate(("user_hangup", "agent_hangup", "call_transfer")):
        call = {
            "call_id": f"call_{n}",
            "agent_id": "agent",
            "agent_version": int(n == newest),
            "agent_name": f"Name {n}",
            "start_timestamp": NOW - 1000 * (n == newest),
            "disconnection_reason": reason,
        }
        stored(store, {"event": "call_ended", "call": call}, at=NOW)
    chat = {"chat_id": "chat", "agent_id": "agent", "start_timestamp": NOW}
    stored(store, {"event": "chat_ended", "chat": chat}, at=NOW)
    with browsing(settings) as served:
        assert [row.name for row in shown(served).agents] == [f"Name {newest}"]
        for path in ("/-/calls", "/-/calls?kind=chat", "/-/dashboards/volume", "/-/chat/chat"):
            assert f">Name {newest}<" in fetched(served, path).text, path


def test_durations_have_one_form(served):
    found = re.findall(r"\b\d+:\d\d(?::\d\d)?</span></a>", fetched(served, "/?period=30-days").text)
    assert len(found) == 13
    assert not [text for text in found if text.count(":") > 1]


def test_limited_reader_gets_no_advice_for_operators(store, settings):
    call = {"call_id": "c", "agent_id": "a", "call_status": "ongoing", "start_timestamp": NOW}
    stored(store, {"event": "call_started", "call": call}, at=NOW - DAY)
    stored(store, {"event": "call_ended", "call": call | {"call_id": "later"}}, at=NOW)
    with browsing(settings, {"lena": ("reader", Limits(agents=("a",)))}) as served:
        pages = [fetched(served, "/", user).text for user in ("admin", "lena")]
    assert ["stuck in progress" in page for page in pages] == [True, True]
    assert ["callhouse sync" in page for page in pages] == [True, False]
