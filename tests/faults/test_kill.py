"""kill -9 and signals under load: what was acknowledged is there."""

import os
import signal
import time

import httpx
import pytest

from receiver.store.connection import connect
from tests.faults.checking import check
from tests.faults.load import Load
from tests.faults.scenarios import check_kills
from tests.support.running import wait_until


@pytest.mark.parametrize(("kills", "seed"), [(3, 1), pytest.param(20, 2, marks=pytest.mark.slow)])
def test_kill_9_loses_nothing_that_was_acknowledged(server, db_path, kills, seed):
    check_kills(server, db_path, kills=kills, seed=seed)


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(n, marks=pytest.mark.slow) for n in ("SIGQUIT", "SIGINT"))],
)
def test_a_signal_to_stop_loses_nothing(server, db_path, name):
    with Load(server, clients=8) as load:
        wait_until(lambda: load.statuses[204] > 30)
        server.signal(getattr(signal, name))
        server.process.wait(20)
    assert set(load.statuses) <= {204, 503, "unknown", "not sent"}
    check(db_path, load.acked, load.sent)


def test_sigterm_answers_what_was_accepted(server, db_path):
    """A request in progress holds its answer until the lock is free; SIGTERM waits for it."""
    holder = connect(db_path, busy_timeout_ms=5000)
    holder.execute("BEGIN IMMEDIATE")
    load = Load(server, clients=8, pairs=1)
    with load:
        wait_until(lambda: server.connections() >= 8)
        time.sleep(0.5)
        server.signal(signal.SIGTERM)
        time.sleep(0.5)
        holder.execute("ROLLBACK")
        server.process.wait(20)
        load.join()
    holder.close()
    assert load.statuses[204] >= 8, load.statuses
    check(db_path, load.acked, load.sent)


@pytest.mark.slow
def test_reload_under_load_loses_nothing(server, db_path):
    before = set(server.workers())
    with Load(server, clients=4) as load:
        wait_until(lambda: load.statuses[204] > 20)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.workers() and not before & set(server.workers()))
        reached = load.statuses[204]
        wait_until(lambda: load.statuses[204] > reached + 20)
    assert set(load.statuses) <= {204, "unknown"}
    check(db_path, load.acked, load.sent)


def test_ctrl_c_prints_one_line(server):
    before = server.text()
    with httpx.Client() as idle:
        idle.get(server.url)
        # As a terminal does: to all processes at once.
        os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(20)
    assert server.text().removeprefix(before) == "Stopped.\n"
