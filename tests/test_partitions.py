"""All tables as Parquet by day: each run brings the files up to date, and touches no others."""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.fs
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from conftest import PAYLOADS
from engines import url_of
from exporting import silent
from histories import deliver, seeded

from receiver.cli import main
from receiver.errors import ExportFailed
from receiver.export import Partitioned, export_partitions
from receiver.store import GROUPS, rebuild, receive, snapshot
from receiver.store.connection import connect_readonly
from schema.tables import TABLES

pytestmark = pytest.mark.slow_on_postgres

# 2026-05-12
DAY_MS = 1_778_544_000_000
NEXT_DAY_MS = DAY_MS + 86_400_000
DAY, NEXT_DAY, UNKNOWN = "day=2026-05-12", "day=2026-05-13", "day=1970-01-01"
MANIFEST = "_callhouse.json"


@pytest.fixture
def lake(tmp_path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def update(settings, lake):
    """A run; what it did."""

    def run(target=lake, *, private=False, progress=silent) -> Partitioned:
        return export_partitions(settings, str(target), private=private, progress=progress)

    return run


@pytest.fixture
def run(settings, monkeypatch):
    """`callhouse export` on the test's database."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(settings.database))
    return lambda *args: CliRunner().invoke(main, ["export", *map(str, args)])


def add(store, call_id, *, at, event="call_analyzed", received=None, **fields):
    call = {"call_id": call_id, "start_timestamp": at, **fields}
    body = json.dumps({"event": event, "call": call}).encode()
    came = at if received is None else received
    store.add(receive(body, source="webhook", observed_at=came, received_at=came))


def files(lake: Path) -> dict[str, bytes]:
    return {str(p.relative_to(lake)): p.read_bytes() for p in lake.rglob("*") if p.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Names of files that came, went or differ, the manifest aside."""
    names = {name for name in before | after if before.get(name) != after.get(name)}
    return names - {MANIFEST}


def rows(lake: Path, table: str, day: str = "*") -> list[dict]:
    paths = sorted(lake.glob(f"{table}/{day}/*.parquet")) or [lake / table / f"{table}.parquet"]
    return [row for path in paths for row in pyarrow.parquet.ParquetFile(path).read().to_pylist()]


def call_ids(lake: Path, day: str = "*") -> set[str]:
    return {row["call_id"] for row in rows(lake, "calls", day)}


# What is written


@pytest.fixture
def varied_update(store, update):
    """A run on everything: calls and chats of every era, some without a time, quarantine."""
    chance = random.Random(1)
    for body in sorted(PAYLOADS.glob("*.json")):
        at = chance.randrange(DAY_MS, DAY_MS + 4 * 86_400_000)
        received = receive(body.read_bytes(), source="webhook", observed_at=at, received_at=at)
        store.add(received)
    deliver(store, seeded(1, 60))
    return update


@pytest.fixture(scope="module")
def declared(new_database):
    """table -> column -> the type of Parquet for the one that migrations declare."""
    kinds = {"INTEGER": "int64", "REAL": "double", "TEXT": "string", "BLOB": "binary"}
    with closing(connect_readonly(new_database)) as connection:
        return {
            table.name: {
                row[1]: kinds[row[2]]
                for row in connection.execute(f"PRAGMA table_info({table.name})")
            }
            for table in TABLES
        }


@pytest.mark.parametrize("private", [False, True])
def test_the_files_of_a_table_hold_all_its_rows_in_declared_types(
    varied_update, lake, db, declared, private
):
    varied_update(private=private)
    for table in TABLES:
        columns = [name for name in table.names if name != "body"]
        found = sorted((tuple(row[c] for c in columns) for row in rows(lake, table.name)), key=repr)
        query = f"SELECT {', '.join(columns)} FROM {table.name}"
        assert found == sorted(map(tuple, db.execute(query)), key=repr), table.name
        for path in lake.glob(f"{table.name}/**/*.parquet"):
            schema = pyarrow.parquet.read_schema(path)
            assert {f.name: str(f.type) for f in schema} == declared[table.name]


def test_raw_bodies_are_there_only_if_asked_for_and_then_as_they_came(varied_update, lake):
    varied_update(private=True)
    bodies = {row["body"] for row in rows(lake, "observations")}
    kept = {path.read_bytes() for path in PAYLOADS.glob("*.json")} & bodies
    assert len(kept) > 40
    without = varied_update()
    assert {row["body"] for row in rows(lake, "observations")} == {None}
    # What else is there is the same.
    assert without.files == len(list(lake.glob("observations/*/*")))
    varied_update(private=True)
    assert {row["body"] for row in rows(lake, "observations")} == bodies


def test_every_group_of_tables_is_written(varied_update):
    assert {t.name for tables in GROUPS.values() for t in tables} == {t.name for t in TABLES}


def test_a_call_is_of_the_day_it_began_on_and_an_observation_of_that_of_its_arrival(
    store, update, lake
):
    add(store, "early", at=DAY_MS, received=NEXT_DAY_MS)
    add(store, "late", at=NEXT_DAY_MS - 1)
    # Without a start, the day of its report.
    add(store, "failed", at=None, received=DAY_MS)
    for number, at in enumerate([-1, 10**15, 9 * 10**18]):
        add(store, f"timeless{number}", at=at, received=DAY_MS)
    update()
    assert call_ids(lake, DAY) == {"early", "late", "failed"}
    assert call_ids(lake, UNKNOWN) == {"timeless0", "timeless1", "timeless2"}
    assert [row["entity_id"] for row in rows(lake, "observations", NEXT_DAY)] == ["early"]
    assert len(rows(lake, "observations", DAY)) == 5


def test_a_table_without_rows_has_a_file_with_its_columns(update, lake):
    done = update()
    assert (done.files, done.removed, done.current) == (len(TABLES), 0, 0)
    for table in TABLES:
        [path] = lake.glob(f"{table.name}/**/*.parquet")
        assert pyarrow.parquet.read_schema(path).names == list(table.names)
    assert rows(lake, "calls") == []


# What a run touches


def test_a_second_run_writes_nothing_and_another_directory_gets_the_same_bytes(
    varied_update, lake, tmp_path
):
    first = varied_update()
    before = {path: path.stat().st_mtime_ns for path in lake.rglob("*")}
    second = varied_update()
    assert (second.files, second.rows, second.removed) == (0, 0, 0)
    assert first.files > second.current > 5
    assert {path: path.stat().st_mtime_ns for path in lake.rglob("*")} == before
    varied_update(tmp_path / "again")
    assert files(tmp_path / "again") == files(lake)


def test_a_late_event_writes_its_calls_day_and_that_of_its_arrival(store, update, lake):
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
def test_no_clock_hides_what_was_committed_after_a_run(store, update, lake, received):
    add(store, "call", at=DAY_MS, event="call_ended")
    update()
    # Received by another process before, or by one whose clock is behind.
    add(store, "call", at=DAY_MS, received=received, call_analysis={"call_summary": "Late."})
    add(store, "other", at=DAY_MS, received=received)
    update()
    assert call_ids(lake) == {"call", "other"}
    assert [row["call_summary"] for row in rows(lake, "analyses")] == ["Late."]


def test_what_is_committed_during_a_run_is_in_the_next_one(store, update, lake):
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


def test_a_call_that_moves_to_another_day_is_in_one_of_them(store, update, lake):
    add(store, "call", at=None, received=DAY_MS, event="call_started", call_status="registered")
    add(store, "other", at=DAY_MS)
    update()
    assert call_ids(lake, DAY) == {"call", "other"}
    add(store, "call", at=NEXT_DAY_MS, event="call_ended")
    update()
    assert call_ids(lake, DAY) == {"other"}
    assert call_ids(lake, NEXT_DAY) == {"call"}


def test_an_erased_call_leaves_its_files_and_its_tombstone_comes(store, db, update, lake):
    add(store, "erased", at=DAY_MS, transcript="hello", agent_name="someone")
    add(store, "kept", at=NEXT_DAY_MS, transcript="hello")
    update(private=True)
    assert call_ids(lake) == {"erased", "kept"}
    db.execute("INSERT INTO erasures (entity_id, erased_at, reason) VALUES ('erased', 1, 'asked')")
    db.execute("UPDATE observations SET body = NULL, event = NULL WHERE entity_id = 'erased'")
    rebuild(store, progress=silent)
    done = update(private=True)
    assert done.removed > 1
    assert call_ids(lake) == {"kept"}
    assert not (lake / "calls" / DAY).exists()
    assert [row["entity_id"] for row in rows(lake, "erasures")] == ["erased"]
    [said] = [row for row in rows(lake, "observations") if row["entity_id"] == "erased"]
    assert (said["body"], said["event"]) == (None, None)
    assert not [name for name, content in files(lake).items() if b"someone" in content]


def test_days_that_are_not_in_the_database_any_more_go(store, db, update, lake):
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


def test_a_file_that_is_gone_is_written_again_and_strangers_stay(store, update, lake):
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


def test_without_its_manifest_all_is_written_anew_to_the_same_bytes(store, update, lake):
    add(store, "call", at=DAY_MS, transcript="hello")
    update()
    before = files(lake)
    for broken in (None, b"", b"{", b"[]", b'{"format": 0}'):
        (lake / MANIFEST).unlink()
        if broken is not None:
            (lake / MANIFEST).write_bytes(broken)
        assert update().current == 0
        assert files(lake) == before


# Runs that end early


KILLED = """
import os, signal, sys
from receiver import config
from receiver.export import export_partitions, partitions

def dies(done, of):
    if of and done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

partitions._SAVED_ROWS = 1
export_partitions(config.load(), sys.argv[1], private=False, progress=dies)
"""


def test_after_a_kill_the_next_run_goes_on_and_nothing_is_half(store, update, settings, lake):
    for n in range(3):
        add(store, f"call{n}", at=DAY_MS + n * 86_400_000)
    update(lake.parent / "whole")
    whole = files(lake.parent / "whole")
    environ = os.environ | {"CALLHOUSE_DATABASE_URL": url_of(settings.database)}
    command = [sys.executable, "-c", KILLED, lake, "7"]
    assert subprocess.run(command, env=environ, check=False).returncode == -signal.SIGKILL
    left = files(lake)
    assert 7 < len(left) < len(whole)
    assert changed(left, {name: whole[name] for name in left}) == set()
    # Where a kill can hit while a file is written.
    (lake / "calls" / UNKNOWN / ".calls.parquet.0123abcd.part").write_bytes(b"PAR1")
    assert update().current == 7
    assert files(lake) == whole


def test_a_day_whose_files_were_being_replaced_is_replaced_again(store, update, lake):
    add(store, "call", at=DAY_MS, event="call_ended")
    update()
    before = files(lake)

    def stops(done, of):
        if of and done == 1:
            raise KeyboardInterrupt

    add(store, "call", at=DAY_MS, received=DAY_MS + 1, transcript="hello")
    with pytest.raises(KeyboardInterrupt):
        update(progress=stops)
    assert changed(before, files(lake)) != set()
    # What a restored backup would look like: again what the first manifest said.
    said = json.loads((lake / MANIFEST).read_bytes())["parts"]
    assert DAY.removeprefix("day=") not in said.get("observations", {})
    update()
    update(lake.parent / "anew")
    assert files(lake) == files(lake.parent / "anew")


def test_a_directory_that_cannot_be_written_is_an_error_and_the_next_run_goes_on(update, lake):
    lake.mkdir()
    (lake / "chats").write_text("in the way")
    with pytest.raises(ExportFailed, match="cannot write") as error:
        update()
    assert "Run it again" in error.value.hint
    (lake / "chats").unlink()
    assert update().files == len(TABLES)


def test_two_runs_do_not_write_over_each_other(settings, run, update, lake):
    with snapshot(settings.database, timezone=None, private=False) as other, other.alone():
        result = run("--parquet", lake, "--partition", "day")
    assert (result.exit_code, "is running" in result.output) == (1, True)
    assert update().files > 0


# The command


def test_the_command_says_what_it_did(store, run, lake):
    add(store, "call", at=DAY_MS)
    first, second = (run("--parquet", lake, "--partition", "day") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "0 files written with 0 rows, 0 removed" in second.output
    assert "days and tables had not changed" in second.output
    assert call_ids(lake) == {"call"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--parquet", "lake"], "--parquet needs --partition day"),
        (["--partition", "day"], "--partition needs --parquet DIR"),
        (["--parquet", "lake", "--partition", "hour"], "'hour' is not 'day'"),
        (["calls", "--parquet", "lake", "--partition", "day"], "only --private"),
        (["--parquet", "lake", "--partition", "day", "--to", "x.db"], "only --private"),
        (["--parquet", "lake", "--partition", "day", "--format", "csv"], "only --private"),
        (["--parquet", "lake", "--partition", "day", "--since", "2026-05-12"], "only --private"),
        (["--parquet", "lake", "--partition", "day", "--timezone", "UTC"], "only --private"),
        (["--parquet", "a_file", "--partition", "day"], "a_file is not a directory"),
        (["--parquet", "no/lake", "--partition", "day"], "not in a directory that exists"),
        (["--parquet", "ftp://key:secret@host/x", "--partition", "day"], "nor a URI"),
        (["--parquet", "s3://", "--partition", "day"], "nor a URI"),
    ],
)
def test_what_cannot_be_asked_is_said_and_is_status_2(run, args, says):
    Path("a_file").touch()
    result = run(*args)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert "secret" not in result.output
    assert not Path("lake").exists()


def test_without_pyarrow_it_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("--parquet", "lake", "--partition", "day")
    assert result.exit_code == 2
    assert "pip install 'callhouse[parquet]'" in result.output
    assert not Path("lake").exists()


def test_without_a_database_it_says_so(run, db_path, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    result = run("--parquet", "lake", "--partition", "day")
    assert (result.exit_code, "there is no database" in result.output) == (1, True)
    assert list(tmp_path.iterdir()) == [db_path]


# Other places


def test_a_file_uri_is_a_directory(store, update, lake):
    add(store, "call", at=DAY_MS)
    update(lake.as_uri())
    assert call_ids(lake) == {"call"}
    assert update().files == 0


@pytest.fixture
def bucket(monkeypatch):
    """The URI of an empty bucket on a store of this machine."""
    server = pytest.importorskip(
        "moto.server", reason="waits for moto: pip install '.[dev-all]'"
    ).ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.start()
    host, port = server.get_host_and_port()
    options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    store, _ = pyarrow.fs.FileSystem.from_uri(f"s3://lake/?{options}&allow_bucket_creation=true")
    store.create_dir("lake")
    yield f"s3://lake/calls?{options}"
    server.stop()


def test_an_object_store_gets_the_same_files(store, update, lake, bucket):
    add(store, "moves", at=None, received=DAY_MS, event="call_started")
    add(store, "stays", at=DAY_MS + 86_400_000 * 2)
    update()
    update(bucket)
    add(store, "moves", at=NEXT_DAY_MS, transcript="hello")
    assert update(bucket) == update()
    assert update(bucket).files == 0
    remote, root = pyarrow.fs.FileSystem.from_uri(bucket)
    found = remote.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
    contents = {
        info.path.removeprefix(f"{root}/"): remote.open_input_stream(info.path).read()
        for info in found
        if info.is_file
    }
    assert contents == files(lake)
