"""Which bodies the others make superfluous."""

import pytest

from receiver.store.observations import SOME, deciding
from schema.merge import Observation, compactable, retired
from tests.support.histories import blank_file
from tests.support.observing import FIRST, SECOND, add, fold, seen
from tests.support.storing import rows


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


def test_body_may_go_once_a_higher_level_carries_all_its_fields():
    ended = seen("call_ended", 1, agent_name="a", duration_ms=5)
    analyzed = seen("call_analyzed", 2, agent_name="b", duration_ms=6, transcript="x")
    assert compactable([ended, analyzed]) == [ended]


def test_body_stays_while_one_of_its_fields_is_its_own():
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


def test_earlier_body_of_a_higher_level_retires_a_later_one():
    late = seen("call_ended", 9, agent_name="a")
    analyzed = seen("call_analyzed", 1, agent_name="b")
    assert retired(late, [analyzed])


def test_body_that_says_more_than_its_payload_stays():
    ended = seen("call_ended", 1, beside={"novel": 1}, agent_name="a")
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == []


def test_transfer_body_stays_without_a_destination_too():
    step = seen("transfer_started", 1, agent_name="a")
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([step, analyzed]) == []


def test_null_field_of_the_lower_body_needs_no_carrier():
    ended = seen("call_ended", 1, agent_name="a", transcript=None)
    analyzed = seen("call_analyzed", 2, agent_name="b")
    assert compactable([ended, analyzed]) == [ended]


def test_null_field_of_the_higher_body_carries_nothing():
    ended = seen("call_ended", 1, agent_name="a", transcript="x")
    analyzed = seen("call_analyzed", 2, agent_name="b", transcript=None)
    assert compactable([ended, analyzed]) == []


def test_observation_whose_body_is_gone_is_not_retired_again():
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
    said = [{"role": "agent", "content": f"word {n} " + "x" * 1000} for n in range(100)]
    for n in range(1, 101):
        add(store, "transcript_updated", n, transcript_with_tool_calls=said[:n])
    add(store, "call_ended", 200, transcript_with_tool_calls=said)
    kept = db.execute("SELECT event FROM observations WHERE body IS NOT NULL").fetchall()
    assert [tuple(row) for row in kept] == [("call_ended",)]
    assert db.execute("SELECT count(*) FROM observations").fetchone()[0] == 101
    assert db.execute("SELECT count(*) FROM utterances").fetchone()[0] == 100


def test_event_of_a_long_call_looks_at_few_observations(store):
    for n in range(1, 301):
        add(store, "transcript_updated", n, transcript=f"{n}")
    found = store.run(lambda connection: deciding(connection, "c", "call", 1))
    assert 300 in {k.observed_at for k in found}
    assert len(found) <= 3


def test_end_of_a_long_call_reads_few_bodies(store, db, engine, monkeypatch):
    for n in range(1, 301):
        add(store, "transcript_updated", n, transcript=f"{n}")
    said = engine.statements(store, monkeypatch)
    add(store, "call_ended", 700, call_status="ended", transcript="all")
    assert len(said) < 2 * SOME + 100
    assert rows(db, "SELECT transcript FROM transcripts") == [("all",)]
    (kept,) = db.execute("SELECT count(*) FROM observations WHERE body IS NOT NULL").fetchone()
    # The highest and the newest may come on top.
    assert 299 - SOME <= kept <= 301 - SOME
