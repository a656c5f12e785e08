"""What an export can be asked for: times in a zone, calls since a day, and nothing that writes."""

import pytest

from schema.tables import TABLES, TIMESTAMPS, WORK_TABLES
from tests.support.exporting import CALL, DAY_MS, lines, stored

pytestmark = pytest.mark.slow_on_postgres


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


def test_time_outside_the_calendar_stays_a_number(run):
    query = "SELECT 9000000000000000000 AS start_timestamp"
    [row] = lines(run(query, "--format", "ndjson", "--timezone", "UTC"))
    assert row == {"start_timestamp": "9000000000000000000"}


def test_every_time_column_is_written_as_time():
    written = {
        name
        for table in (*TABLES, *WORK_TABLES)
        for name, words in table.columns.items()
        if "milliseconds" in words and words.startswith(("When", "Start", "End"))
    }
    assert written == TIMESTAMPS


def test_since_exports_changed_calls_with_all_rows(run_on_store, store):
    transcript = {"transcript_object": [{"role": "user", "content": "Hello", "words": []}]}
    stored(store, CALL | transcript | {"call_id": "old"}, DAY_MS - 1)
    stored(store, CALL | transcript | {"call_id": "new"}, DAY_MS)
    # Began long before, changed on the day.
    stored(
        store,
        CALL | transcript | {"call_id": "late", "start_timestamp": 1},
        DAY_MS - 9,
        "call_ended",
    )
    stored(store, CALL | transcript | {"call_id": "late", "start_timestamp": 1}, DAY_MS + 1)
    for what in ("calls", "utterances", "call_log", "SELECT call_id FROM calls"):
        rows = lines(run_on_store(what, "--format", "ndjson", "--since", "2026-05-12"))
        assert {row["call_id"] for row in rows} == {"new", "late"}, what
    rows = lines(run_on_store("observations", "--format", "ndjson", "--since", "2026-05-12"))
    assert {row["entity_id"] for row in rows} == {"new", "late"}
    # The day begins where its reader is.
    west = run_on_store("calls", "--since", "2026-05-12", "--timezone", "America/New_York")
    assert west.stdout.count("\n") == 1


def test_since_exports_later_days(run):
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
        ([], "a csv file has one table"),
        (["calls", "--to", "x.txt"], "the format of"),
        (["calls", "--to", "nowhere/x.csv"], "is a folder, or its folder"),
        (["calls", "--format", "sqlite"], "Add --to FILE"),
        (["--to", "x.db", "--since", "2026-05-12"], "--since needs"),
        (["calls", "--timezone", "Mars"], "IANA time zone"),
        (["calls", "--since", "yesterday"], "yesterday"),
    ],
)
def test_invalid_request_is_status_2(run, args, says):
    result = run(*args)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_the_database_itself_is_never_written_over(run, day_path):
    before = day_path.read_bytes()
    result = run("calls", "--to", day_path, "--format", "csv")
    assert result.exit_code == 2
    assert "belongs to the database" in result.output
    assert day_path.read_bytes() == before


def test_without_a_database_it_says_so(run, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    result = run("calls")
    assert result.exit_code == 1
    assert "there is no database" in result.output
