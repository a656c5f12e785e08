"""Filters of the page of calls: what an address means, and what stands on it."""

from datetime import date
from types import SimpleNamespace

import pytest

from receiver.browse.pages.call_conditions import compact_number, parse_seconds
from receiver.browse.pages.call_filters import calls_url, parse_filters, period_days
from receiver.errors import QueryNotUnderstood

SITE = SimpleNamespace(urls=SimpleNamespace(path=lambda path: path))


def test_link_names_filters_in_one_order():
    link = calls_url(SITE, tool="book", agent="agent_1", since="2026-05-12", sort="-cost")
    assert link == "/-/calls?since=2026-05-12&agent=agent_1&tool=book&sort=-cost"
    assert calls_url(SITE, agent=None, version="") == "/-/calls"
    assert calls_url(SITE, agent="a", version=0) == "/-/calls?agent=a&version=0"


def test_link_with_unknown_filter_is_refused():
    with pytest.raises(TypeError, match="colour"):
        calls_url(SITE, colour="red")


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("today", "2026-05-13", "2026-05-13"),
        ("yesterday", "2026-05-12", "2026-05-12"),
        ("7-days", "2026-05-07", "2026-05-13"),
        ("30-days", "2026-04-14", "2026-05-13"),
        ("this-week", "2026-05-11", "2026-05-13"),
        ("last-week", "2026-05-04", "2026-05-10"),
        ("this-month", "2026-05-01", "2026-05-13"),
        ("last-month", "2026-04-01", "2026-04-30"),
        ("this-year", "2026-01-01", "2026-05-13"),
    ],
)
def test_preset_is_a_range_of_days(period, since, until):
    found = period_days(period, date(2026, 5, 13))
    assert found == (date.fromisoformat(since), date.fromisoformat(until))


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90", 90), ("2:05", 125), ("1:00:00", 3600), ("90 s", 90), ("2m", 120), ("1 h", 3600)],
)
def test_duration_is_read_as_people_write_it(typed, seconds):
    assert parse_seconds(typed) == seconds


@pytest.mark.parametrize("typed", ["", "soon", "-5", "1:2:3:4", "1e9", "２"])
def test_other_durations_are_not_understood(typed):
    with pytest.raises(QueryNotUnderstood, match="duration"):
        parse_seconds(typed)


def test_number_is_read_without_separators():
    assert compact_number("+1 (415) 555-0123") == "+14155550123"
    assert compact_number("alice@example.com") == "alice@example.com"


def test_dates_win_over_a_preset():
    asked = {"period": "today", "since": "2026-05-01"}
    assert parse_filters(asked.get).values == {"since": "2026-05-01"}


def test_query_string_leaves_one_filter_out():
    asked = {"agent": "a", "success": "no", "q": "crown", "sort": "-cost", "after": "call_9"}
    filters = parse_filters(asked.get)
    assert filters.query() == "q=crown&agent=a&success=no&sort=-cost"
    assert filters.query(without="agent") == "q=crown&success=no&sort=-cost"
    assert filters.query(after=filters.after, sort="") == "q=crown&agent=a&success=no&after=call_9"
