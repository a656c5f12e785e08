"""Retention: what stays of a call's or chat's rows after a part of it was erased."""

import json

import pytest

from schema.chats import project_chat
from schema.retention import (
    PERSONAL,
    RAW,
    RECORDINGS,
    SCOPES,
    TRANSCRIPTS,
    is_closed,
    kept,
    touched,
)
from schema.rows import Stamp, project
from schema.tables import CALL_TABLES, CHAT_TABLES
from tests.support.raw_fields import raw_fields

TABLES = {table.name: table for table in (*CALL_TABLES, *CHAT_TABLES)}
SECRET = "Oboe"
SPOKEN = [
    {"role": "agent", "content": SECRET, "words": [{"word": SECRET, "start": 0, "end": 1}]},
    {"role": "dtmf", "digit": SECRET},
    {
        "role": "tool_call_invocation",
        "tool_call_id": "t",
        "name": "book",
        "arguments": SECRET,
    },
    {
        "role": "tool_call_result",
        "tool_call_id": "t",
        "content": json.dumps({"success": False, "who": SECRET}),
    },
]
CALL = {
    "agent_id": "agent_7",
    "agent_version": 3,
    "call_status": "ended",
    "to_number": "+12065550100",
    "duration_ms": 10575,
    "transfer_destination": "sip:desk@example.com",
    "call_cost": {"combined_cost": 3.25, "product_costs": [{"product": "voice", "cost": 2}]},
    "telephony_identifier": {"twilio_call_sid": "CA123"},
    "latency": {"e2e": {"p50": 836.5}},
}
STAMP = Stamp(level=3, observed_at=1, updated_at=2)


def rows_of(**fields):
    rows = project("call_a", raw_fields(CALL | fields), STAMP, ["beside"])
    return [(table, row) for (table, _), part in rows.items() for row in part]


def after(scope, rows):
    found = [(table, kept(table, row, {scope})) for table, row in rows]
    return [(table, row) for table, row in found if row is not None]


def cells(table, rows):
    return [dict(zip(TABLES[table].names, r, strict=True)) for t, r in rows if t == table]


FULL = rows_of(
    transcript=f"User: {SECRET}",
    transcript_with_tool_calls=SPOKEN,
    from_number=SECRET,
    metadata={"shop": SECRET},
    recording_url=SECRET,
    tomorrow=SECRET,
    call_analysis={"call_summary": SECRET, "call_successful": True, "today": SECRET},
)


def test_transcripts_remove_what_was_said():
    rows = after(TRANSCRIPTS, FULL)
    assert SECRET not in repr([row for t, row in rows if t not in ("calls", "analyses")
                               and t not in ("attributes", "media")])  # fmt: skip
    assert cells("analyses", rows)[0]["call_summary"] == SECRET


def test_personal_removes_numbers_words_and_links():
    assert SECRET not in repr(after(PERSONAL, FULL))


def test_personal_chat_says_nothing_of_the_person():
    chat = {
        "chat_id": "h",
        "transcript": SECRET,
        "metadata": {"a": SECRET},
        "message_with_tool_calls": [{"role": "user", "content": SECRET, "later": SECRET}],
        "chat_analysis": {"chat_summary": SECRET, "chat_successful": True},
        "tomorrow": SECRET,
    }
    made = project_chat("h", raw_fields(chat), STAMP)
    rows = after(PERSONAL, [(table, row) for (table, _), part in made.items() for row in part])
    assert SECRET not in repr(rows)
    assert cells("chats", rows)[0]["chat_successful"] is True


def test_anonymous_row_keeps_figures():
    before, rows = cells("calls", FULL), cells("calls", after(PERSONAL, FULL))
    for column in (
        "agent_id",
        "agent_version",
        "duration_ms",
        "combined_cost_cents",
        "call_status",
    ):
        assert rows[0][column] == before[0][column] is not None
    assert rows[0]["transfer_destination"] == ""
    for table in ("product_costs", "latencies", "call_metrics"):
        assert cells(table, after(PERSONAL, FULL)) == cells(table, FULL) != []


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, None),
        ("booked for Oboe", "{}"),
        ('{"success": false, "success": true, "who": "Oboe"}', '{"success": false}'),
        ('{"success": "Oboe"}', "{}"),
        ('["success"]', "{}"),
        ('{"success": true, "n": NaN}', "{}"),
        ("[" * 100_000, "{}"),
    ],
)
def test_tool_answer_keeps_only_its_success(result, expected):
    names = TABLES["tool_calls"].names
    row = tuple({"call_id": "c", "result": result}.get(name) for name in names)
    assert cells("tool_calls", after(PERSONAL, [("tool_calls", row)]))[0]["result"] == expected


def test_recordings_remove_the_links_alone():
    assert after(RECORDINGS, FULL) == [each for each in FULL if each[0] != "media"]
    assert ("media", ("call_a", "recording", SECRET)) in FULL


@pytest.mark.parametrize("scope", SCOPES)
def test_scope_applied_twice_changes_nothing_more(scope):
    once = after(scope, FULL)
    assert after(scope, once) == once


@pytest.mark.parametrize("scope", SCOPES)
def test_touched_names_every_table_that_changes(scope):
    changed = {table for table, row in FULL if kept(table, row, {scope}) != row}
    assert changed <= set(touched({scope}))


def test_only_recordings_leave_a_call_open():
    assert [scope for scope in SCOPES if not is_closed({scope})] == [RECORDINGS]
    assert after(RAW, FULL) == FULL
