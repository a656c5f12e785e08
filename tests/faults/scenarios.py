"""Faults under load that several tests cause, and checks that nothing is lost."""

import os
import random
import shutil
import signal
import time
from contextlib import contextmanager
from threading import Timer

from receiver.store.connection import connect
from tests.faults.checking import check
from tests.faults.load import Load
from tests.support.running import wait_until


def check_kills(server, db_path, *, kills, seed):
    """Kill a worker, everything, the master, in turn; start again and look."""
    chance = random.Random(seed)
    with Load(server, clients=6) as load:
        for n in range(kills):
            time.sleep(chance.uniform(0.2, 0.6))
            what = ("worker", "tree", "master")[n % 3]
            if what == "worker":
                os.kill(chance.choice(server.workers()), signal.SIGKILL)
            else:
                if what == "tree":
                    server.kill_tree()
                else:
                    server.signal(signal.SIGKILL)
                    server.process.wait(10)
                server.start()
        before = load.statuses[204]
        wait_until(lambda: load.statuses[204] > before + 20)
    server.stop()
    assert load.statuses["unknown"] + load.statuses["not sent"] > 0, "no kill hit the load"
    check(db_path, load.acked, load.sent)


def aside(db_path):
    """Where the file, its log and its index go when somebody moves them together."""
    folder = db_path.with_name("aside")
    folder.mkdir()
    return folder


def check_unlinked(server, db_path, new_database):
    """Remove the file under load, later put a migrated one in its place."""
    folder = aside(db_path)
    with Load(server, clients=4) as load:
        wait_until(lambda: load.statuses[204] > 20)
        # All three at once as far as that can be; what is acknowledged by then is in them.
        for suffix in ("", "-wal", "-shm"):
            os.rename(f"{db_path}{suffix}", folder / f"{db_path.name}{suffix}")
        wait_until(lambda: load.statuses[503] > 20, seconds=5)
        refused = server.health()
        acked = set(load.acked)
        wait_until(lambda: load.statuses[503] > 60, seconds=5)
        assert load.acked == acked, "acknowledged into a file that is not there"
    assert refused[0] == 503
    assert not refused[1]["writable"]
    shutil.copy(new_database, db_path)
    after = Load(server, clients=4, pairs=5, name="after").run()
    # Each worker may refuse once, when it notices.
    assert set(after.statuses) <= {204, 503}, after.statuses
    assert after.statuses[503] <= 2 * 4
    check(db_path, after.acked, after.sent)
    check(folder / db_path.name, load.acked, load.sent)
    wait_until(lambda: server.health()[0] == 200)


@contextmanager
def write_lock(db_path, seconds):
    holder = connect(db_path, busy_timeout_ms=5000)
    holder.execute("BEGIN IMMEDIATE")
    timer = Timer(seconds, holder.execute, ("ROLLBACK",))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        holder.close()


def check_short_lock(server, db_path):
    # Connections are open before the lock is taken, as they are in service.
    first = Load(server, clients=8, pairs=1, name="first").run()
    with write_lock(db_path, 2):
        load = Load(server, clients=16, pairs=1).run()
    assert load.statuses == {204: 32}, load.statuses
    assert max(load.seconds) < 5
    check(db_path, load.acked | first.acked, load.sent | first.sent)
