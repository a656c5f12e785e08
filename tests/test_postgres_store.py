"""What the store does when the server gives a transaction up, and with its connections."""

import threading

import pytest
from conftest import dump
from postgres import looking
from storing import add

from receiver.errors import StoreBusy
from receiver.store import open_store
from receiver.store.postgres.store import CONNECTIONS


@pytest.fixture
def store(pg):
    store = open_store(pg, busy_seconds=20)
    yield store
    store.close()


def test_a_deadlock_is_ended_by_doing_one_of_both_again(store, pg):
    both, tries = threading.Barrier(2), []

    def crossing(first, second):
        def unit(connection):
            tries.append(first)
            store.lock(connection, [first])
            connection.execute("SELECT 1").fetchone()
            if tries.count(first) == 1:
                both.wait(timeout=20)
            store.lock(connection, [second])
            connection.execute("SELECT 1").fetchone()

        return threading.Thread(target=store.run, args=(unit,))

    threads = [crossing("a", "b"), crossing("b", "a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(tries) in (["a", "a", "b"], ["a", "b", "b"])


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_transaction_that_is_given_up_is_done_again_as_a_whole(store, pg, state):
    tries = []

    def unit(connection):
        tries.append(1)
        connection.execute("INSERT INTO erasures (entity_id) VALUES (?)", (f"try {len(tries)}",))
        if len(tries) < 3:
            connection.execute(f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{state}'; END $$")
        return "done"

    assert store.run(unit) == "done"
    with looking(pg) as db:
        assert dump(db)["erasures"] == [("try 3", None, None)]


def test_one_that_is_given_up_for_ever_is_busy(pg):
    store = open_store(pg, busy_seconds=0.3)

    def unit(connection):
        connection.execute("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40001'; END $$")

    with pytest.raises(StoreBusy, match="40001"):
        store.run(unit)
    store.close()


def test_connections_are_used_again_and_hung_up_at_the_end(store, pg):
    threads = [threading.Thread(target=add, args=(store, "call_ended", f"c{n}")) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with looking(pg) as db:
        assert 0 < db.execute(query).fetchone()[0] <= CONNECTIONS
        assert len(dump(db)["calls"]) == 40
