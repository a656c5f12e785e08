"""A SELECT in the server's own SQL: every type of value, and none that writes."""

import pyarrow.parquet
import pytest

from tests.support.exporting import DAY_MS, lines, one
from tests.support.postgres import execute, looking, name_of
from tests.support.storing import add


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
        names = [row["agent_name"] for row in lines(run(query, "--format", "ndjson", *extra))]
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
def test_invalid_request_is_status_2(run, tmp_path, query, says):
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
