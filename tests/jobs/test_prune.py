"""Retention: what each setting removes, that sums survive, and that what is gone stays gone."""

import json
import threading
from contextlib import closing

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.cli import main
from receiver.errors import NotStored
from receiver.jobs.prune import preview, prune, prune_all
from receiver.jobs.worker import Run, Stopped
from receiver.store import Outcome, open_store, roll_up, show
from receiver.store.connection import connect
from receiver.store.erasing import unfinished
from receiver.transfer import compare
from receiver.transfer import copy as copy_all
from tests.support import slow_except
from tests.support.engines import url_of
from tests.support.erasing import SECRET, WHOLE, WRITTEN, add_whole, files_with, rebuilt
from tests.support.histories import deliver, seeded
from tests.support.storing import add, count, rows
from tests.support.tables import dump

DAY_MS = 86_400_000
NOW_MS = WHOLE["start_timestamp"] + 10 * DAY_MS
HOURLY = ("hourly_calls", "hourly_costs", "hourly_latencies", "hourly_tools", "hourly_transitions")
# What the tombstones say, and when a row was touched.
BESIDE = {"erasures", "receipts"}
SCOPES = {"RAW": "raw", "RECORDINGS": "recordings", "TRANSCRIPTS": "transcripts",
          "PERSONAL": "personal", "CALLS": "all"}  # fmt: skip


@pytest.fixture
def environ(database, tmp_path):
    return {
        "CALLHOUSE_DATABASE_URL": url_of(database),
        "CALLHOUSE_MEDIA_URL": f"file:{tmp_path}/media",
    }


@pytest.fixture
def pruned(environ, store):
    """Prune with settings, ten days after the calls of `add_whole`."""

    def pruned(**days):
        keep = {f"CALLHOUSE_KEEP_{name}_DAYS": str(n) for name, n in days.items()}
        settings = config.load(environ | keep)
        return prune_all(
            settings, store, author="tester", now_ms=lambda: NOW_MS, pause=lambda _: None
        )

    return pruned


def bodies(db):
    return rows(db, "SELECT count(body) FROM observations")[0][0]


def without(found, *tables):
    return {table: rows for table, rows in found.items() if table not in {*BESIDE, *tables}}


def test_calls_older_than_the_setting_go(pruned, store, db):
    add_whole(store, "old")
    add_whole(store, "new", start_timestamp=NOW_MS - 5 * DAY_MS)
    [receipt] = pruned(CALLS=7).receipts
    assert (receipt.entities, receipt.reason) == (1, "CALLHOUSE_KEEP_CALLS_DAYS")
    assert rows(db, "SELECT call_id FROM calls") == [("new",)]
    assert pruned(CALLS=7).receipts == []


def test_raw_bodies_go_and_rows_stay(pruned, store, db, settings):
    add_whole(store)
    before = dump(db)
    pruned(RAW=7)
    assert bodies(db) == 0
    assert without(dump(db), "observations") == without(before, "observations")
    with pytest.raises(NotStored, match="pruned"):
        show(settings.database, "gone")


def test_words_of_reviewers_go_with_personal_data(pruned, store, db):
    add_whole(store)
    db.execute(
        "INSERT INTO annotations (entity_id, annotation_id, kind, value, changed_at) "
        "VALUES ('gone', 'a', 'note', 'her name', 1), ('gone', 'b', 'verdict', 'good', 1)"
    )
    pruned(PERSONAL=7)
    assert rows(db, "SELECT value, changed_at FROM annotations ORDER BY annotation_id") == [
        (None, NOW_MS),
        ("good", 1),
    ]


def test_recordings_go_alone(pruned, store, db, tmp_path):
    add_whole(store, "call_gone")
    (tmp_path / "media" / "call_gone").mkdir(parents=True)
    (tmp_path / "media" / "call_gone" / "recording.wav").write_bytes(b"voice")
    db.execute(
        "INSERT INTO media_files (call_id, kind, location, state, bytes) "
        "VALUES ('call_gone', 'recording', 'call_gone/recording.wav', 'kept', 5)"
    )
    before = dump(db)
    [receipt] = pruned(RECORDINGS=7).receipts
    assert receipt.files == 1
    assert list((tmp_path / "media").iterdir()) == []
    assert rows(db, "SELECT location, state FROM media_files") == [(None, "pruned")]
    assert count(db, "media") == 0
    changed = ("media", "media_files")
    assert without(dump(db), *changed) == without(before, *changed)


@pytest.mark.parametrize("name", ["TRANSCRIPTS", "PERSONAL"])
def test_every_sum_survives(pruned, store, db, name):
    deliver(store, seeded(5, 60))
    add_whole(store)
    before = {view: sorted(rows(db, f"SELECT * FROM {view}"), key=repr) for view in HOURLY}
    calls = count(db, "calls")
    pruned(**{name: 1})
    assert count(db, "calls") == calls > 2
    for view in HOURLY:
        assert sorted(rows(db, f"SELECT * FROM {view}"), key=repr) == before[view], view


def test_personal_data_goes_from_every_table(pruned, store, db):
    add_whole(store)
    assert SECRET in str(dump(db))
    pruned(PERSONAL=7)
    left = {t for t, found in dump(db).items() if SECRET in str(found)}
    # A reason that Retell names is not about the person.
    assert left == {"calls", "disconnection_reasons"}
    assert rows(db, "SELECT from_number, disconnection_reason FROM calls") == [
        (None, f"{SECRET} reason")
    ]
    assert bodies(db) == 0


@pytest.mark.parametrize("name", ["RAW", "TRANSCRIPTS", "PERSONAL"])
def test_late_event_does_not_change_a_closed_call(pruned, store, db, name):
    add_whole(store)
    pruned(**{name: 7})
    before = dump(db)
    assert add_whole(store, transcript=SECRET * 2) is Outcome.ERASED
    assert without(dump(db), "observations") == without(before, "observations")
    assert bodies(db) == 0


def test_late_event_brings_no_link_back(pruned, store, db):
    add_whole(store)
    pruned(RECORDINGS=7)
    assert add(store, "call_analyzed", "gone", at=9, recording_url="https://r/2") is Outcome.STORED
    assert count(db, "media") == 0
    assert rows(db, "SELECT call_successful FROM analyses") == [(1,)]


@pytest.mark.parametrize("name", SCOPES)
def test_rebuild_changes_nothing_that_was_pruned(pruned, store, db, name):
    deliver(store, seeded(5, 40))
    add_whole(store)
    pruned(**{name: 1})
    before = dump(db)
    rebuilt(store)
    assert dump(db) == before


@pytest.mark.parametrize("name", slow_except(SCOPES, "PERSONAL"))
def test_copy_has_what_was_left(pruned, store, db, engine, database, name):
    deliver(store, seeded(5, 40))
    add_whole(store)
    with engine.blank() as older, engine.blank() as new, engine.looking(older) as other:
        copy_all(database, older, timezone="UTC", progress=lambda *_: None)
        pruned(**{name: 1})
        for target in (older, new):
            copied = copy_all(database, target, timezone="UTC", progress=lambda *_: None)
            assert copied.refused == 0
            found = compare(database, target, progress=lambda *_: None)
            assert (found.different, found.behind, found.ahead) == ({}, 0, 0)
        before = dump(other)
        # A copy that was pruned is not filled again.
        copied = copy_all(database, older, timezone="UTC", progress=lambda *_: None)
        assert (copied.entities, dump(other)) == (0, before)


def test_older_copy_does_not_fill_pruned_call(pruned, store, db, engine, database):
    add_whole(store)
    with engine.blank() as backup:
        copy_all(database, backup, timezone="UTC", progress=lambda *_: None)
        pruned(PERSONAL=7)
        before = dump(db)
        copy_all(backup, database, timezone="UTC", progress=lambda *_: None)
        assert dump(db) == before
        assert bodies(db) == 0


def test_preview_counts_what_each_setting_removes(environ, store, db, pruned):
    add_whole(store, "old")
    add_whole(store, "new", start_timestamp=NOW_MS)
    db.execute(
        "INSERT INTO media_files (call_id, kind, state, bytes) "
        "VALUES ('old', 'recording', 'kept', 5)"
    )
    keep = {f"CALLHOUSE_KEEP_{name}_DAYS": "7" for name in SCOPES}
    settings = config.load(environ | keep)
    before = dump(db)
    found = {due.scope: due for due in preview(store, settings, now_ms=NOW_MS)}
    assert dump(db) == before
    assert found.keys() == set(SCOPES.values())
    assert {due.entities for due in found.values()} == {1}
    assert [found[scope].bodies for scope in SCOPES.values()] == [1, 0, 1, 1, 1]
    assert [found[scope].file_bytes for scope in SCOPES.values()] == [0, 5, 0, 5, 5]


def test_strongest_setting_wins(pruned, store, db):
    add_whole(store)
    receipts = pruned(CALLS=7, RAW=7, PERSONAL=7).receipts
    assert [receipt.scope for receipt in receipts] == ["all"]
    assert count(db, "erasures") == 1


def test_bodies_of_no_call_go_by_their_age(pruned, store, db):
    add(store, "call_ended", "", received=1)
    add(store, "call_ended", "", received=NOW_MS, agent_name="later")
    pruned(RAW=7)
    assert bodies(db) == 1
    assert count(db) == 2


def test_rolled_up_sums_do_not_change(pruned, store, db):
    add_whole(store)
    assert list(roll_up(store, timezone="UTC", now_ms=NOW_MS))
    before = rows(db, "SELECT * FROM rollup_calls")
    pruned(PERSONAL=7)
    assert rows(db, "SELECT * FROM rollup_calls") == before != []


@pytest.mark.sqlite
def test_no_byte_of_personal_data_is_left(pruned, database):
    with closing(open_store(database)) as store:
        deliver(store, seeded(3, 100))
        for n in range(40):
            add_whole(store, f"gone_{n:02}", disconnection_reason="user_hangup")
        assert pruned(PERSONAL=7).left is None
        assert files_with(database.parent, SECRET, SECRET.lower(), WRITTEN) == set()


@pytest.mark.sqlite
def test_space_is_given_back(pruned, database, store):
    for n in range(100):
        add_whole(store, f"gone_{n:02}", noise="".join(map(chr, range(0x4E00, 0x4E00 + 9000))))
    before = database.stat().st_size
    assert pruned(CALLS=7).free_bytes == 0
    assert database.stat().st_size < before / 3


def test_job_prunes_and_ends_when_stopped(environ, store, db):
    for n in range(30):
        add_whole(store, f"gone_{n:02}")
    settings = config.load(environ | {"CALLHOUSE_KEEP_CALLS_DAYS": "7"})
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        prune(Run(settings, store, now_ms=lambda: NOW_MS, stop=stop))
    assert 0 < count(db, "calls") < 30
    # The next run cleans and packs the file for both.
    assert unfinished(store) == [30 - count(db, "calls")]
    assert prune(Run(settings, store, now_ms=lambda: NOW_MS)) is None
    assert count(db, "calls") == 0
    assert rows(db, "SELECT sum(entities), count(ids_sha256) FROM receipts") == [(30, 2)]


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return lambda *args: CliRunner().invoke(main, ["prune", *args])


def test_command_without_a_setting_says_so(run):
    result = run()
    assert result.exit_code == 2
    assert "CALLHOUSE_KEEP_PERSONAL_DAYS" in result.output


def test_command_prints_what_is_due_and_receipts(run, store, db, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_KEEP_CALLS_DAYS", "1")
    add_whole(store)
    [due] = json.loads(run("--dry-run", "--json").stdout)
    assert (due["scope"], due["entities"], count(db, "calls")) == ("all", 1, 1)
    assert "KEEP_CALLS_DAYS" in run("--dry-run").output
    result = run("--json")
    [receipt] = json.loads(result.stdout)["receipts"]
    assert (receipt["entities"], count(db, "calls"), result.exit_code) == (1, 0, 0)
    assert "Nothing is old enough." in run().output


@pytest.mark.sqlite
def test_file_of_an_older_version_is_converted_once(run, store, database, monkeypatch):
    with closing(connect(database, busy_timeout_ms=5000)) as connection:
        connection.execute("PRAGMA auto_vacuum = 0")
        connection.execute("VACUUM")
    monkeypatch.setenv("CALLHOUSE_KEEP_CALLS_DAYS", "1")
    for n in range(50):
        add_whole(store, f"gone_{n:02}", noise="".join(map(chr, range(0x4E00, 0x4E00 + 9000))))
    before = database.stat().st_size
    result = run()
    assert "callhouse prune --vacuum" in " ".join(result.output.split())
    assert database.stat().st_size >= before
    assert run("--vacuum").exit_code == 0
    assert database.stat().st_size < before / 3
    add_whole(store, "later", noise="".join(map(chr, range(0x4E00, 0x4E00 + 9000))))
    assert "prune --vacuum" not in run().output
