"""A warehouse on a real Citus cluster. Waits for one: CITUS_DSN names its coordinator's database.

Everything happens in a schema of its own, which is thrown away before and after. What it shows is
what test_merge.py and test_plans.py beside it show, on shards.
"""

import os
import re

import psycopg
import pytest
from click.testing import CliRunner

from receiver.addresses import PostgresUrl
from receiver.cli import main
from receiver.store import distribute, migrate, roll_up, show, sql, state_of
from receiver.store.engine import engine
from receiver.store.postgres.citus_layout import DISTRIBUTED
from receiver.store.postgres.connection import Session
from receiver.store.postgres.distributing import Placement
from receiver.store.upstream import (
    SyncRow,
    started,
    statuses,
    store_fetched,
    stored_fields,
)
from receiver.transfer import compare, copy
from schema.tables import TABLES
from tests.support.histories import (
    WHOLE,
    blank_file,
    deliver,
    deliver_every_kind,
    dump_of,
    rebuilt,
    seeded,
)
from tests.support.parity import VIEWS, differing
from tests.support.postgres import looking
from tests.support.processes import by_processes
from tests.support.statements import OF_MANY_CALLS, WRITES, Spy
from tests.support.storing import add, in_store

SCHEMA = "callhouse_test"
BEFORE, AFTER = seeded(7, 40), [*seeded(11, 60), WHOLE] * 2


def remake(dsn, statements):
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(scope="module")
def cluster():
    """Migrated, with some calls, and only then distributed."""
    dsn = os.environ.get("CITUS_DSN")
    if not dsn:
        pytest.skip(
            "waits for CITUS_DSN: the URL of a database on the coordinator of a Citus cluster"
        )
    drop = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"
    remake(dsn, [drop, f"CREATE SCHEMA {SCHEMA}"])
    options = f"options=-csearch_path%3D{SCHEMA}"
    where = PostgresUrl(f"{dsn}{'&' if '?' in dsn else '?'}{options}")
    migrate(where, timezone="UTC")
    in_store(where, lambda s: deliver(s, BEFORE))
    distribute(where, timezone="UTC")
    yield where
    remake(dsn, [drop])


@pytest.fixture(scope="module")
def path():
    """A file that gets what the cluster gets."""
    with blank_file() as path:
        in_store(path, lambda s: deliver(s, BEFORE))
        yield path


def test_distribute_keeps_rows_and_is_idempotent(cluster, path):
    assert dump_of(cluster) == dump_of(path)
    placed = distribute(cluster, timezone="UTC")
    assert not any(place.is_new for place in placed)
    lying = {table.table for table in placed if table.placement is Placement.DISTRIBUTED}
    assert lying == DISTRIBUTED.keys()
    result = CliRunner().invoke(main, ["distribute"], env={"CALLHOUSE_DATABASE_URL": cluster.url})
    assert (result.exit_code, "distributed already" in result.output) == (0, True)


def test_eight_processes_leave_the_tables_of_a_file(cluster, path):
    for where in (cluster, path):
        by_processes(where, [AFTER])
    before = dump_of(cluster)
    assert before == dump_of(path)
    rebuilt(cluster)
    assert dump_of(cluster) == before


def tasks(session: Session, statement, values) -> list[str]:
    """How many shards a statement is sent to; nothing for one about the coordinator alone."""
    found = session.execute(f"EXPLAIN {statement}", values)
    return re.findall(r"Task Count: (\d+)", "\n".join(line for (line,) in found))


def test_every_write_is_sent_to_one_shard(cluster, path):
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        in_store(cluster, deliver_every_kind)
    in_store(path, deliver_every_kind)
    wrong = {}
    with looking(cluster) as session:
        for _, statement, values in spy.executed:
            if statement in OF_MANY_CALLS or not statement.startswith((*WRITES, "SELECT")):
                continue
            if any(re.search(rf"\b{table}\b", statement) for table in DISTRIBUTED) and (
                tasks(session, statement, values) != ["1"]
            ):
                wrong[statement] = values
    assert wrong == {}
    assert dump_of(cluster) == dump_of(path)


def test_every_view_matches_sqlite_on_citus(cluster, path):
    assert differing(cluster, path, VIEWS) == set()
    assert in_store(cluster, lambda s: list(roll_up(s, timezone="UTC", now_ms=2**50))) == []


def test_queries_of_commands_run(cluster, path):
    spans = {"since": None, "until": None, "agent_id": None, "account": ""}
    for ask in (
        lambda where: show(where, "whole"),
        lambda where: state_of(where, "whole"),
        lambda where: statuses(where, "call", ["whole", "nobody"]),
        lambda where: stored_fields(where, "call", ["whole"]),
        lambda where: started(where, "call", only_unfinished=True, **spans),
        lambda where: started(where, "call", **spans),
    ):
        assert ask(cluster) == ask(path)
    assert engine(cluster).check([])["writable"]
    assert engine(cluster).sizes()[0] > 0


def test_what_sync_notes_is_kept(cluster, path):
    row = SyncRow("", "k", "2026-05-01", "", "2026-05-02", 1, None)
    for where in (cluster, path):
        in_store(
            where,
            lambda s: store_fetched(s, [], asked=[("c", 5)], gone=[("d", 6)], sync=lambda _: row),
        )
    assert dump_of(cluster)["upstream_calls"] == dump_of(path)["upstream_calls"]
    assert dump_of(cluster)["syncs"] == dump_of(path)["syncs"]


def test_export_query_reads_the_rows_of_a_day(cluster):
    with looking(cluster) as session:
        for table in TABLES:
            of = next((column for column in sql.SINCE if column in table.names), None)
            where = f" WHERE {sql.SINCE[of]}" if of else ""
            query = f"SELECT * FROM {table.name}{where} ORDER BY {', '.join(table.key)}"
            session.execute(query, {"since": 0, "day": "2026-01-01"}).fetchall()


def test_warehouse_is_copied_in_and_out(cluster):
    with blank_file() as path:
        in_store(path, lambda s: add(s, "call_ended", "carried", at=5))
        for source, target in ((path, cluster), (cluster, path)):
            copy(source, target, timezone="UTC", progress=lambda *_: None)
            assert compare(source, target, progress=lambda *_: None).is_complete
        assert dump_of(path) == dump_of(cluster)
