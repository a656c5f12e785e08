"""Rebuild: all tables again from the observations, whatever happened to them meanwhile."""

import json
import threading

import pytest

import receiver.store.ingest
from receiver.errors import StoreBusy, StoreUnavailable
from receiver.store import Outcome, open_store, rebuild, receive
from schema.disconnection_reasons import REASONS
from tests.support.histories import blank_file, deliver, seeded
from tests.support.naive_model import tables
from tests.support.storing import held, plant, written
from tests.support.tables import dump

HISTORY = seeded(7, 40)


def rebuilt(store) -> int:
    return rebuild(store, progress=lambda *_: None)


def add(store, event, call_id="c", *, at=1, **fields):
    body = json.dumps({"event": event, "call": {"call_id": call_id, **fields}}).encode()
    return store.add(receive(body, source="webhook", observed_at=at, received_at=at))


def utterances(*contents):
    return [{"role": "agent", "content": content} for content in contents]


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


@pytest.fixture(scope="module")
def full_database(engine):
    """With calls and chats that carry every kind of row."""
    with engine.blank() as where:
        store = open_store(where)
        deliver(store, HISTORY)
        add(
            store,
            "call_ended",
            "whole",
            disconnection_reason="of_tomorrow",
            transcript="Agent: Umbrella.",
            transcript_with_tool_calls=utterances("Hello.", "Bye."),
            call_analysis={"call_summary": "Short.", "custom_analysis_data": {"x": 1}},
            call_cost={"combined_cost": 2, "product_costs": [{"product": "voice"}]},
            latency={"e2e": {"p50": 1}},
            metadata={"lead": "L-1"},
            recording_url="https://r/1",
        )
        store.close()
        yield where


@pytest.fixture
def full(engine, full_database):
    """A store of a copy of it, and a second connection."""
    with engine.copied(full_database) as where, engine.looking(where) as db:
        store = open_store(where)
        yield store, db
        store.close()


DAMAGE = {
    "children deleted": "DELETE FROM utterances",
    "some children deleted": "DELETE FROM attributes WHERE name = 'lead'",
    "all of a call deleted": "DELETE FROM calls",
    "a transcript deleted": "DELETE FROM transcripts",
    "a column changed": "UPDATE calls SET agent_name = 'Mallory', level = 0",
    "an analysis changed": "UPDATE analyses SET call_summary = 'Long.', extra = 'x'",
    "a time changed": "UPDATE calls SET updated_at = 1, observed_at = 1",
    "a chat changed": "UPDATE chats SET agent_name = 'Mallory'",
    "an extra entry": "INSERT INTO utterances (call_id, track, position, content) "
    "VALUES ('whole', 'session', 99, 'Never said.')",
    "an extra entry of no track": "INSERT INTO utterances (call_id, track, position) "
    "VALUES ('whole', 'no_track', 0)",
    "an extra attribute of no source": "INSERT INTO attributes (call_id, source, name) "
    "VALUES ('whole', 'no_source', 'x')",
    "an extra link of no kind": "INSERT INTO media (call_id, kind, url) "
    "VALUES ('whole', 'no_kind', 'https://r/2')",
    "an extra transfer": "INSERT INTO transfers (call_id, body_sha256) VALUES ('whole', 'x')",
    "an extra call": "INSERT INTO calls (call_id) VALUES ('nobody')",
    "an extra chat": "INSERT INTO chats (chat_id) VALUES ('nobody')",
    "a chat of a call's id": "INSERT INTO chats (chat_id) VALUES ('whole')",
    "a call of no observation with its entry": "INSERT INTO calls (call_id) VALUES ('nobody'); "
    "INSERT INTO utterances (call_id, track, position) VALUES ('nobody', 'session', 0)",
    "a reason deleted": "DELETE FROM disconnection_reasons WHERE reason = 'user_hangup'",
    "an unknown reason deleted": "DELETE FROM disconnection_reasons WHERE reason = 'of_tomorrow'",
    "a reason changed": "UPDATE disconnection_reasons SET category = 'x', description = 'x'",
    "an extra reason": "INSERT INTO disconnection_reasons (reason, category) "
    "VALUES ('never_seen', 'unknown')",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_rebuild_reproduces_the_tables_row_for_row(engine, full, damage):
    store, db = full
    before = dump(db)
    engine.without_keys(db)
    for statement in damage.split(";"):
        db.execute(statement)
    assert dump(db) != before
    rebuilt(store)
    assert dump(db) == before
    engine.check(db)


def test_rebuild_gives_the_tables_of_the_rule(engine, store, db):
    deliver(store, HISTORY)
    engine.without_keys(db)
    for table in ("utterances", "attributes", "calls", "chats"):
        db.execute(f"DELETE FROM {table}")
    rebuilt(store)
    assert dump(db) == tables(HISTORY)


@pytest.mark.sqlite
def test_rebuild_repairs_the_search_index(full):
    store, db = full
    db.execute("INSERT INTO transcripts_fts (transcripts_fts) VALUES ('delete-all')")
    search = "SELECT count(*) FROM transcripts_fts WHERE transcripts_fts MATCH 'umbrella'"
    assert db.execute(search).fetchone()[0] == 0
    rebuilt(store)
    assert db.execute(search).fetchone()[0] == 1


def test_rebuild_of_correct_tables_writes_no_call_row(engine, full, monkeypatch):
    store, _ = full
    statements = engine.statements(store, monkeypatch)
    rebuilt(store)
    changes = [utterances for utterances in statements if not utterances.startswith("DELETE")]
    assert set(written(changes)) == {"disconnection_reasons"}


def test_rebuild_counts_entities_and_tells_its_progress(store):
    for n in range(250):
        add(store, "call_started", f"c{n}")
    seen = []
    assert rebuild(store, progress=lambda done, total: seen.append((done, total))) == 250
    assert seen == [(100, 250), (200, 250), (250, 250)]


def test_rebuild_of_nothing_is_nothing(store):
    assert rebuilt(store) == 0


# -- quarantined bodies --------------------------------------------------------------------------


def quarantine(db, event, problem="not projected: ValueError") -> None:
    db.execute("UPDATE observations SET problem = ? WHERE event = ?", (problem, event))


def test_rebuild_heals_a_body_that_is_understood_now(store, db):
    add(store, "call_started", at=1, agent_name="Ann")
    add(store, "call_ended", at=2, agent_name="Bob")
    before = dump(db)
    quarantine(db, "call_ended")
    db.execute("UPDATE calls SET agent_name = 'Ann', level = 1, observed_at = 1, updated_at = 1")
    rebuilt(store)
    assert dump(db) == before


def test_rebuild_heals_the_only_body_of_a_call(store, db):
    add(store, "call_ended", agent_name="Bob")
    before = dump(db)
    quarantine(db, "call_ended")
    db.execute("DELETE FROM calls")
    rebuilt(store)
    assert dump(db) == before


def test_rebuild_keeps_an_unknown_body_quarantined(store, db):
    body = b'{"event": "call_ended"}'
    outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    assert outcome is Outcome.QUARANTINED
    before = dump(db)
    rebuilt(store)
    assert dump(db) == before


def test_rebuild_corrects_the_problem_of_a_body(store, db):
    store.add(receive(b'{"event": "call_ended"}', source="webhook", observed_at=1, received_at=1))
    before = dump(db)
    quarantine(db, "call_ended", "no longer what is wrong with it")
    rebuilt(store)
    assert dump(db) == before


def test_rebuild_continues_after_an_unprojectable_body(store, db, monkeypatch):
    add(store, "call_ended", "a")
    add(store, "call_ended", "z")
    plant(monkeypatch, OverflowError("+14155550123"))
    assert add(store, "call_ended", "poison") is Outcome.QUARANTINED
    before = dump(db)
    db.execute("UPDATE calls SET level = 0")
    assert rebuilt(store) == 3
    assert dump(db) == before
    monkeypatch.undo()
    rebuilt(store)
    assert [row[0] for row in dump(db)["calls"]] == ["a", "poison", "z"]


def test_rebuild_quarantines_what_cannot_be_projected_any_more(store, db, monkeypatch):
    add(store, "call_ended", "a")
    add(store, "call_ended", "poison")
    plant(monkeypatch, OverflowError("+14155550123"))
    assert rebuilt(store) == 2
    found = db.execute("SELECT entity_id, problem FROM observations ORDER BY 1").fetchall()
    assert [tuple(row) for row in found] == [
        ("a", None),
        ("poison", "not projected: OverflowError"),
    ]


def test_rebuild_quarantines_bodies_that_cannot_be_projected_together(store, db, monkeypatch):
    add(store, "call_started", at=1, agent_name="Ann")
    add(store, "call_ended", at=2, to_number="+1")
    before = dump(db)
    write = receiver.store.ingest.write

    def failing_write(connection, entity_id, rows, *more, **how):
        write(connection, entity_id, rows, *more, **how)
        if {"Ann", "+1"} <= set(rows["calls", None][0]):
            raise ValueError

    monkeypatch.setattr(receiver.store.ingest, "write", failing_write)
    rebuilt(store)
    problems = db.execute("SELECT problem FROM observations").fetchall()
    assert [tuple(row) for row in problems] == [("not projected: ValueError",)] * 2
    assert dump(db)["calls"] == []
    monkeypatch.undo()
    rebuilt(store)
    assert dump(db) == before


def test_rebuild_stops_where_the_storage_fails(engine, store, db, monkeypatch):
    add(store, "call_ended", "poison")
    before = dump(db)
    plant(monkeypatch, engine.errors.OperationalError("disk I/O error"))
    with pytest.raises(StoreUnavailable, match=r"disk I/O error|OperationalError"):
        rebuilt(store)
    assert dump(db) == before


# -- beside others -------------------------------------------------------------------------------


def test_rebuild_during_writes_gives_the_rules_tables(store, db, database):
    later = seeded(8, 60)
    deliver(store, HISTORY)
    writer = open_store(database, busy_seconds=20)
    writing = threading.Thread(target=deliver, args=(writer, later))
    writing.start()
    for _ in range(5):
        rebuilt(store)
    writing.join()
    writer.close()
    assert dump(db) == tables([*HISTORY, *later])


def test_rebuild_during_a_lock_is_busy(engine, database, db):
    store = open_store(database, busy_seconds=0.1)
    add(store, "call_ended")
    before = dump(db)
    with held(engine, database), pytest.raises(StoreBusy):
        rebuilt(store)
    assert dump(db) == before
    assert rebuilt(store) == 1
    store.close()


def test_unknown_reasons_are_those_that_calls_have(full):
    store, db = full
    rebuilt(store)
    reasons = {row[0] for row in db.execute("SELECT reason FROM disconnection_reasons")}
    used = {row[0] for row in db.execute("SELECT disconnection_reason FROM calls")} - {None}
    assert reasons == set(REASONS) | used
