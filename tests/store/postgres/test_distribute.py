"""Spreading the tables over a cluster: the rules that the catalog must keep, and the command.

Goal: no key, default or foreign key is found that a table distributed by call could not have.
Method: the catalog of a migrated database, and stand-ins for Citus' functions that refuse what it
refuses (tests/support/citus.py). test_citus.py asks a real cluster, where there is one.
"""

import re
import sys
import threading

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.errors import DatabaseAway, NoCluster, SchemaMismatch
from receiver.store import distribute, migrate, roll_up
from receiver.store.migrate import scripts
from receiver.store.postgres import migrate as migrating
from receiver.store.postgres.citus_layout import DISTRIBUTED, LOCAL, PARENTS, REFERENCE
from schema.tables import CALL_TABLES, CALLS, CHAT_TABLES
from tests.support import citus
from tests.support.histories import deliver, dump_of, seeded
from tests.support.parity import VIEWS, differing
from tests.support.postgres import looking
from tests.support.running import wait_until
from tests.support.storing import in_store

TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)
UNIQUE = """
    SELECT i.indexrelid::regclass::text,
        (SELECT attname FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = i.indkey[0])
    FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisunique
"""
FOREIGN_KEYS = """
    SELECT confrelid::regclass::text,
        (SELECT attname FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[1]),
        (SELECT attname FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[1]),
        confdeltype::text, confupdtype::text
    FROM pg_constraint WHERE contype = 'f' AND conrelid = %s::regclass
"""
DEFAULTS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND (atthasdef OR attidentity <> '')
"""
TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"


@pytest.fixture
def catalog(pg):
    with looking(pg) as session:
        yield lambda query, *values: session.raw.execute(query, values).fetchall()


def added_up(store, timezone="UTC"):
    return list(roll_up(store, timezone=timezone, now_ms=2**50))


@pytest.fixture
def cluster(pg):
    """What looks like a cluster's coordinator."""
    citus.install(pg)
    return pg


# -- the rules -------------------------------------------------------------------------------------


def test_every_table_has_its_place(catalog):
    places = [*DISTRIBUTED, *REFERENCE, *LOCAL]
    assert sorted(places) == sorted(name for (name,) in catalog(TABLES))
    assert DISTRIBUTED.keys() >= {table.name for table in (*CALL_TABLES, *CHAT_TABLES)}


@pytest.mark.parametrize(("table", "column"), DISTRIBUTED.items())
def test_a_distributed_tables_keys_begin_with_its_column(catalog, table, column):
    assert column in ("call_id", "chat_id", "entity_id")
    unique = catalog(UNIQUE, table)
    assert {first for _, first in unique} == {column}, unique
    for parent, here, there, *actions in catalog(FOREIGN_KEYS, table):
        assert (here, there, actions) == (column, DISTRIBUTED[parent], ["a", "a"])


def test_no_other_tables_foreign_keys_leave_its_node(catalog):
    for table in (*REFERENCE, *LOCAL):
        parents = {parent for parent, *_ in catalog(FOREIGN_KEYS, table)}
        assert parents <= (set(LOCAL) if table in LOCAL else set()), table


def test_schema_has_no_sequence_and_no_trigger(catalog):
    for table in (*DISTRIBUTED, *REFERENCE, *LOCAL):
        assert catalog(DEFAULTS, table) == []
        assert catalog(TRIGGERS, table) == []


# -- the command -----------------------------------------------------------------------------------


def run(where, *, status=0):
    url = where.url if hasattr(where, "url") else f"sqlite:///{where}"
    result = CliRunner().invoke(main, ["distribute"], env={"CALLHOUSE_DATABASE_URL": url})
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def test_distribute_prints_the_layout_of_each_table(cluster):
    output = run(cluster)
    lines = [line.rstrip() for line in output.splitlines()[1:]]
    # In one column, whatever the names are.
    assert len({re.match(r"\w+ +", line).end() for line in lines[:-1]}) == 1
    found = dict(line.split(maxsplit=1) for line in lines[:-1])
    assert found.keys() == {*DISTRIBUTED, *REFERENCE, *LOCAL}
    assert found["calls"] == "distributed by call_id"
    assert found["entity_locks"] == found["observations"] == "distributed by entity_id"
    assert found["disconnection_reasons"] == "reference"
    assert found["rollup_hours"] == found["syncs"] == "local"
    assert lines[-1] == f"{len(DISTRIBUTED) + len(REFERENCE)} tables were distributed."


def test_second_distribute_changes_nothing(cluster):
    first = run(cluster)
    again = run(cluster)
    assert again.splitlines()[:-1] == first.splitlines()[:-1]
    assert again.splitlines()[-1] == "All tables were distributed already."


def test_later_table_is_distributed_by_the_next_run(cluster):
    run(cluster)
    with looking(cluster) as session:
        session.raw.execute("DELETE FROM spread WHERE relation = 'unknowns'::regclass")
    placed = distribute(cluster, timezone="UTC")
    assert [place.table for place in placed if place.is_new] == ["unknowns"]


NOVELTY = """
    CREATE TABLE novelties (
        call_id TEXT NOT NULL REFERENCES calls (call_id),
        position INTEGER NOT NULL,
        PRIMARY KEY (call_id, position)
    ) STRICT;
"""


def test_table_of_a_later_version_starts_local(cluster, monkeypatch):
    distribute(cluster, timezone="UTC")
    later = {**scripts(), "9999_novelties": NOVELTY}
    shared = sys.modules["receiver.store.migrate"]
    for module in (shared, migrating):
        monkeypatch.setattr(module, "scripts", lambda: later)
    assert migrate(cluster, timezone="UTC") == ["9999_novelties"]
    monkeypatch.setitem(DISTRIBUTED, "novelties", "call_id")
    monkeypatch.setitem(PARENTS, "novelties", CALLS)
    with looking(cluster) as session:
        assert session.raw.execute(FOREIGN_KEYS, ("novelties",)).fetchall() == []
        assert [p.table for p in distribute(cluster, timezone="UTC") if p.is_new] == ["novelties"]
        foreign_keys = session.raw.execute(FOREIGN_KEYS, ("novelties",)).fetchall()
        assert foreign_keys == [("calls", "call_id", "call_id", "a", "a")]


def test_all_rows_of_a_call_share_a_node(cluster):
    distribute(cluster, timezone="UTC")
    with looking(cluster) as session:
        groups = session.raw.execute(
            "SELECT DISTINCT colocated_with FROM spread WHERE kind = 'distributed'"
        )
        assert groups.fetchall() == [("entity_locks",)]


def test_events_are_stored_after_distribution(cluster, db_path):
    history = seeded(7, 40)
    in_store(cluster, lambda s: deliver(s, history[:25]))
    distribute(cluster, timezone="UTC")
    in_store(cluster, lambda s: deliver(s, history[25:]))
    in_store(db_path, lambda s: deliver(s, history))
    assert dump_of(cluster) == dump_of(db_path)


def test_distribute_waits_for_a_call_being_written(cluster):
    is_written, may_end = threading.Event(), threading.Event()

    def unit(connection):
        connection.execute("INSERT INTO entity_locks (entity_id) VALUES ('a')")
        connection.execute("SELECT 1").fetchone()
        is_written.set()
        assert may_end.wait(30)

    def write():
        in_store(cluster, lambda s: s.run(unit))

    def spread():
        distribute(cluster, timezone="UTC")

    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'entity_locks'::regclass"
    )
    threads = [threading.Thread(target=write), threading.Thread(target=spread)]
    with looking(cluster) as session:
        threads[0].start()
        assert is_written.wait(30)
        threads[1].start()
        wait_until(lambda: session.raw.execute(waiting).fetchone() == (1,))
        assert session.raw.execute("SELECT count(*) FROM spread").fetchone() == (0,)
        may_end.set()
        for thread in threads:
            thread.join(30)
        assert session.raw.execute("SELECT count(*) FROM spread").fetchone()[0] == len(
            DISTRIBUTED
        ) + len(REFERENCE)


def test_distributed_figures_are_counted_without_rollups(cluster, db_path):
    for where in (cluster, db_path):
        in_store(where, lambda s: deliver(s, seeded(7, 40)))
    assert in_store(cluster, added_up)
    distribute(cluster, timezone="UTC")
    assert not in_store(cluster, added_up)
    with looking(cluster) as session:
        assert session.raw.execute("SELECT count(*) FROM rollup_hours").fetchone() == (0,)
    assert differing(cluster, db_path, VIEWS) == set()
    migrate(cluster, timezone="Europe/Berlin")
    assert not in_store(cluster, lambda s: added_up(s, "Europe/Berlin"))


def test_failed_distribute_changes_nothing(cluster):
    with looking(cluster) as session:
        session.raw.execute("CREATE UNIQUE INDEX odd ON media (kind)")
    assert "the cluster refused: cannot create constraint" in run(cluster, status=2)
    with looking(cluster) as session:
        assert session.raw.execute("SELECT * FROM spread").fetchall() == []


def test_distribute_without_citus_changes_nothing_and_hints(pg, db_path):
    output = run(pg, status=2)
    assert "Error: the database has no Citus" in output
    assert "coordinator of a Citus cluster" in output
    assert "names a file" in run(db_path, status=2)


def test_an_old_citus_is_refused(pg):
    citus.install(pg, "11.1-1")
    with pytest.raises(NoCluster, match=r"Citus 11\.1-1, and callhouse needs 11\.2"):
        distribute(pg, timezone="UTC")


def test_node_without_durable_commits_is_refused(cluster):
    with looking(cluster) as session:
        session.raw.execute("UPDATE nodes SET synchronous_commit = 'off' WHERE node = 'worker-2'")
    assert "synchronous_commit switched off" in run(cluster, status=2)


def test_table_with_another_layout_is_named(cluster):
    with looking(cluster) as session:
        session.raw.execute("SELECT create_reference_table('erasures')")
    assert "the table erasures is reference already" in run(cluster, status=2)


def test_distribute_without_tables_asks_for_migrate(postgres):
    where = postgres.create()
    citus.install(where)
    with pytest.raises(SchemaMismatch) as raised:
        distribute(where, timezone="UTC")
    assert "callhouse migrate" in raised.value.hint


def test_unreachable_server_is_reported(pg):
    with pytest.raises(DatabaseAway, match="no connection"):
        distribute(type(pg)("postgresql://callhouse@127.0.0.1:1/x"), timezone="UTC")


# -- what stands in for Citus ----------------------------------------------------------------------

REFUSED = {
    "a key of its own": (
        'CREATE TABLE t (call_id text COLLATE "C", id int PRIMARY KEY)',
        "SELECT create_distributed_table('t', 'call_id')",
        "cannot create constraint",
    ),
    "a part before its whole": (
        "SELECT 1",
        "SELECT create_distributed_table('analyses', 'call_id')",
        "must be a distributed table",
    ),
    "a part elsewhere": (
        "SELECT create_distributed_table('calls', 'call_id', colocate_with => 'none')",
        "SELECT create_distributed_table('analyses', 'call_id', colocate_with => 'none')",
        "not colocated",
    ),
    "a reference to a part": (
        "SELECT create_distributed_table('calls', 'call_id', colocate_with => 'none')",
        "SELECT create_reference_table('analyses')",
        "foreign keys from reference tables",
    ),
    "another type": (
        "CREATE TABLE t (id int); "
        "SELECT create_distributed_table('calls', 'call_id', colocate_with => 'none')",
        "SELECT create_distributed_table('t', 'id', colocate_with => 'calls')",
        "cannot colocate",
    ),
    "a local part made later": (
        "SELECT create_distributed_table('calls', 'call_id', colocate_with => 'none')",
        'CREATE TABLE t (call_id text COLLATE "C" REFERENCES calls (call_id))',
        "not colocated",
    ),
    "a local part left behind": (
        "SELECT create_distributed_table('calls', 'call_id', colocate_with => 'none')",
        "SELECT truncate_local_data_after_distributing_table('calls')",
        "referenced in a foreign key constraint by a local table",
    ),
}


@pytest.mark.parametrize(("before", "statement", "error"), REFUSED.values(), ids=REFUSED)
def test_the_stand_ins_refuse_what_citus_refuses(cluster, before, statement, error):
    with looking(cluster) as session:
        for part in before.split(";"):
            session.raw.execute(part)
        with pytest.raises(session.DatabaseError, match=error):
            session.raw.execute(statement)
