"""What the first page compares with what, and how figures, times and money are written."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from receiver.browse.formatting import format_cell, format_dollars, format_milliseconds, format_time
from receiver.browse.pages.figures import points_change, relative_change
from receiver.browse.pages.periods import period_of
from receiver.clock import format_duration
from schema.statistics import share

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3_600_000


def ms(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def iso(at, zone=BERLIN):
    return datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).isoformat(timespec="minutes")


def test_today_is_compared_up_to_this_time():
    now = ms("2026-05-12T10:30+02:00")
    today = period_of("today", ms("2026-05-12T09:00+02:00"), now, BERLIN)
    assert (today.title, today.compared_with) == ("Today", "yesterday up to this time")
    assert iso(today.since) == "2026-05-12T00:00+02:00"
    assert iso(today.until) == "2026-05-13T00:00+02:00"
    assert iso(today.before_since) == "2026-05-11T00:00+02:00"
    assert iso(today.before_until) == "2026-05-11T10:30+02:00"


def test_month_is_compared_up_to_this_time():
    now = ms("2026-05-12T10:30+02:00")
    month = period_of("30-days", ms("2026-05-12T09:00+02:00"), now, BERLIN)
    assert iso(month.since) == "2026-04-13T00:00+02:00"
    assert iso(month.until) == "2026-05-13T00:00+02:00"
    assert iso(month.before_since) == "2026-03-14T00:00+01:00"
    assert iso(month.before_midnight) == "2026-04-12T00:00+02:00"
    assert iso(month.before_until) == "2026-04-12T10:30+02:00"


def test_old_file_shows_its_last_day():
    now = ms("2026-05-14T01:00+02:00")
    day = period_of("today", ms("2026-05-12T09:00+02:00"), now, BERLIN)
    assert (day.title, day.compared_with) == ("The last day", "the day before")
    assert iso(day.before_until) == iso(day.since) == "2026-05-12T00:00+02:00"
    week = period_of("7-days", ms("2026-05-12T09:00+02:00"), now, BERLIN)
    assert week.before_until == week.since
    assert period_of("today", ms("2026-05-13T09:00+02:00"), now, BERLIN).title == "Yesterday"


def test_days_of_23_and_25_hours_are_days():
    spring = period_of("today", ms("2026-03-29T12:00+02:00"), ms("2026-05-01T00:00+02:00"), BERLIN)
    assert spring.until - spring.since == 23 * HOUR
    autumn = period_of("today", ms("2026-10-25T12:00+01:00"), ms("2026-12-01T00:00+01:00"), BERLIN)
    assert autumn.until - autumn.since == 25 * HOUR
    assert autumn.before_until <= autumn.since


@pytest.mark.parametrize(
    ("old", "now", "better", "expected"),
    [
        # Newcombe, "Interval estimation for the difference between independent proportions"
        # (1998), table II, method 10: 0.0524 to 0.3339.
        ((48, 80), (56, 70), 1, ("▲ 20 pt", "good", "+5.2 to +33.4")),
        ((48, 80), (56, 70), -1, ("▲ 20 pt", "bad", "+5.2 to +33.4")),
        # Too few calls, and an interval with zero in it.
        ((3, 10), (9, 10), 1, ("▲ 60 pt", "", "may be chance")),
        ((50, 100), (55, 100), 1, ("▲ 5 pt", "", "may be chance")),
        ((50, 100), (50, 100), 1, ("the same", "", "may be chance")),
    ],
)
def test_shares_change_in_points_coloured_if_certain(old, now, better, expected):
    text, tone, interval = points_change(share(*old), share(*now), better)
    assert (text, tone) == expected[:2]
    assert expected[2] in interval


def test_amounts_change_in_percent():
    found = [relative_change(*pair) for pair in ((110, 100), (50, 100), (100.1, 100), (5, 0))]
    assert found == ["▲ 10 %", "▼ 50 %", "the same", ""]


@pytest.mark.parametrize(
    ("cents", "text"),
    [
        (0, "$0.00"),
        (12.3456, "$0.12"),
        (3.456, "$0.035"),
        (0.12, "$0.0012"),
        (123_456, "$1,234.56"),
        (-20, "-$0.20"),
        (-0.5, "-$0.0050"),
        (9.99, "$0.10"),
        (None, ""),
    ],
)
def test_cents_are_written_as_dollars(cents, text):
    assert format_dollars(cents) == text


def test_times_and_lengths_are_written_for_people():
    assert [format_duration(s) for s in (0, 59.9, 65, 3600, 7_207)] == [
        "0:00",
        "0:59",
        "1:05",
        "1:00:00",
        "2:00:07",
    ]
    assert [format_milliseconds(ms) for ms in (840, 1000, 12_345, None)] == [
        "840 ms",
        "1.0 s",
        "12.3 s",
        "",
    ]
    assert format_time(ms("2026-05-12T12:52:42+00:00"), BERLIN) == (
        '<time datetime="2026-05-12T12:52:42.000Z" '
        'title="2026-05-12T12:52:42.000Z = 1778590362000 ms">2026-05-12 14:52:42 CEST</time>'
    )
    assert "UTC-03" in format_time(0, ZoneInfo("America/Argentina/Buenos_Aires"))
    assert format_time(10**18, BERLIN) is None


def shown(value, column, table=None, **row):
    urls = {"call": "/-/call/{}".format, "chat": "/-/chat/{}".format}
    return format_cell(value, column, table, {column: value, **row}, BERLIN, urls)


def test_cells_are_formatted_by_column_name():
    assert 'href="/-/call/call_1"' in shown("call_1", "call_id")
    assert 'href="/-/chat/chat_1"' in shown("chat_1", "chat_id")
    assert 'href="/-/call/call_1"' in shown("call_1", "entity_id", entity_type="call")
    assert shown("alert_1", "entity_id", entity_type="alert") is None
    assert "CEST</time>" in shown(1_778_590_362_000, "start_timestamp")
    assert 'title="2026-05-12T14:52:42+02:00"' in shown("2026-05-12T14:52:42+02:00", "started_at")
    assert shown(12.5, "combined_cost_cents") == '<span title="12.5 cents">$0.12</span>'
    assert ">1:31<" in shown(91_000, "duration_ms", "calls")
    assert ">91.0 s<" in shown(91_000, "duration_ms", "tool_calls")
    assert "<audio" in shown("https://m.example/a.wav", "url", "media", kind="recording")
    assert "<details><summary>30 items" in shown(str([*range(30)]), "samples_ms")
    assert ">yes<" in shown(1, "success")


def test_unexpected_cell_values_stay_unchanged():
    assert shown(12, "start_timestamp") is None
    assert shown("soon", "started_at") is None
    assert shown("https://m.example/x.log", "url", "media", kind="public_log") is None
    assert shown("javascript:alert(1)", "url", "media", kind="recording") is None
    assert shown("[not JSON at all, though it begins with a bracket]", "content") is None
    assert shown(7, "turns") is None


def test_markup_in_a_cell_stays_text():
    for column in ("call_id", "sentiment", "user_sentiment"):
        assert "<i>" not in shown("<i>x</i>", column)
    assert "<i>" not in shown('{"a": "<i>", "b": "' + "x" * 60 + '"}', "metadata")
