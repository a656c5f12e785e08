"""A small world of calls for the tests of views, in a real file."""

import re
import sqlite3 as standard_sqlite3
from contextlib import closing, contextmanager
from datetime import datetime

from sqlite_utils.utils import sqlite3 as best_sqlite3

from schema.disconnection_reasons import REASONS
from schema.rows import Stamp, project
from schema.sql.views import views
from tests.support import ROOT
from tests.support.raw_fields import raw_fields

SCHEMA = ROOT / "schema"
# The standard library's is the oldest that callhouse meets.
SQLITES = {module.sqlite_version: module for module in (standard_sqlite3, best_sqlite3)}


def ms(text):
    """Milliseconds of an ISO time."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def create(path, timezone="UTC", sqlite=best_sqlite3):
    connection = sqlite.connect(path)
    connection.row_factory = sqlite.Row
    connection.execute("PRAGMA foreign_keys = ON")
    for script in sorted((SCHEMA / "sql" / "migrations").glob("*.sql")):
        connection.executescript(f"BEGIN; {script.read_text(encoding='utf-8')} COMMIT;")
    connection.executemany(
        "INSERT INTO disconnection_reasons VALUES (?, ?, ?)",
        [(reason, *meaning) for reason, meaning in REASONS.items()],
    )
    for statement in views(timezone).values():
        connection.execute(statement)
    return connection


def add(connection, call_id, level, seen, **fields):
    """Store a call as the receiver would; `seen` is when it was last heard of."""
    at = ms(seen)
    for (table, _), rows in project(call_id, raw_fields(fields), Stamp(level, at, at)).items():
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)


def utterance(role, text, start, end):
    return {"role": role, "content": text, "words": [{"word": text, "start": start, "end": end}]}


def invoked(id, name, type, at, arguments="{}"):
    return {
        "role": "tool_call_invocation", "tool_call_id": id, "name": name, "type": type,
        "arguments": arguments, "time_sec": at,
    }  # fmt: skip


def answered(id, content, at, *, successful):
    return {
        "role": "tool_call_result", "tool_call_id": id, "content": content, "time_sec": at,
        "successful": successful,
    }  # fmt: skip


SUMMARY = "The caller wanted a cleaning. " * 5  # 150 characters
HANGUP = {
    "call_type": "phone_call", "call_status": "ended", "direction": "inbound",
    "from_number": "+493012345", "to_number": "+18005550100",
    "agent_id": "agent_1", "agent_version": 0, "agent_name": "Dental",
    "start_timestamp": ms("2026-05-09T12:00:00Z"), "duration_ms": 90_900,
    "disconnection_reason": "user_hangup",
    "call_analysis": {
        "call_summary": SUMMARY, "user_sentiment": "Positive", "call_successful": True},
    "call_cost": {"combined_cost": 25, "product_costs": [
        {"product": "tts", "cost": 10}, {"product": "llm", "cost": 15}]},
    "latency": {"e2e": {"p50": 800, "p95": 1000, "max": 1500}, "llm": {"p50": 400, "max": 500}},
    "transcript_with_tool_calls": [
        utterance("agent", "Hello, ", 0.5, 2.0),
        utterance("user", "Tomorrow?", 1.5, 3.0),
        invoked("t1", "book", "custom", 3.5, '{"day": 1}'),
        {"role": "node_transition", "former_node_name": "Greet", "new_node_name": "Book",
         "time_sec": 3.75},
        utterance("agent", "One moment.", 4.0, 4.5),
        answered("t1", '{"success": false}', 5.0, successful=True),
        {"role": "dtmf", "digit": "7", "time_sec": 6.0},
        invoked("t2", "end_call", "end_call", 7.0, ""),
    ],
    # A copy of the same conversation, which must not be counted twice.
    "scrubbed_transcript_with_tool_calls": [
        utterance("agent", "Hello, ", 0.5, 2.0),
        invoked("t1", "book", "custom", 3.5),
    ],
}  # fmt: skip
TRANSFERRED = {
    "call_type": "phone_call", "call_status": "ended", "direction": "outbound",
    "from_number": "+18005550100", "to_number": "+493055555",
    "agent_id": "agent_1", "agent_version": 0, "agent_name": "Dental",
    "start_timestamp": ms("2026-05-09T23:30:00Z"), "duration_ms": 29_100,
    "disconnection_reason": "call_transfer", "transfer_destination": "+493077777",
    "call_analysis": {"user_sentiment": "negative ", "call_successful": False},
    "call_cost": {"combined_cost": 60, "product_costs": [
        {"product": "tts", "cost": 20},
        {"product": "tts", "cost": 40, "is_transfer_leg_cost": True}]},
    "latency": {"e2e": {"p50": 1200, "p95": 2000, "max": 2500}},
    "transcript_with_tool_calls": [
        utterance("agent", "Hello, ", 0.5, 1.0),
        invoked("t3", "book", "custom", 2.0),
        answered("t3", "gateway timeout", 2.5, successful=False),
        answered("t9", "of no known tool", 3.0, successful=True),
    ],
}  # fmt: skip
NO_ANSWER = {
    "call_type": "phone_call", "call_status": "not_connected", "direction": "outbound",
    "from_number": "+18005550100", "to_number": "+493066666",
    "agent_id": "agent_1", "agent_version": 0, "agent_name": "Dental",
    "duration_ms": 0, "disconnection_reason": "dial_no_answer",
    "call_analysis": {"call_summary": "", "user_sentiment": "Unknown", "call_successful": False},
    "call_cost": {"combined_cost": 0},
}  # fmt: skip
ONGOING = {
    "call_type": "web_call", "call_status": "ongoing",
    "agent_id": "agent_2", "agent_version": 3, "agent_name": "Shop",
    "start_timestamp": ms("2026-05-10T09:00:00Z"),
}  # fmt: skip
UNANALYSED = {
    "call_type": "web_call", "call_status": "ended",
    "agent_id": "agent_2", "agent_version": 3, "agent_name": "Shop",
    "start_timestamp": ms("2026-05-10T10:00:00Z"), "duration_ms": 60_000,
    "disconnection_reason": "agent_hangup", "call_cost": {"combined_cost": 15},
}  # fmt: skip


def all_of(connection, query, *values):
    return [dict(row) for row in connection.execute(query, values)]


def table_of(connection, query, *values):
    return [tuple(row) for row in connection.execute(query, values)]


def plan(connection, query, *values):
    """Steps of the query plan. An older SQLite does not notice where an index holds everything."""
    steps = connection.execute(f"EXPLAIN QUERY PLAN {query}", values)
    return [step.replace("COVERING ", "") for _, _, _, step in steps]


def tables_touched(steps, *but):
    return [s for s in steps if re.match(r"(SCAN|SEARCH) (?!newest|present)", s) and s not in but]


@contextmanager
def a_world(path, sqlite, timezone="UTC"):
    """Six calls of two agents on two days, and a body that was not understood."""
    with closing(create(path, timezone, sqlite)) as connection:
        fill(connection)
        yield connection


def fill(connection):
    """The world itself."""
    add(connection, "hangup", 3, "2026-05-09T12:03:00Z", **HANGUP)
    add(connection, "transferred", 3, "2026-05-09T23:40:00Z", **TRANSFERRED)
    add(connection, "no_answer", 3, "2026-05-10T08:00:00Z", **NO_ANSWER)
    add(connection, "stuck", 1, "2026-05-10T09:00:01Z", **ONGOING)
    add(connection, "unanalysed", 2, "2026-05-10T10:05:00Z", **UNANALYSED)
    add(connection, "going_on", 1, "2026-05-10T12:30:00Z", **ONGOING
        | {"start_timestamp": ms("2026-05-10T12:29:00Z")})  # fmt: skip
    connection.execute(
        "INSERT INTO observations (entity_id, body_sha256, source, first_received_at, problem) "
        "VALUES ('sha:00', '00', 'webhook', ?, 'not a JSON object')",
        (ms("2026-05-10T07:00:00Z"),),
    )
