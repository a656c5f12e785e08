"""`callhouse export` on PostgreSQL: the files that SQLite gives, and nothing that is closed.

Goal: no table, view or query is found of which the files differ, and no SELECT that writes or reads
a raw body. Method: the same deliveries to both engines, and a real server for every query.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import psycopg
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from conftest import wait_until
from engines import url_of
from exporting import silent
from histories import deliver, seeded
from postgres import looking, name_of
from storing import add
from test_postgres_views import tell

from receiver import config
from receiver.cli import main
from receiver.errors import ExportFailed
from receiver.export import Export, export_partitions
from receiver.export import export as write
from receiver.store import migrate, open_store
from receiver.store.postgres.turns import EXPORT_DAYS
from schema.tables import TABLES
from schema.views import views

ROOT = Path(__file__).parent.parent
DAY_MS = 1_778_544_000_000  # 2026-05-12
NAMES = [*(table.name for table in TABLES), *views()]
# The last digits of a sum depend on the order in which it is added.
_NUMBER = re.compile(r"-?\d+\.\d{12,}(e[+-]?\d+)?")
# Times of words are numbers there, and whatever was sent in a file of SQLite's.
_AS_SENT = {"words"}


def settings_of(where):
    return config.load({"CALLHOUSE_DATABASE_URL": url_of(where)})


@pytest.fixture(scope="module")
def both(postgres, tmp_path_factory):
    """A server's database and a file with the same calls of every shape; no test changes them."""
    where = postgres.blank(), tmp_path_factory.mktemp("both") / "retell.db"
    migrate(where[1], timezone="UTC")
    for each in where:
        tell(each)
        store = open_store(each)
        deliver(store, seeded(3, 60))
        store.close()
    return where


@pytest.fixture
def run(pg, monkeypatch):
    """`callhouse export` on the test's database."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", pg.url)
    return lambda *args: CliRunner().invoke(main, ["export", *map(str, args)])


@pytest.fixture
def store(pg):
    store = open_store(pg)
    yield store
    store.close()


def rows(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def one(result):
    [row] = rows(result)
    return row


def execute(where, *statements):
    with looking(where) as session:
        for statement in statements:
            session.raw.execute(statement)


# -- the same files --------------------------------------------------------------------------------


def lines(where, path, name, **how) -> list[str]:
    write(settings_of(where), Export(name, path, **how), progress=silent)
    text = _NUMBER.sub(lambda found: repr(float(f"{float(found[0]):.12g}")), path.read_text())
    first, *rest = text.splitlines() or [""]
    return [first, *sorted(rest)] if path.suffix == ".csv" else sorted([first, *rest])


@pytest.mark.parametrize(
    ("form", "timezone"),
    [("csv", None), pytest.param("ndjson", "Asia/Kolkata", marks=pytest.mark.slow)],
)
def test_every_table_and_view_is_written_as_from_a_file(both, tmp_path, form, timezone):
    for name in NAMES:
        how = {"timezone": timezone, "private": True}
        server, file = (
            lines(where, tmp_path / f"{n}.{form}", name, **how) for n, where in enumerate(both)
        )
        if name in _AS_SENT:
            server, file = (
                [re.sub(r"\b(\d+)\.0\b", r"\1", line) for line in found] for found in (server, file)
            )
        if name != "observations":
            assert server == file, name
        # Two compressions of a body may differ.
        assert len(server) == len(file)


@pytest.mark.slow
def test_parquet_has_the_same_columns_and_values(both, tmp_path):
    for name in NAMES:
        tables = []
        for n, where in enumerate(both):
            path = tmp_path / f"{n}.parquet"
            write(settings_of(where), Export(name, path), progress=silent)
            tables.append(pyarrow.parquet.read_table(path))
        assert tables[0].schema == tables[1].schema, name
        assert len(tables[0]) == len(tables[1])


@pytest.mark.parametrize("name", ["calls", "utterances", "chats", "call_log", "daily_summary"])
def test_since_a_day_are_the_same_rows(both, tmp_path, name):
    whole, late = (
        [lines(where, tmp_path / f"{n}.csv", name, since=since) for n, where in enumerate(both)]
        for since in (None, date(2026, 5, 12))
    )
    assert late[0] == late[1]
    assert 1 < len(late[0]) < len(whole[0])


@pytest.mark.slow
def test_a_part_of_the_tables_has_the_same_fingerprint_on_both_engines(both, tmp_path):
    for where, name in zip(both, ("server", "file"), strict=True):
        export_partitions(settings_of(where), str(tmp_path / name), private=False, progress=silent)
    manifests = [(tmp_path / name / "_callhouse.json").read_text() for name in ("server", "file")]
    assert manifests[0] == manifests[1]
    # A warehouse that moved to a server goes on with the files it has.
    done = export_partitions(
        settings_of(both[0]), str(tmp_path / "file"), private=False, progress=silent
    )
    assert (done.files, done.removed) == (0, 0)
    for path in (tmp_path / "file").rglob("*.parquet"):
        other = tmp_path / "server" / path.relative_to(tmp_path / "file")
        if "observations" not in path.name:
            assert path.read_bytes() == other.read_bytes(), path
        # They lie in the order of their arrival in a file, and of their time on a server.
        found = [pyarrow.parquet.ParquetFile(each).read().to_pylist() for each in (path, other)]
        assert sorted(map(repr, found[0])) == sorted(map(repr, found[1])), path


# -- a SELECT, in the server's own SQL -------------------------------------------------------------


def test_values_of_every_type_are_written(run, tmp_path):
    query = (
        "SELECT 1 AS a, 2 AS a, true AS yes, 1.50 AS point, sum(n::bigint) AS total, 3::float8 AS "
        "real, 10::numeric ^ 30 AS large, 'NaN'::float8 AS none, '\\x00ff'::bytea AS bytes, "
        "ARRAY[1, 2] AS list, date '2026-05-12' AS day, '{\"x\": 1}'::jsonb AS json, NULL AS "
        "nothing, '50%s :n ? $1' AS \"per%cent\" FROM generate_series(1, 3) n -- a comment;"
    )
    expected = {
        "a": 1, "a:1": 2, "yes": 1, "point": 1.5, "total": 6, "real": 3.0, "large": 1e30,
        "none": None, "bytes": "AP8=", "list": "{1,2}", "day": "2026-05-12", "json": '{"x": 1}',
        "nothing": None, "per%cent": "50%s :n ? $1",
    }  # fmt: skip
    assert one(run(query, "--format", "ndjson")) == expected
    assert run(query, "--to", tmp_path / "t.parquet").exit_code == 0
    kinds = [str(kind) for kind in pyarrow.parquet.read_schema(tmp_path / "t.parquet").types]
    assert kinds == ["int64"] * 3 + ["double"] * 5 + ["binary"] + ["string"] * 5
    assert run(query, "--to", tmp_path / "t.db").exit_code == 0


def test_the_order_of_a_query_is_kept(run, store, pg):
    for n in range(300):
        add(
            store,
            "call_ended",
            f"call_{n}",
            agent_name=f"agent {n * 7919 % 300:03}",
            received=DAY_MS,
        )
    # What changed is looked up in the order of calls then.
    for join in ("hashjoin", "nestloop"):
        execute(pg, f"ALTER DATABASE {name_of(pg)} SET enable_{join} = off")
    query = "SELECT agent_name, call_id FROM calls ORDER BY agent_name DESC"
    for extra in ([], ["--since", "2026-05-12"]):
        names = [row["agent_name"] for row in rows(run(query, "--format", "ndjson", *extra))]
        assert names == sorted(names, reverse=True)
        assert len(names) == 300


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM calls",
        "WITH gone AS (DELETE FROM calls RETURNING call_id) SELECT * FROM gone",
        "SELECT 1) x; DELETE FROM calls; SELECT * FROM (SELECT 1",
        "SELECT 1) x; COMMIT; DELETE FROM calls; SELECT * FROM (SELECT 1",
        "SELECT * FROM calls FOR UPDATE",
        "SELECT writer()",
        "SELECT nextval('numbers')",
        "SELECT 1 AS a INTO other",
        "SELECT set_config('transaction_read_only', 'off', true), writer()",
        "COPY calls TO '/tmp/calls'",
    ],
)
@pytest.mark.parametrize("more", [[], ["--private"]])
def test_sql_cannot_write(run, store, pg, tmp_path, query, more):
    add(store, "call_ended", "kept")
    execute(
        pg,
        "CREATE SEQUENCE numbers",
        "CREATE FUNCTION writer() RETURNS void LANGUAGE sql AS 'DELETE FROM calls'",
    )
    result = run(query, "--to", tmp_path / "t.csv", *more)
    assert (result.exit_code, "PostgreSQL:" in result.output) == (2, True)
    assert not (tmp_path / "t.csv").exists()
    with looking(pg) as session:
        found = session.raw.execute("SELECT count(*), sum(s.last_value) FROM calls, numbers s")
        assert found.fetchone() == (1, 1)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT nope FROM calls", 'column "nope" does not exist'),
        ("SELECT call_idd FROM calls", 'Perhaps you meant to reference the column "calls.call_id"'),
        ("SELECT * FORM calls", 'syntax error at or near "FORM"'),
        ("SELECT $1", "PostgreSQL:"),
        ("callz", "Did you mean calls?"),
        ("tool_scorecard", "--since cannot cut this"),
        ("", "callhouse copy --to sqlite:///FILE"),
    ],
)
def test_what_cannot_be_asked_is_said_and_is_status_2(run, tmp_path, query, says):
    since = ["--since", "2026-05-12"] if query == "tool_scorecard" else []
    result = run(query, "--to", tmp_path / "t.db", *since)
    assert (result.exit_code, says in " ".join(result.output.split())) == (2, True), result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("*t.db*"))


def test_an_error_does_not_repeat_what_is_stored(run, store, tmp_path):
    add(store, "call_ended", agent_name="Secret Name")
    result = run("SELECT agent_name::integer FROM calls", "--to", tmp_path / "t.csv")
    assert (result.exit_code, "InvalidTextRepresentation" in result.output) == (2, True)
    assert "Secret" not in result.output


# -- what is closed --------------------------------------------------------------------------------


@pytest.fixture
def opened(pg, store):
    """A call with its body, views and a function in front of it."""
    add(store, "call_ended", "c", agent_name="said in the body")
    execute(
        pg,
        "CREATE VIEW mine AS SELECT entity_id, body FROM observations",
        "CREATE VIEW deep AS SELECT m.body FROM mine m LEFT JOIN drift d ON true",
        "CREATE SCHEMA elsewhere",
        "CREATE VIEW elsewhere.theirs AS SELECT body FROM mine",
        "ANALYZE",
    )


@pytest.mark.parametrize(
    "query",
    [
        "observations",
        "mine",
        "SELECT body FROM observations",
        "TABLE observations",
        "SELECT o FROM observations o",
        "SELECT observations FROM observations",
        "SELECT to_json(observations) ->> 'body' AS body FROM observations",
        "SELECT (SELECT body FROM observations)",
        "SELECT o.* FROM observations o JOIN calls c ON c.call_id = o.entity_id",
        "SELECT * FROM observations FULL JOIN (SELECT NULL::bytea AS body) x USING (body)",
        "SELECT * FROM observations NATURAL JOIN (SELECT entity_id FROM observations) x",
        "SELECT * FROM calls, LATERAL (SELECT body FROM observations) x",
        "WITH observations AS (SELECT * FROM observations) SELECT * FROM observations",
        "WITH x AS MATERIALIZED (TABLE observations) SELECT coalesce(body, 'none') FROM x",
        "SELECT body FROM observations UNION ALL SELECT body FROM mine",
        "SELECT * FROM deep",
        "SELECT string_agg(body, '') FROM mine",
    ],
)
def test_a_raw_body_reads_as_null_unless_asked_for(run, opened, query):
    result = run(query, "--format", "ndjson")
    assert rows(result)
    # zstd's first bytes, in hex and in base64.
    assert not re.search(r"28b52ffd|KLUv", result.stdout)
    assert re.search(r"28b52ffd|KLUv", run(query, "--format", "ndjson", "--private").stdout)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM public.observations",
        "TABLE public.observations",
        'SELECT * FROM "public"/**/. "observations"',
        'SELECT * FROM U&"\\0070ublic".observations',
        "SELECT 1) x CROSS JOIN (SELECT body FROM public.observations",
        "WITH x AS MATERIALIZED (SELECT body FROM public.observations) SELECT * FROM x",
        "SELECT EXISTS (SELECT 1 FROM public.observations WHERE body > '')",
        "SELECT * FROM public.mine",
        "SELECT * FROM elsewhere.theirs",
        "SELECT query_to_xml('SELECT body FROM mine', true, false, '')",
        "SELECT * FROM table_to_xml('public.observations', true, false, '')",
        "SELECT pg_catalog.\"pg_read_file\"('/etc/passwd')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(body::text) FROM mine')",
        "SELECT most_common_vals FROM pg_stats",
        "SELECT * FROM pg_catalog.pg_statistic",
    ],
)
def test_what_goes_past_the_names_is_refused_unless_asked_for(run, opened, tmp_path, query):
    result = run(query, "--to", tmp_path / "t.csv")
    assert (result.exit_code, "raw bodies are closed" in result.output) == (2, True), result.output
    assert not (tmp_path / "t.csv").exists()
    assert run(query, "--to", tmp_path / "t.csv", "--private").exit_code == 0


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'query_to_xml(' AS x",
        "SELECT call_id FROM public.calls",
        "SELECT n FROM elsewhere.numbers",
        "SELECT * FROM drift RIGHT JOIN needs_attention ON true RIGHT JOIN calls ON true",
    ],
)
def test_what_is_not_closed_is_read(run, opened, pg, query):
    execute(pg, "CREATE TABLE elsewhere.numbers AS SELECT 1 AS n")
    assert one(run(query, "--format", "ndjson"))


def test_a_role_that_may_only_read_and_no_body_exports_everything(
    run, store, pg, tmp_path, monkeypatch
):
    """The rights that docs/postgres.md names: what nobody may read, no query can."""
    add(store, "call_ended", "c", start_timestamp=DAY_MS)
    text = (ROOT / "docs" / "postgres.md").read_text(encoding="utf-8")
    [grants] = re.findall(r"```sql\n(CREATE ROLE exporter.*?)```", text, re.DOTALL)
    database = name_of(pg)
    execute(
        pg,
        "DROP ROLE IF EXISTS exporter",
        *grants.replace("DATABASE callhouse", f"DATABASE {database}").split(";")[:-1],
    )
    try:
        url = pg.url.replace("callhouse@", "exporter@")
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url)
        for name in NAMES:
            assert run(name, "--to", tmp_path / "t.csv").exit_code == 0, name
        zone = ["--timezone", "Asia/Tokyo"]
        assert one(run("call_log", "--format", "ndjson", *zone))["started_at"].endswith("+09:00")
        done = run("--parquet", tmp_path / "lake", "--partition", "day")
        assert done.exit_code == 0, done.output
        result = run("SELECT body FROM observations", "--private")
        assert (result.exit_code, "permission denied" in result.output) == (2, True)
    finally:
        execute(pg, "DROP OWNED BY exporter", "DROP ROLE exporter")


# -- one moment, whole or not at all ---------------------------------------------------------------

# Goes on for a while between two rows, and for ever after some.
SLOW = "SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 3000000) n"
SILENT = "SELECT n FROM generate_series(1, 1) n, pg_sleep(60)"


def test_what_is_written_meanwhile_is_not_in_the_export(pg, store, tmp_path):
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
def test_an_interrupted_export_leaves_nothing_here_and_no_query_there(
    postgres, pg, tmp_path, sent, query
):
    with subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", "export", query, "--to", tmp_path / "t.csv"],
        env=os.environ | {"CALLHOUSE_DATABASE_URL": pg.url},
        stderr=subprocess.PIPE,
    ) as process:
        wait_until(lambda: [*tmp_path.glob(".t.csv.*.part")] and active(postgres, pg))
        time.sleep(0.2)
        process.send_signal(sent)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, b"Traceback" in said) == (1, False)
    assert list(tmp_path.glob("*t.csv*")) == []
    wait_until(lambda: active(postgres, pg) == 0)


def test_a_reader_that_goes_away_ends_the_query_too(postgres, pg):
    with subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", "export", SLOW],
        env=os.environ | {"CALLHOUSE_DATABASE_URL": pg.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert b"Traceback" not in said
    wait_until(lambda: active(postgres, pg) == 0)


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet", "sqlite"])
def test_a_server_that_goes_away_leaves_the_file_that_was_there(postgres, pg, tmp_path, form):
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


def test_a_query_that_fails_half_way_leaves_the_file_that_was_there(run, tmp_path):
    (tmp_path / "t.csv").write_text("before")
    result = run(
        "SELECT 1 / (3000 - n) FROM generate_series(1, 5000) n", "--to", tmp_path / "t.csv"
    )
    assert (result.exit_code, "DivisionByZero" in result.output) == (2, True)
    assert (tmp_path / "t.csv").read_text() == "before"


def test_a_server_that_is_away_or_empty_is_said_to_be(postgres, run, monkeypatch, tmp_path):
    for url, says in (
        ("postgresql://callhouse@/x?host=/nowhere", "CALLHOUSE_DATABASE_URL"),
        (postgres.create().url, "callhouse migrate"),
    ):
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url)
        for args in (["calls"], ["--parquet", tmp_path / "lake", "--partition", "day"]):
            result = run(*args)
            assert (result.exit_code, says in " ".join(result.output.split())) == (1, True)
    assert not (tmp_path / "lake").exists()


def test_two_runs_by_day_do_not_write_over_each_other(run, pg, tmp_path):
    with looking(pg) as session:
        session.raw.execute("BEGIN")
        session.raw.execute(EXPORT_DAYS)
        result = run("--parquet", tmp_path / "lake", "--partition", "day")
        assert (result.exit_code, "is running" in result.output) == (1, True)
    assert run("--parquet", tmp_path / "lake", "--partition", "day").exit_code == 0
