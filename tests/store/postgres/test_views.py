"""The views on PostgreSQL: SQLite's rows, whatever is stored and whatever is added up.

Goal: no calls are found of which a view says something else than on SQLite. Method: the same bodies
to both, of all shapes that a view reads, and the acts of tests/support/rolling_up.py.
"""

import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings

from receiver.errors import StoreBusy
from receiver.store import Outcome, migrate, open_store, receive
from receiver.store.engine import reading
from receiver.store.ingest import observe
from receiver.store.postgres.connection import Session
from schema.sql.rollups import FILL_HOUR, MARK_HOUR
from schema.tables import ROLLUP_TABLES
from tests.support.histories import blank_file
from tests.support.parity import DAY_MS, VIEWS, differing, rows_of, tell
from tests.support.postgres import looking
from tests.support.rolling_up import HOUR_MS, SUMS, THAT_EVENING, added_up, run, runs
from tests.support.running import wait_until
from tests.support.storing import add, body_of

# Half hours, a midnight that is skipped, one that is there twice.
ZONES = ["Australia/Lord_Howe", "America/Santiago", "America/Havana"]
ROLLED_UP = ["SELECT * FROM rollup_hours", "SELECT * FROM rollup_days"]
ADDED_UP = [
    f"SELECT {', '.join(name for name in table.names if name != 'position')} FROM {table.name}"
    for table in ROLLUP_TABLES
]


@pytest.mark.slow
@pytest.mark.parametrize("timezone", ["Asia/Kolkata", "UTC", *ZONES])
def test_every_view_has_the_rows_that_sqlite_has(pg, db_path, timezone):
    for where in (pg, db_path):
        tell(where)
        migrate(where, timezone=timezone)
    assert differing(pg, db_path, VIEWS) == set()
    assert [view for view in VIEWS if not rows_of(pg, view)] == []
    for where in (pg, db_path):
        store = open_store(where)
        assert added_up(store, DAY_MS + 100 * HOUR_MS, timezone) > 5
        store.close()
    assert differing(pg, db_path, [*VIEWS, *ADDED_UP]) == set()
    assert all(rows_of(pg, table) for table in ADDED_UP)


def test_columns_have_the_names_that_sqlite_has(pg, db_path):
    for view in VIEWS:
        columns = []
        for where in (pg, db_path):
            with reading(where) as connection:
                columns.append([column[0] for column in connection.execute(view).description])
        assert columns[0] == columns[1], view


# -- SQLite's functions --------------------------------------------------------------------------


def test_numbers_are_rounded_as_sqlite_rounds_them(pg, db):
    rng = random.Random(1)
    numbers = [
        0.0,
        0.5,
        2.5,
        0.125,
        1.005,
        2.675,
        1e-31,
        1e300,
        4503599627370497.5,
        0.49999999999999994,
    ]
    numbers += [rng.randrange(10**6) / 10 ** rng.randrange(1, 7) for _ in range(300)]
    numbers += [rng.randrange(10**8) / 64 for _ in range(100)]
    numbers += [rng.random() * 10 ** rng.randrange(-8, 16) for _ in range(300)]
    cases = [(sign * number, digits) for number in numbers for sign in (1, -1)
             for digits in (0, 1, 2, 4)]  # fmt: skip
    with looking(pg) as session:
        found = session.raw.execute(
            "SELECT round(x, n) FROM unnest(%s::float8[], %s::int[]) WITH ORDINALITY t (x, n, at) "
            "ORDER BY at",
            tuple(list(column) for column in zip(*cases, strict=True)),
        ).fetchall()
    expected = [db.execute("SELECT round(?, ?)", case).fetchone()[0] for case in cases]
    wrong = [(case, a, e) for case, (a,), e in zip(cases, found, expected, strict=True) if a != e]
    assert wrong == []


def test_negative_durations_are_printed_as_in_sqlite(pg, db):
    durations = "SELECT printf('%d:%02d:%02d', 0, -15, -3), printf('%d:%02d:%02d', -100, 5, 15)"
    with looking(pg) as session:
        assert session.raw.execute(durations).fetchone() == tuple(db.execute(durations).fetchone())


# -- adding up -------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(runs())
def test_writes_and_rollups_match_on_both_engines(postgres, acts):
    where = postgres.blank()
    with blank_file() as path:
        for database in (where, path):
            store = open_store(database)
            run(store, acts)
            store.close()
        assert differing(where, path, [*VIEWS, *ADDED_UP, *SUMS]) == set()


def test_rollups_of_older_definitions_are_deleted(pg):
    store = open_store(pg)
    add(store, "call_ended", start_timestamp=0)
    assert added_up(store) == 2
    migrate(pg, timezone="UTC")
    assert [len(rows_of(pg, table)) for table in ROLLED_UP] == [1, 1]
    migrate(pg, timezone="Asia/Tokyo")
    assert [len(rows_of(pg, table)) for table in ROLLED_UP] == [1, 0]
    # The views are of another zone now than this process has.
    assert added_up(store, timezone="UTC") == 0
    assert [len(rows_of(pg, table)) for table in ROLLED_UP] == [1, 0]
    with looking(pg) as session:
        session.raw.execute("COMMENT ON VIEW hourly_tools IS 'as it was in an older version'")
    migrate(pg, timezone="Asia/Tokyo")
    assert [len(rows_of(pg, table)) for table in (*ROLLED_UP, "SELECT * FROM rollup_calls")] == [
        0
    ] * 3
    store.close()


def write_while_adding_up(pg, between) -> list:
    """A call is written but not committed while the hour of another one is added up."""
    store = open_store(pg)
    add(store, "call_ended", "before", start_timestamp=0, agent_id="a")
    with looking(pg) as writer:
        writer.execute("BEGIN")
        body = body_of("call_ended", "meanwhile", start_timestamp=1, agent_id="a")
        observe(writer, receive(body, source="webhook", observed_at=1, received_at=1))
        thread = threading.Thread(target=added_up, args=(store, THAT_EVENING))
        thread.start()
        between(pg, thread)
        writer.execute("COMMIT")
        thread.join(20)
    store.close()
    return rows_of(pg, "SELECT sum(calls) FROM agent_scorecard")


def waits(pg, thread) -> None:
    with looking(pg) as session:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: session.raw.execute(query).fetchone()[0])
    assert rows_of(pg, ROLLED_UP[0]) == []


def is_done(pg, thread) -> None:
    thread.join(20)
    assert len(rows_of(pg, ROLLED_UP[0])) == 1


def test_rollup_waits_for_a_call_being_written(pg):
    assert write_while_adding_up(pg, waits) == [[2.0]]
    assert len(rows_of(pg, ROLLED_UP[0])) == 1


def test_rollup_without_the_lock_misses_a_call(pg, monkeypatch):
    monkeypatch.setattr(Session, "lock_hour", lambda *_: None)
    assert write_while_adding_up(pg, is_done) == [[1.0]]


def test_call_during_the_rollup_invalidates_its_hour(pg):
    store, other = open_store(pg), open_store(pg)
    add(store, "call_ended", "before", start_timestamp=0)
    thread = threading.Thread(
        target=add, args=(other, "call_ended", "meanwhile"), kwargs={"start_timestamp": 1}
    )

    def fill(connection) -> None:
        assert store.lock_hours(connection, "UTC", 0, HOUR_MS - 1)
        thread.start()
        waits(pg, thread)
        span = {"hour": 0, "last": HOUR_MS - 1}
        assert connection.execute(MARK_HOUR, span).fetchall()
        for statement in FILL_HOUR:
            connection.execute(statement, span)

    store.run(fill)
    thread.join(20)
    assert rows_of(pg, ROLLED_UP[0]) == []
    assert rows_of(pg, "SELECT sum(calls) FROM agent_scorecard") == [[2.0]]
    for each in (store, other):
        each.close()


def test_call_of_another_hour_does_not_wait(pg):
    store, other = open_store(pg), open_store(pg, busy_seconds=2)

    def fill(connection) -> None:
        assert store.lock_hours(connection, "UTC", 0, HOUR_MS - 1)
        for start in (HOUR_MS, -1):
            assert add(other, "call_ended", start_timestamp=start) is Outcome.STORED
        with pytest.raises(StoreBusy):
            add(other, "call_ended", "c of this hour", start_timestamp=HOUR_MS - 1)

    store.run(fill)
    for each in (store, other):
        each.close()


def test_rollups_are_deleted_when_nobody_rolls_up(pg):
    """Else an hour could be stored that means what the views before meant."""
    store = open_store(pg)

    def fill(connection) -> None:
        assert store.lock_hours(connection, "UTC", 0, HOUR_MS - 1)
        thread = threading.Thread(target=migrate, args=(pg,), kwargs={"timezone": "Asia/Kolkata"})
        thread.start()
        waits(pg, thread)
        connection.execute(MARK_HOUR, {"hour": 0})
        threads.append(thread)

    threads = []
    store.run(fill)
    threads[0].join(20)
    assert rows_of(pg, ROLLED_UP[0]) == []
    store.close()


def test_only_one_rolls_up_and_others_return(pg):
    store, other = open_store(pg), open_store(pg)

    def fill(connection) -> None:
        assert store.lock_hours(connection, "UTC", 0, HOUR_MS - 1)
        assert not other.run(lambda theirs: other.lock_hours(theirs, "UTC", HOUR_MS, HOUR_MS))

    store.run(fill)
    assert other.run(lambda theirs: other.lock_hours(theirs, "UTC", HOUR_MS, HOUR_MS))
    for each in (store, other):
        each.close()
