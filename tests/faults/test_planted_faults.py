"""The suite is red when the server has one of the faults it is there to find."""

import pytest

from tests.faults.load import Load
from tests.faults.powercut import check_images, needs_strace, traced_load
from tests.faults.scenarios import check_kills, check_short_lock, check_unlinked

pytestmark = pytest.mark.slow

SYNCHRONOUS_NORMAL = """
from receiver.store import connection
connection._PRAGMAS["synchronous"] = 1
"""

NO_IDENTITY_CHECK = """
from receiver.store import Store
Store._check_identity = lambda self: None
"""

DEFERRED_BEGIN = """
from receiver.store import connection
from receiver.store.connection import Connection, sqlite3
class Deferred(Connection):
    def execute(self, statement, *rest):
        return super().execute(statement.replace("BEGIN IMMEDIATE", "BEGIN"), *rest)
genuine = sqlite3.connect
sqlite3.connect = lambda *a, **k: genuine(*a, **k | {"factory": Deferred})
"""

# The answer does not wait for the commit, which follows a moment later.
ACKNOWLEDGED_BEFORE_COMMIT = """
import threading
from receiver.store import Outcome, Store
genuine = Store.add
def add(self, received):
    threading.Timer(0.05, genuine, (self, received)).start()
    return Outcome.STORED
Store.add = add
"""

BODY_IN_THE_LOG = """
import sys
from receiver.store import Store
genuine = Store.add
def add(self, received):
    print(received.event.call if hasattr(received.event, "call") else received, file=sys.stderr)
    return genuine(self, received)
Store.add = add
"""


@needs_strace
@pytest.mark.parametrize(
    "patch",
    [SYNCHRONOUS_NORMAL, ACKNOWLEDGED_BEFORE_COMMIT],
    ids=["synchronous=NORMAL", "acknowledged before the commit"],
)
def test_power_cut_finds(serve, db_path, patch):
    load, trace, files = traced_load(serve, db_path, pairs=5, patch=patch)
    assert set(load.statuses) == {204}
    with pytest.raises(AssertionError, match="images lack the acknowledged event"):
        check_images(db_path, load, trace, files)


def test_kill_finds_an_acknowledgement_before_the_commit(serve, db_path):
    server = serve(patch=ACKNOWLEDGED_BEFORE_COMMIT).start()
    with pytest.raises(AssertionError, match="acknowledged events are lost"):
        check_kills(server, db_path, kills=6, seed=1)


def test_replacement_finds_a_missing_identity_check(serve, db_path, new_database):
    server = serve(patch=NO_IDENTITY_CHECK).start()
    with pytest.raises(AssertionError):
        check_unlinked(server, db_path, new_database)


def test_lock_finds_a_deferred_begin(serve, db_path):
    server = serve(patch=DEFERRED_BEGIN).start()
    with pytest.raises(AssertionError):
        check_short_lock(server, db_path)


def test_output_search_finds_a_body_in_the_log(serve, db_path):
    server = serve(patch=BODY_IN_THE_LOG).start()
    Load(server, clients=1, pairs=1).run()
    with pytest.raises(AssertionError, match="the server said"):
        server.stop()
    server.output.unlink()
