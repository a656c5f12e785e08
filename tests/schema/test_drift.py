"""Drift: whatever Retell says that this version does not know is counted, and nothing else is."""

import json

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.store import migrate, rebuild, receive
from schema.events import EVENTS
from schema.sql.macros import unknown_event
from tests.support import slow_except
from tests.support.days import day, deliver
from tests.support.engines import url_of
from tests.support.storing import stored
from tests.support.webhooks import PAYLOADS

pytestmark = pytest.mark.slow_on_postgres


def add(store, event, call=None, *, at=1, **beside):
    body = {"event": event, "call": {"call_id": "c"} | (call or {})} | beside
    raw = json.dumps(body).encode()
    return store.add(receive(raw, source="webhook", observed_at=at, received_at=at))


def drift(db) -> set[tuple]:
    return {tuple(row) for row in db.execute("SELECT place, what, name, entities FROM drift")}


UNKNOWN = {
    "top-level key": ({"mood": 1}, ("call", "key", "mood")),
    "call_type": ({"call_type": "fax"}, ("call", "call_type", "fax")),
    "call_status": ({"call_status": "paused"}, ("call", "call_status", "paused")),
    "direction": ({"direction": "sideways"}, ("call", "direction", "sideways")),
    "data_storage_setting": (
        {"data_storage_setting": "nothing"},
        ("call", "data_storage_setting", "nothing"),
    ),
    "disconnection_reason": (
        {"disconnection_reason": "of_tomorrow"},
        ("call", "disconnection_reason", "of_tomorrow"),
    ),
    "key of the analysis": (
        {"call_analysis": {"mood": "blue"}},
        ("call_analysis", "key", "mood"),
    ),
    "sentiment": (
        {"call_analysis": {"user_sentiment": "Elated"}},
        ("call_analysis", "user_sentiment", "Elated"),
    ),
    "key of the cost": ({"call_cost": {"vat": 1}}, ("call_cost", "key", "vat")),
    "product": (
        {"call_cost": {"product_costs": [{"product": "mystery_fee"}]}},
        ("call_cost", "product", "mystery_fee"),
    ),
    "key of a product": (
        {"call_cost": {"product_costs": [{"product": "voice_engine", "tier": 2}]}},
        ("call_cost", "key", "tier"),
    ),
    "component": ({"latency": {"gut": {"p50": 1}}}, ("latency", "component", "gut")),
    "key of a latency": ({"latency": {"e2e": {"p75": 1}}}, ("latency", "key", "p75")),
    "key of the tokens": ({"llm_token_usage": {"sum": 1}}, ("llm_token_usage", "key", "sum")),
    "key of the line": (
        {"telephony_identifier": {"sip_id": "x"}},
        ("telephony_identifier", "key", "sip_id"),
    ),
    "role": (
        {"transcript_with_tool_calls": [{"role": "hologram"}]},
        ("session", "role", "hologram"),
    ),
    "role in another list": (
        {"scrubbed_post_session_transcript_with_tool_calls": [{"role": "hologram"}]},
        ("scrubbed_post_session", "role", "hologram"),
    ),
    "key of an entry": (
        {"transcript_object": [{"role": "user", "accent": "none"}]},
        ("session", "key", "accent"),
    ),
    "key of an entry's metadata": (
        {"transcript_object": [{"role": "agent", "metadata": {"voice": 1}}]},
        ("session", "metadata key", "voice"),
    ),
    "key of a word": (
        {"transcript_object": [{"role": "user", "words": [{"word": "a", "volume": 1}]}]},
        ("session", "word key", "volume"),
    ),
    "type of a tool": (
        {"transcript_with_tool_calls": [{"role": "tool_call_invocation", "type": "teleport"}]},
        ("session", "type", "teleport"),
    ),
    "type of a transition": (
        {"transcript_with_tool_calls": [{"role": "node_transition", "transition_type": "warp"}]},
        ("session", "transition_type", "warp"),
    ),
    **{
        f"{field} in microseconds": (
            {field: 1_778_328_000_000_000},
            (field, "time", "unusable"),
        )
        for field in ("start_timestamp", "end_timestamp", "transfer_end_timestamp")
    },
    "duration longer than the calendar": (
        {"duration_ms": 2**60},
        ("duration_ms", "time", "unusable"),
    ),
}


@pytest.mark.parametrize(("call", "found"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_no_model_names_is_counted(store, db, call, found):
    add(store, "call_ended", call)
    assert drift(db) == {(*found, 1)}


def test_unknown_event_and_envelope_key_are_counted(store, db):
    add(store, "call_teleported", tariff="gold")
    add(store, "call_teleported", {"call_id": "d"}, at=2)
    store.add(receive(b'{"event":"batch_done"}', source="webhook", observed_at=3, received_at=3))
    assert drift(db) == {
        ("envelope", "event", "call_teleported", 2),
        ("envelope", "event", "batch_done", 1),
        ("envelope", "key", "tariff", 1),
    }


def test_chats_are_looked_at_too(store, db):
    chat = {
        "chat_id": "h",
        "mood": 1,
        "chat_type": "fax",
        "direction": "sideways",
        "data_storage_setting": "nothing",
        "disconnection_reason": "bored",
        "chat_analysis": {"user_sentiment": "Elated"},
        "chat_cost": {"product_costs": [{"product": "mystery_fee"}]},
        "message_with_tool_calls": [{"role": "hologram", "created_timestamp": 10**15}],
        "end_timestamp": 10**15,
    }
    stored(store, {"event": "chat_ended", "chat": chat})
    assert drift(db) == {
        ("chat", "key", "mood", 1),
        ("chat", "chat_type", "fax", 1),
        ("chat", "direction", "sideways", 1),
        ("chat", "data_storage_setting", "nothing", 1),
        ("chat", "disconnection_reason", "bored", 1),
        ("chat_analysis", "user_sentiment", "Elated", 1),
        ("chat_cost", "product", "mystery_fee", 1),
        ("session", "role", "hologram", 1),
        ("created_timestamp", "time", "unusable", 1),
        ("end_timestamp", "time", "unusable", 1),
    }


def test_first_seen_and_example_are_the_earliest_calls(store, db):
    start = 1_778_328_000_000
    for n in (3, 1, 2):
        call = {"call_id": f"call_{n}", "mood": n, "start_timestamp": start + n * 1000}
        add(store, "call_ended", call)
    [row] = db.execute("SELECT entities, first_seen, example FROM drift").fetchall()
    assert tuple(row) == (3, "2026-05-09T12:00:01Z", "call_1")


@pytest.mark.parametrize("order", ["cab", "bac"])
def test_drift_example_does_not_depend_on_arrival_order(store, db, order):
    times = {"a": 0, "b": 7, "c": 7}
    for call_id in order:
        add(store, "call_ended", {"call_id": call_id, "mood": 1}, at=times[call_id])
        add(store, "call_sung", {"call_id": call_id}, at=times[call_id])
        chat = {"chat_id": f"chat_{call_id}", "mood": 1}
        stored(store, {"event": "chat_ended", "chat": chat}, at=times[call_id])
    found = db.execute(
        "SELECT place, first_seen_ms, example FROM drift WHERE name IN ('mood', 'call_sung')"
    )
    assert {tuple(row) for row in found} == {
        ("call", 7, "b"),
        ("chat", 7, "chat_b"),
        ("envelope", 7, "b"),
    }


def test_replaced_value_is_no_longer_drift(store, db):
    add(store, "call_started", {"call_status": "paused", "call_cost": {"vat": 1}}, tariff="gold")
    assert len(drift(db)) == 3
    add(store, "call_ended", {"call_status": "ended"}, at=2)
    assert drift(db) == {("call_cost", "key", "vat", 1), ("envelope", "key", "tariff", 1)}
    add(store, "call_analyzed", {"call_cost": {}, "mood": 1}, at=3)
    assert drift(db) == {("call", "key", "mood", 1), ("envelope", "key", "tariff", 1)}


def test_corrected_time_is_no_longer_drift(store, db):
    add(store, "call_started", {"start_timestamp": 1_778_328_000_000_000})
    add(store, "call_ended", {"start_timestamp": 1_778_328_000_000}, at=2)
    assert drift(db) == set()


def test_rebuild_reproduces_drift(store, db):
    for call, _ in UNKNOWN.values():
        add(store, "call_ended", call)
    before = drift(db)
    db.execute("DELETE FROM unknowns")
    rebuild(store, progress=lambda *_: None)
    assert drift(db) == before != set()


def test_a_name_is_cut(store, db):
    add(store, "call_ended", {"x" * 300: 1, "x" * 301: 1})
    assert drift(db) == {("call", "key", "x" * 200, 1)}


@pytest.mark.parametrize("seed", slow_except((1, 2, 3), 1))
def test_documented_day_has_no_drift_but_the_planted(store, db, seed):
    deliver(store, day(seed, day_start_ms=1_778_544_000_000, calls=60))
    assert db.execute("SELECT count(*) FROM calls").fetchone()[0] > 40
    assert drift(db) == {
        ("envelope", "event", "call_reviewed", 1),
        ("call", "key", "quality_review", 1),
    }


def test_known_events_are_never_drift(store, db):
    for path in sorted(PAYLOADS.glob("event-*.json")):
        store.add(receive(path.read_bytes(), source="webhook", observed_at=1, received_at=1))
    known = {name for _, what, name, _ in drift(db) if what == "event"} & EVENTS.keys()
    assert known == set()


@pytest.mark.sqlite
def test_drift_view_scans_no_table(db):
    plan = [row["detail"] for row in db.execute("EXPLAIN QUERY PLAN SELECT * FROM drift")]
    for name, index in (
        ("o", "observations_unknown_event"),
        ("u", "unknowns_name"),
        ("u", "chat_unknowns_name"),
    ):
        assert any(p.startswith(f"SCAN {name} USING") and index in p for p in plan), plan
    assert not [p for p in plan if p.startswith(("SCAN o", "SCAN e")) and "INDEX" not in p]


@pytest.mark.sqlite
def test_event_learned_later_is_known_with_unchanged_index(db):
    condition = unknown_event("o", [*EVENTS, "call_paused"])
    plan = db.execute(f"EXPLAIN QUERY PLAN SELECT * FROM observations o WHERE {condition}")
    assert "observations_unknown_event" in plan.fetchone()["detail"]
    found = db.execute(
        f"SELECT o.event FROM (SELECT 'call_paused' AS event UNION SELECT 'call_ended' "
        f"UNION SELECT 'of_tomorrow') o WHERE {condition}"
    )
    assert [row["event"] for row in found] == ["of_tomorrow"]


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, database):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def test_the_command_lists_what_is_unknown(run, store):
    add(store, "call_ended", {"mood": 1})
    result = run("drift")
    assert result.exit_code == 0
    assert "mood" in result.output
    assert "1 thing is unknown" in result.output
    [row] = json.loads(run("drift", "--json").output)
    assert (row["place"], row["what"], row["name"], row["example"]) == ("call", "key", "mood", "c")


def test_the_command_says_so_when_nothing_is_unknown(run):
    assert "Nothing unknown" in run("drift").output
    assert json.loads(run("drift", "--json").output) == []


def test_the_command_without_a_database_fails(run, monkeypatch, engine):
    with engine.nothing() as where:
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(where))
        assert run("drift").exit_code == 1
        migrate(where, timezone="UTC")
        assert run("drift").exit_code == 0


def test_bill_of_today_has_no_unknowns(store, db):
    names = "retell_voice_engine platform_tts gpt_4_1 us_twilio_telephony llm_token_surcharge"
    costs = [{"product": name, "cost": 1} for name in (*names.split(), "mystery_fee")]
    add(store, "call_ended", {"call_cost": {"combined_cost": 6, "product_costs": costs}})
    found = {(place, what, name) for place, what, name, _ in drift(db)}
    assert found == {("call_cost", "product", "mystery_fee")}
