"""The merge rule on PostgreSQL: the same tables as on SQLite, whoever delivers what and when.

Goal: no history is found in which the tables differ from the naive model, or from SQLite's. Method:
the histories of support/histories.py, through the real store, on a real server, by eight processes.
"""

import pytest

from receiver.store import Outcome, open_store, read_drift, rebuild, receive
from tests.support.days import day
from tests.support.histories import (
    blank_file,
    differences,
    dump_of,
    seeded,
)  # fmt: skip
from tests.support.naive_model import Delivery
from tests.support.processes import by_processes
from tests.support.storing import add, body_of, incompressible
from tests.support.webhooks import PAYLOADS

DAY_MS = 1_778_544_000_000


def rebuilt(where) -> int:
    store = open_store(where)
    try:
        return rebuild(store, progress=lambda *_: None)
    finally:
        store.close()


@pytest.mark.slow
def test_day_and_payloads_match_on_both_engines(pg, db_path):
    bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
    bodies += [delivery.body for delivery in day(1, day_start_ms=DAY_MS, calls=40)]
    for where in (pg, db_path):
        store = open_store(where)
        for n, body in enumerate(bodies):
            store.add(receive(body, source="webhook", observed_at=DAY_MS + n, received_at=DAY_MS))
        store.close()
    assert dump_of(pg) == dump_of(db_path)
    assert read_drift(pg)


# -- content that an engine could refuse ---------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"agent_name": "\0 \ud800 \U0001f600"},
        {"duration_ms": 2**63, "start_timestamp": -(2**63), "call_cost": {"combined_cost": 1e308}},
        {"duration_ms": 5000.0, "call_cost": {"combined_cost": 5}, "agent_version": True},
        {"duration_ms": "5", "agent_name": 5, "latency": {"e2e": {"p50": "x", "num": 2**60}}},
        {"metadata": {"long": "ä" * 50_000, "": "", "\0": "\0"}},
        {"transcript": " ".join(f"word{n}" for n in range(200_000))},
        {"transcript": "x" * 3_000_000},
        {"novel_key_" + "x" * 3000: "x" * 3000},
        {"custom_attributes": {f"n{n}": n for n in range(500)}},
    ],
    ids=["text", "far", "kinds", "ill-typed", "long values", "words", "a word", "a key", "many"],
)
def test_difficult_content_is_stored_as_on_sqlite(pg, db_path, fields):
    body = body_of("call_ended", **fields)
    for where in (pg, db_path):
        store = open_store(where)
        outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
        assert outcome is Outcome.STORED
        store.close()
    assert dump_of(pg) == dump_of(db_path)


def test_values_too_long_for_indexes_are_quarantined(pg):
    """A name of thousands of characters is stored on SQLite; here the body is kept without rows."""
    store, long = open_store(pg), incompressible(5000)
    for fields in ({"disconnection_reason": long}, {"metadata": {long: 1}}):
        body = body_of("call_ended", f"call_{len(fields)}", **fields)
        outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
        assert outcome is Outcome.QUARANTINED
    body = body_of(incompressible(5000), incompressible(5000))
    outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    assert outcome is Outcome.QUARANTINED
    assert add(store, "call_ended", "sound") is Outcome.STORED
    store.close()
    found = dump_of(pg)
    assert [row[0] for row in found["calls"]] == ["sound"]
    assert {row[12] for row in found["observations"]} == {
        None,
        "not projected: DataError",
        "its id is too long",
    }


# -- eight processes -----------------------------------------------------------------------------


def of_one_call(id, size):
    calls = [d for d in seeded(1, 10 * size) if d.kind == "call"]
    start = size * int(id)
    return [Delivery(**(vars(d) | {"id": id})) for d in (calls * 9)[start : start + size]]


def test_eight_processes_leave_the_same_on_both_engines(pg):
    # Every delivery twice, as a retrying sender's.
    history = seeded(11, 100) * 2
    with blank_file() as path:
        by_processes(path, [history])
        by_processes(pg, [history])
        assert dump_of(pg) == dump_of(path)
        assert differences(pg, history) == set()
        before = dump_of(pg)
        rebuilt(pg)
        assert dump_of(pg) == before


# What eight processes say of one call at the same moment, fifteen calls one after the other.
ROUNDS = [of_one_call(str(n), 16) for n in range(15)]


def test_simultaneous_events_of_one_call_are_merged(pg):
    by_processes(pg, ROUNDS)
    assert differences(pg, [delivery for history in ROUNDS for delivery in history]) == set()


def test_unknown_reasons_exist_only_with_their_calls(pg):
    """Of eight calls at a time, some take on a reason while others drop it."""
    rounds = [
        [
            Delivery("call_ended", {"disconnection_reason": reason}, at=at, id=f"{n // 2}-{call}")
            for call in range(8)
            for reason, at in [("of_tomorrow", 1) if (n + call) % 2 else ("user_hangup", 2)]
        ]
        for n in range(25)
    ]
    by_processes(pg, rounds)
    assert differences(pg, [delivery for history in rounds for delivery in history]) == set()


@pytest.mark.slow
def test_without_the_row_lock_calls_diverge(pg):
    """The lock is what makes it right: the same deliveries without it end in wrong tables."""
    by_processes(pg, ROUNDS, unlocked=True)
    before = dump_of(pg)["calls"]
    rebuilt(pg)
    diverged = set(before) ^ set(dump_of(pg)["calls"])
    assert diverged, "a rebuild found every call as the receivers had left it"
