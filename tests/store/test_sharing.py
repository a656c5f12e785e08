"""The store shares its database with processes and threads, and writes little."""

import subprocess
import sys
import threading
import time

import pytest

import receiver.store.store
from receiver.errors import StoreBusy, StoreUnavailable
from receiver.store import Outcome, Store, open_store, receive
from receiver.store.connection import connect, sqlite3
from tests.support.histories import blank_file
from tests.support.running import wait_until
from tests.support.storing import add, agent, body_of, count, held, plant, rows, written


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


# -- other processes -----------------------------------------------------------------------------


def test_lock_held_too_long_is_busy_until_release(engine, database):
    store = open_store(database, busy_seconds=0.2)
    began = time.monotonic()
    with held(engine, database), pytest.raises(StoreBusy):
        add(store, "call_ended")
    assert 0.2 <= time.monotonic() - began < 2
    assert add(store, "call_ended") is Outcome.STORED
    store.close()


def test_lock_released_in_time_is_waited_for(engine, database):
    store = open_store(database, busy_seconds=20)
    with engine.looking(database) as held:
        engine.hold(held)
        release = threading.Timer(0.2, lambda: held.execute("ROLLBACK"))
        release.start()
        assert add(store, "call_ended") is Outcome.STORED
        release.join()
    store.close()


def test_opening_the_file_waits_for_the_lock(db_path, db):
    """A process that opens or closes a write-ahead log holds the whole file for a moment."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("BEGIN IMMEDIATE")
    store = Store(db_path, busy_seconds=0.2)
    with pytest.raises(StoreBusy):
        add(store, "call_ended")
    db.close()
    assert add(store, "call_ended") is Outcome.STORED
    store.close()


def test_waiting_threads_are_busy_and_lose_nothing(engine, database, db):
    store = open_store(database, busy_seconds=0.3)
    with held(engine, database):
        results = in_threads(8, lambda n: add(store, "call_ended", f"c{n}"))
    assert [type(result) for result in results] == [StoreBusy] * 8
    assert count(db) == 0
    assert set(in_threads(8, lambda n: add(store, "call_ended", f"c{n}"))) == {Outcome.STORED}
    assert count(db) == 8
    store.close()


def in_threads(n, do) -> list[object]:
    """What `do(0)` to `do(n - 1)` return or raise, each in a thread of its own."""
    results: list[object] = [None] * n

    def run(i: int) -> None:
        try:
            results[i] = do(i)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


# -- group commit --------------------------------------------------------------------------------

# A server shares writes to the disk between transactions by itself.
one_writer = pytest.mark.sqlite


def add_together(store, bodies) -> list[object]:
    """Add from one thread each, all of them waiting before the first transaction begins."""
    results: list[object] = []

    def hold() -> None:
        with store.transaction():
            wait_until(lambda: len(store._queue) == len(bodies))

    holder = threading.Thread(target=hold)
    holder.start()
    results = in_threads(
        len(bodies),
        lambda n: store.add(receive(bodies[n], source="webhook", observed_at=n, received_at=n)),
    )
    holder.join()
    return results


@one_writer
def test_events_that_wait_share_one_transaction(engine, store, db, monkeypatch):
    statements = engine.statements(store, monkeypatch)
    outcomes = add_together(store, [body_of("call_ended", f"c{n}") for n in range(30)])
    assert outcomes == [Outcome.STORED] * 30
    # The holder's own, and one for all thirty.
    assert statements.count("COMMIT") == 2
    assert count(db, "calls") == 30


@one_writer
def test_transaction_takes_a_bounded_number_of_events(engine, store, db, monkeypatch):
    statements = engine.statements(store, monkeypatch)
    add_together(store, [body_of("call_ended", f"c{n}") for n in range(150)])
    assert statements.count("COMMIT") == 3
    assert count(db, "calls") == 150


def test_threads_each_return_after_their_own_commit(engine, store, db_path, monkeypatch):
    statements = engine.statements(store, monkeypatch)

    def add_twenty(thread) -> list[bool]:
        reader = connect(db_path, busy_timeout_ms=5000)
        seen = []
        for n in range(20):
            call_id = f"c{thread}-{n}"
            add(store, "call_ended", call_id)
            sql = "SELECT 1 FROM calls WHERE call_id = ?"
            seen.append(reader.execute(sql, (call_id,)).fetchone() is not None)
        reader.close()
        return seen

    assert in_threads(8, add_twenty) == [[True] * 20] * 8
    assert statements.count("COMMIT") < 160


@one_writer
def test_events_of_one_call_merge_in_one_transaction(store, db):
    add_together(
        store, [body_of("transcript_updated", "c", n=n, agent_name=f"a{n}") for n in range(9)]
    )
    assert rows(db, "SELECT agent_name, level, observed_at FROM calls") == [("a8", 1, 8)]


@one_writer
def test_poisoned_event_does_not_fail_its_neighbours(store, db, monkeypatch):
    plant(monkeypatch, ValueError())
    outcomes = add_together(store, [body_of("call_ended", c) for c in ("a", "poison", "b")])
    assert outcomes == [Outcome.STORED, Outcome.QUARANTINED, Outcome.STORED]
    assert rows(db, "SELECT call_id FROM calls ORDER BY 1") == [("a",), ("b",)]
    assert count(db) == 3


@one_writer
def test_only_a_poisoned_event_needs_savepoints(engine, store, monkeypatch):
    plant(monkeypatch, ValueError())
    statements = engine.statements(store, monkeypatch)
    add(store, "call_ended", "a")
    assert not [s for s in statements if s.startswith("SAVEPOINT")]
    add(store, "call_ended", "poison")
    assert [s for s in statements if s.startswith("SAVEPOINT")]
    statements.clear()
    add(store, "call_ended", "b")
    assert not [s for s in statements if s.startswith("SAVEPOINT")]


@one_writer
def test_failing_storage_fails_all_that_share_the_transaction(store, db, monkeypatch):
    plant(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    results = add_together(store, [body_of("call_ended", c) for c in ("a", "poison", "b")])
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    assert count(db) == 0


class Killed(BaseException):
    """As gevent's GreenletExit and Timeout: no Exception."""


@one_writer
@pytest.mark.parametrize("place", ["sleep", "begin", "observe", "commit"])
def test_any_exception_in_the_leader_wakes_its_followers(store, db, monkeypatch, place):
    killed = []

    def kill(*_):
        if not killed and len(store._queue) in (0, 3):
            killed.append(place)
            raise Killed

    def before(function):
        def called(*args):
            kill()
            return function(*args)

        return called

    if place == "sleep":
        monkeypatch.setattr(store._machine, "sleep", kill)
    elif place == "begin":
        begin = store._begin
        with store.transaction():
            pass
        monkeypatch.setattr(store, "_begin", before(begin))
    elif place == "observe":
        monkeypatch.setattr(receiver.store.store, "observe", before(receiver.store.store.observe))
    else:
        monkeypatch.setattr(store, "_check_identity", before(store._check_identity))
    results = add_after_killing(store, 3)
    assert killed == [place]
    assert Killed in results
    assert set(results) <= {Killed, StoreUnavailable, Outcome.STORED}
    monkeypatch.undo()
    assert add(store, "call_ended", "afterwards") is Outcome.STORED


def add_after_killing(store, count):
    """What each of `count` requests that wait together gets; none may wait for ever."""
    results = [None] * count
    store._writing.acquire()

    def run(n):
        try:
            results[n] = add(store, "call_ended", f"c{n}")
        except BaseException as error:
            results[n] = type(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(store._queue) == count)
    store._writing.release()
    for thread in threads:
        thread.join(20)
    assert None not in results, "a request waits for ever"
    return results


@one_writer
def test_killed_greenlets_leave_nobody_waiting(tmp_path):
    script = tmp_path / "greenlets.py"
    script.write_text(GREENLETS)
    ran = subprocess.run(
        [sys.executable, script, tmp_path / "retell.db"], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.splitlines() == ["killed 2", "stored 6", "waiting 0"], ran.stderr


# Of eight greenlets the first leads, and waits for the lock. It and the next one are killed.
GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, time
from pathlib import Path
import gevent
from receiver.store import Store, migrate, receive

path = Path(sys.argv[1])
migrate(path, timezone="UTC")
store = Store(path)

def add(n):
    body = b'{"event": "call_ended", "call": {"call_id": "c%d"}}' % n
    return store.add(receive(body, source="webhook", observed_at=n, received_at=n))

store._writing.acquire()
greenlets = [gevent.spawn(add, n) for n in range(8)]
deadline = time.monotonic() + 10
while len(store._queue) < 8:
    assert time.monotonic() < deadline
    gevent.sleep(0.01)
for greenlet in greenlets[:2]:
    greenlet.kill()
store._writing.release()
gevent.joinall(greenlets, timeout=10)
results = [greenlet.value for greenlet in greenlets]
print("killed", sum(isinstance(value, gevent.GreenletExit) for value in results))
print("stored", sum(getattr(value, "value", None) == "stored" for value in results))
print("waiting", sum(not greenlet.dead for greenlet in greenlets))
"""


# -- no more work than needed --------------------------------------------------------------------


LISTS = {
    "transcript_with_tool_calls": [agent("Hello.", "Hello."), agent("Bye.", "Bye.")],
    "metadata": {"lead": "L-1"},
    "call_cost": {"combined_cost": 1, "product_costs": [{"product": "voice_engine", "cost": 1}]},
}


@pytest.mark.parametrize("late", [False, True], ids=["newest", "late"])
def test_unchanged_rows_are_not_written_again(engine, store, monkeypatch, late):
    add(store, "call_ended", at=5, **LISTS)
    statements = engine.statements(store, monkeypatch)
    add(store, "call_ended", at=1 if late else 9, to_number="+1", **LISTS)
    assert set(written(statements)) == {"observations", "calls", "rollup_hours", "rollup_days"}


def test_only_the_rows_that_differ_are_written(engine, store, monkeypatch):
    add(store, "call_started", at=5, transcript_object=[agent("a"), agent("b"), agent("c")])
    statements = engine.statements(store, monkeypatch)
    add(store, "call_ended", at=6, transcript_object=[agent("a"), agent("x")])
    assert written(statements).count("utterances") == 2


def test_newest_event_reads_no_older_body(engine, store, monkeypatch):
    for n in range(5):
        add(store, "transcript_updated", at=n, transcript_with_tool_calls=[agent(f"{n}")])
    statements = engine.statements(store, monkeypatch)
    add(store, "transcript_updated", at=9, transcript_with_tool_calls=[agent("9")])
    assert [s for s in statements if s.startswith("SELECT body FROM")] == []


def test_duplicate_without_changes_projects_nothing(engine, store, monkeypatch):
    add(store, "call_ended", at=5, received=5, **LISTS)
    statements = engine.statements(store, monkeypatch)
    add(store, "call_ended", at=6, received=6, **LISTS)
    assert [s for s in statements if s.startswith("SELECT") and " calls " in s] == []
