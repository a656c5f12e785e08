"""Every write is about one call: its plan reads and writes one part of tables that are in parts.

Goal: no statement is found that a cluster would have to send to more than one node for the sake of
one call. Method: PostgreSQL's planner over partitioned tables (support/partitions.py), asked of
each statement that the store sends while it does all that it can do.
"""

from itertools import groupby

import pytest

from receiver import config
from receiver.jobs.erase import Files, erase_unit, new_receipt
from receiver.store import copying, media, receive, show, sql, state_of
from receiver.store.erasing import write_receipt
from receiver.store.postgres.citus_layout import LOCAL, REFERENCE
from receiver.store.rollups import roll_up
from receiver.store.upstream import (
    SyncRow,
    statuses,
    store_fetched,
    stored_fields,
    write_coverage,
)
from receiver.transfer import copy
from schema.retention import ALL, PERSONAL
from schema.sql import rollups
from schema.tables import COVERAGE, SYNCS, UPSTREAM_CALLS
from tests.support.erasing import add_whole
from tests.support.histories import (
    WHOLE,
    blank_file,
    deliver,
    deliver_every_kind,
    dump_of,
    rebuilt,
    seeded,
)
from tests.support.partitions import partitioned, touched
from tests.support.postgres import looking, name_of
from tests.support.statements import OF_MANY_CALLS, WRITES, Spy
from tests.support.storing import ERASE, UPSTREAM, add, in_store, write

# Adding up reads the calls of an hour, and writes to the coordinator alone.
ADDING_UP = {*rollups.FILL_HOUR, *rollups.FILL_DAY}
# Written to files and their copies only.
OF_FILES = {*sql.REINDEX, *sql.MERGE.values(), sql.DROP_BODIES}


@pytest.fixture(scope="module")
def blank_in_parts(postgres):
    return name_of(partitioned(postgres))


@pytest.fixture
def in_parts(postgres, blank_in_parts):
    """A migrated database without rows, in parts."""
    return postgres.create(blank_in_parts)


@pytest.fixture
def spy(monkeypatch):
    return Spy(monkeypatch)


def is_write(statement):
    return statement.startswith(WRITES) or "FOR UPDATE" in statement


def check(where, executed):
    """The parts that are touched by each unit; every write touches one at most."""
    units, wrong = {}, {}
    with looking(where) as session:
        for unit, spoken in groupby(executed, key=lambda s: s[0]):
            for _, statement, values in spoken:
                if not statement.startswith((*WRITES, "SELECT")) or statement in ADDING_UP:
                    continue
                parts, others = touched(session, statement, values)
                if is_write(statement) and (
                    not others <= {*LOCAL, *REFERENCE} or len(parts) + bool(others) != 1
                ):
                    wrong[statement] = (parts, others)
                if parts and statement not in OF_MANY_CALLS:
                    units.setdefault(unit, set()).update(parts)
    assert wrong == {}
    return units


@pytest.mark.slow
def test_event_touches_only_the_partition_of_its_call(in_parts, spy):
    in_store(in_parts, deliver_every_kind)
    units = check(in_parts, spy.executed)
    assert len(units) > 100
    assert {len(parts) for parts in units.values()} == {1}
    assert len(set.union(*units.values())) > 1


def test_query_about_a_call_reads_its_partition(in_parts, spy):
    in_store(in_parts, lambda s: deliver(s, [WHOLE]))
    del spy.executed[:]
    for ask in (
        show,
        state_of,
        lambda *a: statuses(a[0], "call", [a[1]]),
        lambda *a: stored_fields(a[0], "call", [a[1]]),
    ):
        assert ask(in_parts, "whole")
    assert [len(parts) for parts in check(in_parts, spy.executed).values()] == [1] * 4


@pytest.mark.parametrize("scope", [ALL, PERSONAL])
def test_erasure_of_a_call_touches_its_partition(in_parts, spy, scope, tmp_path):
    settings = config.load({"CALLHOUSE_MEDIA_URL": f"file:{tmp_path}"})
    receipt = new_receipt("erase", scope, author="tester", reason=None, now_ms=5)

    def erase(store):
        add_whole(store)
        media.find_new(store, since=0, now_ms=1)
        write_receipt(store, receipt)
        del spy.executed[:]
        done = erase_unit(store, Files(settings), ["gone"], receipt, now_ms=5)
        assert (done.entities, dict(done.counts)["observations"]) == (1, 1)

    in_store(in_parts, erase)
    units = check(in_parts, [call for call in spy.executed if is_write(call[1])])
    assert {len(parts) for parts in units.values()} == {1}
    with looking(in_parts) as session:
        found = session.execute("SELECT entity_id, scope FROM erasures").fetchall()
    assert found == [("gone", scope)]


@pytest.mark.slow
def test_other_writes_touch_at_most_one_call(in_parts, spy):
    def sync(store):
        received = [receive(b'{"call_id": "c"}', source="api", observed_at=5, received_at=6)]
        row = SyncRow("", "k", "2026-05-01", "", "2026-05-02", 1, None)
        store_fetched(
            store, received, asked=[("c", 5, "a")], gone=[("d", 6, "a")], sync=lambda _: row
        )
        day = ("2026-05-01", "a", *[None] * (len(COVERAGE.names) - 2))
        write_coverage(
            store, [day], since="2026-05-01", until=None, agent_id=None, account="k", is_alone=True
        )

    def add_up(store):
        assert list(roll_up(store, timezone="UTC", now_ms=2**50))
        # And a call takes its hour back.
        add(store, "call_ended", "late", at=9)

    in_store(in_parts, deliver_every_kind)
    for work in (sync, add_up):
        in_store(in_parts, work)
    with blank_file() as path:
        in_store(path, deliver_every_kind)
        in_store(path, lambda s: s.run(lambda c: c.execute(ERASE, ("whole", 1)) and None))
        write(path, *UPSTREAM, "UPDATE upstream_calls SET asked_at = 9")
        copy(path, in_parts, timezone="UTC", progress=lambda *_: None)
    # Erased: what comes later keeps its hash and times.
    in_store(in_parts, lambda s: add(s, "call_analyzed", "whole", at=20))
    with looking(in_parts) as session:
        session.raw.execute("INSERT INTO calls (call_id) VALUES ('unfounded')")
        session.raw.execute("INSERT INTO disconnection_reasons VALUES ('of nobody')")
    rebuilt(in_parts)
    check(in_parts, [call for call in spy.executed if is_write(call[1])])
    # What nothing here had a reason to say.
    unsaid = declared() - {statement for _, statement, _ in spy.executed} - OF_FILES
    check(in_parts, [(0, statement, ("1",) * statement.count("?")) for statement in unsaid])


def declared():
    """Every write in the modules of statements, and those that are made for tables."""
    found = set()
    for module in (sql, copying, rollups):
        for value in vars(module).values():
            values = value.values() if isinstance(value, dict) else value
            several = [values] if isinstance(values, str) else values
            if isinstance(value, str | dict | list):
                found |= {one for one in several if isinstance(one, str)}
    found |= {sql.upsert(table) for table in (UPSTREAM_CALLS, SYNCS, COVERAGE)}
    # Whoever updates a call names the columns.
    found.remove(sql.UPDATE_CALL)
    return {one for one in found if one.startswith(WRITES)} | {sql.UPDATE_CALL.format("level = ?")}


@pytest.mark.slow
def test_partitioned_tables_match_plain_ones_and_sqlite(in_parts, pg, db_path):
    history = [*seeded(11, 80), WHOLE] * 2
    for place in (in_parts, pg, db_path):
        in_store(place, lambda s: deliver(s, history))
    assert dump_of(in_parts) == dump_of(pg) == dump_of(db_path)
    rebuilt(in_parts)
    assert dump_of(in_parts) == dump_of(pg)


def test_a_write_without_its_call_is_found(in_parts, spy):
    """As an update by a column that is no key would be."""
    careless = "UPDATE observations SET problem = NULL WHERE body_sha256 = ?"
    in_store(in_parts, lambda s: s.run(lambda c: c.execute(careless, ("x",)) and None))
    with pytest.raises(AssertionError, match="SET problem = NULL WHERE body_sha256"):
        check(in_parts, spy.executed)
