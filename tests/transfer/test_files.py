"""What is stored, as files that other programs read: every value, in every format.

What a file of SQLite's gives; tests/transfer/postgres/ compares it with what a server gives.
"""

import csv
import io
import json
import sys
from contextlib import closing

import pyarrow.parquet
import pytest

from receiver.cli import main
from receiver.store import sql
from receiver.store.connection import sqlite3
from receiver.transfer.formats import defused
from schema.sql.views import views
from schema.tables import TABLES, TIMESTAMPS
from tests.support import ROOT
from tests.support.exporting import CALL, lines, stored
from tests.support.tables import dump

pytestmark = pytest.mark.slow_on_postgres


@pytest.fixture
def day_rows(day_path):
    """The rows of a query, by another connection."""
    with closing(sqlite3.connect(day_path)) as connection:
        yield lambda query: connection.execute(query).fetchall()


def whole(name):
    """All of a table or view in the order of an export, which lists the newest calls first."""
    order = " ORDER BY started_at_ms DESC, call_id" if name == "call_log" else ""
    return f"SELECT * FROM {name}{order}"


def test_every_option_is_documented():
    text = (ROOT / "docs/reference/exporting.md").read_text(encoding="utf-8")
    options = [o.opts[0] for o in main.commands["export"].params if o.opts[0].startswith("--")]
    assert [name for name in options if f"| `{name}` |" not in text] == []
    assert [name for name in TIMESTAMPS if f"`{name}`" not in text] == []
    assert [name for name in sql.SINCE if f"| `{name}` |" not in text] == []


# Formats


@pytest.mark.parametrize("name", [*(t.name for t in TABLES if t.name != "observations"), *views()])
def test_newline_json_has_every_value(run, day_rows, name):
    rows = lines(run(name, "--format", "ndjson"))
    assert [tuple(row.values()) for row in rows] == day_rows(whole(name))


def test_csv_has_every_value_as_text(run, day_rows, tmp_path):
    assert run("utterances", "--to", tmp_path / "u.csv").exit_code == 0
    with (tmp_path / "u.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:4] == ["call_id", "track", "position", "role"]
    # An apostrophe before a formula is all that differs.
    expected = [
        ["" if value is None else str(value) for value in row]
        for row in day_rows("SELECT * FROM utterances")
    ]
    assert [[cell.removeprefix("'-") for cell in row] for row in rows] == [
        [cell.removeprefix("-") for cell in row] for row in expected
    ]


@pytest.mark.parametrize("name", ["calls", "latencies", "call_log", "daily_summary"])
def test_parquet_has_every_value_in_its_type(run, day_rows, tmp_path, name):
    assert run(name, "--to", tmp_path / "t.parquet").exit_code == 0
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == day_rows(whole(name))


def test_parquet_types_are_the_declared_ones(run, tmp_path):
    run("SELECT * FROM calls WHERE 0", "--to", tmp_path / "none.parquet")
    run("calls", "--to", tmp_path / "all.parquet")
    none, every = (pyarrow.parquet.read_schema(tmp_path / f"{n}.parquet") for n in ("none", "all"))
    assert none == every
    assert {str(kind) for kind in every.types} == {"string", "int64", "double"}


def test_mixed_parquet_column_has_all_values(run, tmp_path):
    query = "SELECT 1 AS a, 1 AS b, NULL AS c UNION ALL SELECT 2.5, 'two', x'00ff'"
    run(query, "--to", tmp_path / "m.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "m.parquet").to_pylist() == [
        {"a": 1.0, "b": "1", "c": None},
        {"a": 2.5, "b": "two", "c": b"\x00\xff"},
    ]


def test_parquet_without_pyarrow_names_the_extra(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("calls", "--to", tmp_path / "c.parquet")
    assert result.exit_code == 2
    assert "pip install 'callhouse[parquet]'" in result.output
    assert list(tmp_path.glob("*c.parquet*")) == []


def test_zone_option_recounts_days(run, day_rows, tmp_path):
    run("hourly_calls", "--to", tmp_path / "utc.csv")
    run("hourly_calls", "--to", tmp_path / "local.csv", "--timezone", "Asia/Kolkata")
    utc, local = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        for name in ("utc.csv", "local.csv")
    )
    assert local[0].keys() == utc[0].keys()
    assert {int(row["hour"]) % 3_600_000 for row in local} == {1_800_000}
    [(calls,)] = day_rows("SELECT count(*) FROM calls")
    assert sum(int(row["calls"]) for row in local) == calls


def test_sqlite_file_of_a_view_has_rows(run, day_rows, tmp_path):
    assert run("call_log", "--to", tmp_path / "log.sqlite").exit_code == 0
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as connection:
        rows = connection.execute("SELECT * FROM call_log").fetchall()
    assert rows == day_rows(whole("call_log"))


def test_copy_is_one_file_without_raw_bodies(run, day_path, tmp_path):
    copy = tmp_path / "copy.db"
    assert run("--to", copy, "--timezone", "Asia/Kolkata").exit_code == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy.db"]
    with closing(sqlite3.connect(copy)) as made, closing(sqlite3.connect(day_path)) as original:
        copied, first = dump(made, observations=False), dump(original, observations=False)
        assert copied == first
        assert made.execute("SELECT count(*), count(body) FROM observations").fetchone()[1] == 0
        assert made.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        made.execute(
            "INSERT INTO transcripts_fts (transcripts_fts, rank) VALUES ('integrity-check', 1)"
        )
        assert made.execute("SELECT started_at FROM call_log").fetchone()[0].endswith("+05:30")
        bodies = original.execute("SELECT body FROM observations WHERE body IS NOT NULL")
        content = copy.read_bytes()
        assert not any(body[-200:] in content for (body,) in bodies)


def test_a_private_copy_holds_raw_bodies(run, day_path, tmp_path):
    run("--to", tmp_path / "copy.db", "--private")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as made:
        assert made.execute("SELECT count(body) FROM observations").fetchone()[0] > 0


# Cells


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+1-415-555", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "+", "-", "-3.5e"],
)
def test_a_formula_is_defused(formula):
    assert defused(formula) == f"'{formula}"


@pytest.mark.parametrize("value", [-3.5, -3, "-3.5", "+14155550100", "+5", "a=1", "", None, "'=1"])
def test_numbers_and_plain_text_are_unchanged(value):
    assert defused(value) == value


def test_formula_is_escaped_in_csv_only(run_on_store, store):
    summary = '=HYPERLINK("https://example.com")'
    stored(store, CALL | {"call_analysis": {"call_summary": summary}})
    [row] = csv.DictReader(io.StringIO(run_on_store("analyses").stdout))
    assert row["call_summary"] == f"'{summary}"
    assert lines(run_on_store("analyses", "--format", "ndjson"))[0]["call_summary"] == summary
    [call] = csv.DictReader(io.StringIO(run_on_store("calls").stdout))
    assert call["from_number"] == "+14155550100"


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "sqlite"])
def test_any_text_can_be_written(run, tmp_path, form):
    query = (
        "SELECT char(0) || 'a' AS nul, CAST(x'eda0bd' AS TEXT) AS surrogate, "
        "CAST(x'ff' AS TEXT) AS broken, replace(hex(zeroblob(2000000)), '0', 'é') AS huge, "
        """'a,"b"' || char(10) AS quoted"""
    )
    assert run(query, "--to", tmp_path / "t", "--format", form).exit_code == 0
    content = (tmp_path / "t").read_bytes()
    if form == "ndjson":
        row = json.loads(content)
        assert (row["nul"], len(row["huge"])) == ("\0a", 4_000_000)
        assert row["broken"] == "\ufffd"
        assert set(row["surrogate"]) == {"\ufffd"}
    if form == "csv":
        content.decode()


def test_columns_of_one_name_are_all_kept(run):
    query = 'SELECT 1 AS a, 2 AS a, 3 AS "it\'s"'
    assert list(lines(run(query, "--format", "ndjson"))[0].values()) == [1, 2, 3]


def test_the_order_of_a_query_is_kept(run, day_rows):
    query = "SELECT call_id FROM calls ORDER BY agent_name DESC, duration_ms, call_id DESC"
    rows = lines(run(query, "--format", "ndjson", "--since", "2026-05-01"))
    assert [(row["call_id"],) for row in rows] == day_rows(query)
