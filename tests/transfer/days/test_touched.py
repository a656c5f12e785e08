"""Each run brings the files up to date, and touches no others."""

import json

import pytest

from receiver.jobs.erase import new_receipt
from receiver.store.erasing import erase_entities
from tests.support.erasing import erased
from tests.support.exporting import DAY_MS
from tests.transfer.days.lake import (
    DAY,
    MANIFEST,
    NEXT_DAY,
    NEXT_DAY_MS,
    add,
    call_ids,
    changed,
    files,
    rows,
)

pytestmark = pytest.mark.slow_on_postgres


def test_second_run_writes_nothing(varied_update, lake, tmp_path):
    first = varied_update()
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*")}
    second = varied_update()
    assert (second.files, second.rows, second.removed) == (0, 0, 0)
    assert first.files > second.current > 5
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*")} == before
    varied_update(tmp_path / "again")
    assert files(tmp_path / "again") == files(lake)


def test_late_event_rewrites_both_days(store, update, lake):
    for n in range(3):
        at = DAY_MS + n * 86_400_000
        add(store, f"call{n}", at=at, event="call_ended", transcript="hello")
    update()
    before = files(lake)
    add(store, "call0", at=DAY_MS, received=NEXT_DAY_MS, call_analysis={"call_summary": "Late."})
    update()
    after = files(lake)
    assert changed(before, after) == {
        f"calls/{DAY}/calls.parquet",
        f"analyses/{DAY}/analyses.parquet",
        f"observations/{NEXT_DAY}/observations.parquet",
    }
    assert [row["call_summary"] for row in rows(lake, "analyses")] == ["Late."]
    update(lake.parent / "anew")
    assert files(lake.parent / "anew") == after


def test_a_duplicate_touches_the_log_alone(store, update, lake):
    add(store, "call", at=DAY_MS, transcript="hello")
    update()
    before = files(lake)
    add(store, "call", at=DAY_MS, received=NEXT_DAY_MS, transcript="hello")
    assert update().files == 1
    assert changed(before, files(lake)) == {f"observations/{DAY}/observations.parquet"}


@pytest.mark.parametrize("received", [1, DAY_MS - 1, DAY_MS])
def test_wrong_clock_hides_no_later_commit(store, update, lake, received):
    add(store, "call", at=DAY_MS, event="call_ended")
    update()
    # Received by another process before, or by one whose clock is behind.
    add(store, "call", at=DAY_MS, received=received, call_analysis={"call_summary": "Late."})
    add(store, "other", at=DAY_MS, received=received)
    update()
    assert call_ids(lake) == {"call", "other"}
    assert [row["call_summary"] for row in rows(lake, "analyses")] == ["Late."]


def test_rows_committed_meanwhile_are_in_next_run(store, update, lake):
    add(store, "before", at=DAY_MS)
    told = []

    def meanwhile(done, of):
        told.append(of)
        add(store, f"call{len(told)}", at=DAY_MS)

    update(progress=meanwhile)
    assert len(told) > 3
    assert call_ids(lake) == {"before"}
    assert {row["entity_id"] for row in rows(lake, "observations")} == {"before"}
    update()
    assert call_ids(lake) == {"before"} | {f"call{n + 1}" for n in range(len(told))}


def test_moved_call_is_in_one_day_only(store, update, lake):
    add(store, "call", at=None, received=DAY_MS, event="call_started", call_status="registered")
    add(store, "other", at=DAY_MS)
    update()
    assert call_ids(lake, DAY) == {"call", "other"}
    add(store, "call", at=NEXT_DAY_MS, event="call_ended")
    update()
    assert call_ids(lake, DAY) == {"other"}
    assert call_ids(lake, NEXT_DAY) == {"call"}


def test_erased_call_is_replaced_by_its_tombstone(settings, store, update, lake):
    add(store, "erased", at=DAY_MS, transcript="hello", agent_name="someone")
    add(store, "kept", at=NEXT_DAY_MS, transcript="hello")
    update(private=True)
    assert call_ids(lake) == {"erased", "kept"}
    erased(settings, store, "erased")
    done = update(private=True)
    assert done.removed > 1
    assert call_ids(lake) == {"kept"}
    assert not (lake / "calls" / DAY).exists()
    assert [row["entity_id"] for row in rows(lake, "erasures")] == ["erased"]
    [tombstone] = [row for row in rows(lake, "observations") if row["entity_id"] == "erased"]
    assert (tombstone["body"], tombstone["event"]) == (None, None)
    assert not [name for name, content in files(lake).items() if b"someone" in content]


def test_pruned_day_is_written_again(settings, store, update, lake):
    add(store, "pruned", at=DAY_MS, transcript="hello", from_number="someone")
    update(private=True)
    receipt = new_receipt("prune", "personal", author="tester", reason=None, now_ms=1)
    erase_entities(store, ["pruned"], receipt, now_ms=1)
    update(private=True)
    assert [row["from_number"] for row in rows(lake, "calls")] == [None]
    assert not [name for name, content in files(lake).items() if b"someone" in content]


def test_days_without_rows_are_removed(store, db, update, lake):
    add(store, "old", at=DAY_MS)
    add(store, "kept", at=NEXT_DAY_MS)
    update()
    for table, key in (
        ("call_metrics", "call_id"),
        ("calls", "call_id"),
        ("observations", "entity_id"),
    ):
        db.execute(f"DELETE FROM {table} WHERE {key} = 'old'")
    done = update()
    assert (done.files, done.removed) == (0, 2)
    update(lake.parent / "anew")
    assert files(lake) == files(lake.parent / "anew")


def test_missing_file_is_rewritten_and_others_stay(store, update, lake):
    add(store, "call", at=DAY_MS)
    update()
    before = files(lake)
    (lake / "calls" / DAY / "calls.parquet").unlink()
    stranger = lake / "calls" / DAY / "notes.txt"
    stranger.write_text("mine")
    foreign = lake / "calls" / "day=2020-01-01" / "calls.parquet"
    foreign.parent.mkdir()
    foreign.write_text("of no call")
    assert update().removed == 1
    assert not foreign.exists()
    stranger.unlink()
    assert files(lake) == before


def test_missing_manifest_rewrites_the_same_bytes(store, update, lake):
    add(store, "call", at=DAY_MS, transcript="hello")
    update()
    before = files(lake)
    edited = json.loads((lake / MANIFEST).read_bytes()) | {"parts": {"calls": {"": {}}}}
    for broken in (None, b"", b"{", b"[]", b'{"format": 0}', json.dumps(edited).encode()):
        (lake / MANIFEST).unlink()
        if broken is not None:
            (lake / MANIFEST).write_bytes(broken)
        assert update().current == 0
        assert files(lake) == before
