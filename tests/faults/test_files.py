"""The file goes away, is replaced or is damaged under the server."""

import os
import shutil

import pytest

from tests.conftest import wait_until
from tests.faults.checking import check
from tests.faults.load import Load

pytestmark = pytest.mark.slow


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
    assert server.health()[0] == 200


def test_a_removed_file_is_never_acknowledged_into(server, db_path, new_database):
    check_unlinked(server, db_path, new_database)


def test_a_replaced_file_takes_what_is_acknowledged_after_it(server, db_path, new_database):
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
