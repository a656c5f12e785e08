"""The charts' SQL on a small world, against figures worked out by hand; and what draws them."""

import importlib.resources
import json
import shutil
from contextlib import closing
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from datasette_dashboards import replace_opts_in_query

from receiver.browse.charts import DASHBOARDS, configuration, sql
from receiver.browse.charts.macros import Days, expand
from receiver.clock import midnight_ms
from schema.sql.zones import Zone
from tests.support.viewing import SQLITES, a_world, add, ms

# Datasette serves files.
pytestmark = pytest.mark.sqlite
CHARTS = [chart for dashboard in DASHBOARDS.values() for chart in dashboard.charts.values()]
OPTIONS = ("agents", "agent_versions", "chat_agents", "chat_agent_versions")
FILES = (*OPTIONS, "versions", *sorted({chart.query for chart in CHARTS}))

# Columns that no chart draws: the page of calls gets them.
OF_LINKS = {
    "since", "until", "filter", "is_connected", "is_judged", "result", "next_node",
}  # fmt: skip


def days(since="2026-05-09", until="2026-05-10", timezone="UTC"):
    """Days as the page makes them."""
    first, last = date.fromisoformat(since), date.fromisoformat(until)
    after = date.fromordinal(last.toordinal() + 1)
    ends = [midnight_ms(day, ZoneInfo(timezone)) for day in (first, after)]
    return Days(first, last, *ends, timezone)


@pytest.fixture(scope="module", params=SQLITES)
def made(request, tmp_path_factory):
    """Made once; each test copies it."""
    path = tmp_path_factory.mktemp("made") / "retell.db"
    with a_world(path, SQLITES[request.param]) as connection:
        connection.commit()
    return path, SQLITES[request.param]


@pytest.fixture
def world(made, tmp_path):
    path, sqlite = made
    with closing(sqlite.connect(shutil.copy(path, tmp_path / "retell.db"))) as connection:
        yield connection


def ask(connection, name, of=None, **chosen):
    """The answer of a file, with some filters, and without the columns of links."""
    of = of or days()
    options = {"since": str(of.since), "until": str(of.until)} | chosen
    query = replace_opts_in_query(expand(sql(name), of), options)
    found = connection.execute(query, {"agent": ""} | options)
    drawn = [n for n, column in enumerate(found.description) if column[0] not in OF_LINKS]
    return [tuple(row[n] for n in drawn) for row in found]


@pytest.mark.parametrize(
    "name", [f for f in FILES if "FROM daily_" in sql(f) or "hourly_" in sql(f)]
)
def test_filtered_chart_makes_no_index_of_hours(world, name):
    options = {"since": "2026-05-09", "until": "2026-05-10", "account": "a", "agent": "agent_1"}
    query = replace_opts_in_query(expand(sql(name), days()), options)
    found = world.execute(f"EXPLAIN QUERY PLAN {query}", options)
    steps = [step for _, _, _, step in found if step.startswith(("SCAN h", "SEARCH h"))]
    assert steps
    assert not [step for step in steps if "AUTOMATIC" in step]


# Volume


def test_calls_are_counted_by_day_and_outcome(world):
    assert ask(world, "calls_by_outcome") == [
        ("2026-05-09", "transfer", 1, 0.5),
        ("2026-05-09", "user", 1, 1.5),
        ("2026-05-10", "agent", 1, 1.0),
        ("2026-05-10", "no end yet", 2, None),
        ("2026-05-10", "not_connected", 1, 0.0),
    ]


def test_unknown_reason_has_unknown_outcome(world):
    add(world, "new", 2, "2026-05-10T13:00:00Z", disconnection_reason="moon_phase")
    assert ("2026-05-10", "unknown", 1, None) in ask(world, "calls_by_outcome")


def test_hours_of_the_week_have_calls_and_outcome(world):
    assert ask(world, "hour_of_week") == [
        ("Sat", "12", 1, 1.0, 1.0, 1),
        ("Sat", "23", 1, 1.0, 0.0, 1),
        ("Sun", "08", 1, 0.0, None, None),
        ("Sun", "09", 1, 1.0, None, 0),
        ("Sun", "10", 1, 1.0, None, 0),
        ("Sun", "12", 1, 1.0, None, 0),
    ]


@pytest.mark.parametrize(
    ("timezone", "expected"),
    [
        ("Europe/Berlin", ["Sat 14", "Sun 01", "Sun 10", "Sun 11", "Sun 12", "Sun 14"]),
        ("America/New_York", ["Sat 08", "Sat 19", "Sun 04", "Sun 05", "Sun 06", "Sun 08"]),
        # An hour there begins half past an hour of UTC.
        ("Asia/Kolkata", ["Sat 17", "Sun 05", "Sun 13", "Sun 14", "Sun 15", "Sun 17"]),
    ],
)
def test_hours_and_days_are_local(tmp_path, timezone, expected):
    with a_world(tmp_path / "retell.db", SQLITES[max(SQLITES)], timezone) as connection:
        found = ask(connection, "hour_of_week", days(timezone=timezone))
        assert [f"{weekday} {hour}" for weekday, hour, *_ in found] == expected
        on_sunday = ask(connection, "calls_by_outcome", days("2026-05-10", timezone=timezone))
        after_midnight = sum(text.startswith("Sun") for text in expected)
        assert sum(calls for _, _, calls, _ in on_sunday) == after_midnight


def test_hours_are_local_across_clock_changes(world):
    """Of days that hold a change of the clock, each hour has the offset of its time."""
    of = days("2026-03-28", "2026-03-29", "Europe/Berlin")
    local = Zone("Europe/Berlin").local_ms("x", of.since_ms, of.until_ms)
    for text, expected in (
        ("2026-03-28T12:00:00Z", "13"),
        ("2026-03-29T00:59:00Z", "01"),
        ("2026-03-29T01:00:00Z", "03"),
    ):
        query = f"SELECT strftime('%H', {local} / 1000, 'unixepoch') FROM (SELECT ? AS x)"
        assert world.execute(query, (ms(text),)).fetchone()[0] == expected, text
    assert local.count("WHEN") == 1, "only what the days need"


# Cost


@pytest.fixture
def with_families(world):
    """A day after, with a call of three families."""
    products = [
        {"product": "gpt-4o", "cost": 4},
        {"product": "gpt_4o_mini", "cost": 2},
        {"product": "elevenlabs_tts", "cost": 10},
        {"product": "us_twilio_telephony", "cost": 1},
        {"product": "us_twilio_telephony", "cost": 3, "is_transfer_leg_cost": True},
    ]
    cost = {"combined_cost": 20, "product_costs": products}
    start = ms("2026-05-10T13:00:00Z")
    add(world, "more", 3, "2026-05-10T13:05:00Z", start_timestamp=start, call_cost=cost)
    return world


def test_cost_by_family_adds_products_of_family(with_families):
    assert ask(with_families, "cost_by_family_and_day") == [
        ("2026-05-09", "other", 0.85),
        ("2026-05-10", "model", 0.06),
        ("2026-05-10", "telephony", 0.04),
        ("2026-05-10", "voice", 0.1),
    ]
    assert ask(with_families, "cost_by_family") == [
        ("other", 2, 0.85, 0.8095, 0.4),
        ("voice", 1, 0.1, 0.0952, 0.0),
        ("model", 2, 0.06, 0.0571, 0.0),
        ("telephony", 1, 0.04, 0.0381, 0.03),
    ]


def test_products_have_family_share_and_cost(with_families):
    assert ask(with_families, "cost_by_product") == [
        ("tts", "other", 2, 0.7, 0.6667, 0.35, 0.4),
        ("llm", "other", 1, 0.15, 0.1429, 0.15, 0.0),
        ("elevenlabs_tts", "voice", 1, 0.1, 0.0952, 0.1, 0.0),
        ("gpt_4o", "model", 1, 0.04, 0.0381, 0.04, 0.0),
        ("us_twilio_telephony", "telephony", 1, 0.04, 0.0381, 0.04, 0.03),
        ("gpt_4o_mini", "model", 1, 0.02, 0.019, 0.02, 0.0),
    ]


def test_agents_have_cost_per_call_and_success(world):
    assert ask(world, "cost_by_agent") == [
        ("Dental", 3, 0.85, 0.2833, 0.85),
        ("Shop", 3, 0.15, 0.15, None),
    ]


def test_agents_of_equal_name_show_ids(world):
    at = {"start_timestamp": ms("2026-05-10T13:00:00Z"), "agent_name": "Shop"}
    add(world, "other", 1, "2026-05-10T13:00:00Z", agent_id="agent_of_5678", agent_version=1, **at)
    names = [("agent_1", "Dental"), ("agent_of_5678", "Shop …5678"), ("agent_2", "Shop …nt_2")]
    assert ask(world, "agents") == names


def test_agent_has_name_of_newest_version(world):
    at = {"start_timestamp": ms("2026-05-10T13:00:00Z"), "agent_name": "A shop"}
    add(world, "newer", 1, "2026-05-10T13:00:00Z", agent_id="agent_2", agent_version=12, **at)
    assert ask(world, "agents") == [("agent_2", "A shop"), ("agent_1", "Dental")]
    assert ask(world, "agent_versions", agent="agent_2") == [(12,), (3,)]


# Quality


def test_success_is_of_connected_and_analysed_calls(world):
    assert ask(world, "success_by_day") == [("2026-05-09", 1, 2, 0.5)]


def test_sentiment_shares_ignore_spelling(world):
    assert ask(world, "sentiment_by_day") == [
        ("2026-05-09", "negative", 1, 0.5),
        ("2026-05-09", "neutral", 0, 0.0),
        ("2026-05-09", "positive", 1, 0.5),
        ("2026-05-09", "unknown", 0, 0.0),
    ]


def test_disconnection_reasons_are_those_of_calls_that_ended(world):
    found = ask(world, "disconnection_reasons")
    assert [row[:4] for row in found] == [
        ("agent_hangup", "agent", 1, 0.25),
        ("call_transfer", "transfer", 1, 0.25),
        ("dial_no_answer", "not_connected", 1, 0.25),
        ("user_hangup", "user", 1, 0.25),
    ]
    assert found[0][4] == "The agent hung up."


# Speed


def test_percentiles_are_over_every_answer_of_all_calls(world):
    """A hundred answers of 5 to 995 ms in two calls, then one of 30 seconds in a third."""
    for n, values in enumerate(([*range(5, 500, 10)], [*range(505, 1000, 10)])):
        at = {"start_timestamp": ms("2026-05-10T13:00:00Z"), "latency": {"e2e": {"values": values}}}
        add(world, f"quick_{n}", 3, "2026-05-10T13:05:00Z", **at)
    assert ask(world, "answer_percentiles") == [
        ("2026-05-10", f"p{p}", p * 10 - 5, 100) for p in (50, 90, 95, 99)
    ]
    slow = {"start_timestamp": ms("2026-05-09T13:00:00Z"), "latency": {"e2e": {"values": [30_000]}}}
    add(world, "slow", 3, "2026-05-09T13:05:00Z", **slow)
    assert ask(world, "answer_percentiles")[0] == ("2026-05-09", "p50", 30_500, 1)


def test_components_have_the_average_of_their_calls_percentiles(world):
    assert ask(world, "latency_by_component") == [
        ("2026-05-09", "e2e", 2, 1000.0, 1500.0),
        ("2026-05-09", "llm", 1, 400.0, None),
    ]


# Tools and flow


def test_failed_and_unsuccessful_tools_are_counted_apart(world):
    assert ask(world, "tool_failures") == [
        ("book", "did not run", 1, 2, 0.5),
        ("book", "ran without success", 1, 2, 0.5),
    ]


def test_tools_have_their_average_time(world):
    assert ask(world, "tool_durations") == [("book", 2, 1000.0, 1500)]


def test_node_visits_continue_or_end(world):
    assert ask(world, "node_visits") == [
        ("Book", "continued", 0, 1),
        ("Book", "ended there", 1, 1),
        ("Greet", "continued", 1, 1),
        ("Greet", "ended there", 0, 1),
    ]
    assert ask(world, "node_steps") == [("Greet → Book", 1, 1, 1.0)]


def test_steps_have_share_of_transitions_out(world):
    steps = [("Greet", "Book"), ("Greet", "Pay"), ("Pay", "Greet"), ("Greet", "Pay")]
    entries = [
        {"role": "node_transition", "former_node_name": a, "new_node_name": b, "time_sec": n}
        for n, (a, b) in enumerate(steps)
    ]
    at = {"start_timestamp": ms("2026-05-10T13:00:00Z"), "transcript_with_tool_calls": entries}
    add(world, "loop", 3, "2026-05-10T13:05:00Z", **at)
    # With the step of the world: Greet was left four times, twice to Book.
    assert ask(world, "node_steps") == [
        ("Greet → Book", 2, 2, 0.5),
        ("Greet → Pay", 2, 1, 0.5),
        ("Pay → Greet", 1, 1, 1.0),
    ]
    visits = {(node, what): times for node, what, times, _ in ask(world, "node_visits")}
    assert visits["Greet", "continued"] == 4
    assert (visits["Pay", "continued"], visits["Pay", "ended there"]) == (1, 1)
    assert visits["Book", "ended there"] == 2


# Versions


def test_versions_count_connected_calls_alone(world):
    columns = ("first", "last", "calls", "successful", "judged", "negative", "with", "transferred")
    [dental, shop] = ask(world, "versions")
    assert dental[:3] == ("agent_1", 0, "Dental")
    assert dict(zip(columns, dental[3:11], strict=True)) == {
        "first": "2026-05-09",
        "last": "2026-05-09",
        "calls": 2,
        "successful": 1,
        "judged": 2,
        "negative": 1,
        "with": 2,
        "transferred": 1,
    }
    # Sum, sum of squares and count: of medians of 800 and 1200 ms, of costs of 25 and 60 cents.
    assert dental[11:] == (2000, 2_080_000, 2, 85, 4225, 2)
    assert shop[:3] == ("agent_2", 3, "Shop")
    assert shop[5] == 3


# Filters


@pytest.mark.parametrize(
    ("chosen", "calls"),
    [
        ({}, 6),
        ({"agent": "agent_1"}, 3),
        ({"agent": "agent_1", "version": "0"}, 3),
        ({"agent": "agent_2", "version": "0"}, 0),
        ({"direction": "inbound"}, 1),
        ({"direction": "outbound"}, 2),
        ({"direction": "web"}, 3),
        ({"agent": "agent_1", "direction": "web"}, 0),
        ({"agent": "x' OR '1'='1"}, 0),
    ],
)
def test_filters_choose_calls_wherever_calls_are_counted(world, chosen, calls):
    assert sum(row[2] for row in ask(world, "calls_by_outcome", **chosen)) == calls
    assert sum(row[2] for row in ask(world, "hour_of_week", **chosen)) == calls


def test_days_are_chosen_both_ends_included(world):
    def calls(since, until):
        of = days(since, until)
        by_hour = sum(row[2] for row in ask(world, "hour_of_week", of))
        assert by_hour == sum(row[2] for row in ask(world, "calls_by_outcome", of))
        return by_hour

    assert calls("2026-05-09", "2026-05-09") == 2
    assert calls("2026-05-10", "2026-05-10") == 4
    assert calls("2026-05-09", "2026-05-10") == 6
    assert calls("2026-05-11", "2026-05-12") == 0


@pytest.mark.parametrize("name", FILES)
def test_every_agent_query_applies_every_filter(world, name):
    """Nobody's agent, version or direction leaves nothing; and days without a call."""
    everything = ask(world, name)
    if "chosen(" in sql(name):
        # The world has no chats: test_chat_dashboard.py has some.
        assert everything or name == "answer_percentiles" or "chats_in_days(" in sql(name)
        for nobody in ({"agent": "nobody"}, {"direction": "sideways"}, {"version": "99"}):
            assert ask(world, name, **nobody) == [], nobody
    assert ask(world, name, days("2020-01-01", "2020-01-31")) == []


def test_many_days_become_weeks_then_months(world):
    weeks, months = days("2026-02-01", "2026-05-31"), days("2023-01-01", "2026-05-31")
    assert (days().step, weeks.step, months.step) == ("day", "week", "month")
    assert {row[0] for row in ask(world, "calls_by_outcome", weeks)} == {"2026-05-04"}
    assert {row[0] for row in ask(world, "calls_by_outcome", months)} == {"2026-05-01"}


@pytest.mark.parametrize("since", ["2026-05-10", "2026-02-09", "2024-05-09", "2016-05-09"])
def test_eight_rows_a_step_fit_datasettes_limit(since):
    of = days(since)
    steps = ((of.until - of.since).days + 1) / {"day": 1, "week": 7, "month": 30.4}[of.step]
    assert 8 * (steps + 2) <= 1000


# What draws them


def fields(display):
    """The names of fields that a specification reads, and those that it makes."""
    read, made = set(), set()

    def walk(part):
        if isinstance(part, dict):
            if isinstance(part.get("field"), str):
                read.add(part["field"])
            read.update({part["stack"]} if isinstance(part.get("stack"), str) else ())
            named = part.get("as", [])
            made.update([named] if isinstance(named, str) else named)
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(display)
    return read, made


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.title)
def test_columns_of_a_chart_are_in_its_query(world, chart):
    for of in (days(), days("2026-02-01"), days("2020-01-01")):
        display = chart.display(of)
        read, made = fields(display)
        options = {"since": str(of.since), "until": str(of.until)}
        query = replace_opts_in_query(expand(sql(chart.query), of), options)
        columns = {column[0] for column in world.execute(query, options).description}
        assert read - made <= columns
        assert set(chart.links.values()) <= columns
        assert json.loads(json.dumps(display)) == display


def test_dashboard_matches_datasette_dashboards_format():
    configured = configuration("volume", "retell_masked", days())
    assert configured["title"] == "Volume"
    for chart in configured["charts"].values():
        assert chart["db"] == "retell_masked"
        assert chart["library"] == "vega-lite"
        assert {"title", "query", "display"} <= chart.keys()
    assert list(configuration("versions", "retell", days())["charts"]) == []


def test_only_answer_percentiles_ignore_agents():
    assert [chart.title for chart in CHARTS if chart.ignores_agent] == ["Time to answer"]


def test_every_sql_file_belongs_to_a_chart():
    files = (importlib.resources.files("receiver.browse") / "charts").iterdir()
    assert {file.name[:-4] for file in files if file.name.endswith(".sql")} == set(FILES)
