"""Filters of every view find the rows that the same comparison in Python finds."""

import operator
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from receiver import config
from receiver.browse.formatting import parse_filter
from receiver.store import Store, migrate, roll_up
from receiver.store.connection import connect_readonly
from schema.view_descriptions import VIEWS
from tests.support import slow_except
from tests.support.browsing import visiting
from tests.support.days import day, deliver

START = 1_778_284_800_000
ZONE = "Asia/Kolkata"
COMPARE = {
    "exact": operator.eq,
    "not": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
pytestmark = pytest.mark.sqlite


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Two days, of which one is rolled up, with an event and a product that nobody knows."""
    path = tmp_path_factory.mktemp("filters") / "retell.db"
    migrate(path, timezone=ZONE)
    store = Store(path)
    for seed in (1, 2):
        start = START + seed * 86_400_000
        deliver(store, day(seed, day_start_ms=start, calls=50))
        if seed == 1:
            for _ in roll_up(store, timezone=ZONE, now_ms=start + 3 * 86_400_000):
                pass
    store.close()
    return path


@pytest.fixture(scope="module")
def counted(path):
    """How many rows a page of Datasette counts for a filter."""
    settings = config.load(
        {"CALLHOUSE_DATABASE_URL": f"sqlite:///{path}", "CALLHOUSE_TIMEZONE": ZONE}
    )
    with visiting(settings) as get:

        def count(view, **filters):
            query = urlencode({**filters, "_size": 1, "_shape": "objects"})
            answer = get(f"/retell/{view}.json?{query}")
            assert answer.status_code == 200, answer.text
            return answer.json()["filtered_table_rows_count"]

        yield count


@pytest.fixture(scope="module")
def db(path):
    connection = connect_readonly(path)
    yield connection
    connection.close()


def values_of(db, view):
    found = db.execute(f"SELECT * FROM {view}")
    names = [column[0] for column in found.description]
    rows = found.fetchall()
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}


def candidates(numbers):
    """A stored number, a whole one and a decimal between two."""
    middle = sorted(numbers)[len(numbers) // 2]
    return {middle, int(middle), int(middle) + 0.5}


@pytest.mark.parametrize("view", slow_except(sorted(VIEWS), "call_log", "words"))
def test_numbers_of_a_view_filter_as_they_compare(db, counted, view):
    for column, values in values_of(db, view).items():
        numbers = [value for value in values if isinstance(value, int | float)]
        if not numbers:
            continue
        for number in candidates(numbers):
            for lookup, compare in COMPARE.items():
                expected = sum(v is not None and compare(v, number) for v in values)
                found = counted(view, **{f"{column}__{lookup}": f"{number}"})
                assert found == expected, f"{view}.{column} {lookup} {number}"


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_view_filters_accept_displayed_text(db, counted, view):
    for column, values in values_of(db, view).items():
        texts = [value for value in values if isinstance(value, str)]
        if not texts or column in ("started_at", "since", "first_seen"):
            continue
        shown = texts[len(texts) // 2]
        for lookup in ("exact", "gt", "lte"):
            expected = sum(v is not None and COMPARE[lookup](v, shown) for v in values)
            found = counted(view, **{f"{column}__{lookup}": shown})
            assert found == expected, f"{view}.{column} {lookup}"


def clock(seconds):
    return f"{seconds // 60}:{seconds % 60:02}"


def test_durations_are_filtered_by_minutes_and_seconds(db, counted):
    seconds = [s for s in values_of(db, "call_log")["duration_seconds"] if s is not None]
    for limit in (59, 120, 605):
        longer = sum(int(s) > limit for s in seconds)
        assert counted("call_log", duration__gt=clock(limit)) == longer
        assert counted("call_log", duration__gt=f"0:{limit // 60:02}:{limit % 60:02}") == longer


def test_flags_are_filtered_by_yes_and_no(db, counted):
    success = values_of(db, "call_log")["success"]
    assert counted("call_log", success="no") == success.count(0) > 0
    assert counted("call_log", success="yes") == success.count(1) > 0
    assert counted("call_log", success="0") == success.count(0)


def test_sentiment_is_filtered_whatever_its_case(db, counted):
    sentiment = values_of(db, "call_log")["sentiment"]
    assert counted("call_log", sentiment="negative") == sentiment.count("Negative") > 0
    assert counted("call_log", sentiment__in="negative,Neutral") == sum(
        s in ("Negative", "Neutral") for s in sentiment
    )


def test_money_is_filtered_by_dollars(db, counted):
    dollars = [d for d in values_of(db, "call_log")["cost_dollars"] if d is not None]
    more = sum(d > 0.5 for d in dollars)
    assert counted("call_log", cost_dollars__gt="$0.50") == more > 0
    assert counted("calls", combined_cost_cents__gt="$0.50") == more


def test_days_are_local_days(db, counted):
    zone = ZoneInfo(ZONE)
    at = [
        datetime.fromtimestamp(ms / 1000, zone) for ms in values_of(db, "call_log")["started_at_ms"]
    ]
    days = sorted({moment.date() for moment in at})
    assert len(days) == 3
    for one in days:
        expected = {
            "date": sum(m.date() == one for m in at),
            "exact": sum(m.date() == one for m in at),
            "gt": sum(m.date() > one for m in at),
            "gte": sum(m.date() >= one for m in at),
            "lt": sum(m.date() < one for m in at),
            "lte": sum(m.date() <= one for m in at),
        }
        for lookup, count in expected.items():
            assert counted("call_log", **{f"started_at__{lookup}": str(one)}) == count, lookup
            assert counted("call_log", **{f"started_at_ms__{lookup}": str(one)}) == count, lookup


def test_times_are_filtered_as_cells_show_them(db, counted):
    texts = values_of(db, "call_log")["started_at"]
    shown = f"{texts[0][:19].replace('T', ' ')} IST"
    assert counted("call_log", started_at=shown) == sum(t[:19] == texts[0][:19] for t in texts)


def test_other_text_is_compared_unchanged():
    zone = ZoneInfo("UTC")
    assert list(parse_filter("started_at", "exact", "2026-02-31", zone)) == [
        ("exact", "2026-02-31")
    ]
    assert list(parse_filter("duration", "gt", "long", zone)) == [("gt", "long")]
    assert list(parse_filter("success", "contains", "yes", zone)) == [("contains", "yes")]
    assert list(parse_filter("agent", "exact", "yes", zone)) == [("exact", "yes")]


def test_impossible_numbers_and_days_find_no_row(counted):
    for view, filters in (
        ("call_log", {"started_at_ms": "1" * 5000}),
        ("call_log", {"started_at_ms": f"1.{'1' * 5000}"}),
        ("calls", {"duration_ms": f"{'1' * 5000}:00:00"}),
        ("calls", {"start_timestamp": "9999-12-31"}),
        ("calls", {"start_timestamp": "0001-01-01"}),
        ("call_log", {"started_at": "9999-12-31 23:59:59"}),
    ):
        assert counted(view, **filters) == 0, filters
