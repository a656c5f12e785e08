"""Hours and days that are added up: every view exact, whatever was written before and after.

Goal: no history of writes, roll-ups and more writes is found after which a view differs from its
plain definition over the calls alone. Method: few agents, reasons and times at the edges of hours,
so that calls share hours, move between them and come back. Sums are of halves and quarters, which
binary fractions hold exactly in any order.
"""

import threading

import pytest
from hypothesis import given, settings

from receiver.browse import server
from receiver.errors import StoreUnavailable
from receiver.store import migrate, open_store, rebuild, roll_up
from receiver.store.rebuilding import remove
from receiver.store.rollups import QUIET_MS, keep_rolled_up
from schema.tables import CALL_TABLES
from tests.support.histories import deliver
from tests.support.naive_model import Delivery
from tests.support.plain_views import PLAIN_VIEWS
from tests.support.rolling_up import HOUR_MS, SUMS, THAT_EVENING, added_up, run, runs
from tests.support.running import wait_until

quick = settings(max_examples=10, deadline=None, derandomize=True, database=None)
thorough = settings(max_examples=1000, deadline=None, database=None)


def rows(connection, query):
    return sorted(map(tuple, connection.execute(query).fetchall()), key=repr)


def wrong_views(engine, where):
    """Views that differ from their plain definition, or change when nothing is added up."""
    with engine.looking(where) as connection:
        found = {name: rows(connection, f"SELECT * FROM {name}") for name in PLAIN_VIEWS}
        sums = {query: rows(connection, query) for query in SUMS}
        expected = {name: rows(connection, query) for name, query in PLAIN_VIEWS.items()}
        connection.execute("BEGIN")
        connection.execute("DELETE FROM rollup_hours")
        connection.execute("DELETE FROM rollup_days")
        counted = {query: rows(connection, query) for query in SUMS}
        connection.execute("ROLLBACK")
    return {name for name in found if found[name] != expected[name]} | {
        query for query in sums if sums[query] != counted[query]
    }


def check_run(engine, acts):
    with engine.blank() as where:
        store = open_store(where)
        try:
            run(store, acts[:-1])
            assert wrong_views(engine, where) == set()
            run(store, acts[-1:])
            assert wrong_views(engine, where) == set()
        finally:
            store.close()


@pytest.mark.slow_on_postgres
@quick
@given(runs())
def test_views_are_exact_after_writes_and_rollups(engine, acts):
    check_run(engine, acts)


@pytest.mark.slow
@thorough
@given(runs())
def test_views_are_exact_after_many_writes_and_rollups(engine, acts):
    check_run(engine, acts)


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
def test_lengths_beyond_any_sum_fail_no_view(store, db, database, timezone):
    migrate(database, timezone=timezone)
    deliver(store, [ended(id) for id in "cde"])
    # As versions stored it that took any number for a length.
    store.run(lambda connection: connection.execute("UPDATE calls SET duration_ms = ?", (2**62,)))
    expected = [(round(3 * 2**62 / 60000, 1),)]
    assert rows(db, "SELECT minutes FROM daily_summary") == expected
    assert added_up(store, timezone=timezone) == 2
    assert rows(db, "SELECT minutes FROM daily_summary") == expected


# -- which hours ---------------------------------------------------------------------------------


def ended(id="c", *, start=0, received=0, **fields):
    call = {"start_timestamp": start, "agent_id": "a", **fields}
    return Delivery("call_ended", call, at=1, received=received, id=id)


def hours(db):
    return [hour for (hour,) in map(tuple, db.execute("SELECT hour FROM rollup_hours ORDER BY 1"))]


def days(db):
    return [day for (day,) in map(tuple, db.execute("SELECT day FROM rollup_days ORDER BY 1"))]


def test_hour_is_rolled_up_after_its_end(store, db):
    deliver(store, [ended("c"), ended("d", start=3 * HOUR_MS)])
    assert added_up(store, HOUR_MS - 1) == 0
    assert added_up(store, HOUR_MS) == 1
    assert hours(db) == [0]
    assert added_up(store, 4 * HOUR_MS) == 1
    assert hours(db) == [0, 3 * HOUR_MS]


def test_recently_updated_hour_is_not_rolled_up(store, db):
    received = 5 * HOUR_MS
    deliver(store, [ended("c"), ended("d", received=received), ended("e", start=HOUR_MS)])
    assert added_up(store, received + QUIET_MS - 1) == 1
    assert hours(db) == [HOUR_MS]
    assert added_up(store, received + QUIET_MS) == 1
    assert hours(db) == [0, HOUR_MS]


def test_rolled_up_hour_is_not_rolled_up_again(store):
    deliver(store, [ended()])
    assert added_up(store) == 2
    assert added_up(store) == 0


def test_hours_are_rolled_up_oldest_first_and_reported(store, db):
    deliver(store, [ended(f"c{n}", start=n * HOUR_MS) for n in (2, 0, 7)])
    steps = roll_up(store, timezone="UTC", now_ms=8 * HOUR_MS)
    assert next(steps) == (1, 3)
    assert hours(db) == [0]
    assert list(steps) == [(2, 3), (3, 3)]
    assert hours(db) == [0, 2 * HOUR_MS, 7 * HOUR_MS]


def test_call_without_a_time_counts_in_no_hour(store, db):
    deliver(store, [Delivery("call_ended", {"agent_id": "a"}, at=0, id="c")])
    assert added_up(store) == 0
    assert rows(db, "SELECT agent_id, calls FROM agent_scorecard") == [("a", 1)]


def test_time_before_1970_counts_in_no_hour(store, db):
    deliver(store, [ended("c", start=-1), ended("d", start=-5 * HOUR_MS), ended("e", start=0)])
    assert added_up(store, THAT_EVENING) == 1
    assert rows(db, "SELECT calls FROM rollup_calls") == [(1,)]
    assert rows(db, "SELECT calls FROM agent_scorecard") == [(3,)]


def test_concurrent_rollups_count_nothing_twice(store, db):
    deliver(store, [ended("c"), ended("d", start=HOUR_MS)])
    one = roll_up(store, timezone="UTC", now_ms=2 * HOUR_MS)
    next(one)
    assert added_up(store, THAT_EVENING) == 1
    assert list(one) == [(2, 2)]
    assert rows(db, "SELECT calls FROM agent_scorecard") == [(2,)]


# -- which days ----------------------------------------------------------------------------------


def test_day_is_rolled_up_after_its_end(store, db):
    deliver(store, [ended("c"), ended("d", start=23 * HOUR_MS), ended("e", start=24 * HOUR_MS)])
    added_up(store, 24 * HOUR_MS - 1)
    assert days(db) == []
    added_up(store, 24 * HOUR_MS)
    assert days(db) == ["1970-01-01"]
    assert rows(db, "SELECT day, agent_id, calls FROM rollup_day_calls") == [("1970-01-01", "a", 2)]


def test_day_waits_for_a_recently_updated_hour(store, db):
    received = 48 * HOUR_MS
    deliver(store, [ended("c"), ended("d", start=HOUR_MS, received=received)])
    added_up(store, received)
    assert days(db) == []
    added_up(store, received + QUIET_MS)
    assert days(db) == ["1970-01-01"]


def test_days_are_those_of_the_zone(store, db, database):
    migrate(database, timezone="Asia/Kolkata")
    midnight = 18 * HOUR_MS + HOUR_MS // 2
    deliver(store, [ended("c", start=midnight - 1), ended("d", start=midnight)])
    added_up(store, timezone="Asia/Kolkata")
    assert rows(db, "SELECT day, since, until FROM rollup_days") == [
        ("1970-01-01", midnight - 24 * HOUR_MS, midnight),
        ("1970-01-02", midnight, midnight + 24 * HOUR_MS),
    ]
    assert rows(db, "SELECT day, calls FROM daily_summary") == [
        ("1970-01-01", 1),
        ("1970-01-02", 1),
    ]


def test_a_file_in_another_zone_is_left_alone(store, db, database):
    deliver(store, [ended()])
    migrate(database, timezone="Asia/Kolkata")
    added_up(store, timezone="UTC")
    assert (hours(db), days(db)) == ([], [])


# -- taking an hour and its day back ------------------------------------------------------------


def test_late_event_invalidates_its_hour(store, db):
    deliver(store, [ended("c"), ended("d", start=HOUR_MS)])
    added_up(store)
    deliver(store, [Delivery("call_analyzed", {"agent_id": "b"}, at=2, id="c")])
    assert hours(db) == [HOUR_MS]
    assert rows(db, "SELECT hour, agent_id FROM rollup_calls") == [(HOUR_MS, "a")]
    assert rows(db, "SELECT agent_id, calls FROM agent_scorecard") == [("a", 1), ("b", 1)]


def test_late_event_invalidates_its_day(store, db):
    deliver(store, [ended("c"), ended("d", start=24 * HOUR_MS)])
    added_up(store)
    deliver(store, [Delivery("call_analyzed", {"agent_id": "b"}, at=2, id="c")])
    assert days(db) == ["1970-01-02"]
    assert rows(db, "SELECT day, agent_id FROM rollup_day_calls") == [("1970-01-02", "a")]


def test_call_in_an_empty_hour_invalidates_its_day(store, db):
    deliver(store, [ended("c")])
    added_up(store)
    deliver(store, [ended("d", start=24 * HOUR_MS - 1)])
    assert (hours(db), days(db)) == ([0], [])


def test_moved_call_invalidates_both_hours(store, db):
    deliver(store, [ended("c"), ended("d", start=HOUR_MS), ended("e", start=2 * HOUR_MS)])
    added_up(store)
    deliver(store, [Delivery("call_analyzed", {"start_timestamp": HOUR_MS}, at=2, id="c")])
    assert hours(db) == [2 * HOUR_MS]


def test_removed_call_invalidates_its_hour(store, db):
    deliver(store, [ended("c"), ended("d", start=HOUR_MS)])
    added_up(store)
    tables = [table.name for table in CALL_TABLES]
    store.run(lambda connection: remove(connection, "c", tables))
    assert hours(db) == [HOUR_MS]


def test_duplicate_invalidates_nothing(store, db):
    deliver(store, [ended()])
    added_up(store)
    deliver(store, [ended()])
    assert hours(db) == [0]


def test_changed_reason_category_counts_at_once(store, db):
    deliver(store, [ended(disconnection_reason="of_tomorrow")])
    added_up(store)
    connected = "SELECT connected_share FROM agent_scorecard"
    assert rows(db, connected) == [(1.0,)]
    db.execute(
        "UPDATE disconnection_reasons SET category = 'not_connected' WHERE reason LIKE 'of%'"
    )
    assert rows(db, connected) == [(0.0,)]
    assert rows(db, "SELECT connected FROM daily_summary") == [(0,)]


def test_rebuild_deletes_rollups(engine, store, db, database):
    deliver(store, [ended()])
    added_up(store)
    db.execute("UPDATE rollup_calls SET calls = 7")
    rebuild(store, progress=lambda *_: None)
    assert (hours(db), days(db)) == ([], [])
    assert wrong_views(engine, database) == set()


def test_rollups_of_older_definitions_are_deleted(store, db, database):
    deliver(store, [ended()])
    added_up(store)
    migrate(database, timezone="Asia/Tokyo")
    assert hours(db) == [0]
    assert days(db) == []
    db.execute("DROP VIEW hourly_tools")
    db.execute("CREATE VIEW hourly_tools AS SELECT 'as it was in an older version'")
    migrate(database, timezone="Asia/Tokyo")
    assert hours(db) == []
    assert rows(db, "SELECT count(*) FROM rollup_calls") == [(0,)]


# -- in the background ---------------------------------------------------------------------------


@pytest.mark.sqlite
def test_browse_rolls_up_hours_in_the_background(store, db, settings):
    deliver(store, [ended()])
    before = set(threading.enumerate())
    with server._rolling_up(settings):
        wait_until(lambda: hours(db) == [0])
    assert set(threading.enumerate()) <= before


def test_unreadable_file_ends_the_rollup_but_not_browsing(store, db_path):
    moved = db_path.rename(db_path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable):
        added_up(store)
    stop = threading.Event()
    thread = threading.Thread(target=keep_rolled_up, args=(store, "UTC", stop))
    thread.start()
    thread.join(timeout=0.2)
    assert thread.is_alive()
    stop.set()
    thread.join()
    moved.rename(db_path)
