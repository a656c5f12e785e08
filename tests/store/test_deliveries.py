"""What time an observation has after several deliveries, and what becomes of its call."""

import json

import pytest

from receiver.store import receive, show
from receiver.store.erasing import apply_tombstones
from receiver.store.ingest import RecentEvents
from receiver.store.upstream import stored_fields
from schema.events import parse
from schema.retention import RAW
from tests.support.histories import blank_file
from tests.support.observing import FIRST, SECOND, add


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


def test_re_run_analysis_replaces_the_first(store, database):
    add(store, "call_analyzed", 1, call_analysis=FIRST)
    add(store, "call_analyzed", 2, call_analysis=SECOND)
    assert show(database, "c")["call_analysis"] == SECOND


def test_re_run_with_the_old_result_awaits_fetch(store, database):
    """Known limit: A, B, A. The last is byte for byte the first, whose smallest time counts."""
    add(store, "call_analyzed", 1, call_analysis=FIRST)
    add(store, "call_analyzed", 2, call_analysis=SECOND)
    add(store, "call_analyzed", 3, call_analysis=FIRST)
    assert show(database, "c")["call_analysis"] == SECOND
    add(store, "call_analyzed", 4, source="api", call_analysis=FIRST)
    assert show(database, "c")["call_analysis"] == FIRST


def test_early_re_run_survives_a_retry(store, database):
    add(store, "call_analyzed", 0, call_analysis=FIRST)
    add(store, "call_analyzed", 30_000, call_analysis=SECOND)
    add(store, "call_analyzed", 60_000, call_analysis=FIRST)
    assert show(database, "c")["call_analysis"] == SECOND


def test_late_first_try_sets_its_own_time(store, database):
    add(store, "call_analyzed", 60_000, call_analysis=FIRST)
    add(store, "call_analyzed", 30_000, call_analysis=SECOND)
    assert show(database, "c")["call_analysis"] == FIRST
    add(store, "call_analyzed", 0, call_analysis=FIRST)
    assert show(database, "c")["call_analysis"] == SECOND


def test_repeated_api_snapshot_counts_from_its_latest_fetch(store, database):
    add(store, "x", 1, source="api", call_status="ended", call_analysis=FIRST)
    add(store, "x", 2, source="api", call_status="ended", call_analysis=SECOND)
    add(store, "x", 3, source="api", call_status="ended", call_analysis=FIRST)
    assert show(database, "c")["call_analysis"] == FIRST


def test_file_imported_again_counts_from_its_earliest_time(store, database):
    add(store, "call_analyzed", 3, source="file", call_analysis=FIRST)
    add(store, "call_analyzed", 2, source="file", call_analysis=SECOND)
    add(store, "call_analyzed", 1, source="file", call_analysis=FIRST)
    assert show(database, "c")["call_analysis"] == SECOND


def test_late_retry_of_a_deleted_call_changes_nothing(store, database):
    add(store, "call_ended", 1, call_status="ended", transcript="Agent: Bye.")
    add(store, "call_analyzed", 2, call_status="ended", call_analysis=FIRST)
    before = show(database, "c")
    add(store, "call_ended", 99_000, call_status="ended", transcript="Agent: Bye.")
    assert show(database, "c") == before


def test_call_and_chat_may_share_an_id(store, database, db):
    add(store, "call_ended", 1, agent_id="of_the_call", call_status="ended")
    chat = {"event": "chat_ended", "chat": {"chat_id": "c", "agent_id": "of_the_chat"}}
    store.add(receive(json.dumps(chat).encode(), source="webhook", observed_at=2, received_at=2))
    add(store, "call_started", 3, agent_name="Ann")
    assert [tuple(r) for r in db.execute("SELECT agent_id, agent_name FROM calls")] == [
        ("of_the_call", "Ann")
    ]
    assert [tuple(r) for r in db.execute("SELECT agent_id, agent_name FROM chats")] == [
        ("of_the_chat", None)
    ]
    assert show(database, "c")["agent_id"] == "of_the_call"


def test_late_event_of_pruned_call_has_no_fields(store, database):
    for event, at in (("call_ended", 1), ("call_analyzed", 3)):
        add(store, event, at, agent_name="Ann")
        apply_tombstones(store, [("c", RAW, 2, None, None)])
    assert stored_fields(database, "call", ["c"]) == {"c": {}}


def test_keys_beside_a_call_count_as_memory():
    body = json.dumps({"event": "call_ended", "call": {"call_id": "c"}, "tariff": "x" * 2000})
    event, recent = parse(body.encode()), RecentEvents(max_bytes=1000)
    recent.add(event, "webhook")
    assert recent.find("c", event.body_sha256, "webhook") is None


def test_call_without_numbers_has_null_numbers(store, db):
    add(store, "call_ended", 1, call_type="phone_call", batch_call_id="batch_1")
    row = db.execute("SELECT from_number, to_number, batch_call_id FROM calls").fetchone()
    assert tuple(row) == (None, None, "batch_1")


def test_transfer_steps_are_separate_rows(store, db):
    add(store, "transfer_started", 1, call_status="ongoing")
    add(store, "call_ended", 2, call_status="ended")
    add(store, "transfer_cancelled", 3, call_status="ongoing")
    steps = db.execute("SELECT event, observed_at FROM transfers ORDER BY observed_at")
    assert [tuple(r) for r in steps] == [("transfer_started", 1), ("transfer_cancelled", 3)]
    assert db.execute("SELECT call_status FROM calls").fetchone()[0] == "ended"
