"""No SELECT reads a raw body unasked, whichever way it goes."""

import re

import pytest

from schema.sql.views import views
from schema.tables import TABLES
from tests.support import ROOT
from tests.support.exporting import DAY_MS, lines, one
from tests.support.postgres import execute, name_of
from tests.support.storing import add

NAMES = [*(table.name for table in TABLES), *views()]


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
def test_raw_body_is_null_without_private(run, opened, query):
    result = run(query, "--format", "ndjson")
    assert lines(result)
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
def test_indirect_access_to_bodies_is_refused(run, opened, tmp_path, query):
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
def test_queries_without_bodies_are_allowed(run, opened, pg, query):
    execute(pg, "CREATE TABLE elsewhere.numbers AS SELECT 1 AS n")
    assert one(run(query, "--format", "ndjson"))


def test_read_only_role_exports_everything_but_bodies(run, store, pg, tmp_path, monkeypatch):
    """The rights that docs/how-to/postgres.md names: what nobody may read, no query can."""
    add(store, "call_ended", "c", start_timestamp=DAY_MS)
    text = (ROOT / "docs" / "how-to" / "postgres.md").read_text(encoding="utf-8")
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
