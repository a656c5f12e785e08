"""A file is exported whole or not at all: of one moment, whatever fails, stops it or is written."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from receiver.errors import ExportFailed
from receiver.store import snapshot
from receiver.store.connection import sqlite3
from receiver.transfer import Export
from receiver.transfer import export as write
from tests.support.exporting import silent, stored

pytestmark = pytest.mark.slow_on_postgres


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "sqlite"])
def test_failed_query_leaves_the_old_file(run, tmp_path, form):
    (tmp_path / "t").write_text("before")
    query = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "SELECT i, json_extract(CASE i WHEN 3000 THEN '{' ELSE '1' END, '$') AS j FROM n"
    )
    result = run(query, "--to", tmp_path / "t", "--format", form)
    assert (result.exit_code, "malformed JSON" in result.output) == (2, True)
    assert (tmp_path / "t").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize(
    "sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_export_leaves_nothing(day_path, tmp_path, sent):
    # After its last row, SQLite goes on for ever without a word.
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i FROM n WHERE i < 100000"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "export", endless, "--to", tmp_path / "t.csv"],
        env=os.environ | {"CALLHOUSE_DATABASE_URL": f"sqlite:///{day_path}"},
        stderr=subprocess.PIPE,
    ) as process:
        while not any(path.stat().st_size > 580_000 for path in tmp_path.glob(".t.csv.*.part")):
            assert process.poll() is None
            time.sleep(0.05)
        # By now it is in the silence.
        time.sleep(0.5)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + sent
    assert errors.count(b"\n") == 1
    assert list(tmp_path.glob("*t.csv*")) == []


def test_full_disk_is_reported(settings):
    asked = Export(what="SELECT 1 AS n", to=Path("/dev/full"), format="csv")
    with pytest.raises(ExportFailed, match="No space left"):
        write(settings, asked, progress=silent)


def test_rows_written_meanwhile_are_not_exported(settings, store, tmp_path):
    for name in ("a", "b", "c"):
        stored(store, {"call_id": name})
    told = []

    def meanwhile(done, of):
        told.append((done, of))
        stored(store, {"call_id": f"d{len(told)}"})

    # Reads calls again and again.
    again = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
        "SELECT call_id FROM n CROSS JOIN calls"
    )
    for form in ("csv", "sqlite", "parquet"):
        before = 3 + len(told)
        asked = Export(what=again, to=tmp_path / "t", format=form)
        assert write(settings, asked, progress=meanwhile) == 1000 * before
    assert len(told) > 9


def test_rows_written_meanwhile_are_not_copied(db_path, settings, store, tmp_path):
    told = []

    def meanwhile(done, of):
        told.append(done)
        stored(store, {"call_id": f"d{len(told)}"})

    write(settings, Export(what="", to=tmp_path / "copy.db"), progress=meanwhile)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        # Each word of progress comes after the copy's moment.
        assert copy.execute("SELECT count(*) FROM calls").fetchone()[0] < len(told)


def test_everything_read_is_of_one_moment(settings, store):
    with snapshot(settings.database, timezone=None, private=False) as moment:
        query = "SELECT call_id FROM calls"
        assert not [*moment.read(query, since=None, typed=True).rows]
        stored(store, {"call_id": "after"})
        for what in ("calls", "call_log", query):
            assert not [*moment.read(what, since=None, typed=True).rows]


def test_copy_is_of_one_moment(db_path, store, tmp_path):
    stored(store, {"call_id": "before"})
    with snapshot(db_path, timezone=None, private=False) as moment:
        stored(store, {"call_id": "after"})
        moment.copy(tmp_path / "copy.db", progress=silent)
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT call_id FROM calls").fetchall() == [("before",)]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(day_path, tmp_path):
    program = (
        "import resource, sys\n"
        "from receiver.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    query = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
        "SELECT i, printf('%.500c', 'x') AS text FROM n"
    )

    command = [sys.executable, "-c", program, "export"]

    def megabytes(rows, form):
        printed = subprocess.run(
            [*command, query.format(rows), "--to", tmp_path / "t", "--format", form],
            env=os.environ | {"CALLHOUSE_DATABASE_URL": f"sqlite:///{day_path}"},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        return int(printed)

    # 100 MB of rows; a row group is 16 MB in several shapes.
    for form, more in {"csv": 50, "ndjson": 50, "sqlite": 50, "parquet": 160}.items():
        assert megabytes(200_000, form) < megabytes(1, form) + more, form
