"""Somebody else uses the file: a writer for too long, a reader for long."""

import time

import pytest

from receiver.store.connection import connect
from receiver.webhook.health import REFUSED
from tests.faults.checking import check
from tests.faults.harness import pair
from tests.faults.load import Load
from tests.faults.scenarios import check_short_lock, write_lock
from tests.support.running import wait_until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


def test_a_lock_of_two_seconds_is_waited_for(server, db_path):
    check_short_lock(server, db_path)


def test_eight_second_lock_is_503_and_healthz_answers(server, db_path):
    with write_lock(db_path, 8):
        with Load(server, clients=16, pairs=1) as load:
            time.sleep(0.5)
            waits = []
            for _ in range(10):
                began = time.monotonic()
                status, health = server.health()
                waits.append(time.monotonic() - began)
                assert (status, health["writable"]) == (200, True)
                time.sleep(0.2)
        # The first of each pair was sent before the lock was free, and waited its full time.
        refused = sorted(load.seconds)[-16:]
    # Well within the time that the lock is held.
    assert max(waits) < 4
    assert load.statuses[503] >= 16
    assert set(load.statuses) == {503}
    assert max(refused) < 6
    assert server.health()[1]["problems"] == [REFUSED]
    after = Load(server, clients=4, pairs=2, name="after").run()
    assert after.statuses == {204: 16}
    wait_until(lambda: server.health()[0] == 200)
    check(db_path, after.acked, load.sent | after.sent)


def test_refusal_has_retry_after(server, db_path):
    with write_lock(db_path, 5):
        answer = server.post(pair("call")[0])
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert server.post(pair("call")[0]).status_code == 204


def test_log_shrinks_after_a_long_reader(server, db_path):
    log = db_path.with_name(db_path.name + "-wal")
    reader = connect(db_path, busy_timeout_ms=0)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchone()
    load = Load(server, clients=5, pairs=50, padding=60_000).run()
    assert load.statuses == {204: 500}
    assert reader.execute("SELECT count(*) FROM calls").fetchone() == (0,)
    grown = log.stat().st_size
    reader.close()
    after = Load(server, clients=2, pairs=20, name="after").run()
    assert after.statuses == {204: 80}
    assert grown > 33 * MIB, "too little was written to see the log shrink"
    assert log.stat().st_size < 33 * MIB
    check(db_path, load.acked | after.acked, load.sent | after.sent)
