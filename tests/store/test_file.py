"""The store notices what becomes of its file, and opens it safely every time."""

import os

import pytest

import receiver.store.ingest
import receiver.store.reading
from receiver.errors import SchemaMismatch, StoreReplaced, StoreUnavailable
from receiver.store import Outcome, Store, migrate, rebuild, sql
from receiver.store.connection import connect, sqlite3
from tests.support.histories import blank_file, dump_of
from tests.support.storing import add


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


def test_moved_file_is_noticed_and_used_once_back(store, db_path):
    add(store, "call_ended", "before")
    away = db_path.with_name("away.db")
    os.rename(db_path, away)
    with pytest.raises(StoreReplaced):
        add(store, "call_ended", "lost")
    with pytest.raises(StoreUnavailable):
        add(store, "call_ended", "lost")
    os.rename(away, db_path)
    assert add(store, "call_ended", "after") is Outcome.STORED
    assert stored_calls(db_path) == ["after", "before"]


def stored_calls(path) -> list[str]:
    return sorted(row[0] for row in dump_of(path)["calls"])


def test_deleted_file_is_noticed_and_replaced(store, db_path):
    add(store, "call_ended", "before")
    os.unlink(db_path)
    with pytest.raises(StoreReplaced):
        add(store, "call_ended", "lost")
    with pytest.raises(StoreUnavailable):
        add(store, "call_ended", "lost")
    migrate(db_path, timezone="UTC")
    assert add(store, "call_ended", "after") is Outcome.STORED
    assert stored_calls(db_path) == ["after"]


def test_replaced_file_is_noticed_and_then_used(store, db_path):
    add(store, "call_ended", "before")
    other = db_path.with_name("other.db")
    migrate(other, timezone="UTC")
    with_store(other, lambda other_store: add(other_store, "call_ended", "restored"))
    os.replace(other, db_path)
    with pytest.raises(StoreReplaced):
        add(store, "call_ended", "lost")
    # The log of the file before does not belong to the new one.
    for log in ("-wal", "-shm"):
        os.unlink(f"{db_path}{log}")
    assert add(store, "call_ended", "after") is Outcome.STORED
    assert stored_calls(db_path) == ["after", "restored"]


def test_file_replaced_under_a_closed_store_is_used(store, db_path):
    add(store, "call_ended", "before")
    store.close()
    other = db_path.with_name("other.db")
    migrate(other, timezone="UTC")
    os.replace(other, db_path)
    assert add(store, "call_ended", "after") is Outcome.STORED
    assert stored_calls(db_path) == ["after"]


def test_file_replaced_during_a_transaction_is_noticed(store, db_path):
    def lose() -> None:
        with store.transaction():
            os.unlink(db_path)

    with pytest.raises(StoreReplaced):
        lose()


def test_file_lost_during_a_write_is_noticed(store, db_path, monkeypatch):
    """The commit succeeds, in a file that nobody can open any more."""
    write = receiver.store.ingest.write

    def write_and_lose(*args, **how):
        write(*args, **how)
        os.unlink(db_path)

    monkeypatch.setattr(receiver.store.ingest, "write", write_and_lose)
    with pytest.raises(StoreReplaced):
        add(store, "call_ended")


def test_explicit_transaction_works_after_a_new_file(store, db_path):
    with store.transaction():
        pass
    os.unlink(db_path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            rebuild(store, progress=lambda *_: None)
    migrate(db_path, timezone="UTC")
    assert rebuild(store, progress=lambda *_: None) == 0


def test_missing_file_is_not_made(tmp_path):
    path = tmp_path / "none.db"
    with pytest.raises(StoreUnavailable):
        with_store(path, lambda store: add(store, "call_ended"))
    assert not path.exists()


def test_file_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "blank.db"
    connect(path, busy_timeout_ms=0, create=True).close()
    with pytest.raises(SchemaMismatch):
        with_store(path, lambda store: add(store, "call_ended"))


def with_store(path, do):
    store = Store(path)
    try:
        return do(store)
    finally:
        store.close()


PRAGMAS = {
    "synchronous": 2,
    "journal_mode": "wal",
    "secure_delete": 1,
    "foreign_keys": 1,
    "journal_size_limit": 33_554_432,
}


def pragmas(connection) -> dict[str, object]:
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS}


def test_pragmas_are_set_on_every_connection(store, db, db_path):
    assert pragmas(db) == PRAGMAS
    with store.transaction() as connection:
        assert pragmas(connection) == PRAGMAS
    store.close()
    with store.transaction() as connection:
        assert pragmas(connection) == PRAGMAS
    new = connect(db_path.with_name("new.db"), busy_timeout_ms=7, create=True)
    assert pragmas(new) == PRAGMAS
    assert new.execute("PRAGMA busy_timeout").fetchone()[0] == 7
    new.close()


def test_pragma_that_does_not_take_fails_the_connection(tmp_path):
    """A file in memory has no write-ahead log."""
    os.chdir(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="journal_mode is memory, not wal"):
        connect(":memory:", busy_timeout_ms=0)


@pytest.mark.sqlite
@pytest.mark.parametrize("query", [sql.UNFINISHED["call"], sql.STARTED["call"]])
def test_sync_finds_calls_by_index(db, query):
    """tests/store/postgres/test_schema.py says the same of a server."""
    span = {"low": 5, "high": 9, "agent": None, "account": "k"}
    found = db.execute(f"EXPLAIN QUERY PLAN {query}", span)
    steps = [row["detail"] for row in found]
    assert [step for step in steps if "SEARCH c USING INDEX calls_at" in step], steps
    # There are only a few keys.
    assert {step for step in steps if step.startswith("SCAN")} <= {"SCAN account_keys"}, steps
