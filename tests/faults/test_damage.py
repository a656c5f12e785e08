"""A damaged file is found at the start and by /healthz, and nothing is acknowledged into it."""

import importlib

import pytest

from receiver.errors import ForeignDatabase, StoreUnavailable
from receiver.store import Store, migrate, receive
from receiver.store.connection import connect
from receiver.store.sqlite import Scan
from receiver.webhook.health import DatabaseWatch, health
from schema.tables import ALL_TABLES
from tests.faults.harness import pair
from tests.support.webhooks import NOW_MS

pytestmark = pytest.mark.slow

PAGE = 4096


@pytest.fixture
def filled(db_path):
    """The file with some calls, its log written back."""
    store = Store(db_path)
    for n in range(20):
        for body in pair(f"before_{n}", padding=2000):
            store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    store.close()
    return db_path


def zero_header(path):
    with path.open("r+b") as file:
        file.write(bytes(PAGE))


def smash(path, table):
    """Overwrite the first page of a table."""
    connection = connect(path, busy_timeout_ms=0)
    query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    (page,) = connection.execute(query, (table,)).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xff" * PAGE)


DAMAGES = {
    "header": zero_header,
    "observations": lambda path: smash(path, "observations"),
    "utterances": lambda path: smash(path, "utterances"),
}


@pytest.fixture(params=DAMAGES)
def harm(request):
    return DAMAGES[request.param]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("header", ForeignDatabase, "is not a SQLite database"),
        ("observations", StoreUnavailable, "the database is damaged: "),
        ("utterances", StoreUnavailable, "the database is damaged: "),
    ],
)
def test_start_on_a_damaged_file_fails_without_changes(filled, name, error, message):
    DAMAGES[name](filled)
    before = filled.read_bytes()
    with pytest.raises(error, match=message):
        migrate(filled, timezone="UTC")
    assert filled.read_bytes() == before


def test_intact_file_is_not_reported_as_damaged(filled):
    assert migrate(filled, timezone="UTC") == []


def test_the_search_for_damage_ends_in_time(filled, monkeypatch):
    smash(filled, "utterances")
    module = importlib.import_module("receiver.store.migrate")
    monkeypatch.setattr(module, "DAMAGE_SECONDS", -1)
    monkeypatch.setattr("receiver.store.connection.STEPS", 1)
    assert migrate(filled, timezone="UTC") == []


def test_scan_in_small_steps_reads_every_table(filled):
    def scan(steps):
        connection = connect(filled, busy_timeout_ms=0)
        reading = Scan()
        found = [reading.resume(connection, seconds=-1) for _ in range(steps)]
        connection.close()
        return found

    connection = connect(filled, busy_timeout_ms=0)
    tables = [table.name for table in ALL_TABLES]
    rows = sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)
    connection.close()
    assert scan(rows + len(tables)) == [None] * (rows + len(tables))
    smash(filled, "utterances")
    found = scan(rows + len(tables))
    assert found[0] is None
    assert found[-1] == "database disk image is malformed"


def test_failed_start_is_explained_in_one_sentence(serve, filled):
    zero_header(filled)
    server = serve(filled).launch()
    assert server.process.wait(20) == 2
    assert f"Error: {filled} is not a SQLite database" in server.text()
    assert "Traceback" not in server.text()


def test_damage_under_the_server_stops_acknowledgements(serve, filled, harm):
    server = serve(filled).start()
    harm(filled)
    for n in range(10):
        answer = server.post(pair(f"after_{n}")[0])
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    status, found = server.health()
    assert status == 503
    assert any("damaged" in p or "not a SQLite database" in p for p in found["problems"]), found


def test_health_is_checked_again_after_a_while(filled, monkeypatch, app):
    counters = app.extensions["callhouse"]["counters"]
    look = DatabaseWatch(filled, counters.path, seconds=0).check
    monkeypatch.setattr("receiver.store.sqlite._looked", {})
    monkeypatch.setattr("receiver.store.sqlite.DAMAGE_REST", 1_000_000)
    assert health(look(), counters, now_ms=NOW_MS)["problems"] == []
    smash(filled, "utterances")
    assert health(look(), counters, now_ms=NOW_MS)["problems"] == []
    monkeypatch.setattr("receiver.store.sqlite._looked", {})
    (problem,) = health(look(), counters, now_ms=NOW_MS)["problems"]
    assert problem.startswith("the database is damaged: ")
