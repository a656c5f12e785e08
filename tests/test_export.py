"""What is stored, as files that other programs read.

What a file of SQLite's gives; tests/test_postgres_export.py compares it with what a server gives.
"""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pyarrow.parquet
import pytest
from click.testing import CliRunner
from exporting import silent, url_of

from receiver.cli import main
from receiver.errors import ExportFailed
from receiver.export import Export
from receiver.export import export as write
from receiver.export.formats import defused
from receiver.sandbox.day import day
from receiver.store import Store, migrate, receive, snapshot, sql
from receiver.store.connection import sqlite3
from schema.tables import TABLES, TIMESTAMPS
from schema.views import views
from tests.conftest import dump

DAY_MS = 1_778_544_000_000  # 2026-05-12
CALL = {"call_id": "c", "from_number": "+14155550100", "start_timestamp": DAY_MS}


@pytest.fixture(scope="module")
def day_path(tmp_path_factory):
    """A file with the sandbox's day; no test changes it."""
    path = tmp_path_factory.mktemp("day") / "retell.db"
    migrate(path, timezone="UTC")
    with closing(Store(path)) as store:
        for sent in day(1, day_start_ms=DAY_MS, calls=60):
            add(store, sent.body, sent.at_ms)
    return path


@pytest.fixture
def run(monkeypatch, day_path):
    """`callhouse export` on the sandbox's day."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{day_path}")
    return lambda *args: CliRunner().invoke(main, ["export", *map(str, args)])


@pytest.fixture
def run_on_store(monkeypatch, settings):
    """The same on the test's own database."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(settings.database))
    return lambda *args: CliRunner().invoke(main, ["export", *map(str, args)])


@pytest.fixture
def day_rows(day_path):
    """The rows of a query, by another connection."""
    with closing(sqlite3.connect(day_path)) as connection:
        yield lambda query: connection.execute(query).fetchall()


def add(store, body, at_ms):
    store.add(receive(body, source="webhook", observed_at=at_ms, received_at=at_ms))


def stored(store, call, at_ms=DAY_MS, event="call_analyzed"):
    add(store, json.dumps({"event": event, "call": call}).encode(), at_ms)


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_option_is_documented():
    text = (Path(__file__).parent.parent / "docs" / "exporting.md").read_text(encoding="utf-8")
    options = [o.opts[0] for o in main.commands["export"].params if o.opts[0].startswith("--")]
    assert [name for name in options if f"| `{name}` |" not in text] == []
    assert [name for name in TIMESTAMPS if f"`{name}`" not in text] == []
    assert [name for name in sql.SINCE if f"| `{name}` |" not in text] == []


# Formats


@pytest.mark.parametrize("name", [*(t.name for t in TABLES if t.name != "observations"), *views()])
def test_newline_json_has_every_value_of_every_table_and_view(run, day_rows, name):
    rows = lines(run(name, "--format", "ndjson"))
    assert [tuple(row.values()) for row in rows] == day_rows(f"SELECT * FROM {name}")


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
    assert [tuple(row.values()) for row in table.to_pylist()] == day_rows(f"SELECT * FROM {name}")


def test_parquet_types_are_the_columns_whatever_a_day_holds(run, tmp_path):
    run("SELECT * FROM calls WHERE 0", "--to", tmp_path / "none.parquet")
    run("calls", "--to", tmp_path / "all.parquet")
    none, every = (pyarrow.parquet.read_schema(tmp_path / f"{n}.parquet") for n in ("none", "all"))
    assert none == every
    assert {str(kind) for kind in every.types} == {"string", "int64", "double"}


def test_a_parquet_column_of_mixed_values_holds_them_all(run, tmp_path):
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


def test_figures_in_another_zone_are_counted_anew_under_the_same_names(run, day_rows, tmp_path):
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


def test_a_sqlite_file_of_one_view_holds_its_rows(run, day_rows, tmp_path):
    assert run("call_log", "--to", tmp_path / "log.sqlite").exit_code == 0
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as connection:
        rows = connection.execute("SELECT * FROM call_log").fetchall()
    assert rows == day_rows("SELECT * FROM call_log")


def test_a_copy_is_one_file_with_everything_but_raw_bodies(run, day_path, tmp_path):
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
def test_numbers_telephone_numbers_and_other_text_stay_as_they_are(value):
    assert defused(value) == value


def test_a_formula_from_a_caller_is_text_in_the_csv_and_itself_in_json(run_on_store, store):
    said = '=HYPERLINK("https://example.com")'
    stored(store, CALL | {"call_analysis": {"call_summary": said}})
    [row] = csv.DictReader(io.StringIO(run_on_store("analyses").stdout))
    assert row["call_summary"] == f"'{said}"
    assert lines(run_on_store("analyses", "--format", "ndjson"))[0]["call_summary"] == said
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


# Time


def test_times_are_written_in_the_readers_zone(run_on_store, store):
    stored(store, CALL)
    berlin = ("--format", "ndjson", "--timezone", "Europe/Berlin")
    [call] = lines(run_on_store("calls", *berlin))
    assert call["start_timestamp"] == call["updated_at"] == "2026-05-12T02:00:00.000+02:00"
    assert call["end_timestamp"] is None
    [log] = lines(run_on_store("call_log", *berlin))
    assert log["started_at"] == "2026-05-12T02:00:00+02:00"
    assert lines(run_on_store("calls", "--format", "ndjson"))[0]["start_timestamp"] == DAY_MS


def test_a_time_that_no_calendar_has_stays_a_number(run):
    query = "SELECT 9000000000000000000 AS start_timestamp"
    [row] = lines(run(query, "--format", "ndjson", "--timezone", "UTC"))
    assert row == {"start_timestamp": "9000000000000000000"}


def test_every_column_that_says_it_is_a_time_is_written_as_one():
    said = {
        name
        for table in TABLES
        for name, words in table.columns.items()
        if "milliseconds" in words and words.startswith(("When", "Start", "End"))
    }
    assert said | {"started_at_ms"} == TIMESTAMPS


def test_since_a_day_are_the_calls_that_changed_on_it_and_all_their_rows(run_on_store, store):
    said = {"transcript_object": [{"role": "user", "content": "Hello", "words": []}]}
    stored(store, CALL | said | {"call_id": "old"}, DAY_MS - 1)
    stored(store, CALL | said | {"call_id": "new"}, DAY_MS)
    # Began long before, changed on the day.
    stored(store, CALL | said | {"call_id": "late", "start_timestamp": 1}, DAY_MS - 9, "call_ended")
    stored(store, CALL | said | {"call_id": "late", "start_timestamp": 1}, DAY_MS + 1)
    for what in ("calls", "utterances", "call_log", "SELECT call_id FROM calls"):
        rows = lines(run_on_store(what, "--format", "ndjson", "--since", "2026-05-12"))
        assert {row["call_id"] for row in rows} == {"new", "late"}, what
    rows = lines(run_on_store("observations", "--format", "ndjson", "--since", "2026-05-12"))
    assert {row["entity_id"] for row in rows} == {"new", "late"}
    # The day begins where its reader is.
    west = run_on_store("calls", "--since", "2026-05-12", "--timezone", "America/New_York")
    assert west.stdout.count("\n") == 1


def test_since_a_day_are_the_days_from_it_on(run):
    assert lines(run("daily_summary", "--format", "ndjson", "--since", "2026-05-12"))
    assert not lines(run("daily_summary", "--format", "ndjson", "--since", "2026-05-14"))


def test_since_a_day_needs_something_to_cut_by(run):
    result = run("tool_scorecard", "--since", "2026-05-12")
    assert result.exit_code == 2
    assert "--since cannot cut this" in result.output


# What is refused


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM calls",
        "ATTACH 'other.db' AS other",
        "PRAGMA journal_mode = delete",
        "SELECT 1) ; DELETE FROM calls WHERE (1",
        "SELECT * FROM pragma_journal_mode",
        "VACUUM INTO 'other.db'",
        "INSERT INTO calls (call_id) VALUES ('x') RETURNING call_id",
        "SELECT load_extension('x')",
    ],
)
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_sql_cannot_write_or_attach(run, day_path, tmp_path, query, form):
    before = day_path.read_bytes()
    result = run(query, "--to", tmp_path / "t", "--format", form)
    assert result.exit_code == 2
    assert "SQLite:" in result.output
    assert day_path.read_bytes() == before
    assert not (tmp_path / "other.db").exists()
    assert not (tmp_path / "t").exists()


def test_private_columns_read_as_null_unless_asked_for(run):
    query = "SELECT coalesce(body, 'nothing') AS b, count(body) AS n FROM observations"
    assert lines(run(query, "--format", "ndjson")) == [{"b": "nothing", "n": 0}]
    assert lines(run(query, "--format", "ndjson", "--private"))[0]["n"] > 0


def test_the_search_index_can_be_asked(run):
    query = "SELECT count(*) AS n FROM transcripts_fts WHERE transcripts_fts MATCH 'the'"
    assert lines(run(query, "--format", "ndjson"))[0]["n"] > 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["SELECT nope FROM calls"], "no such column: nope"),
        (["callz"], "Did you mean calls?"),
        ([], "csv holds one table"),
        (["calls", "--to", "x.txt"], "does not say in which format"),
        (["calls", "--to", "nowhere/x.csv"], "not a file in a folder"),
        (["calls", "--format", "sqlite"], "Give --to FILE"),
        (["--to", "x.db", "--since", "2026-05-12"], "--since needs"),
        (["calls", "--timezone", "Mars"], "IANA time zone"),
        (["calls", "--since", "yesterday"], "yesterday"),
    ],
)
def test_what_cannot_be_asked_is_said_and_is_status_2(run, args, says):
    result = run(*args)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_the_database_itself_is_never_written_over(run, day_path):
    before = day_path.read_bytes()
    result = run("calls", "--to", day_path, "--format", "csv")
    assert result.exit_code == 2
    assert "the database itself" in result.output
    assert day_path.read_bytes() == before


def test_without_a_database_it_says_so(run, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    result = run("calls")
    assert result.exit_code == 1
    assert "there is no database" in result.output


# Whole or not at all


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "sqlite"])
def test_a_query_that_fails_half_way_leaves_the_file_that_was_there(run, tmp_path, form):
    (tmp_path / "t").write_text("before")
    query = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        "SELECT i, json_extract(CASE i WHEN 3000 THEN '{' ELSE '1' END, '$') AS j FROM n"
    )
    result = run(query, "--to", tmp_path / "t", "--format", form)
    assert (result.exit_code, "malformed JSON" in result.output) == (2, True)
    assert (tmp_path / "t").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(day_path, tmp_path, sent):
    # After its last row, SQLite goes on for ever without a word.
    endless = (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i FROM n WHERE i < 100000"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", "export", endless, "--to", tmp_path / "t.csv"],
        env=os.environ | {"CALLHOUSE_DATABASE_URL": f"sqlite:///{day_path}"},
        stderr=subprocess.PIPE,
    ) as process:
        while not any(path.stat().st_size > 580_000 for path in tmp_path.glob(".t.csv.*.part")):
            assert process.poll() is None
            time.sleep(0.05)
        # By now it is in the silence.
        time.sleep(0.5)
        process.send_signal(sent)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert list(tmp_path.glob("*t.csv*")) == []


def test_a_full_disk_is_an_error_that_says_so(settings):
    asked = Export(what="SELECT 1 AS n", to=Path("/dev/full"), format="csv")
    with pytest.raises(ExportFailed, match="No space left"):
        write(settings, asked, progress=silent)


def test_what_is_written_meanwhile_is_not_in_the_export(settings, store, tmp_path):
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


def test_what_is_written_while_it_is_copied_is_not_in_the_copy(db_path, settings, store, tmp_path):
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


def test_a_copy_is_of_the_moment_that_is_read(db_path, store, tmp_path):
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
