"""The totals above the charts: each against the same figure computed in Python from raw bodies."""

import asyncio
import json
import re
import statistics
from datetime import date, datetime
from random import Random
from zoneinfo import ZoneInfo

import pytest

from receiver import config
from receiver.browse.charts.macros import Days
from receiver.browse.formatting import format_dollars, format_milliseconds
from receiver.browse.pages import DATABASE, Reader
from receiver.browse.pages.dashboard_totals import fetch_totals
from receiver.browse.pages.periods import chosen_period, days_before
from receiver.clock import format_duration
from receiver.store import migrate, open_store, receive, roll_up
from tests.support.browsing import browsing, fetched

# Datasette serves files.
pytestmark = pytest.mark.sqlite

DAY, HOUR = 86_400_000, 3_600_000
# 12 May 2026, a Tuesday; half past ten on that day.
MIDNIGHT = 1_778_544_000_000
NOW = MIDNIGHT + 37_800_000
AFTER = MIDNIGHT + 3 * DAY
ENDS = ("user_hangup", "agent_hangup", "dial_no_answer", "call_transfer")


def tool_use(random, n):
    """A tool call and its result: it did not run, ran without success, or ran."""
    content, successful = random.choice(
        (("timeout", False), ('{"success": false}', True), ('{"success": true}', True))
    )
    named = {"tool_call_id": f"t{n}"}
    return [
        named | {"role": "tool_call_invocation", "name": "book", "type": "custom", "time_sec": n},
        named
        | {"role": "tool_call_result", "content": content, "successful": successful}
        | {"time_sec": n + 0.5},
    ]


def made_up(count=700, days=62):
    """Calls of two agents, each in two directions, over the days up to NOW."""
    random, calls = Random(5), []
    for n in range(count):
        at = NOW - random.randrange(days * DAY)
        reason = random.choice(ENDS)
        agent = random.randrange(2)
        call = {
            "call_id": f"call_{n:04}",
            "call_status": "ended",
            "direction": random.choice(("inbound", "outbound")),
            "agent_id": f"agent_{agent}",
            "agent_name": f"Agent {agent}",
            "agent_version": random.randrange(2),
            "disconnection_reason": reason,
            "duration_ms": 0,
        }
        is_recent = at > NOW - 7 * DAY
        if random.random() < 0.9:
            call["call_cost"] = {"combined_cost": random.randrange(10, 200) * (1 + is_recent) / 10}
        if reason != "dial_no_answer":
            waits = sorted(random.randrange(300, 3000) for _ in range(5))
            uses = [tool_use(random, n) for n in range(random.randrange(3))]
            call |= {
                "start_timestamp": at,
                "duration_ms": random.randrange(5_000, 90_000),
                "latency": {"e2e": {"p50": waits[2], "values": waits}},
                "transcript_with_tool_calls": [entry for use in uses for entry in use],
                "call_analysis": {
                    "call_successful": random.random() < (0.9 if is_recent else 0.5),
                    "user_sentiment": random.choice(("Positive", "Neutral", "Negative")),
                },
            }
        calls.append((at, call))
    return calls


@pytest.fixture(scope="module")
def calls():
    return made_up()


@pytest.fixture(scope="module")
def served(tmp_path_factory, calls):
    path = tmp_path_factory.mktemp("totals") / "retell.db"
    migrate(path, timezone="UTC")
    store = open_store(path)
    for at, call in calls:
        body = json.dumps({"event": "call_analyzed", "call": call}).encode()
        store.add(receive(body, source="webhook", observed_at=at, received_at=at))
    for _ in roll_up(store, timezone="UTC", now_ms=NOW - 3 * DAY):
        pass
    store.close()
    settings = config.load({"RETELL_API_KEY": "key", "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"})
    with browsing(settings) as served:
        yield served


def day_of(at):
    return date.fromordinal(date(1970, 1, 1).toordinal() + at // DAY)


def shown(served, name, since, until, now_ms=AFTER, **chosen):
    """The totals of a dashboard for the days from `since` to `until`, midnights."""

    async def content():
        await served.invoke_startup()
        days = Days(day_of(since), day_of(until), since, until + DAY)
        return await fetch_totals(
            Reader(served, DATABASE), name, days, chosen, stored_since=date(2026, 1, 1),
            now_ms=now_ms,
        )  # fmt: skip

    return asyncio.run(content())


def halves(calls, since, until, before_since, before_until, **chosen):
    """The calls of both times, ends exclusive, that match the filters."""

    def matching(first, end):
        named = {"agent": "agent_id", "version": "agent_version", "direction": "direction"}
        return [
            call for at, call in calls
            if first <= at < end
            and all(str(call[named[key]]) == value for key, value in chosen.items())
        ]  # fmt: skip

    return matching(since, until), matching(before_since, before_until)


def connected(calls):
    return [c for c in calls if c["disconnection_reason"] != "dial_no_answer"]


def cents(calls):
    return [c["call_cost"]["combined_cost"] for c in calls if "call_cost" in c]


def analyses(calls, name):
    return [c["call_analysis"][name] for c in connected(calls)]


def uses(calls):
    """Of each tool call, its result."""
    return [
        entry for c in connected(calls) for entry in c["transcript_with_tool_calls"]
        if entry["role"] == "tool_call_result"
    ]  # fmt: skip


def medians(calls):
    return [c["latency"]["e2e"]["p50"] for c in connected(calls)]


def relative(now, before):
    change = now / before - 1
    sign = "▲" if change > 0 else "▼"
    return "the same" if abs(change) < 0.005 else f"{sign} {abs(change) * 100:.0f} %"


def amount(write, compute, now, before):
    return write(compute(now)), relative(compute(now), compute(before))


def part(compute, now, before):
    """A share of booleans, and its difference in points."""
    value, old = (sum(compute(half)) / len(compute(half)) for half in (now, before))
    points = 100 * (value - old)
    change = (
        "the same" if abs(points) < 0.5 else f"{'▲' if points > 0 else '▼'} {abs(points):.0f} pt"
    )
    return f"{100 * value:.0f} %", change


def expected(name, now, before):
    """The figures of a dashboard from the calls of both times."""

    def of(write, compute):
        return amount(write, compute, now, before)

    def seconds(half):
        return sum(c["duration_ms"] for c in half) / 1000

    if name == "volume":
        return {
            "Calls": of("{:,}".format, len),
            "Connected": part(lambda h: [c in connected(h) for c in h], now, before),
            "Minutes": of("{:,.0f}".format, lambda h: seconds(h) / 60),
            "Average length": of(format_duration, lambda h: seconds(h) / len(connected(h))),
        }
    if name == "cost":
        return {
            "Cost": of(format_dollars, lambda h: sum(cents(h))),
            "Cost of a call": of(format_dollars, lambda h: statistics.fmean(cents(h))),
            "Cost of a minute": of(format_dollars, lambda h: 60 * sum(cents(h)) / seconds(h)),
            "Cost of a success": of(
                format_dollars, lambda h: sum(cents(h)) / sum(analyses(h, "call_successful"))
            ),
        }
    if name == "quality":
        return {
            "Success": part(lambda h: analyses(h, "call_successful"), now, before),
            "Negative": part(
                lambda h: [s == "Negative" for s in analyses(h, "user_sentiment")], now, before
            ),
            "Transferred": part(
                lambda h: [c["disconnection_reason"] == "call_transfer" for c in connected(h)],
                *(now, before),
            ),
        }
    if name == "speed":
        return {"Median of a call": of(format_milliseconds, lambda h: statistics.fmean(medians(h)))}
    return {
        "Tool calls": of("{:,}".format, lambda h: len(uses(h))),
        "Did not run": part(lambda h: [not u["successful"] for u in uses(h)], now, before),
        "Ran without success": part(
            lambda h: ["false" in u["content"] for u in uses(h)], now, before
        ),
    }


NAMES = ("volume", "cost", "quality", "speed", "flow")


@pytest.mark.parametrize(
    "chosen", [{}, {"agent": "agent_1", "version": "0"}, {"direction": "outbound"}]
)
@pytest.mark.parametrize("name", NAMES)
def test_totals_equal_those_of_the_bodies(served, calls, name, chosen):
    """30 days that are over, and the 30 days before."""
    since, end = MIDNIGHT - 30 * DAY, MIDNIGHT
    found = shown(served, name, since, end - DAY, **chosen)
    both = halves(calls, since, end, since - 30 * DAY, since, **chosen)
    figures = {f.name: (f.value, f.change) for f in found.figures if "nswer" not in f.name}
    assert figures == expected(name, *both)


@pytest.mark.parametrize("name", NAMES)
def test_unfinished_day_is_compared_up_to_now(served, calls, name):
    since = MIDNIGHT - 9 * DAY
    found = shown(served, name, since, MIDNIGHT, now_ms=NOW)
    # Tool calls are counted by full hours.
    end = NOW - 10 * DAY - (HOUR // 2 if name == "flow" else 0)
    both = halves(calls, since, MIDNIGHT + DAY, since - 10 * DAY, end)
    figures = {f.name: (f.value, f.change) for f in found.figures if "nswer" not in f.name}
    assert figures == expected(name, *both)
    assert "up to this time of the day" in found.compared_with


def test_single_day_is_compared_with_its_weekday(served, calls):
    day = MIDNIGHT - DAY
    found = shown(served, "volume", day, day)
    both = halves(calls, day, day + DAY, day - 7 * DAY, day - 6 * DAY)
    assert {f.name: (f.value, f.change) for f in found.figures} == expected("volume", *both)
    assert found.compared_with == "Compared with Monday 4 May 2026."


def test_percentiles_equal_those_of_the_bodies(served, calls):
    """Waits are counted in steps: 10 ms below a second, 100 ms above."""
    since, end = MIDNIGHT - 30 * DAY, MIDNIGHT
    found = {f.name: f for f in shown(served, "speed", since, end - DAY).figures}
    now, _ = halves(calls, since, end, 0, 0)
    waits = sorted(w for c in connected(now) for w in c["latency"]["e2e"]["values"])
    for name, share in (("Median answer", 0.5), ("95 % answered within", 0.95)):
        exact = waits[int(share * len(waits))]
        value = float(re.match(r"[\d.]+", found[name].value)[0])
        value *= 1 if "ms" in found[name].value else 1000
        assert abs(value - exact) <= 100, name
    filtered = shown(served, "speed", since, end - DAY, agent="agent_1")
    assert [f.name for f in filtered.figures] == ["Median of a call"]


def test_only_significant_changes_have_a_colour(served):
    """In the last 7 days, calls succeed more often and cost twice as much, by design."""
    week = MIDNIGHT - 6 * DAY, MIDNIGHT
    quality = {f.name: f for f in shown(served, "quality", *week).figures}
    assert quality["Success"].tone == "good"
    assert (quality["Negative"].tone, quality["Transferred"].tone) == ("", "")
    assert "may be chance" in quality["Negative"].note
    cost = {f.name: f.tone for f in shown(served, "cost", *week).figures}
    assert cost["Cost of a call"] == "bad"
    assert cost["Cost"] == ""
    before = MIDNIGHT - 30 * DAY
    assert {f.tone for f in shown(served, "quality", before, before + 20 * DAY).figures} == {""}


@pytest.mark.parametrize(
    ("since", "until", "before"),
    [
        ("2026-05-04", "2026-05-10", "2026-04-27 2026-05-03"),
        ("2026-05-11", "2026-05-12", "2026-05-04 2026-05-05"),
        ("2026-05-01", "2026-05-12", "2026-04-01 2026-04-12"),
        ("2026-05-01", "2026-05-31", "2026-04-01 2026-04-30"),
        ("2026-03-01", "2026-03-30", "2026-02-01 2026-02-28"),
        ("2026-04-13", "2026-05-12", "2026-03-14 2026-04-12"),
    ],
)
def test_weeks_and_months_are_compared_alike(since, until, before):
    found = days_before(date.fromisoformat(since), date.fromisoformat(until))
    assert " ".join(map(str, found)) == before


def test_days_to_come_are_not_compared():
    berlin = ZoneInfo("Europe/Berlin")
    now = round(datetime.fromisoformat("2026-05-12T10:30+02:00").timestamp() * 1000)
    period = chosen_period(date(2026, 5, 3), date(2026, 6, 30), now, berlin)
    assert (period.last, period.before_first) == (date(2026, 5, 12), date(2026, 4, 23))


def test_dashboards_show_totals_above_charts(served):
    for name in NAMES:
        page = fetched(served, f"/-/dashboards/{name}").text
        assert page.index('<dl class="figures">') < page.index('<div class="charts"')
        assert "Compared with" in page
    url = "/-/dashboards/volume?since=2026-03-01&until=2026-05-12"
    page = fetched(served, url).text
    assert "Not compared: the first stored call is of 11 March 2026." in page
    assert not re.search("[▲▼]", page.partition('<dl class="figures">')[2].partition("</dl>")[0])
