"""Signed bodies that would take long to read: kept whole, in bounded time, with capped rows."""

import json
import time

import pytest

from receiver.store import rebuild, receive
from schema import events
from schema.events import parse
from tests.support.storing import count
from tests.support.tables import dump
from tests.support.webhooks import post

MIB = 1024 * 1024
MANY_ENTRIES = events.CUT + "a list has more than 10,000 entries"
MANY_KEYS = events.CUT + "an object has more than 5,000 keys"
HEAVY_ENTRY = events.CUT + "an entry has more than 100,000 values"
TOO_MANY = "more than 2,000,000 values"
TRACK = "transcript_with_tool_calls"


def event(field: str, value: bytes) -> bytes:
    call = b'{"event":"call_ended","call":{"call_id":"call_a","call_status":"ended","%s":%s}}'
    return call % (field.encode(), value)


def listed(entry: bytes, times: int) -> bytes:
    return b"[" + b",".join([entry] * times) + b"]"


def keyed(times: int) -> bytes:
    return b",".join(b'"k%d":1' % n for n in range(times))


def two_hours() -> bytes:
    words = [{"word": "hello ", "start": n / 4, "end": n / 4 + 0.2} for n in range(20)]
    entries = [{"role": "agent", "content": "hello, " * 20, "words": words}] * 3000
    call = {"call_id": "call_a", "transcript": "hello, " * 60_000, TRACK: entries}
    call |= {"transcript_object": entries, f"scrubbed_{TRACK}": entries}
    return json.dumps({"event": "call_ended", "call": call}).encode()


TOOL_CALL = b'{"role":"tool_call_invocation","tool_call_id":"a","name":"x"}'
LARGE = {
    "real call of two hours": (two_hours, None),
    "9 MB of {} in a list": (lambda: event(TRACK, listed(b"{}", 3_000_000)), TOO_MANY),
    "1M entries": (lambda: event(TRACK, listed(b"{}", 900_000)), MANY_ENTRIES),
    "260,000 tool calls": (lambda: event(TRACK, listed(TOOL_CALL, 260_000)), MANY_ENTRIES),
    "1M tool calls": (lambda: event(TRACK, listed(b'{"role":"dtmf"}', 1_000_000)), TOO_MANY),
    "1M words": (
        lambda: event(TRACK, b'[{"role":"agent","words":%s}]' % listed(b"{}", 900_000)),
        HEAVY_ENTRY,
    ),
    "1M keys": (lambda: b'{"event":"call_ended","call":{%s,"call_id":"call_a"}}' % keyed(10**6),
                MANY_KEYS),
    "1M keys beside": (lambda: b'{%s,"event":"call_ended","call":{"call_id":"call_a"}}'
                       % keyed(10**6), MANY_KEYS),
    "1M attributes": (lambda: event("custom_attributes", b"{%s}" % keyed(10**6)), MANY_KEYS),
    "1M findings": (
        lambda: event("call_analysis", b'{"custom_analysis_data":{%s}}' % keyed(10**6)), MANY_KEYS),
    "1M costs": (
        lambda: event("call_cost", b'{"product_costs":%s}' % listed(b"{}", 900_000)), MANY_ENTRIES),
    "duplicate keys": (lambda: b'{"event":"call_ended","call":{%s,"call_id":"call_a"}}'
                       % b",".join([b'"metadata":{}'] * 900_000), None),
    "nested arrays": (lambda: event("metadata", listed(b"[[]]", 3_000_000)), TOO_MANY),
    "deep JSON": (lambda: event("metadata", b"[" * 900_000 + b"]" * 900_000),
                  "not usable JSON: nested too deep"),
    "deeper JSON": (lambda: event("metadata", b"[" * 7 * MIB + b"]" * 7 * MIB), TOO_MANY),
    "one string": (lambda: event("transcript", b'"%s"' % (b"x" * (15 * MIB))), None),
    "escapes": (lambda: event("transcript", b'"%s"' % (b"\\u0000" * 2_600_000)), None),
    "backslashes": (lambda: event("transcript", b'"\\u0000%s"' % (b"\\\\" * 8_000_000)), None),
    "cut emoji": (lambda: event("transcript", b'"%s"' % (b"\\ud800" * 2_600_000)), None),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_any_large_body_is_stored_in_bounded_time(client, store, db, capsys, name):
    make, problem = LARGE[name]
    body = make()
    assert len(body) < 16 * MIB
    began = time.monotonic()
    assert post(client, body).status_code == 204
    seconds = time.monotonic() - began
    with capsys.disabled():
        print(f"{name}: {len(body) / MIB:.1f} MiB in {seconds:.2f} s")
    # A bound for a busy machine; docs/explanation/reliability.md has what was measured.
    assert seconds < 15
    row = db.execute("SELECT problem, body_bytes FROM observations").fetchone()
    assert tuple(row) == (problem, len(body))
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def stored(client, store, db, body: bytes) -> str | None:
    """Store a body, rebuild, and return its problem."""
    assert post(client, body).status_code == 204
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before
    return db.execute("SELECT problem FROM observations").fetchone()[0]


def test_first_10000_entries_of_a_list_become_rows(client, store, db):
    within = event(TRACK, listed(b'{"role":"dtmf","digit":"1"}', 10_000))
    assert parse(within).problem is None
    beyond = event(TRACK, listed(b'{"role":"dtmf","digit":"1"}', 10_001))
    assert stored(client, store, db, beyond) == MANY_ENTRIES
    assert count(db, "markers") == 10_000
    assert db.execute("SELECT call_status FROM calls").fetchone()[0] == "ended"


def test_first_5000_keys_of_an_object_become_rows(client, store, db):
    assert parse(event("metadata", b"{%s}" % keyed(5000))).problem is None
    assert stored(client, store, db, event("metadata", b"{%s}" % keyed(5001))) == MANY_KEYS
    assert count(db, "attributes") == 5000


def test_known_keys_are_taken_wherever_they_stand(client, store, db):
    body = b'{"event":"call_ended","call":{%s,"call_id":"call_a","call_status":"ended"}}'
    assert stored(client, store, db, body % keyed(6000)) == MANY_KEYS
    row = db.execute("SELECT call_id, call_status FROM calls").fetchone()
    assert tuple(row) == ("call_a", "ended")


def test_entry_with_too_many_words_has_no_row(client, store, db):
    entry = b'{"role":"agent","content":"a"}'
    heavy = b'{"role":"agent","words":%s}' % listed(b'{"word":"a"}', 60_000)
    value = b"[%s,%s,%s]" % (entry, heavy, entry)
    assert stored(client, store, db, event(TRACK, value)) == HEAVY_ENTRY
    rows = db.execute("SELECT position FROM utterances ORDER BY position").fetchall()
    assert [row[0] for row in rows] == [0, 2]


def test_cut_body_takes_part_in_the_fold(client, store, db):
    post(client, {"event": "call_started", "call": {"call_id": "call_a", "agent_id": "agent_1"}})
    post(client, event("metadata", b"{%s}" % keyed(6000)))
    post(client, {"event": "call_analyzed", "call": {"call_id": "call_a", "agent_name": "Ada"}})
    row = db.execute("SELECT agent_id, agent_name, call_status FROM calls").fetchone()
    assert tuple(row) == ("agent_1", "Ada", "ended")
    assert count(db, "attributes") == 5000
    before = dump(db)
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def test_large_body_has_the_rows_of_a_rebuild(client, store, db):
    large = {
        "call_id": "call_a",
        "call_status": "ended",
        "transcript": "User: yes. " * 30_000,
        "metadata": {"customer": "c", "tomorrow": 1},
        "unheard_of": [1],
        "call_analysis": {"call_summary": "s", "new_key": 1},
        TRACK: [{"role": "agent", "content": "hello"}, {"role": "unknown role"}],
    }
    post(client, {"event": "call_started", "call": {"call_id": "call_a", "agent_id": "agent_1"}})
    post(client, {"event": "call_ended", "call": large})
    post(client, {"event": "call_analyzed", "call": large | {"metadata": {"customer": "d"}}})
    assert receive(json.dumps({"event": "call_ended", "call": large}).encode(), source="webhook",
                   observed_at=1, received_at=1).decoded  # fmt: skip
    before = dump(db)
    assert before["utterances"]
    assert before["unknowns"]
    rebuild(store, progress=lambda *_: None)
    assert dump(db) == before


def test_what_show_prints_is_never_cut():
    body = event("metadata", b"{%s}" % keyed(6000))
    assert parse(body, verbatim=True).problem is None
    assert len(json.loads(parse(body, verbatim=True).fields["metadata"])) == 6000
