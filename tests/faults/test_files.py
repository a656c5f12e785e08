"""The file goes away, is replaced or is damaged under the server."""

import os
import shutil

import pytest

from receiver.store.connection import connect_readonly
from tests.faults.checking import check
from tests.faults.load import Load
from tests.faults.scenarios import check_unlinked
from tests.support.running import wait_until

pytestmark = pytest.mark.slow


def test_event_for_a_removed_file_is_not_acknowledged(server, db_path, new_database):
    check_unlinked(server, db_path, new_database)


def test_replaced_file_receives_later_events(server, db_path, new_database):
    fresh = db_path.with_name("fresh.db")
    shutil.copy(new_database, fresh)
    with Load(server, clients=4) as load:
        wait_until(lambda: load.statuses[204] > 20)
        # The log and its index are the old file's: beside another one they would be mixed into it.
        for suffix in ("-wal", "-shm"):
            os.unlink(f"{db_path}{suffix}")
        os.rename(fresh, db_path)
        after = Load(server, clients=4, pairs=10, name="after").run()
    assert set(after.statuses) <= {204, 503}
    assert after.statuses[204] >= 60
    server.stop()
    check(db_path, after.acked, load.sent | after.sent)


def lose_log(server, db_path, lose, *, times, before=None):
    """Lose the log several times under load, and kill everything in the end."""
    earlier = before or Load(server)
    log = db_path.with_name(f"{db_path.name}-wal")
    with Load(server, clients=4, name="lost") as load:
        for n in range(times):
            count = load.statuses[204]
            wait_until(lambda count=count: load.statuses[204] > count + 30, seconds=20)
            lose(log, n)
        count = load.statuses[204]
        wait_until(lambda: load.statuses[204] > count + 60, seconds=20)
        server.kill_tree()
    check(db_path, earlier.acked | load.acked, earlier.sent | load.sent)
    return load


def test_events_of_a_deleted_log_survive_a_kill(server, db_path):
    load = lose_log(server, db_path, lambda log, _: log.unlink(), times=8)
    assert {s for s in load.statuses if isinstance(s, int)} <= {204, 503}, load.statuses


def test_events_of_a_replaced_log_survive_a_kill(server, db_path):
    def replace(log, n):
        other = log.with_name("other")
        # Empty, noise, or the log of another moment.
        shutil.copy(log, other)
        if n % 3 < 2:
            other.write_bytes(os.urandom(5000 * (n % 3)))
        os.rename(other, log)

    load = lose_log(server, db_path, replace, times=6)
    assert {s for s in load.statuses if isinstance(s, int)} <= {204, 503}, load.statuses


def test_events_of_a_deleted_log_survive_a_reader(server, db_path):
    with Load(server, clients=2) as load:
        wait_until(lambda: load.statuses[204] > 30)
    reader = connect_readonly(db_path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM calls").fetchone()
    during = lose_log(server, db_path, lambda log, _: log.unlink(), times=3, before=load)
    reader.close()
    assert {s for s in during.statuses if isinstance(s, int)} <= {204, 503}, during.statuses


def test_files_deleted_beside_the_database_lose_nothing(server, db_path):
    def delete(log, _):
        log.unlink()
        db_path.with_name(f"{db_path.name}-shm").unlink(missing_ok=True)

    load = lose_log(server, db_path, delete, times=3)
    assert {s for s in load.statuses if isinstance(s, int)} <= {204, 503}, load.statuses
