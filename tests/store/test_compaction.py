"""Which bodies the others make superfluous."""

from hashlib import sha256

import pytest

from receiver.store import receive, sql
from receiver.store.ingest import SOME
from schema.merge import Observation, compactable, retired
from tests.support.histories import blank_file
from tests.support.observing import FIRST, SECOND, add, encoded, fold, seen
from tests.support.storing import forget_recent_events, rows


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


def test_body_is_retired_by_a_complete_higher_level():
    ended = seen("call_ended", 1, agent_name="a", duration_ms=5)
    analyzed = seen("call_analyzed", 2, agent_name="b", duration_ms=6, transcript="x")
    assert compactable([ended, analyzed]) == [ended]


def test_body_with_a_field_of_its_own_stays():
    ended = seen("call_ended", 1, agent_name="a", duration_ms=5)
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == []


def test_several_higher_bodies_together_retire_a_lower_one():
    update = seen("transcript_updated", 1, agent_name="a", duration_ms=5)
    ended = seen("call_ended", 2, agent_name="b")
    analyzed = seen("call_analyzed", 3, duration_ms=6)
    assert compactable([update, ended, analyzed]) == [update]


def test_later_body_of_the_same_level_retires_nothing():
    """A duplicate with a smaller time may still turn the two around."""
    first = seen("call_analyzed", 1, call_analysis=FIRST)
    second = seen("call_analyzed", 2, call_analysis=SECOND)
    assert compactable([first, second]) == []


def test_lower_level_retires_nothing():
    ended = seen("call_ended", 9, agent_name="a")
    analyzed = seen("call_analyzed", 1, agent_name="b", transcript="x")
    assert not retired(analyzed, [ended])


def test_higher_level_retires_a_later_body():
    late = seen("call_ended", 9, agent_name="a")
    analyzed = seen("call_analyzed", 1, agent_name="b")
    assert retired(late, [analyzed])


def test_body_with_fields_beside_its_payload_stays():
    ended = seen("call_ended", 1, beside={"novel": 1}, agent_name="a")
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == []


def test_transfer_body_stays_without_a_destination_too():
    step = seen("transfer_started", 1, agent_name="a")
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([step, analyzed]) == []


def test_null_field_does_not_keep_a_body():
    ended = seen("call_ended", 1, agent_name="a", transcript=None)
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == [ended]


def test_null_field_of_the_higher_body_retires_nothing():
    ended = seen("call_ended", 1, agent_name="a", transcript="x")
    analyzed = seen("call_analyzed", 2, agent_name="b", transcript=None)
    assert compactable([ended, analyzed]) == []


def test_observation_without_body_is_not_retired_again():
    gone = Observation(2, 1, "webhook", "0" * 64)
    assert not retired(gone, [seen("call_analyzed", 2)])


def test_fold_is_the_same_after_compaction():
    history = [
        seen("transcript_updated", 1, agent_name="a"),
        seen("call_ended", 2, agent_name="b", duration_ms=5),
        seen("call_analyzed", 3, agent_name="c", duration_ms=6),
    ]
    kept = [o for o in history if o not in compactable(history)]
    assert kept == history[2:]
    assert fold(kept) == fold(history)


def test_hundred_transcript_updates_leave_no_body_behind(store, db):
    entries = [{"role": "agent", "content": f"word {n} " + "x" * 1000} for n in range(100)]
    for n in range(1, 101):
        add(store, "transcript_updated", n, transcript_with_tool_calls=entries[:n])
    add(store, "call_ended", 200, transcript_with_tool_calls=entries)
    kept = db.execute("SELECT event FROM observations WHERE body IS NOT NULL").fetchall()
    assert [tuple(row) for row in kept] == [("call_ended",)]
    assert db.execute("SELECT count(*) FROM observations").fetchone()[0] == 101
    assert db.execute("SELECT count(*) FROM utterances").fetchone()[0] == 100


@pytest.fixture
def long_call(store):
    """A store with a call of 100 events, one every second millisecond."""
    for n in range(2, 202, 2):
        add(store, "transcript_updated", n, call_status="ongoing", transcript=f"{n}")
    return store


def reads(statements) -> list[str]:
    return [s for s in statements if s.startswith("SELECT") and "FROM observations" in s]


def bodies(statements) -> int:
    return sum(s.startswith("SELECT body FROM") for s in statements)


TRANSFER = {"beside": {"transfer_destination": "+1"}}


@pytest.mark.parametrize(
    ("event", "at", "how"),
    [
        ("transcript_updated", 700, {}),
        ("transcript_updated", 101, {}),
        ("transfer_started", 700, TRANSFER),
        ("transfer_started", 101, TRANSFER),
    ],
    ids=["newest", "late", "transfer", "late transfer"],
)
def test_event_of_a_long_call_reads_one_body(long_call, db, engine, monkeypatch, event, at, how):
    forget_recent_events()
    statements = engine.statements(long_call, monkeypatch)
    body = encoded(event, call_status="ongoing", transcript="new", **how)
    long_call.add(receive(body, source="webhook", observed_at=at, received_at=at))
    # Of the many, only those are asked for that a limit or a key names.
    assert [s for s in reads(statements) if "LIMIT" not in s and "body_sha256 =" not in s] == []
    assert bodies(statements) == 1
    assert rows(db, "SELECT transcript FROM transcripts") == [("new" if at == 700 else "200",)]
    assert rows(db, "SELECT observed_at, updated_at FROM calls") == [(max(at, 200), max(at, 200))]
    found = rows(db, "SELECT event, observed_at, destination FROM transfers")
    assert found == ([(event, at, "+1")] if how else [])


def test_late_event_with_its_own_field_is_folded(long_call, db):
    add(long_call, "transcript_updated", 101, transcript="late", agent_name="a")
    assert rows(
        db, "SELECT agent_name, transcript FROM calls JOIN transcripts USING (call_id)"
    ) == [("a", "200")]


def test_late_event_after_the_analysis_leaves_no_body(long_call, db, engine, monkeypatch):
    add(long_call, "call_analyzed", 700, call_status="ended", transcript="all")
    forget_recent_events()
    statements = engine.statements(long_call, monkeypatch)
    add(long_call, "transcript_updated", 101, transcript="late")
    assert bodies(statements) == 1
    assert rows(db, "SELECT body IS NULL FROM observations WHERE observed_at = 101") == [(1,)]
    assert rows(db, "SELECT level, observed_at FROM calls") == [(3, 700)]


def test_events_of_equal_time_are_told_apart(store, db):
    sent = [f"{n}" for n in range(70)]
    for text in sent:
        add(store, "transcript_updated", 5, transcript=text)
    winner = max(
        sent, key=lambda t: sha256(encoded("transcript_updated", transcript=t)).hexdigest()
    )
    assert rows(db, "SELECT transcript FROM transcripts") == [(winner,)]


def test_lowest_body_is_retired_at_the_end(store, db):
    add(store, "an_event_of_tomorrow", 1, agent_name="a")
    for n in range(2, 72):
        add(store, "transcript_updated", n, transcript=f"{n}")
    kept = "SELECT event FROM observations WHERE body IS NOT NULL ORDER BY level LIMIT 1"
    assert rows(db, kept) == [("an_event_of_tomorrow",)]
    add(store, "call_ended", 100, transcript="all", agent_name="b")
    assert rows(db, kept) == [("call_ended",)]


def test_end_of_a_long_call_reads_few_bodies(store, db, engine, monkeypatch):
    for n in range(1, 301):
        add(store, "transcript_updated", n, transcript=f"{n}")
    statements = engine.statements(store, monkeypatch)
    add(store, "call_ended", 700, call_status="ended", transcript="all")
    assert len(statements) < 2 * SOME + 100
    assert rows(db, "SELECT transcript FROM transcripts") == [("all",)]
    (kept,) = db.execute("SELECT count(*) FROM observations WHERE body IS NOT NULL").fetchone()
    # The highest and the newest may come on top.
    assert 299 - SOME <= kept <= 301 - SOME


def test_body_that_arrived_lately_is_not_read_again(store, db, engine, monkeypatch):
    add(store, "call_ended", 1, agent_name="a", transcript="said")
    statements = engine.statements(store, monkeypatch)
    add(store, "call_analyzed", 2, agent_name="b", transcript="said")
    assert bodies(statements) == 0
    assert rows(db, "SELECT agent_name, level FROM calls") == [("b", 3)]


@pytest.mark.sqlite
def test_highest_bodies_are_found_by_index(db):
    query = f"EXPLAIN QUERY PLAN {sql.HIGHEST_OPEN_BODIES}"
    plan = [row["detail"] for row in db.execute(query, ("c", "call", 17))]
    assert plan[0].startswith("SEARCH observations USING INDEX observations_open (entity_id=? AND ")
    # The account of each key is looked up, and those of one time alone are sorted.
    account = ["CORRELATED SCALAR SUBQUERY 1", "SEARCH k USING PRIMARY KEY (key_id=?)"]
    assert plan[1:3] == account
    assert plan[3:] in ([], ["USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY"])
