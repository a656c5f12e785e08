"""The store keeps whatever an event says, and what it says does no harm."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.errors import StoreUnavailable
from receiver.store import Outcome, open_store, rebuild, receive, show
from schema.events import MAX_DEPTH
from schema.models import Call
from tests.support.histories import FEW, blank_file, dump_of
from tests.support.storing import add, count, plant, rows, stored
from tests.support.tables import dump

quick = settings(max_examples=FEW, deadline=None, derandomize=True, database=None)


@pytest.fixture
def db_path():
    with blank_file() as path:
        yield path


CONTENT_ERRORS = [
    ValueError("+14155550123"),
    RecursionError("+14155550123"),
    OverflowError("+14155550123"),
    UnicodeEncodeError("utf-8", "+14155550123", 0, 1, "surrogates not allowed"),
    # The engine's own, by name.
    "IntegrityError",
    "ProgrammingError",
]
STORAGE_ERRORS = ["OperationalError", "DatabaseError", "InternalError"]


def test_later_value_of_equal_cleaned_names_is_stored(store, db):
    """What no text can hold becomes U+FFFD, and two rows have one key."""
    names = {f"a{chr(0xD800)}": "one", f"a{chr(0xDFFF)}": "two", "b": "three"}
    assert add(store, "call_ended", metadata=names) is Outcome.STORED
    found = rows(db, "SELECT name, value FROM attributes ORDER BY name")
    assert found == [("a\ufffd", "two"), ("b", "three")]
    assert rows(db, "SELECT problem FROM observations") == [(None,)]


@pytest.mark.parametrize(
    "error", CONTENT_ERRORS, ids=lambda e: e if isinstance(e, str) else type(e).__name__
)
def test_content_that_cannot_be_projected_is_quarantined(engine, store, db, monkeypatch, error):
    error = getattr(engine.errors, error)("+14155550123") if isinstance(error, str) else error
    plant(monkeypatch, error)
    assert add(store, "call_ended", "poison", agent_name="Ann") is Outcome.QUARANTINED
    found = rows(db, "SELECT entity_id, problem, body IS NOT NULL FROM observations")
    assert found == [("poison", f"not projected: {type(error).__name__}", 1)]
    assert count(db, "calls") == 0


def test_quarantined_bodies_leave_no_trace_in_the_connection(store, db, monkeypatch):
    plant(monkeypatch, ValueError())
    for n in range(4):
        assert add(store, "call_ended", "poison", n=n) is Outcome.QUARANTINED
        assert add(store, "call_ended", f"c{n}") is Outcome.STORED
    assert (count(db), count(db, "calls")) == (8, 4)


@pytest.mark.parametrize("error", STORAGE_ERRORS)
def test_storage_that_fails_stores_nothing_and_says_so(engine, store, db, monkeypatch, error):
    plant(monkeypatch, getattr(engine.errors, error)("disk I/O error"))
    with pytest.raises(StoreUnavailable) as raised:
        add(store, "call_ended", "poison")
    assert (raised.value.status, raised.value.retry) == (503, True)
    assert count(db) == 0
    monkeypatch.undo()
    assert add(store, "call_ended", "poison") is Outcome.STORED


def test_interruption_stores_nothing_and_goes_on(store, db, monkeypatch):
    plant(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        add(store, "call_ended", "poison")
    assert count(db) == 0
    monkeypatch.undo()
    assert add(store, "call_ended", "poison") is Outcome.STORED


def test_quarantined_body_leaves_the_call_as_it_was(store, db, monkeypatch):
    add(store, "call_started", "poison", at=1, agent_name="Ann")
    before = dump(db, observations=False)
    plant(monkeypatch, ValueError())
    assert add(store, "call_ended", "poison", at=2, agent_name="Bob") is Outcome.QUARANTINED
    assert dump(db, observations=False) == before
    monkeypatch.undo()
    assert add(store, "call_ended", "poison", at=3, to_number="+1") is Outcome.STORED
    assert rows(db, "SELECT agent_name, to_number FROM calls") == [("Ann", "+1")]


def test_duplicate_that_cannot_be_projected_is_quarantined(store, db, monkeypatch):
    add(store, "call_ended", "poison", at=5)
    plant(monkeypatch, ValueError())
    assert add(store, "call_ended", "poison", at=4) is Outcome.QUARANTINED
    found = rows(db, "SELECT times_received, observed_at, problem FROM observations")
    assert found == [(2, 4, "not projected: ValueError")]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**63, -(2**63) - 1, 10**30, 1e308, -1e308, 1e-320, 1e15])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["\0", "\ud800", "agent", "tool_call_invocation", "tool_call_result"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["number", "p50"]), children, max_size=3
        )
    ),
    max_leaves=6,
)
ENTRY_KEYS = [
    "role", "content", "words", "metadata", "tool_call_id", "time_sec", "successful", "word",
    "start", "end", "arguments", "name", "product", "cost", "product_costs", "values", "p50",
]  # fmt: skip
ENTRIES = st.lists(st.dictionaries(st.sampled_from(ENTRY_KEYS), JSON, max_size=6), max_size=3)
STRANGE = st.dictionaries(
    st.sampled_from(sorted(set(Call.model_fields) - {"call_id"})) | st.text(max_size=5),
    JSON | ENTRIES | st.dictionaries(st.sampled_from(ENTRY_KEYS), JSON | ENTRIES, max_size=3),
    max_size=5,
)


@quick
@given(values=st.lists(STRANGE, min_size=1, max_size=4))
def test_any_json_value_in_any_field_is_stored(engine, values):
    with engine.blank() as where:
        store = open_store(where)
        try:
            for fields in values:
                event = {"event": "call_ended", "call": fields | {"call_id": "c"}}
                body = json.dumps(event).encode()
                outcome = store.add(receive(body, source="webhook", observed_at=1, received_at=1))
                assert outcome in (Outcome.STORED, Outcome.DUPLICATE)
            before = dump_of(where)
            rebuild(store, progress=lambda *_: None)
            assert dump_of(where) == before
        finally:
            store.close()


@pytest.mark.parametrize("seconds", [1e17, 1e300, 1.7e308])
def test_tool_call_of_impossible_length_has_no_length(store, db, seconds):
    times = [("tool_call_invocation", -seconds), ("tool_call_result", seconds)]
    entries = [{"role": role, "tool_call_id": "t", "time_sec": at} for role, at in times]
    assert add(store, "call_ended", transcript_with_tool_calls=entries) is Outcome.STORED
    assert rows(db, "SELECT tool_call_id, duration_ms FROM tool_calls") == [("t", None)]


def test_deepest_value_does_not_stop_a_later_event(store, db):
    deepest = json.loads("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
    add(store, "call_ended", at=1, x=deepest)
    assert add(store, "call_analyzed", at=2, z=1) is Outcome.STORED
    [(extra,)] = rows(db, "SELECT extra FROM calls")
    assert json.loads(extra) == {"x": deepest, "z": 1}


QUOTES = st.text(alphabet="\"'`;-)(]x\\ %\0é", max_size=12)


@quick
@given(
    values=st.dictionaries(QUOTES, QUOTES, max_size=4),
    event=QUOTES.filter(bool),
    call_id=QUOTES.filter(bool),
)
def test_names_and_values_never_enter_sql_text(engine, values, event, call_id):
    call = {
        **values,
        "call_id": call_id,
        "disconnection_reason": event,
        "metadata": values,
        "latency": {name: {"p50": 1} for name in values},
        "transcript_with_tool_calls": [{**values, "role": role} for role in values],
    }
    body = json.dumps({**values, "event": event, "call": call}).encode()
    with engine.blank() as where:
        store = open_store(where)
        try:
            add(store, "call_started", "other", agent_name="Ann")
            schema = engine.schema_of(where)
            for source in ("webhook", "api"):
                store.add(receive(body, source=source, observed_at=1, received_at=1))
            assert engine.schema_of(where) == schema
        finally:
            store.close()
        dumped = dump_of(where)
        assert len(dumped["observations"]) == 3
        assert ("other", "Ann") in [(row[0], row[6]) for row in dumped["calls"]]


@pytest.mark.parametrize("at", [1_778_328_000_000_000, -(10**15), 253_402_300_800_000])
def test_time_outside_the_calendar_is_null(store, db, database, at):
    body = {"event": "call_ended", "call": {"call_id": "c", "start_timestamp": at}}
    body["call"] |= {"end_timestamp": at, "transfer_end_timestamp": at}
    stored(store, body)
    times = "SELECT start_timestamp, end_timestamp, transfer_end_timestamp FROM calls"
    assert rows(db, times) == [(None, None, None)]
    assert show(database, "c")["start_timestamp"] == at


def test_last_moment_of_the_calendar_is_kept(store, db):
    last = 253_402_300_799_999
    stored(store, {"event": "call_ended", "call": {"call_id": "c", "start_timestamp": last}})
    assert rows(db, "SELECT start_timestamp FROM calls") == [(last,)]
