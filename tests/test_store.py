"""The store: what it answers is on disk, whatever the content, the file and other processes do."""

import hashlib
import json
import os
import threading
import time

import pytest
from conftest import NOW_MS, PAYLOADS, dump, wait_until
from histories import blank_file, dump_of
from hypothesis import given, settings
from hypothesis import strategies as st

import receiver.store.projecting
import receiver.store.reading
from receiver.errors import NotStored, SchemaMismatch, StoreBusy, StoreReplaced, StoreUnavailable
from receiver.store import Outcome, Store, migrate, rebuild, receive, show
from receiver.store.connection import connect, sqlite3
from schema.call import Call
from schema.disconnection_reasons import REASONS
from schema.tables import CALL_TABLES, TABLES

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


def body_of(event, call_id="c", *, beside=None, **fields) -> bytes:
    value = {"event": event, "call": {"call_id": call_id, **fields}, **(beside or {})}
    return json.dumps(value).encode()


def add(store, event, call_id="c", *, at=1, received=1, source="webhook", beside=None, **fields):
    body = body_of(event, call_id, beside=beside, **fields)
    return store.add(receive(body, source=source, observed_at=at, received_at=received))


def agent(content, *words):
    return {"role": "agent", "content": content, "words": [{"word": w} for w in words]}


def rows(db, sql) -> list[tuple]:
    return [tuple(row) for row in db.execute(sql)]


def count(db, table="observations") -> int:
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# -- what is stored ------------------------------------------------------------------------------


def test_event_is_visible_to_others_once_add_returns(store, db):
    assert add(store, "call_started", agent_name="Ann") is Outcome.STORED
    assert rows(db, "SELECT call_id, agent_name FROM calls") == [("c", "Ann")]


def test_observation_keeps_what_was_received(store, db):
    body = body_of("call_ended", duration_ms=7)
    store.add(receive(body, source="webhook", observed_at=5, received_at=6, key_id="0a1b2c3d"))
    row = db.execute("SELECT * FROM observations").fetchone()
    assert {key: row[key] for key in tuple(row.keys()) if key != "body"} == {
        "entity_id": "c",
        "body_sha256": hashlib.sha256(body).hexdigest(),
        "source": "webhook",
        "entity_type": "call",
        "event": "call_ended",
        "level": 2,
        "observed_at": 5,
        "first_received_at": 6,
        "last_received_at": 6,
        "times_received": 1,
        "key_id": "0a1b2c3d",
        "body_bytes": len(body),
        "problem": None,
    }


def test_duplicate_counts_and_moves_the_times_only(store, db):
    assert add(store, "call_ended", at=5, received=20) is Outcome.STORED
    assert add(store, "call_ended", at=9, received=30) is Outcome.DUPLICATE
    assert add(store, "call_ended", at=4, received=10) is Outcome.DUPLICATE
    times = "observed_at, first_received_at, last_received_at, times_received"
    assert rows(db, f"SELECT {times} FROM observations") == [(4, 10, 30, 3)]


def test_duplicate_that_came_earlier_is_when_the_call_was_updated(store, db):
    """Two processes may commit their deliveries in another order than they came."""
    add(store, "call_ended", received=20)
    add(store, "call_ended", received=10)
    assert rows(db, "SELECT updated_at FROM calls") == [(10,)]


def test_same_body_from_another_source_is_another_observation(store, db):
    add(store, "call_ended")
    assert add(store, "call_ended", source="api") is Outcome.STORED
    assert rows(db, "SELECT source FROM observations ORDER BY source") == [("api",), ("webhook",)]


def test_body_about_nothing_known_is_kept_by_its_hash(store, db):
    body = b'{"event": "a_thing_of_tomorrow", "thing": {"thing_id": "t"}}'
    outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    assert outcome is Outcome.STORED
    found = rows(db, "SELECT entity_id, entity_type, body IS NULL FROM observations")
    assert found == [(f"sha:{hashlib.sha256(body).hexdigest()}", "a_thing_of_tomorrow", 0)]
    assert count(db, "calls") == 0


def test_body_that_is_not_understood_is_quarantined_and_kept(store, db):
    outcome = store.add(receive(b"\xff{", source="webhook", observed_at=1, received_at=1))
    assert outcome is Outcome.QUARANTINED
    problem, has_body = rows(db, "SELECT problem, body IS NOT NULL FROM observations")[0]
    assert problem.startswith("not usable JSON")
    assert has_body


def test_transfer_steps_have_rows_with_their_destination(store, db):
    add(
        store,
        "transfer_started",
        at=1,
        beside={
            "transfer_destination": {"number": "+14155550119", "extension": "204"},
            "transfer_option": {"type": "cold_transfer"},
        },
    )
    add(store, "transfer_bridged", at=2, beside={"transfer_destination": "sip:desk@example.com"})
    add(store, "transfer_ended", at=3)
    found = rows(db, "SELECT event, destination, option FROM transfers ORDER BY observed_at")
    assert found == [
        ("transfer_started", "+14155550119;ext=204", '{"type":"cold_transfer"}'),
        ("transfer_bridged", "sip:desk@example.com", None),
        ("transfer_ended", None, None),
    ]


def test_transfer_step_reported_by_two_ways_is_one_row_at_its_earliest_time(store, db):
    add(store, "transfer_started", at=5)
    add(store, "transfer_started", at=3, source="file")
    assert rows(db, "SELECT observed_at FROM transfers") == [(3,)]


def test_unknown_disconnection_reason_comes_and_goes_with_its_calls(store, db):
    unknown = "SELECT reason FROM disconnection_reasons WHERE category = 'unknown' ORDER BY 1"
    assert rows(db, unknown) == []
    add(store, "call_ended", "c", at=1, disconnection_reason="of_tomorrow")
    add(store, "call_ended", "d", at=1, disconnection_reason="of_tomorrow")
    add(store, "call_ended", "e", at=1, disconnection_reason="user_hangup")
    assert rows(db, unknown) == [("of_tomorrow",)]
    add(store, "call_ended", "c", at=2, disconnection_reason="of_the_day_after")
    assert rows(db, unknown) == [("of_the_day_after",), ("of_tomorrow",)]
    add(store, "call_ended", "d", at=2, disconnection_reason="user_hangup")
    assert rows(db, unknown) == [("of_the_day_after",)]
    assert count(db, "disconnection_reasons") == len(REASONS) + 1


# -- full-text search ----------------------------------------------------------------------------


def found_by(db, word) -> list[tuple]:
    return rows(
        db,
        "SELECT call_id FROM transcripts WHERE rowid IN "
        f"(SELECT rowid FROM transcripts_fts WHERE transcripts_fts MATCH '{word}') ORDER BY 1",
    )


def test_search_finds_the_words_of_a_transcript(store, db):
    add(store, "call_ended", "c", transcript="Agent: The boiler is fixed.")
    add(store, "call_ended", "d", transcript="User: My boiler leaks.")
    assert found_by(db, "boiler") == [("c",), ("d",)]
    assert found_by(db, "leaks") == [("d",)]


def test_search_no_longer_finds_replaced_words(store, db):
    add(store, "call_ended", at=1, transcript="User: Umbrella.")
    add(store, "call_analyzed", at=2, transcript="User: Parasol.")
    assert (found_by(db, "umbrella"), found_by(db, "parasol")) == ([], [("c",)])
    check_index(db)


def check_index(db) -> None:
    """Raises if the index and its table differ."""
    db.execute("INSERT INTO transcripts_fts (transcripts_fts, rank) VALUES ('integrity-check', 1)")


# -- content that makes trouble ------------------------------------------------------------------

CONTENT_ERRORS = [
    ValueError("+14155550123"),
    RecursionError("+14155550123"),
    OverflowError("+14155550123"),
    UnicodeEncodeError("utf-8", "+14155550123", 0, 1, "surrogates not allowed"),
    sqlite3.IntegrityError("+14155550123"),
    sqlite3.ProgrammingError("+14155550123"),
]
STORAGE_ERRORS = [
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.DatabaseError("database disk image is malformed"),
    sqlite3.InternalError("not an error"),
]


def plant(monkeypatch, error):
    """Let the projection of the call `poison` fail after its rows are written."""
    write = receiver.store.projecting.write

    def failing_write(connection, entity_id, rows, **how):
        write(connection, entity_id, rows, **how)
        if entity_id == "poison":
            raise error

    monkeypatch.setattr(receiver.store.projecting, "write", failing_write)


@pytest.mark.parametrize("error", CONTENT_ERRORS, ids=lambda e: type(e).__name__)
def test_content_that_cannot_be_projected_is_quarantined(store, db, monkeypatch, error):
    plant(monkeypatch, error)
    assert add(store, "call_ended", "poison", agent_name="Ann") is Outcome.QUARANTINED
    found = rows(db, "SELECT entity_id, problem, body IS NOT NULL FROM observations")
    assert found == [("poison", f"not projected: {type(error).__name__}", 1)]
    assert count(db, "calls") == 0


@pytest.mark.parametrize("error", STORAGE_ERRORS, ids=lambda e: type(e).__name__)
def test_storage_that_fails_stores_nothing_and_says_so(store, db, monkeypatch, error):
    plant(monkeypatch, error)
    with pytest.raises(StoreUnavailable) as raised:
        add(store, "call_ended", "poison")
    assert (raised.value.status, raised.value.retry) == (503, True)
    assert count(db) == 0
    monkeypatch.undo()
    assert add(store, "call_ended", "poison") is Outcome.STORED


def test_interruption_stores_nothing_and_goes_on(store, db, monkeypatch):
    plant(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        add(store, "call_ended", "poison")
    assert count(db) == 0
    monkeypatch.undo()
    assert add(store, "call_ended", "poison") is Outcome.STORED


def test_quarantined_body_leaves_the_call_as_it_was(store, db, monkeypatch):
    add(store, "call_started", "poison", at=1, agent_name="Ann")
    before = dump(db, observations=False)
    plant(monkeypatch, ValueError())
    assert add(store, "call_ended", "poison", at=2, agent_name="Bob") is Outcome.QUARANTINED
    assert dump(db, observations=False) == before
    monkeypatch.undo()
    assert add(store, "call_ended", "poison", at=3, to_number="+1") is Outcome.STORED
    assert rows(db, "SELECT agent_name, to_number FROM calls") == [("Ann", "+1")]


def test_duplicate_that_cannot_be_projected_is_quarantined(store, db, monkeypatch):
    add(store, "call_ended", "poison", at=5)
    plant(monkeypatch, ValueError())
    assert add(store, "call_ended", "poison", at=4) is Outcome.QUARANTINED
    found = rows(db, "SELECT times_received, observed_at, problem FROM observations")
    assert found == [(2, 4, "not projected: ValueError")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**63, -(2**63) - 1, 10**30, 1e308, -1e308, 1e-320, 1e15])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["\0", "\ud800", "agent", "tool_call_invocation", "tool_call_result"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["number", "p50"]), children, max_size=3
        )
    ),
    max_leaves=6,
)
ENTRY_KEYS = [
    "role", "content", "words", "metadata", "tool_call_id", "time_sec", "successful", "word",
    "start", "end", "arguments", "name", "product", "cost", "product_costs", "values", "p50",
]  # fmt: skip
ENTRIES = st.lists(st.dictionaries(st.sampled_from(ENTRY_KEYS), JSON, max_size=6), max_size=3)
STRANGE = st.dictionaries(
    st.sampled_from(sorted(set(Call.model_fields) - {"call_id"})) | st.text(max_size=5),
    JSON | ENTRIES | st.dictionaries(st.sampled_from(ENTRY_KEYS), JSON | ENTRIES, max_size=3),
    max_size=5,
)


@quick
@given(st.lists(STRANGE, min_size=1, max_size=4))
def test_no_json_value_in_any_field_is_too_strange(values):
    with blank_file() as path:
        store = Store(path)
        try:
            for fields in values:
                event = {"event": "call_ended", "call": fields | {"call_id": "c"}}
                body = json.dumps(event).encode()
                outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
                assert outcome in (Outcome.STORED, Outcome.DUPLICATE)
            before = dump_of(path)
            rebuild(store, progress=lambda *_: None)
            assert dump_of(path) == before
        finally:
            store.close()


@pytest.mark.parametrize("seconds", [1e17, 1e300, 1.7e308])
def test_tool_call_of_impossible_length_has_no_length(store, db, seconds):
    times = [("tool_call_invocation", -seconds), ("tool_call_result", seconds)]
    entries = [{"role": role, "tool_call_id": "t", "time_sec": at} for role, at in times]
    assert add(store, "call_ended", transcript_with_tool_calls=entries) is Outcome.STORED
    assert rows(db, "SELECT tool_call_id, duration_ms FROM tool_calls") == [("t", None)]


QUOTES = st.text(alphabet="\"'`;-)(]x\\ %\0é", max_size=12)


@quick
@given(st.dictionaries(QUOTES, QUOTES, max_size=4), QUOTES.filter(bool), QUOTES.filter(bool))
def test_names_and_values_never_reach_the_text_of_a_statement(values, event, call_id):
    call = {
        **values,
        "call_id": call_id,
        "disconnection_reason": event,
        "metadata": values,
        "latency": {name: {"p50": 1} for name in values},
        "transcript_with_tool_calls": [{**values, "role": role} for role in values],
    }
    body = json.dumps({**values, "event": event, "call": call}).encode()
    with blank_file() as path:
        store = Store(path)
        try:
            add(store, "call_started", "other", agent_name="Ann")
            schema = schema_of(store)
            for source in ("webhook", "api"):
                store.add(receive(body, source=source, observed_at=1, received_at=1))
            assert schema_of(store) == schema
        finally:
            store.close()
        dumped = dump_of(path)
        assert len(dumped["observations"]) == 3
        assert ("other", "Ann") in [(row[0], row[6]) for row in dumped["calls"]]


def schema_of(store):
    with store.transaction() as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master").fetchall()


# -- erased --------------------------------------------------------------------------------------

ERASED = (
    "SELECT entity_id, event, level, observed_at, times_received, key_id, body_bytes, problem, "
    "body FROM observations"
)


def erase(db, entity_id) -> None:
    db.execute("INSERT INTO erasures VALUES (?, 1, 'asked for')", (entity_id,))


def test_erased_call_keeps_hash_and_times_only(store, db, db_path):
    erase(db, "c")
    assert add(store, "call_analyzed", at=5, transcript="User: Secret.") is Outcome.ERASED
    assert rows(db, ERASED) == [("c", None, None, 5, 1, None, None, None, None)]
    assert all(count(db, table.name) == 0 for table in CALL_TABLES)
    with pytest.raises(NotStored):
        show(db_path, "c")


def test_erased_call_counts_its_later_deliveries(store, db):
    erase(db, "c")
    for at in (5, 4):
        assert add(store, "call_analyzed", at=at) is Outcome.ERASED
    assert rows(db, ERASED) == [("c", None, None, 4, 2, None, None, None, None)]


def test_erased_call_stays_erased_after_a_rebuild(store, db):
    erase(db, "c")
    add(store, "call_analyzed", transcript="User: Secret.")
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def test_tombstone_of_a_stored_call_empties_its_tables_at_the_next_rebuild(store, db):
    add(store, "call_ended", transcript="User: Secret.")
    erase(db, "c")
    rebuild(store, progress=lambda *_: None)
    assert all(count(db, table.name) == 0 for table in CALL_TABLES)
    assert found_by(db, "secret") == []


# -- the file ------------------------------------------------------------------------------------


def test_moved_file_is_noticed_and_used_again_once_it_is_back(store, db_path):
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


def test_unlinked_file_is_noticed_and_a_new_one_is_used(store, db_path):
    add(store, "call_ended", "before")
    os.unlink(db_path)
    with pytest.raises(StoreReplaced):
        add(store, "call_ended", "lost")
    with pytest.raises(StoreUnavailable):
        add(store, "call_ended", "lost")
    migrate(db_path, timezone="UTC")
    assert add(store, "call_ended", "after") is Outcome.STORED
    assert stored_calls(db_path) == ["after"]


def test_file_replaced_under_an_open_store_is_noticed_and_then_used(store, db_path):
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


def test_file_lost_while_its_event_is_written_is_noticed(store, db_path, monkeypatch):
    """The commit succeeds, in a file that nobody can open any more."""
    write = receiver.store.projecting.write

    def write_and_lose(*args, **how):
        write(*args, **how)
        os.unlink(db_path)

    monkeypatch.setattr(receiver.store.projecting, "write", write_and_lose)
    with pytest.raises(StoreReplaced):
        add(store, "call_ended")


def test_transaction_of_ones_own_works_again_after_a_new_file(store, db_path):
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


# -- other processes -----------------------------------------------------------------------------


def test_lock_held_too_long_is_busy_and_works_after_release(db_path, db):
    store = Store(db_path, busy_seconds=0.2)
    db.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StoreBusy):
        add(store, "call_ended")
    assert 0.2 <= time.monotonic() - began < 2
    db.execute("ROLLBACK")
    assert add(store, "call_ended") is Outcome.STORED
    store.close()


def test_lock_released_in_time_is_waited_for(db_path, db):
    store = Store(db_path, busy_seconds=20)
    db.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, lambda: db.execute("ROLLBACK"))
    release.start()
    assert add(store, "call_ended") is Outcome.STORED
    release.join()
    store.close()


def test_lock_held_while_the_file_is_opened_is_waited_for(db_path, db):
    """A process that opens or closes a write-ahead log holds the whole file for a moment."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("BEGIN IMMEDIATE")
    store = Store(db_path, busy_seconds=0.2)
    with pytest.raises(StoreBusy):
        add(store, "call_ended")
    db.close()
    assert add(store, "call_ended") is Outcome.STORED
    store.close()


def test_threads_that_wait_are_busy_too_and_lose_nothing(db_path, db):
    store = Store(db_path, busy_seconds=0.3)
    db.execute("BEGIN IMMEDIATE")
    results = in_threads(8, lambda n: add(store, "call_ended", f"c{n}"))
    assert [type(result) for result in results] == [StoreBusy] * 8
    db.execute("ROLLBACK")
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


def commits_of(store) -> list[str]:
    """A list that grows by each statement the store's connection runs."""
    statements: list[str] = []
    with store.transaction() as connection:
        connection.set_trace_callback(statements.append)
    statements.clear()
    return statements


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


def test_events_that_wait_share_one_transaction(store, db):
    statements = commits_of(store)
    outcomes = add_together(store, [body_of("call_ended", f"c{n}") for n in range(30)])
    assert outcomes == [Outcome.STORED] * 30
    # The holder's own, and one for all thirty.
    assert statements.count("COMMIT") == 2
    assert count(db, "calls") == 30


def test_transaction_takes_a_bounded_number_of_events(store, db):
    statements = commits_of(store)
    add_together(store, [body_of("call_ended", f"c{n}") for n in range(150)])
    assert statements.count("COMMIT") == 3
    assert count(db, "calls") == 150


def test_threads_each_return_after_their_own_commit(store, db_path):
    statements = commits_of(store)

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


def test_events_of_one_call_in_one_transaction_merge_as_ever(store, db):
    add_together(
        store, [body_of("transcript_updated", "c", n=n, agent_name=f"a{n}") for n in range(9)]
    )
    assert rows(db, "SELECT agent_name, level, observed_at FROM calls") == [("a8", 1, 8)]


def test_poisoned_event_does_not_fail_its_neighbours(store, db, monkeypatch):
    plant(monkeypatch, ValueError())
    outcomes = add_together(store, [body_of("call_ended", c) for c in ("a", "poison", "b")])
    assert outcomes == [Outcome.STORED, Outcome.QUARANTINED, Outcome.STORED]
    assert rows(db, "SELECT call_id FROM calls ORDER BY 1") == [("a",), ("b",)]
    assert count(db) == 3


def test_failing_storage_fails_all_that_share_the_transaction(store, db, monkeypatch):
    plant(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    results = add_together(store, [body_of("call_ended", c) for c in ("a", "poison", "b")])
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    assert count(db) == 0


# -- no more work than needed --------------------------------------------------------------------


def written(statements) -> list[str]:
    """Tables written to, in order, once for each row."""
    return [s.split()[2] for s in statements if s.startswith(("INSERT INTO", "DELETE FROM"))]


LISTS = {
    "transcript_with_tool_calls": [agent("Hello.", "Hello."), agent("Bye.", "Bye.")],
    "metadata": {"lead": "L-1"},
    "call_cost": {"combined_cost": 1, "product_costs": [{"product": "voice", "cost": 1}]},
}


@pytest.mark.parametrize("late", [False, True], ids=["newest", "late"])
def test_unchanged_rows_are_not_written_again(store, late):
    add(store, "call_ended", at=5, **LISTS)
    statements = commits_of(store)
    add(store, "call_ended", at=1 if late else 9, to_number="+1", **LISTS)
    assert set(written(statements)) == {"observations", "calls", "rollup_hours"}


def test_only_the_rows_that_differ_are_written(store):
    add(store, "call_started", at=5, transcript_object=[agent("a"), agent("b"), agent("c")])
    statements = commits_of(store)
    add(store, "call_ended", at=6, transcript_object=[agent("a"), agent("x")])
    assert written(statements).count("utterances") == 2


def test_newest_event_of_a_level_reads_no_older_body(store):
    for n in range(5):
        add(store, "transcript_updated", at=n, transcript_with_tool_calls=[agent(f"{n}")])
    statements = commits_of(store)
    add(store, "transcript_updated", at=9, transcript_with_tool_calls=[agent("9")])
    assert [s for s in statements if s.startswith("SELECT body FROM")] == []


def test_duplicate_that_says_nothing_new_projects_nothing(store):
    add(store, "call_ended", at=5, received=5, **LISTS)
    statements = commits_of(store)
    add(store, "call_ended", at=6, received=6, **LISTS)
    assert [s for s in statements if s.startswith("SELECT") and " calls " in s] == []


# -- everything together -------------------------------------------------------------------------


def test_file_is_sound_after_every_payload_in_two_orders(store, db):
    bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
    for n, body in enumerate([*bodies, *reversed(bodies)]):
        store.add(receive(body, source="webhook", observed_at=NOW_MS + n, received_at=NOW_MS + n))
    assert rows(db, "PRAGMA foreign_key_check") == []
    assert rows(db, "PRAGMA integrity_check") == [("ok",)]
    check_index(db)
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def test_show_reads_all_bodies_of_one_moment(store, db_path, monkeypatch):
    """A body may be dropped between two reads; what superseded it is then not yet looked at."""
    add(store, "call_ended", at=1, agent_name="Ann")
    look = receiver.store.reading.known_observations

    def look_and_be_overtaken(connection, entity_id):
        known = look(connection, entity_id)
        add(store, "call_analyzed", at=2, agent_name="Bob")
        return known

    monkeypatch.setattr(receiver.store.reading, "known_observations", look_and_be_overtaken)
    assert show(db_path, "c")["agent_name"] == "Ann"


def test_show_of_an_unknown_id_or_file_is_not_stored(db_path, tmp_path):
    with pytest.raises(NotStored):
        show(db_path, "nobody")
    with pytest.raises(NotStored):
        show(tmp_path / "none.db", "c")


def test_every_table_has_rows_after_every_payload_or_is_known_to_be_empty(store, db):
    for n, path in enumerate(sorted(PAYLOADS.glob("*.json"))):
        store.add(receive(path.read_bytes(), source="webhook", observed_at=n, received_at=n))
    assert [table.name for table in TABLES if count(db, table.name) == 0] == ["erasures"]
