"""The views in time zones of every kind."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from receiver.store import migrate, roll_up
from schema.sql.views import views
from tests.support.viewing import add, ms, table_of

pytestmark = pytest.mark.slow_on_postgres

# Time zones


def shown(engine, timezone, *times):
    """started_at of calls that began at these UTC times."""
    with engine.viewed(timezone, engine.dialects[-1]) as connection:
        for time in times:
            add(connection, time, 3, time, start_timestamp=ms(time))
        return [row[0] for row in connection.execute("SELECT started_at FROM call_log")]


def test_times_in_berlin_follow_both_switches(engine):
    assert shown(
        engine,
        "Europe/Berlin",
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:00:00Z",
        "2026-10-25T00:59:59Z",
        "2026-10-25T01:00:00Z",
    ) == [
        "2026-03-29T01:59:59+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-10-25T02:59:59+02:00",
        "2026-10-25T02:00:00+01:00",
    ]


def test_times_in_kolkata_are_half_an_hour_off(engine):
    assert shown(engine, "Asia/Kolkata", "2026-05-09T18:30:00Z") == ["2026-05-10T00:00:00+05:30"]


def test_times_west_of_greenwich_have_a_negative_offset(engine):
    assert shown(engine, "America/St_Johns", "2026-01-10T03:00:00Z") == [
        "2026-01-09T23:30:00-03:30"
    ]


def test_days_in_berlin_have_23_and_25_hours(engine):
    with engine.viewed("Europe/Berlin", engine.dialects[-1]) as connection:
        for time in (
            "2026-03-28T22:59:59Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T21:59:59Z",
            "2026-03-29T22:00:00Z",
            "2026-10-24T21:59:59Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T22:59:59Z",
            "2026-10-25T23:00:00Z",
        ):
            add(connection, time, 3, time, start_timestamp=ms(time))
        assert table_of(connection, "SELECT day, calls FROM daily_summary") == [
            ("2026-10-26", 1),
            ("2026-10-25", 2),
            ("2026-10-24", 1),
            ("2026-03-30", 1),
            ("2026-03-29", 2),
            ("2026-03-28", 1),
        ]


@pytest.mark.parametrize(
    "timezone",
    [
        "UTC",
        "Africa/Abidjan",
        "Africa/Cairo",  # switches at midnight
        "Africa/Casablanca",  # switches around Ramadan
        "America/Havana",  # has midnight twice
        "America/Santiago",  # skips a midnight
        "America/St_Johns",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",  # switches by half an hour
        "Europe/Berlin",
        "Europe/Chisinau",  # switches at midnight UTC
        "Pacific/Apia",
        "Pacific/Chatham",
    ],
)
def test_times_and_days_match_the_zone_database(engine, timezone):
    zone = ZoneInfo(timezone)
    days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(20 * 365)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    switches = [day for day, before, after in zip(days, offsets, offsets[1:], strict=False)
                if before != after]  # fmt: skip
    # Every hour of the days around a switch, to the second, and a time in every month.
    times = {day + timedelta(hours=n, seconds=s) for day in switches for n in range(-24, 49)
             for s in (0, -1)} | set(days[::29])  # fmt: skip
    with engine.viewed(timezone, engine.dialects[-1]) as connection:
        connection.executemany(
            "INSERT INTO calls (call_id, start_timestamp) VALUES (?, ?)",
            [(time.isoformat(), int(time.timestamp() * 1000)) for time in times],
        )
        by_day = {}
        for call_id, started_at in connection.execute("SELECT call_id, started_at FROM call_log"):
            local = datetime.fromisoformat(call_id).astimezone(zone)
            utc = local.isoformat().replace("+00:00", "Z")
            assert started_at in (local.isoformat(), utc)
            assert started_at.endswith("Z") == (timezone in ("UTC", "Africa/Abidjan"))
            by_day[local.date().isoformat()] = by_day.get(local.date().isoformat(), 0) + 1
        assert dict(connection.execute("SELECT day, calls FROM daily_summary")) == by_day


@pytest.mark.parametrize(
    ("timezone", "switch"),
    [
        ("America/Havana", "2026-11-01T05:00:00Z"),
        ("America/Santiago", "2026-09-06T04:00:00Z"),
        ("Asia/Kathmandu", "2026-05-09T18:15:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ],
)
def test_rolled_up_days_match_the_zone_database(database, store, db, timezone, switch):
    times = [ms(switch) + minutes * 60_000 + odd for minutes in range(-2880, 2881, 15)
             for odd in (-1, 0)]  # fmt: skip
    by_day = Counter(
        datetime.fromtimestamp(time / 1000, ZoneInfo(timezone)).date().isoformat() for time in times
    )
    migrate(database, timezone=timezone)
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO calls (call_id, start_timestamp, updated_at) VALUES (?, ?, 0)",
        [(str(time), time) for time in times],
    )
    db.execute("COMMIT")
    list(roll_up(store, timezone=timezone, now_ms=ms("2027-01-01T00:00:00Z")))
    added_up = db.execute("SELECT day, sum(calls) FROM rollup_day_calls GROUP BY day")
    assert dict(added_up.fetchall()) == by_day
    assert dict(db.execute("SELECT day, calls FROM daily_summary").fetchall()) == by_day


def test_an_unknown_zone_is_an_error():
    with pytest.raises(ZoneInfoNotFoundError):
        views("Europe/Atlantis")
