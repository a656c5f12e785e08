"""The command that writes all tables by day."""

import sys
from pathlib import Path

import pytest

from tests.support.exporting import DAY_MS
from tests.transfer.days.lake import add, call_ids

pytestmark = pytest.mark.slow_on_postgres


def test_the_command_says_what_it_did(store, run_on_store, lake):
    add(store, "call", at=DAY_MS)
    first, second = (run_on_store("--parquet", lake, "--partition", "day") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "0 files written (0 rows), 0 removed" in second.output
    assert "days and tables unchanged" in second.output
    assert call_ids(lake) == {"call"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--parquet", "lake"], "--parquet needs --partition day"),
        (["--partition", "day"], "--partition needs --parquet DIR"),
        (["--parquet", "lake", "--partition", "hour"], "'hour' is not 'day'"),
        (["calls", "--parquet", "lake", "--partition", "day"], "combined with --private"),
        (
            ["--parquet", "lake", "--partition", "day", "--to", "x.db"],
            "combined with --private",
        ),
        (
            ["--parquet", "lake", "--partition", "day", "--format", "csv"],
            "combined with --private",
        ),
        (
            ["--parquet", "lake", "--partition", "day", "--since", "2026-05-12"],
            "combined with --private",
        ),
        (
            ["--parquet", "lake", "--partition", "day", "--timezone", "UTC"],
            "combined with --private",
        ),
        (["--parquet", "a_file", "--partition", "day"], "a_file is not a directory"),
        (["--parquet", "no/lake", "--partition", "day"], "not in a directory that exists"),
        (["--parquet", "ftp://key:secret@host/x", "--partition", "day"], "nor a URI"),
        (["--parquet", "s3://", "--partition", "day"], "nor a URI"),
    ],
)
def test_invalid_request_is_status_2(run_on_store, args, says):
    Path("a_file").touch()
    result = run_on_store(*args)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert "secret" not in result.output
    assert not Path("lake").exists()


def test_without_pyarrow_it_names_the_extra(run_on_store, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run_on_store("--parquet", "lake", "--partition", "day")
    assert result.exit_code == 2
    assert "pip install 'callhouse[parquet]'" in result.output
    assert not Path("lake").exists()


def test_without_a_database_it_says_so(run_on_store, db_path, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    result = run_on_store("--parquet", "lake", "--partition", "day")
    assert (result.exit_code, "there is no database" in result.output) == (1, True)
    assert list(tmp_path.iterdir()) == [db_path]
