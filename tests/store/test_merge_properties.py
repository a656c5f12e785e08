"""Any order, any number of times: the same tables, and those that the rule names.

Goal: no history is found in which the store differs from the naive model. Method: short histories
over alphabets so small that times, levels and bodies collide, through the real store.
"""

import multiprocessing
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import receiver.store.ingest
from receiver.store import open_store, rebuild
from schema.rows import Stamp, changes, is_undecided, project
from tests.support.engines import Engine
from tests.support.histories import (
    CALL_FIELDS,
    FEW,
    deliver,
    differences,
    differences_after,
    dump_of,
    every_pair,
    histories,
    seeded,
)  # fmt: skip
from tests.support.naive_model import Delivery
from tests.support.raw_fields import raw_fields

quick = settings(max_examples=FEW, deadline=None, derandomize=True, database=None)
thorough = settings(max_examples=1000, deadline=None, database=None)


def check_history_in_two_orders(
    engine: Engine, history: list[Delivery], order: list[Delivery]
) -> None:
    dumps = []
    for deliveries in (history, order):
        with engine.blank() as where:
            store = open_store(where)
            try:
                deliver(store, deliveries)
                assert differences(where, history) == set()
                before = dump_of(where)
                rebuild(store, progress=lambda *_: None)
                assert dump_of(where) == before
            finally:
                store.close()
            dumps.append(before)
    assert dumps[0] == dumps[1]


@st.composite
def histories_in_two_orders(draw: st.DrawFn) -> tuple[list[Delivery], list[Delivery]]:
    history = draw(histories())
    return history, draw(st.permutations(history))


@quick
@given(histories_in_two_orders())
def test_any_order_gives_the_tables_of_the_rule(engine, orders):
    check_history_in_two_orders(engine, *orders)


@pytest.mark.slow
@thorough
@given(histories_in_two_orders())
def test_many_orders_give_the_tables_of_the_rule(engine, orders):
    check_history_in_two_orders(engine, *orders)


@quick
@given(history=histories(max_size=4), data=st.data())
def test_repeated_deliveries_change_only_their_count(engine, history, data):
    repeated = data.draw(st.lists(st.sampled_from(history), min_size=1, max_size=3))
    position = data.draw(st.integers(0, len(history)))
    dumps = []
    for deliveries in (history, [*history[:position], *repeated, *history[position:], *repeated]):
        with engine.blank() as where:
            store = open_store(where)
            deliver(store, sorted(deliveries, key=history.index, reverse=True))
            store.close()
            dumps.append(dump_of(where))
    once, often = dumps
    assert once.pop("observations") != often.pop("observations")
    assert once == often


@pytest.mark.slow
def test_pairs_of_values_give_the_rules_tables(engine):
    assert differences_after(engine, every_pair()) == set()


@quick
@given(histories(max_size=10))
def test_long_history_gives_the_tables_of_the_rule(engine, history):
    of_one = [Delivery(**(vars(d) | {"id": "c"})) for d in history]
    assert differences_after(engine, of_one) == set()


# -- what changes --------------------------------------------------------------------------------


def some_fields() -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(CALL_FIELDS)), unique=True, max_size=8)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {name: st.sampled_from(CALL_FIELDS[name]) for name in chosen}
        )
    )


@settings(quick, max_examples=250)
@given(older=some_fields(), newest=some_fields())
def test_projected_changes_complete_what_is_stored(older, newest):
    stamp = Stamp(level=2, observed_at=5, updated_at=7)
    before = project("c", raw_fields(older), Stamp(level=1, observed_at=4, updated_at=6))
    stored = {table: before[table, None] for table in ("calls", "unknowns")}
    fields = changes(raw_fields(older), raw_fields(older | newest))
    assert before | project("c", fields, stamp, stored=stored) == project(
        "c", raw_fields(older | newest), stamp
    )


@settings(quick, max_examples=100)
@given(newest=some_fields())
def test_only_second_choices_need_other_observations(newest):
    second_choice = (
        ("transcript_object" in newest and "transcript_with_tool_calls" not in newest)
        or ("version" in newest and "agent_version" not in newest)
        or ("e2e_latency" in newest and "latency" not in newest)
    )
    assert is_undecided(newest, newest) is second_choice


# -- two processes -------------------------------------------------------------------------------


def add_shares(shares, barrier) -> None:
    """One process: its share of each history, begun together with the other."""
    for where, deliveries in shares:
        store = open_store(where, busy_seconds=20)
        try:
            barrier.wait(timeout=30)
            deliver(store, deliveries)
        finally:
            store.close()


@pytest.mark.slow
def test_two_processes_give_the_tables_of_one(engine):
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as databases:
        work = [(databases.enter_context(engine.blank()), seeded(seed, 60)) for seed in (1, 2, 3)]
        barrier = spawn.Barrier(2)
        processes = [
            spawn.Process(
                target=add_shares,
                args=([(where, history[start::2]) for where, history in work], barrier),
            )
            for start in (0, 1)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=60)
        assert [process.exitcode for process in processes] == [0, 0]
        for where, history in work:
            assert differences(where, history) == set()


@quick
@given(drawn=histories_in_two_orders())
def test_reading_only_deciding_observations_ignores_order(engine, drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiver.store.ingest, "MANY", 0)
        check_history_in_two_orders(engine, *drawn)


@quick
@given(drawn=histories_in_two_orders())
def test_reading_bodies_again_gives_the_same_tables(engine, drawn):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receiver.store.ingest.RECENT, "max_bytes", 0)
        check_history_in_two_orders(engine, *drawn)
