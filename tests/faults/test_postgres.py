"""Receivers on one PostgreSQL: killed, cut off, kept waiting; what was acknowledged is there."""

import os
import random
import signal
import threading
import time

import httpx
import pytest

pytest.importorskip("psycopg", reason="waits for the extra `postgres`")

from receiver.store import open_store, rebuild
from receiver.store.engine import reading
from tests.faults.harness import pair, sha256
from tests.faults.load import Load
from tests.support.postgres import Cluster, cluster, looking, programs
from tests.support.running import wait_until
from tests.support.storing import add
from tests.support.tables import dump

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="needs PostgreSQL: make test-system installs it"),
]


@pytest.fixture
def durable():
    """A server that writes to the disk before it says so."""
    with cluster(durable=True) as server:
        yield server


@pytest.fixture
def where(durable):
    return durable.blank()


def check(where, acked, sent) -> None:
    """Everything acknowledged is stored once, nothing else is, and nothing is half written."""
    with reading(where) as connection:
        before = dump(connection)
    found = [row[1] for row in before["observations"]]
    assert acked <= set(found), f"{len(acked - set(found))} acknowledged events are lost"
    assert set(found) <= sent, "something is stored that nobody sent"
    assert len(found) == len(set(found)), "an event is stored twice"
    store = open_store(where)
    rebuild(store, progress=lambda *_: None)
    store.close()
    with reading(where) as connection:
        assert dump(connection) == before, "the rows are not those of the stored events"


def check_kills(serve, durable: Cluster, where, *, kills, seed):
    """Kill a worker, the server, a whole receiver, in turn, while two receivers are posted to."""
    chance = random.Random(seed)
    receivers = [serve(where, workers=1).launch() for _ in range(2)]
    for receiver in receivers:
        wait_until(receiver._answers, seconds=30)
    loads = [Load(r, clients=2, name=f"receiver_{n}") for n, r in enumerate(receivers)]
    with loads[0], loads[1]:
        for n in range(kills):
            time.sleep(chance.uniform(0.3, 0.8))
            victim = chance.choice(receivers)
            if n % 3 == 0:
                durable.kill()
                durable.start()
            elif n % 3 == 1:
                os.kill(chance.choice(victim.workers()), signal.SIGKILL)
            else:
                victim.kill_tree()
                victim.start()
        for load in loads:
            before = load.statuses[204]
            wait_until(lambda load=load, before=before: load.statuses[204] > before + 5)
    for receiver in receivers:
        receiver.stop()
    statuses = loads[0].statuses + loads[1].statuses
    assert statuses[503] + statuses["unknown"] + statuses["not sent"] > 0, "no kill hit the load"
    check(where, loads[0].acked | loads[1].acked, loads[0].sent | loads[1].sent)


def test_receivers_roll_up_the_hours_on_postgresql(serve, pg):
    """Nobody has to browse for it: whoever draws charts reads the server."""
    store = open_store(pg)
    add(store, "call_ended", start_timestamp=0, agent_id="a")
    store.close()
    serve(pg, workers=2).start()
    with looking(pg) as session:
        hours = "SELECT calls FROM rollup_calls"
        assert wait_until(lambda: session.execute(hours).fetchall()) == [(1,)]


@pytest.mark.parametrize(("kills", "seed"), [(3, 1), (18, 2)])
def test_kill_9_loses_nothing_that_was_acknowledged(serve, durable, where, kills, seed):
    check_kills(serve, durable, where, kills=kills, seed=seed)


def test_unreachable_server_is_503_and_recovers_without_restart(serve, durable, where):
    receiver = serve(where, workers=1).start()
    first, second, third = *pair("call"), pair("other")[0]
    assert receiver.post(first).status_code == 204
    assert receiver.health()[0] == 200

    # Before Retell gives up; and who waits for the server holds up nobody else in the worker.
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(receiver.post(second)))
    durable.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        waiting.start()
        while waiting.is_alive():
            # Nothing is read from the database for this one.
            assert httpx.get(f"{receiver.url}/nowhere", timeout=2).status_code == 404
            time.sleep(0.1)
        assert time.monotonic() - began < 9
    finally:
        durable.signal(signal.SIGCONT)
    assert (answers[0].status_code, "Retry-After" in answers[0].headers) == (503, True)
    wait_until(lambda: receiver.post(second).status_code == 204)

    durable.kill()
    assert receiver.post(third).status_code == 503
    status, state = receiver.health()
    assert (status, state["writable"], state["schema"]) == (503, False, None)
    assert receiver.get("/metrics").status_code == 200
    durable.start()
    assert receiver.post(third).status_code == 204
    # An answer about health is kept for a moment.
    wait_until(lambda: receiver.health()[0] == 200)
    status, state = receiver.health()
    assert (status, state["problems"], state["quarantined"]) == (200, [], 0)
    receiver.stop()
    check(where, *[{sha256(body) for body in (first, second, third)}] * 2)


def test_locked_call_is_503_and_others_are_stored(serve, where):
    receiver = serve(where, workers=1).start()
    first, second = pair("held")
    other, _ = pair("free")
    assert receiver.post(first).status_code == 204
    with looking(where) as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT FROM entity_locks WHERE entity_id = 'held' FOR UPDATE")
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(receiver.post(second)))
        waiting.start()
        assert receiver.post(other).status_code == 204
        assert waiting.is_alive()
        waiting.join(15)
        assert answers[0].status_code == 503
        holder.execute("ROLLBACK")
    assert receiver.post(second).status_code == 204


# -- faults that the suite must find -------------------------------------------------------------

COMMITS_THAT_NOBODY_WAITS_FOR = """
from receiver.store.postgres.connection import Session
genuine = Session.begin
def begin(session, *statement):
    genuine(session, *statement)
    session.raw.execute("SET LOCAL synchronous_commit = off")
Session.begin = begin
"""

ACKNOWLEDGED_BEFORE_COMMIT = """
import threading
from receiver.store import Outcome
from receiver.store.postgres.store import PostgresStore
genuine = PostgresStore.add
def add(self, received):
    threading.Timer(0.05, genuine, (self, received)).start()
    return Outcome.STORED
PostgresStore.add = add
"""


@pytest.mark.parametrize(
    "patch",
    [COMMITS_THAT_NOBODY_WAITS_FOR, ACKNOWLEDGED_BEFORE_COMMIT],
    ids=["synchronous_commit=off", "acknowledged before the commit"],
)
def test_a_kill_of_the_server_finds(serve, durable, where, patch):
    receiver = serve(where, patch=patch).start()
    with Load(receiver, clients=6) as load:
        wait_until(lambda: load.statuses[204] > 100)
        durable.kill()
        # Left alone, it would try again what it has in memory.
        receiver.kill_tree()
    durable.start()
    with pytest.raises(AssertionError, match="acknowledged events are lost"):
        check(where, load.acked, load.sent)
