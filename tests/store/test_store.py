"""The store: what it answers is stored, found, merged and erased."""

import hashlib
from itertools import permutations

import pytest

import receiver.store.ingest
import receiver.store.reading
from receiver.errors import NotStored, SchemaMismatch
from receiver.store import Outcome, migrate, open_store, rebuild, receive, show
from receiver.store.engine import engine as engine_of
from schema.disconnection_reasons import REASONS
from schema.tables import CALL_TABLES, ERASURES, TABLES, UPSTREAM_TABLES
from tests.support.histories import blank_file
from tests.support.storing import ERASE, add, body_of, count, rows, written
from tests.support.tables import dump
from tests.support.webhooks import NOW_MS, PAYLOADS


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


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


@pytest.mark.parametrize("keys", [*permutations([None, "0a1b2c3d", "e4f5a6b7"])], ids=str)
def test_key_of_a_body_is_the_smallest_known(store, db, keys):
    for key_id in keys:
        body = body_of("call_ended")
        store.add(receive(body, source="webhook", observed_at=1, received_at=1, key_id=key_id))
    assert rows(db, "SELECT key_id FROM observations") == [("0a1b2c3d",)]


def test_earlier_duplicate_sets_when_the_call_was_updated(store, db):
    """Two processes may commit their deliveries in another order than they came."""
    add(store, "call_ended", received=20)
    add(store, "call_ended", received=10)
    assert rows(db, "SELECT updated_at FROM calls") == [(10,)]


def test_same_body_from_another_source_is_another_observation(store, db):
    add(store, "call_ended")
    assert add(store, "call_ended", source="api") is Outcome.STORED
    assert rows(db, "SELECT source FROM observations ORDER BY source") == [("api",), ("webhook",)]


def test_placed_call_is_stored_before_any_webhook(store, db):
    created = b'{"call_id":"c","call_status":"registered","metadata":{"lead":"7"}}'
    store.add(receive(created, source="api", observed_at=5, received_at=6))
    assert rows(db, "SELECT call_id, call_status, level FROM calls") == [("c", "registered", 0)]
    assert rows(db, "SELECT event, level, problem FROM observations") == [(None, 0, None)]


def test_late_create_answer_changes_nothing(store, db):
    add(store, "call_ended", at=3, call_status="ended", call_cost={"combined_cost": 5})
    created = b'{"call_id":"c","call_status":"registered","call_cost":{"combined_cost":0},"x":1}'
    store.add(receive(created, source="api", observed_at=9, received_at=9))
    assert rows(db, "SELECT call_status, combined_cost_cents, extra FROM calls") == [
        ("ended", 5, '{"x":1}')
    ]


def test_body_about_nothing_known_has_its_hash(store, db):
    body = b'{"event": "a_thing_of_tomorrow", "thing": {"thing_id": "t"}}'
    outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    assert outcome is Outcome.STORED
    found = rows(db, "SELECT entity_id, entity_type, body IS NULL FROM observations")
    assert found == [(f"sha:{hashlib.sha256(body).hexdigest()}", "a_thing_of_tomorrow", 0)]
    assert count(db, "calls") == 0


def test_body_not_understood_is_quarantined(store, db):
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


def test_transfer_step_reported_twice_is_one_row(store, db):
    add(store, "transfer_started", at=5)
    add(store, "transfer_started", at=3, source="file")
    assert rows(db, "SELECT observed_at FROM transfers") == [(3,)]


def test_unknown_disconnection_reason_exists_only_with_its_calls(store, db):
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


def test_known_unknown_reason_is_not_written_again(engine, store, monkeypatch):
    add(store, "call_ended", "c", disconnection_reason="of_tomorrow")
    statements = engine.statements(store, monkeypatch)
    add(store, "call_analyzed", "c", disconnection_reason="of_tomorrow")
    add(store, "call_ended", "d", disconnection_reason="of_tomorrow")
    assert "disconnection_reasons" not in written(statements)
    assert not [statement for statement in statements if statement.startswith("LOCK ")]
    add(store, "call_ended", "e", disconnection_reason="of_the_day_after")
    assert written(statements).count("disconnection_reasons") == 1


# -- beside a newer version ------------------------------------------------------------------------


def of_tomorrow(engine, db, name):
    """What a newer version does to the database."""
    db.execute("ALTER TABLE calls ADD COLUMN of_tomorrow TEXT")
    db.execute("DROP VIEW call_log")
    db.execute("CREATE VIEW call_log AS SELECT call_id, of_tomorrow FROM calls")
    engine.note_migration(db, name)


def test_older_version_works_after_a_compatible_migration(engine, database, store, db):
    add(store, "call_started", "c", agent_id="a")
    of_tomorrow(engine, db, "9999_of_tomorrow_compatible")
    # The connection that is open, and one of a start after it.
    for opened in (store, open_store(database)):
        assert add(opened, "call_ended", "c", at=2, agent_id="a") is not Outcome.QUARANTINED
        opened.close()
    assert rows(db, "SELECT call_id, call_status, of_tomorrow FROM calls") == [("c", None, None)]
    assert migrate(database, timezone="Asia/Tokyo") == []
    assert rows(db, "SELECT * FROM call_log") == [("c", None)]
    problems = []
    assert engine_of(database).check(problems)["schema"] == "9999_of_tomorrow_compatible"
    assert problems == []


def test_older_version_refuses_after_another_migration(engine, database, store, db):
    of_tomorrow(engine, db, "9999_of_tomorrow")
    with pytest.raises(SchemaMismatch, match="9999_of_tomorrow"):
        add(store, "call_started")
    with pytest.raises(SchemaMismatch, match="9999_of_tomorrow"):
        migrate(database, timezone="UTC")


# -- full-text search ----------------------------------------------------------------------------


def test_search_finds_the_words_of_a_transcript(engine, store, db):
    add(store, "call_ended", "c", transcript="Agent: The boiler is fixed.")
    add(store, "call_ended", "d", transcript="User: My boiler leaks.")
    assert engine.found_by(db, "boiler") == ["c", "d"]
    assert engine.found_by(db, "leaks") == ["d"]


def test_search_no_longer_finds_replaced_words(engine, store, db):
    add(store, "call_ended", at=1, transcript="User: Umbrella.")
    add(store, "call_analyzed", at=2, transcript="User: Parasol.")
    assert (engine.found_by(db, "umbrella"), engine.found_by(db, "parasol")) == ([], ["c"])
    engine.check(db)


# -- erased --------------------------------------------------------------------------------------

ERASED = (
    "SELECT entity_id, event, level, observed_at, times_received, key_id, body_bytes, problem, "
    "body FROM observations"
)


def erase(db, entity_id) -> None:
    db.execute(ERASE, (entity_id, 1))


def test_erased_call_keeps_hash_and_times_only(store, db, database):
    erase(db, "c")
    assert add(store, "call_analyzed", at=5, transcript="User: Secret.") is Outcome.ERASED
    assert rows(db, ERASED) == [("c", None, None, 5, 1, None, None, None, None)]
    assert all(count(db, table.name) == 0 for table in CALL_TABLES)
    with pytest.raises(NotStored):
        show(database, "c")


def test_erased_call_counts_its_later_deliveries(store, db):
    erase(db, "c")
    for at in (5, 4):
        assert add(store, "call_analyzed", at=at) is Outcome.ERASED
    assert rows(db, ERASED) == [("c", None, None, 4, 2, None, None, None, None)]


def test_erased_call_does_not_learn_a_key(store, db):
    erase(db, "c")
    for at in (1, 2):
        body = body_of("call_ended")
        store.add(receive(body, source="webhook", observed_at=at, received_at=at, key_id="0a1b"))
    assert rows(db, "SELECT key_id, times_received FROM observations") == [(None, 2)]


def test_erased_call_stays_erased_after_a_rebuild(store, db):
    erase(db, "c")
    add(store, "call_analyzed", transcript="User: Secret.")
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def test_tombstone_empties_the_tables_at_next_rebuild(engine, store, db):
    add(store, "call_ended", transcript="User: Secret.")
    erase(db, "c")
    rebuild(store, progress=lambda *_: None)
    assert all(count(db, table.name) == 0 for table in CALL_TABLES)
    assert engine.found_by(db, "secret") == []


# -- everything together -------------------------------------------------------------------------


def test_database_is_intact_after_payloads_in_two_orders(engine, store, db):
    bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
    for n, body in enumerate([*bodies, *reversed(bodies)]):
        store.add(receive(body, source="webhook", observed_at=NOW_MS + n, received_at=NOW_MS + n))
    engine.check(db)
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def test_show_reads_all_bodies_of_one_moment(store, database, monkeypatch):
    """A body may be dropped between two reads; what superseded it is then not yet looked at."""
    add(store, "call_ended", at=1, agent_name="Ann")
    look = receiver.store.reading.observation_rows

    def look_and_be_overtaken(connection, entity_id):
        known = look(connection, entity_id)
        add(store, "call_analyzed", at=2, agent_name="Bob")
        return known

    monkeypatch.setattr(receiver.store.reading, "observation_rows", look_and_be_overtaken)
    assert show(database, "c")["agent_name"] == "Ann"


def test_show_of_an_unknown_id_is_not_stored(database):
    with pytest.raises(NotStored):
        show(database, "nobody")


def test_show_of_an_unknown_file_is_not_stored(tmp_path):
    with pytest.raises(NotStored):
        show(tmp_path / "none.db", "c")


def test_payloads_fill_every_table_not_listed_empty(store, db):
    for n, path in enumerate(sorted(PAYLOADS.glob("*.json"))):
        store.add(receive(path.read_bytes(), source="webhook", observed_at=n, received_at=n))
    # What no webhook fills: what was asked of Retell's API, and what an operator decided.
    without = {table.name for table in (ERASURES, *UPSTREAM_TABLES)}
    without |= {"account_keys", "media_files", "receipts"}
    without |= {"annotations", "share_links", "saved_views", "statements"}
    without |= {"alerts", "retell_alerts"}
    assert {table.name for table in TABLES if count(db, table.name) == 0} == without
