"""Backups: complete, verified, beside a live receiver; and what comes back from one."""

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.addresses import PostgresUrl, parse_media
from receiver.cli import main
from receiver.config_file import Backup, ConfigFile
from receiver.errors import BackupFailed, CopyWithoutBodies, DatabaseInUse, ForeignDatabase
from receiver.jobs.backup import backup, make_backup, restore_backup
from receiver.jobs.worker import Run, Stopped
from receiver.store import Outcome, open_store
from receiver.store import backup as backups
from receiver.store.backup import back_up, fingerprint, restore, verify
from receiver.store.connection import connect, connect_readonly, sqlite3
from receiver.store.erasing import apply_tombstones
from tests.support import ROOT
from tests.support.buckets import bucket
from tests.support.engines import url_of
from tests.support.erasing import SECRET, add_whole, erased, files_with
from tests.support.running import environment
from tests.support.storing import add, rows
from tests.support.webhooks import KEY, NOW_MS

pytestmark = pytest.mark.sqlite
DAY_MS = 86_400_000


@pytest.fixture
def calls(store):
    """Thirty calls with transcripts."""
    for n in range(30):
        add(store, "call_ended", f"call_{n}", call_status="ended", transcript=f"Agent: word{n}\n")


@pytest.fixture
def make(settings, tmp_path):
    def run(where=None, *, keep=7, now_ms=NOW_MS, **options):
        return make_backup(
            settings, where or tmp_path / "backups", keep=keep, now_ms=now_ms, **options
        )

    return run


def content(path):
    with closing(connect_readonly(path)) as connection:
        return fingerprint(connection)


def test_backup_has_everything_for_its_owner_alone(make, calls, database, tmp_path):
    made = make()
    path = tmp_path / "backups" / made.name
    assert made.name == "callhouse-20260513t190815z.db"
    assert content(path) == content(database) == made.fingerprint
    assert made.fingerprint.rows["calls"] == 30
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # One file that needs no log beside it.
    with closing(connect_readonly(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == [made.name]


def test_old_backups_are_deleted(make, calls, tmp_path):
    names = [make(keep=3, now_ms=NOW_MS + day * DAY_MS).name for day in range(5)]
    (tmp_path / "backups/notes.txt").touch()
    last = make(keep=2, now_ms=NOW_MS + 5 * DAY_MS)
    assert last.deleted == names[2:4]
    found = {path.name for path in (tmp_path / "backups").iterdir() if path.is_file()}
    assert found == {names[4], last.name, "notes.txt"}


def test_writers_do_not_wait_for_a_backup(make, store, database):
    """The backup stops after each step; nobody waits for the write lock meanwhile."""
    for n in range(300):
        text = os.urandom(40_000).hex()
        add(store, "call_ended", f"call_{n}", transcript=text)
    waits, steps = [], []

    def write():
        began = time.perf_counter()
        with closing(connect(database, busy_timeout_ms=5000)) as other:
            other.execute("BEGIN IMMEDIATE")
            waits.append(time.perf_counter() - began)
            other.execute("UPDATE calls SET extra = ? WHERE call_id = 'call_1'", (str(began),))
            other.execute("COMMIT")

    def check():
        steps.append(1)
        write()

    made = make(check=check)
    assert len(steps) > 2
    # What was written meanwhile is in the next backup, and the copy did not start again.
    assert made.fingerprint.rows["calls"] == 300
    assert sorted(waits)[len(waits) // 2] < 0.1


def test_copy_that_differs_is_refused(make, calls, tmp_path):
    def damage():
        for part in (tmp_path / "backups/.partial").glob(".*.part"):
            if part.stat().st_size > 100_000:
                with part.open("r+b") as file:
                    file.seek(50_000)
                    file.write(b"\xff" * 50_000)

    with pytest.raises(BackupFailed):
        make(check=damage)
    assert not [path for path in (tmp_path / "backups").rglob("*") if path.is_file()]


def test_copy_that_lacks_a_row_is_refused(make, calls, tmp_path):
    def change():
        for part in (tmp_path / "backups/.partial").glob(".*.part"):
            # Locked, or without tables, while it is copied.
            with suppress(sqlite3.Error), closing(sqlite3.connect(part, timeout=0)) as copy, copy:
                copy.execute("UPDATE observations SET times_received = 9")

    with pytest.raises(BackupFailed, match="the copy differs"):
        make(check=change)


def test_backup_with_impossible_rows_is_refused(calls, database, tmp_path):
    back_up(database, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection, connection:
        connection.execute("INSERT INTO erasures (entity_id, scope) VALUES ('a', 'all')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'reason TEXT', 'reason TEXT NOT NULL') "
            "WHERE name = 'erasures'"
        )
    with pytest.raises(BackupFailed, match="is damaged"):
        verify(tmp_path / "copy.db")


def test_stopped_backup_leaves_nothing(make, calls, tmp_path):
    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        make(check=stop)
    assert not [path for path in (tmp_path / "backups").rglob("*") if path.is_file()]


def test_killed_backup_leaves_no_backup(settings, calls, database, tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from receiver.store.backup import back_up
back_up(Path({str(database)!r}), Path("b/.partial/callhouse-20260101t000000z.db"),
        check=lambda: os.kill(os.getpid(), signal.SIGKILL))
"""
    (tmp_path / "b/.partial").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", script], env=environment(), cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    left = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert left
    assert {path.parent.name for path in left} == {".partial"}
    made = make_backup(settings, tmp_path / "b", keep=1, now_ms=NOW_MS)
    assert [path.name for path in (tmp_path / "b").rglob("*") if path.is_file()] == [made.name]


def test_job_backs_up_where_the_file_says(settings, store, calls, tmp_path):
    file = ConfigFile(backup=Backup(to=str(tmp_path / "there"), keep=1))
    for day in range(2):
        now_ms = NOW_MS + day * DAY_MS
        backup(Run(replace(settings, file=file), store, now_ms=lambda now_ms=now_ms: now_ms))
    assert len(list((tmp_path / "there").glob("*.db"))) == 1


def test_restored_file_has_what_the_backup_has(make, settings, store, calls, database, tmp_path):
    made = make()
    add(store, "call_ended", "later")
    store.close()
    restored = restore_backup(settings, str(tmp_path / "backups"))
    assert restored.rows == made.fingerprint.rows
    assert not database.with_name("retell.db-wal").exists()
    assert content(database) == made.fingerprint
    with closing(connect_readonly(database)) as connection:
        found = "SELECT count(*) FROM transcripts_fts WHERE transcripts_fts MATCH 'word7'"
        assert connection.execute(found).fetchone()[0] == 1
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    again = open_store(database)
    add(again, "call_ended", "after")
    again.close()
    assert not list(database.parent.glob(".retell*"))


def test_erased_call_stays_erased(make, settings, store, calls, database, db):
    add_whole(store, "call_gone")
    add_whole(store, "call_part")
    name = make().name
    erased(settings, store, "call_gone")
    apply_tombstones(store, [("call_part", "transcripts", 9, None, None)])
    add_whole(store, "call_new")
    erased(settings, store, "call_new")
    store.close()
    db.close()
    restored = restore_backup(settings, f"backups/{name}")
    assert restored.tombstones == 3
    assert not list(database.parent.glob(".retell*"))
    with closing(connect_readonly(database)) as connection:
        assert rows(connection, "SELECT count(*) FROM calls") == [(31,)]
        assert rows(connection, "SELECT entity_id, scope FROM erasures ORDER BY 1") == [
            ("call_gone", "all"), ("call_new", "all"), ("call_part", "transcripts"),
        ]  # fmt: skip
        assert rows(connection, "SELECT count(transcript) FROM transcripts") == [(30,)]
        assert rows(connection, "SELECT count(*) FROM receipts") == [(2,)]
        assert rows(connection, "SELECT DISTINCT call_id FROM attributes") == [("call_part",)]
    # Nor does it come back by its webhook.
    again = open_store(database)
    assert add_whole(again, "call_gone") is Outcome.ERASED
    again.close()


def test_restored_file_has_no_erased_byte(make, settings, store, calls, database):
    add_whole(store, "call_gone")
    name = make().name
    assert SECRET.encode() in database.with_name("retell.db-wal").read_bytes()
    erased(settings, store, "call_gone")
    store.close()
    restore_backup(settings, f"backups/{name}")
    for path in database.parent.iterdir():
        if path.is_file():
            assert SECRET.lower().encode() not in path.read_bytes().lower(), path


def destroyed(database):
    """Delete the database and what lies beside it, but not the backups."""
    for path in database.parent.iterdir():
        if path.is_file():
            path.unlink()


def backed_up_to(settings, place):
    """The settings with a place for backups, as callhouse.toml names it."""
    return replace(settings, file=ConfigFile(backup=Backup(to=str(place))))


def test_older_backup_brings_no_erased_call_back(make, settings, store, calls, database):
    """Even if the database, and its tombstones with it, is lost."""
    settings = backed_up_to(settings, database.parent / "backups")
    add_whole(store, "call_gone")
    apply_tombstones(store, [("call_29", "transcripts", 9, None, None)])
    make()
    done = erased(settings, store, "call_gone")
    store.close()
    assert done.left is None
    destroyed(database)
    restored = restore_backup(settings, "backups")
    assert restored.tombstones == 2
    assert files_with(database.parent, SECRET) == files_with(database.parent / "backups", SECRET)
    with closing(connect_readonly(database)) as connection:
        erasures = "SELECT entity_id, scope FROM erasures ORDER BY 1"
        assert rows(connection, erasures) == [("call_29", "transcripts"), ("call_gone", "all")]


def test_restored_database_keeps_the_list_of_erasures(make, settings, store, calls, database):
    settings = backed_up_to(settings, database.parent / "backups")
    for n in range(2):
        make(now_ms=NOW_MS + n)
        erased(settings, store, f"call_{n}")
    store.close()
    destroyed(database)
    assert restore_backup(settings, "backups").tombstones == 2
    listed = json.loads((database.parent / "backups/erasures.json").read_text())
    assert listed == [["call_0", "all", 99], ["call_1", "all", 99]]
    assert stat.S_IMODE((database.parent / "backups/erasures.json").stat().st_mode) == 0o600


def test_killed_restore_is_repeated_and_leaves_nothing(make, settings, store, calls, database):
    add_whole(store, "call_gone")
    name = make().name
    erased(settings, store, "call_gone")
    store.close()
    before = content(database)
    script = f"""
import os, signal
from pathlib import Path
from receiver.store import backup
backup.apply_tombstones = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
backup.restore(Path("backups/{name}"), Path({str(database)!r}), timezone="UTC")
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), cwd=database.parent)
    assert done.returncode == -signal.SIGKILL
    assert content(database) == before
    assert files_with(database.parent, SECRET) - files_with(database.parent / "backups", SECRET)
    restore_backup(settings, f"backups/{name}")
    assert files_with(database.parent, SECRET) == files_with(database.parent / "backups", SECRET)


@pytest.mark.slow
def test_100_kills_of_a_restore_lose_nothing(make, settings, store, calls, database, tmp_path):
    """After each kill there is the file from before or the restored one, sound."""
    add_whole(store, "call_gone")
    for n in range(400):
        add(store, "call_ended", f"call_more_{n}", call_status="ended", transcript="word " * 2000)
    backup = database.parent / "backups" / make().name
    add(store, "call_ended", "call_later", call_status="ended")
    erased(settings, store, "call_gone")
    store.close()
    present = tmp_path / "present.db"
    shutil.copyfile(database, present)
    began = time.monotonic()
    assert restoring(settings, backup).wait(120) == 0
    took = time.monotonic() - began
    chance, seen = random.Random(5), set()
    for _ in range(100):
        shutil.copyfile(present, database)
        with restoring(settings, backup) as process:
            began = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.3, 1.2) * took)
                took = time.monotonic() - began
            process.kill()
        found = verify(database)
        seen.add(found.rows["calls"])
        assert found == content(present) or found.rows["calls"] == 430
    assert seen == {430, 431}
    assert restoring(settings, backup).wait(60) == 0
    with closing(connect_readonly(database)) as connection:
        assert rows(connection, "SELECT 1 FROM calls WHERE call_id = 'call_gone'") == []
    assert files_with(database.parent, SECRET) == files_with(backup.parent, SECRET)


def restoring(settings, backup):
    return subprocess.Popen(
        [sys.executable, "-m", "receiver", "restore", str(backup), "--yes"],
        env=environment(CALLHOUSE_DATABASE_URL=url_of(settings.database)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_restore_refuses_an_open_database(make, settings, calls, store, database):
    make()
    store.close()
    script = f"""
import sys
from pathlib import Path
from receiver.store.erasing import apply_tombstones
from receiver.store.connection import connect
connection = connect(Path({str(database)!r}), busy_timeout_ms=0)
print("open", flush=True)
sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == b"open\n"
        before = content(database)
        with pytest.raises(DatabaseInUse):
            restore_backup(settings, "backups")
        assert content(database) == before
    finally:
        other.communicate()
    restore_backup(settings, "backups")


def test_write_during_a_restore_is_not_lost(make, settings, calls, store, database, monkeypatch):
    make()
    store.close()
    erase = backups._erase

    def write_after(*arguments):
        count = erase(*arguments)
        with closing(connect(database, busy_timeout_ms=5000)) as other:
            other.execute("UPDATE calls SET extra = 'x'")
        return count

    monkeypatch.setattr(backups, "_erase", write_after)
    with pytest.raises(DatabaseInUse):
        restore_backup(settings, "backups")
    with closing(connect_readonly(database)) as connection:
        assert rows(connection, "SELECT DISTINCT extra FROM calls") == [("x",)]


def test_backup_of_an_older_version_is_migrated(settings, tmp_path, database):
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript((ROOT / "tests/databases/0005_key_positions.sql").read_text())
        count = connection.execute("SELECT count(*) FROM calls").fetchone()[0]
    restored = restore(old, database, timezone="UTC")
    assert restored.rows["calls"] == count > 0
    assert "0007_keeping" in {
        name for (name,) in sqlite3.connect(database).execute("SELECT name FROM _sqlite_migrations")
    }


def test_unusable_backup_replaces_nothing(settings, calls, store, database, tmp_path):
    before = content(database)
    damaged, foreign, copy = (tmp_path / name for name in ("damaged.db", "foreign.db", "copy.db"))
    back_up(database, damaged)
    with damaged.open("r+b") as file:
        file.seek(20_000)
        file.write(b"\xff" * 60_000)
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t (a)")
    back_up(database, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute(f"PRAGMA application_id = {int.from_bytes(b'chsc')}")
    store.close()
    for path, error in (
        (damaged, BackupFailed),
        (foreign, ForeignDatabase),
        (copy, CopyWithoutBodies),
    ):
        with pytest.raises(error):
            restore(path, database, timezone="UTC")
    assert content(database) == before


def test_damaged_database_is_not_replaced_with_tombstones_lost(
    make, settings, calls, store, database
):
    make()
    store.close()
    database.write_bytes(b"\xff" * 200_000)
    with pytest.raises((BackupFailed, ForeignDatabase)) as error:
        restore_backup(settings, "backups")
    assert error.value.hint
    database.unlink()
    assert restore_backup(settings, "backups").tombstones == 0


def test_bucket_keeps_and_returns_backups(make, settings, calls, store, database, monkeypatch):
    with bucket(monkeypatch) as url:
        where = parse_media(url)
        names = [make(where, keep=2, now_ms=NOW_MS + day * DAY_MS).name for day in range(3)]
        store.close()
        expected = content(database)
        shutil.rmtree(database.parent / "nothing", ignore_errors=True)
        for text in (url, f"{url}/{names[1]}"):
            database.unlink()
            restore_backup(settings, text)
            assert content(database) == expected
        with pytest.raises(Exception, match="there is no backup"):
            restore_backup(settings, f"{url}/{names[0]}")
        assert not (database.parent / ".backup").exists()


def test_postgres_backup_hints_at_pg_dump():
    settings = config.load({"CALLHOUSE_DATABASE_URL": "postgresql://db/calls"})
    assert isinstance(settings.database, PostgresUrl)
    for arguments in (["backup", "there"], ["restore", "there"]):
        result = CliRunner(env={"CALLHOUSE_DATABASE_URL": "postgresql://db/calls"}).invoke(
            main, arguments
        )
        assert result.exit_code == 2
        assert "pg_dump" in result.output


def test_commands_back_up_and_restore(calls, store, database, tmp_path):
    environ = {"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(database)}

    def invoke(*arguments):
        return CliRunner(env=environ).invoke(main, arguments)

    assert invoke("backup").exit_code == 2
    made = invoke("backup", str(tmp_path / "backups"), "--keep", "1")
    assert made.exit_code == 0, made.output
    assert "30 calls, verified." in made.output
    [path] = (tmp_path / "backups").glob("*.db")
    store.close()
    refused = invoke("restore", str(path))
    assert refused.exit_code == 2
    assert "--yes" in refused.output
    restored = invoke("restore", str(path), "--yes")
    assert restored.exit_code == 0, restored.output
    assert "Restored 30 calls" in restored.output
    assert verify(path).rows["calls"] == 30
