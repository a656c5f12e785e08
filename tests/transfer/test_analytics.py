"""The queries of docs/how-to/analytics.md, as they stand there, give what SQLite's tables hold."""

import random
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from receiver import config
from receiver.store import migrate, open_store, receive
from receiver.store.connection import connect, sqlite3
from receiver.transfer import export_partitions
from tests.support import ROOT
from tests.support.engines import url_of
from tests.support.exporting import silent
from tests.support.histories import deliver, seeded
from tests.support.webhooks import PAYLOADS

PAGE = (ROOT / "docs/how-to/analytics.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
IN_DUCKDB = [query for query in QUERIES if "file(" not in query]
IN_CLICKHOUSE = [query for query in QUERIES if "file(" in query]
# As text where the table has null, of which the page speaks.
ILL_TYPED = {"shape-call_analysis-wrong_types"}
SQLITE = (
    "SELECT * FROM calls c LEFT JOIN (SELECT call_id, call_summary, user_sentiment, "
    "call_successful FROM analyses) USING (call_id) LEFT JOIN transcripts USING (call_id)"
)


@pytest.fixture(scope="module")
def day_path(tmp_path_factory) -> Path:
    """A file of every written body, and of deliveries that contradict each other, in no order and
    some of them again."""
    path = tmp_path_factory.mktemp("analytics") / "retell.db"
    migrate(path, timezone="UTC")
    fill(path)
    return path


def fill(where) -> None:
    chance = random.Random(1)
    payloads = [file for file in sorted(PAYLOADS.glob("*.json")) if file.stem not in ILL_TYPED]
    bodies = [file.read_bytes() for file in payloads * 2]
    deliveries = [
        replace(delivery, id=f"call_{seed}") for seed in range(15) for delivery in seeded(seed, 16)
    ]
    with closing(open_store(where)) as store:
        for body in chance.sample(bodies, k=len(bodies)):
            at = chance.randrange(1_778_544_000_000, 1_778_944_000_000)
            store.add(receive(body, source="webhook", observed_at=at, received_at=at))
        deliver(store, chance.sample(deliveries, k=len(deliveries)))


@pytest.fixture(scope="module")
def stored(day_path):
    """call_id -> column -> what SQLite's tables hold."""
    with closing(connect(day_path, busy_timeout_ms=0)) as db:
        db.row_factory = sqlite3.Row
        calls = {row["call_id"]: dict(row) for row in db.execute(SQLITE)}
    assert len(calls) > 60
    return calls


@pytest.fixture(scope="module", params=["file", pytest.param("server", marks=pytest.mark.slow)])
def lake(request, day_path) -> Path:
    """The directory with `lake`, raw bodies in it: from the file, from a server with the same."""
    where, folder = day_path, day_path.parent / request.param
    folder.mkdir()
    if request.param == "server":
        where = request.getfixturevalue("postgres").blank()
        fill(where)
    settings = config.load(
        {"CALLHOUSE_DATABASE_URL": url_of(where)}, dotenv=day_path.with_name("none")
    )
    export_partitions(settings, str(folder / "lake"), private=True, progress=silent)
    return folder


def differences(names, rows, stored):
    """(call, column) where a result is not what is stored; (call, "") where one lacks the call."""
    names = [name for name in names if name != "day"]
    assert len(names) > 5
    found = {row["call_id"]: {name: row[name] for name in names} for row in rows}
    wrong = {
        (call_id, name)
        for call_id in found.keys() & stored.keys()
        for name in names
        if found[call_id][name] != stored[call_id][name]
    }
    return wrong | {(call_id, "") for call_id in found.keys() ^ stored.keys()}


def test_each_query_is_documented_for_both_engines():
    assert (len(IN_DUCKDB), len(IN_CLICKHOUSE)) == (2, 2)


@pytest.mark.parametrize("query", IN_DUCKDB, ids=["tables", "observations"])
def test_duckdb_finds_the_newest_state_of_each_call(lake, stored, monkeypatch, query):
    monkeypatch.chdir(lake)
    with duckdb.connect() as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    assert differences(names, rows, stored) == set()


@pytest.mark.parametrize("query", IN_CLICKHOUSE, ids=["tables", "observations"])
def test_clickhouse_finds_the_newest_state_of_each_call(lake, stored, monkeypatch, query):
    chdb = pytest.importorskip("chdb", reason="waits for chdb: pip install '.[dev-all]'")
    monkeypatch.chdir(lake)
    rows = chdb.query(query.rstrip().rstrip(";"), "ArrowTable").to_pylist()
    assert differences(rows[0], rows, stored) == set()
