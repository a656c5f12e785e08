"""An export is of one moment, and whole or not at all."""

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from receiver.errors import ExportFailed
from receiver.store.postgres.advisory_locks import TRY_EXPORT_DAYS
from receiver.transfer import Export
from receiver.transfer import export as write
from tests.support.exporting import settings_of
from tests.support.postgres import looking, name_of
from tests.support.running import wait_until
from tests.support.storing import add

# Goes on for a while between two rows, and for ever after some.
SLOW = "SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 3000000) n"
SILENT = "SELECT n FROM generate_series(1, 1) n, pg_sleep(60)"


def test_rows_written_meanwhile_are_not_exported(pg, store, tmp_path):
    for name in ("a", "b", "c"):
        add(store, "call_ended", name)
    told = []

    def meanwhile(done, of):
        told.append(done)
        add(store, "call_ended", f"d{len(told)}")

    again = "SELECT call_id FROM generate_series(1, 1000) CROSS JOIN calls"
    for form in ("csv", "sqlite", "parquet"):
        before = 3 + len(told)
        asked = Export(again, tmp_path / "t", format=form)
        assert write(settings_of(pg), asked, progress=meanwhile) == 1000 * before
    assert len(told) > 9


def active(postgres, pg) -> int:
    """How many queries of others the server carries out in the database."""
    with psycopg.connect(postgres.url("postgres").url) as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state <> 'idle' "
            "AND application_name = 'callhouse'"
        )
        return connection.execute(query, (name_of(pg),)).fetchone()[0]


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        (SLOW, signal.SIGINT),
        pytest.param(SLOW, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(SILENT, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(SILENT, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_interrupted_export_leaves_no_file_or_query(postgres, pg, tmp_path, sent, query):
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "export", query, "--to", tmp_path / "t.csv"],
        env=os.environ | {"CALLHOUSE_DATABASE_URL": pg.url},
        stderr=subprocess.PIPE,
    ) as process:
        wait_until(lambda: [*tmp_path.glob(".t.csv.*.part")] and active(postgres, pg))
        time.sleep(0.2)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, b"Traceback" in errors) == (128 + sent, False)
    assert list(tmp_path.glob("*t.csv*")) == []
    wait_until(lambda: active(postgres, pg) == 0)


def test_closed_pipe_ends_the_query(postgres, pg):
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "export", SLOW],
        env=os.environ | {"CALLHOUSE_DATABASE_URL": pg.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert b"Traceback" not in errors
    wait_until(lambda: active(postgres, pg) == 0)


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "sqlite"])
def test_lost_server_leaves_the_old_file(postgres, pg, tmp_path, form):
    (tmp_path / "t").write_text("before")

    def goes_away(done, of):
        with psycopg.connect(postgres.url("postgres").url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (name_of(pg),),
            )

    with pytest.raises(ExportFailed, match="could not be read") as error:
        write(settings_of(pg), Export(SLOW, tmp_path / "t", format=form), progress=goes_away)
    assert "xxx" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert (tmp_path / "t").read_text() == "before"


def test_failed_query_leaves_the_old_file(run, tmp_path):
    (tmp_path / "t.csv").write_text("before")
    result = run(
        "SELECT 1 / (3000 - n) FROM generate_series(1, 5000) n", "--to", tmp_path / "t.csv"
    )
    assert (result.exit_code, "DivisionByZero" in result.output) == (2, True)
    assert (tmp_path / "t.csv").read_text() == "before"


def test_unreachable_or_empty_server_is_reported(postgres, run, monkeypatch, tmp_path):
    for url, says in (
        ("postgresql://callhouse@/x?host=/nowhere", "nothing listens there"),
        (postgres.create().url, "callhouse migrate"),
    ):
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url)
        for args in (["calls"], ["--parquet", tmp_path / "lake", "--partition", "day"]):
            result = run(*args)
            assert (result.exit_code, says in " ".join(result.output.split())) == (1, True)
    assert not (tmp_path / "lake").exists()


def test_concurrent_partition_runs_exclude_each_other(run, pg, tmp_path):
    with looking(pg) as session:
        session.raw.execute("BEGIN")
        session.raw.execute(TRY_EXPORT_DAYS)
        result = run("--parquet", tmp_path / "lake", "--partition", "day")
        assert (result.exit_code, "is running" in result.output) == (1, True)
    assert run("--parquet", tmp_path / "lake", "--partition", "day").exit_code == 0
