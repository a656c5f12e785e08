"""Erase: what goes, what stays, and that nothing brings it back."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import pytest

import receiver.store.cleaning
from receiver import config
from receiver.errors import SettingsError
from receiver.jobs.erase import plan
from receiver.jobs.storage import folder_of
from receiver.store import Outcome, open_store, receive
from receiver.store.engine import reading
from receiver.store.erasing import ids_where, ids_with_number
from receiver.transfer import copy as copy_all
from tests.support.engines import url_of
from tests.support.erasing import SECRET, WRITTEN, add_whole, erased, files_with, rebuilt
from tests.support.histories import deliver, seeded
from tests.support.running import environment, wait_until
from tests.support.storing import add, count, rows
from tests.support.tables import dump

# Tables that say that something was erased.
SAYING = {"erasures", "receipts", "observations"}


@pytest.fixture
def settings(database, tmp_path) -> config.Settings:
    return config.load(
        {
            "CALLHOUSE_DATABASE_URL": url_of(database),
            "CALLHOUSE_MEDIA_URL": f"file:{tmp_path}/media",
        }
    )


def rows_about(db, call_id):
    """Tables that have a row with the id in it."""
    return {table for table, found in dump(db).items() if any(call_id in str(row) for row in found)}


def test_every_row_of_a_call_goes(settings, store, db):
    add(store, "call_ended", "kept", transcript="stays")
    before = dump(db)
    add_whole(store)
    db.execute("INSERT INTO upstream_calls (call_id, asked_at) VALUES ('gone', 5)")
    db.execute(
        "INSERT INTO media_files (call_id, kind, state) VALUES ('gone', 'public_log', 'gone')"
    )
    db.execute(
        "INSERT INTO outbox (entity_id, body_sha256, target, received_at) "
        "VALUES ('gone', 'x', 't', 1)"
    )
    db.execute("INSERT INTO annotations (entity_id, annotation_id) VALUES ('gone', 'a')")
    db.execute("INSERT INTO share_links (call_id, link_id) VALUES ('gone', 'a')")
    erased(settings, store, "gone")
    after = dump(db)
    assert rows_about(db, "gone") == {"erasures", "observations"}
    assert {t: r for t, r in after.items() if t not in SAYING} == {
        t: r for t, r in before.items() if t not in SAYING
    }
    assert count(db, "outbox") == 0
    assert rows(db, "SELECT event, level, key_id, problem, body FROM observations "
                    "WHERE entity_id = 'gone'") == [(None,) * 5]  # fmt: skip


def test_receipt_says_what_without_personal_data(settings, store, db):
    for call_id in ("b", "a"):
        add_whole(store, call_id)
    receipt = erased(settings, store, "a", "b", reason="asked for").receipt
    assert (receipt.entities, receipt.files, receipt.author) == (2, 0, "tester")
    assert dict(receipt.counts)["calls"] == 2
    assert receipt.rows == sum(dict(receipt.counts).values())
    assert receipt.ids_sha256 == hashlib.sha256(b"a\nb\n").hexdigest()
    [stored] = rows(db, "SELECT * FROM receipts")
    assert SECRET not in str(stored)
    assert rows(db, "SELECT DISTINCT scope, erased_at, reason, receipt_id FROM erasures") == [
        ("all", 99, "asked for", receipt.receipt_id)
    ]


def test_late_retry_is_not_stored(settings, store, db):
    add_whole(store)
    erased(settings, store, "gone")
    assert add_whole(store) is Outcome.ERASED
    assert add(store, "call_analyzed", "gone", at=9, transcript=SECRET) is Outcome.ERASED
    assert count(db, "calls") == 0
    assert rows(db, "SELECT body FROM observations WHERE body IS NOT NULL") == []


def test_call_that_was_never_stored_is_not_taken(settings, store, db):
    erased(settings, store, "gone")
    assert add_whole(store) is Outcome.ERASED
    assert count(db, "calls") == 0


def test_rebuild_and_copy_bring_nothing_back(settings, store, db, engine):
    add_whole(store)
    add_whole(store, "kept")
    with engine.blank() as target:
        copy_all(settings.database, target, timezone="UTC", progress=lambda *_: None)
        erased(settings, store, "gone")
        rebuilt(store)
        # An older copy, as a backup is one.
        copy_all(target, settings.database, timezone="UTC", progress=lambda *_: None)
        copy_all(settings.database, target, timezone="UTC", progress=lambda *_: None)
        for connection in (db,):
            assert rows(connection, "SELECT call_id FROM calls") == [("kept",)]
        with engine.looking(target) as other:
            assert rows(other, "SELECT call_id FROM calls") == [("kept",)]
            assert rows(other, "SELECT count(body) FROM observations") == [(1,)]


def test_erasing_twice_changes_nothing(settings, store, db):
    add_whole(store)
    erased(settings, store, "gone")
    before = dump(db)
    planned = plan(settings, ["gone"])
    assert (planned.ids, planned.erased) == ([], 1)
    assert erased(settings, store).receipt is None
    assert dump(db) == before


def test_ids_leave_the_lists_of_coverage(settings, store, db):
    db.execute(
        "INSERT INTO coverage (day, agent_id, missing, missing_call_ids, incomplete, "
        """incomplete_call_ids) VALUES ('2026-05-12', 'a', 2, '["gone", "other"]', 1, '["gone"]')"""
    )
    add_whole(store)
    erased(settings, store, "gone")
    assert rows(db, "SELECT missing, missing_call_ids, incomplete, incomplete_call_ids "
                    "FROM coverage") == [(1, '["other"]', 0, "[]")]  # fmt: skip


def test_files_of_a_call_are_deleted(settings, store, db, tmp_path):
    add_whole(store, "call_gone")
    folder = tmp_path / "media" / folder_of("call_gone")
    folder.mkdir(parents=True)
    (folder / "recording.wav").write_bytes(b"voice")
    db.execute(
        "INSERT INTO media_files (call_id, kind, location, state) "
        "VALUES ('call_gone', 'recording', 'call_gone/recording.wav', 'kept')"
    )
    nowhere = replace(settings, media=replace(settings.media, location=None))
    with pytest.raises(SettingsError, match="CALLHOUSE_MEDIA_URL"):
        erased(nowhere, store, "call_gone")
    assert count(db, "calls") == 1
    assert erased(settings, store, "call_gone").receipt.files == 1
    assert not folder.exists()


def test_number_finds_calls_chats_and_bodies_of_neither(settings, store):
    number = "+14155550123"
    add(store, "call_ended", "caller", from_number=number)
    add(store, "call_ended", "callee", to_number=number)
    add(store, "call_ended", "other", from_number="+14155550199")
    chat = {"chat_id": "chat_a", "chat_status": "ended", "user_number": number}
    sent = json.dumps({"event": "chat_ended", "chat": chat}).encode()
    store.add(receive(sent, source="webhook", observed_at=1, received_at=1))
    inbound = {"event": "call_inbound", "call_inbound": {"from_number": number}}
    body = json.dumps(inbound).encode()
    store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    with reading(settings.database) as connection:
        found = ids_with_number(connection, number)
    assert found == ["callee", "caller", "chat_a", f"sha:{hashlib.sha256(body).hexdigest()}"]


def test_a_condition_finds_calls(settings, store):
    add_whole(store, "a")
    add_whole(store, "b", agent_id="other")
    with reading(settings.database) as connection:
        assert ids_where(connection, "calls", "agent_id = 'other' -- a comment") == ["b"]


def test_rolled_up_hour_forgets_the_call(settings, store, db):
    add_whole(store)
    db.execute("INSERT INTO rollup_hours VALUES (1778544000000)")
    erased(settings, store, "gone")
    assert count(db, "rollup_hours") == 0


@pytest.mark.sqlite
def test_no_byte_is_left_in_any_file(settings, database):
    with closing(open_store(database)) as store:
        deliver(store, seeded(3, 200))
        for n in range(60):
            add_whole(store, f"gone_{n:02}", transcript=f"User: {SECRET} {WRITTEN} {'x' * n}")
        done = erased(settings, store, *(f"gone_{n:02}" for n in range(60)))
        assert done.left is None
        # While the store still has the file open.
        assert files_with(database.parent, SECRET, SECRET.lower(), WRITTEN) == set()


@pytest.mark.sqlite
def test_reader_of_old_rows_is_named(settings, store, db, monkeypatch):
    monkeypatch.setattr(receiver.store.cleaning, "TRUNCATE_SECONDS", 0.1)
    add_whole(store)
    db.execute("BEGIN")
    db.execute("SELECT * FROM calls").fetchall()
    assert "another process reads" in erased(settings, store, "gone").left
    assert count(db, "calls") == 1
    db.execute("COMMIT")
    assert count(db, "calls") == 0


@pytest.mark.sqlite
def test_file_too_large_to_clean_is_named(settings, store, monkeypatch):
    monkeypatch.setattr(receiver.store.cleaning, "_MOST_PAGES", 1)
    add_whole(store)
    assert "32 million pages" in erased(settings, store, "gone").left


def test_transaction_erases_few_calls(settings, store):
    ids = [f"gone_{n:03}" for n in range(200)]
    for call_id in ids:
        add(store, "call_ended", call_id)
    done = [0]
    erased(settings, store, *ids, progress=done.append)
    steps = [after - before for before, after in pairwise(done)]
    assert (sum(steps), steps[0]) == (200, 4)
    assert max(steps) <= 50


@pytest.mark.slow
@pytest.mark.sqlite
def test_writer_waits_shortly_beside_an_erasure(settings, store, database):
    """The bound is generous: others use the machine. The benchmarks have figures."""
    deliver(store, seeded(3, 1000))
    ids = [f"gone_{n:04}" for n in range(1000)]
    for call_id in ids:
        add_whole(store, call_id, noise="x" * 20_000)
    waits, done = [], threading.Event()

    def write():
        with closing(open_store(database)) as other:
            while not done.is_set():
                began = time.monotonic()
                add(other, "call_started", f"call_{len(waits)}")
                waits.append(time.monotonic() - began)
                done.wait(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    erased(settings, store, *ids)
    done.set()
    writer.join()
    assert len(waits) > 10
    assert max(waits) < 1


def test_killed_erasure_is_completed_by_the_next(settings, store, db, tmp_path):
    ids = [f"gone_{n:03}" for n in range(300)]
    for call_id in (*ids, "kept"):
        add_whole(store, call_id)
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "erase", *ids, "--yes", "--json"],
        env=environment(
            CALLHOUSE_DATABASE_URL=url_of(settings.database),
            CALLHOUSE_MEDIA_URL=f"file:{tmp_path}/media",
        ),
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: count(db, "erasures") > 0)
        process.kill()
    assert count(db, "calls") > 1
    planned = plan(settings, ids)
    assert erased(settings, store, *planned.ids).left is None
    assert rows(db, "SELECT call_id FROM calls") == [("kept",)]
    assert count(db, "erasures") == 300
    receipts = rows(db, "SELECT entities, ids_sha256 FROM receipts")
    assert (len(receipts), sum(entities for entities, _ in receipts)) == (2, 300)
    assert all(ids_sha256 for _, ids_sha256 in receipts)
