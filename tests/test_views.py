"""The views on a small world, worked out by hand, in real files of both SQLites at hand."""

import re
import sqlite3 as standard_sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from spelling import spelled
from sqlite_utils.utils import sqlite3 as best_sqlite3

from receiver.store import sql
from schema.disconnection_reasons import REASONS
from schema.rows import Stamp, project
from schema.views import views

SCHEMA = Path(__file__).parent.parent / "schema"
# The standard library's is the oldest that callhouse meets.
SQLITES = {module.sqlite_version: module for module in (standard_sqlite3, best_sqlite3)}


def ms(text):
    """Milliseconds of an ISO time."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def create(path, timezone="UTC", sqlite=best_sqlite3):
    connection = sqlite.connect(path)
    for script in sorted((SCHEMA / "migrations").glob("*.sql")):
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
    for (table, _), rows in project(call_id, spelled(fields), Stamp(level, at, at)).items():
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)


def said(role, text, start, end):
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
        said("agent", "Hello, ", 0.5, 2.0),
        said("user", "Tomorrow?", 1.5, 3.0),
        invoked("t1", "book", "custom", 3.5, '{"day": 1}'),
        {"role": "node_transition", "former_node_name": "Greet", "new_node_name": "Book",
         "time_sec": 3.75},
        said("agent", "One moment.", 4.0, 4.5),
        answered("t1", '{"success": false}', 5.0, successful=True),
        {"role": "dtmf", "digit": "7", "time_sec": 6.0},
        invoked("t2", "end_call", "end_call", 7.0, ""),
    ],
    # A copy of the same conversation, which no figure may count again.
    "scrubbed_transcript_with_tool_calls": [
        said("agent", "Hello, ", 0.5, 2.0),
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
        said("agent", "Hello, ", 0.5, 1.0),
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


@pytest.fixture(params=sorted(SQLITES))
def world(tmp_path, request):
    """Six calls of two agents on two days, and a body that was not understood."""
    with closing(create(tmp_path / "retell.db", sqlite=SQLITES[request.param])) as connection:
        connection.row_factory = SQLITES[request.param].Row
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
        yield connection


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


# call_log


def test_a_call_is_one_line_of_the_log(world):
    [line] = all_of(world, "SELECT * FROM call_log WHERE call_id = 'hangup'")
    assert line == {
        "call_id": "hangup",
        "started_at": "2026-05-09T12:00:00Z",
        "agent": "Dental",
        "direction": "inbound",
        "who": "+493012345",
        "duration": "1:30",
        "status": "ended",
        "outcome": "user_hangup",
        "success": 1,
        "sentiment": "Positive",
        "cost_dollars": 0.25,
        "summary": "The caller wanted a cleaning. " * 3 + "The caller wanted a cleaning.…",
        "duration_seconds": 90.9,
        "started_at_ms": 1778328000000,
    }


def test_the_log_shows_the_number_at_the_other_end(world):
    assert table_of(world, "SELECT call_id, who FROM call_log ORDER BY started_at_ms") == [
        ("hangup", "+493012345"),
        ("transferred", "+493055555"),
        ("no_answer", "+493066666"),
        ("stuck", None),
        ("unanalysed", None),
        ("going_on", None),
    ]


def test_a_call_that_never_connected_stands_where_retell_reported_it(world):
    assert table_of(
        world, "SELECT started_at, duration, success FROM call_log WHERE call_id = 'no_answer'"
    ) == [("2026-05-10T08:00:00Z", "0:00", 0)]


def test_a_call_that_goes_on_has_no_duration_cost_or_summary(world):
    assert table_of(
        world,
        "SELECT duration, duration_seconds, cost_dollars, summary, success, status "
        "FROM call_log WHERE call_id = 'stuck'",
    ) == [(None, None, None, None, None, "ongoing")]


def test_a_call_without_any_time_has_none_in_the_log_and_no_day(tmp_path):
    with closing(create(tmp_path / "retell.db", "Europe/Berlin")) as connection:
        add(connection, "a", 3, "1970-01-01T00:00:00Z", **NO_ANSWER)
        assert table_of(connection, "SELECT started_at, started_at_ms FROM call_log") == [
            (None, None)
        ]
        assert table_of(connection, "SELECT * FROM daily_summary") == []


# timeline and words


def test_the_timeline_tells_a_call_in_its_order(world):
    assert table_of(
        world,
        "SELECT position, seconds, kind, who, text FROM timeline "
        "WHERE call_id = 'hangup' AND track = 'session'",
    ) == [
        (0, 0.5, "utterance", "agent", "Hello, "),
        (1, 1.5, "utterance", "user", "Tomorrow?"),
        (2, 3.5, "tool_call", "book", '{"day": 1}'),
        (3, 3.75, "node_transition", None, "Greet → Book"),
        (4, 4.0, "utterance", "agent", "One moment."),
        (5, 5.0, "tool_result", "book", '{"success": false}'),
        (6, 6.0, "dtmf", None, "7"),
        (7, 7.0, "tool_call", "end_call", ""),
    ]


def test_a_result_without_invocation_is_one_entry(world):
    assert table_of(
        world,
        "SELECT position, kind, who, text FROM timeline "
        "WHERE call_id = 'transferred' AND position >= 2",
    ) == [
        (2, "tool_result", "book", "gateway timeout"),
        (3, "tool_result", None, "of no known tool"),
    ]


def test_the_timeline_of_a_call_searches_and_does_not_scan(world):
    for order in ("", " ORDER BY track, position"):
        steps = plan(world, f"SELECT * FROM timeline WHERE call_id = ?{order}", "hangup")
        # What is scanned is the view's own few rows.
        assert tables_touched(steps, "SCAN timeline") == [
            "SEARCH utterances USING PRIMARY KEY (call_id=?)",
            "SEARCH tool_calls USING PRIMARY KEY (call_id=?)",
            "SEARCH tool_calls USING PRIMARY KEY (call_id=?)",
            "SEARCH node_transitions USING PRIMARY KEY (call_id=?)",
            "SEARCH markers USING PRIMARY KEY (call_id=?)",
        ]


def test_the_first_page_of_the_timeline_sorts_no_more_than_a_call(world):
    steps = plan(world, "SELECT * FROM timeline LIMIT 51")
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


def test_every_word_is_a_row(world):
    assert table_of(
        world,
        "SELECT track, position, word_index, word, start_seconds, end_seconds FROM words "
        "WHERE call_id = 'hangup'",
    ) == [
        ("scrubbed_session", 0, 0, "Hello, ", 0.5, 2.0),
        ("session", 0, 0, "Hello, ", 0.5, 2.0),
        ("session", 1, 0, "Tomorrow?", 1.5, 3.0),
        ("session", 4, 0, "One moment.", 4.0, 4.5),
    ]


def test_words_of_another_shape_fail_no_page(world):
    world.execute("DELETE FROM utterance_words WHERE call_id = 'transferred'")
    world.execute("""UPDATE utterance_words SET words = '["Hi", {"a b": 1}, [null, 2], 3]'""")
    assert table_of(
        world, "SELECT word, start_seconds FROM words WHERE track = 'session' AND position = 0"
    ) == [(None, None), (None, None), (None, 2), (None, None)]
    world.execute("""UPDATE utterance_words SET words = '{"a b": ["Hi", 1, 2]}'""")
    assert ("Hi", 1, 2) in table_of(world, "SELECT word, start_seconds, end_seconds FROM words")


def test_words_that_are_no_json_have_no_rows(world):
    world.execute("UPDATE utterance_words SET words = 'not JSON' WHERE call_id = 'hangup'")
    assert table_of(world, "SELECT call_id, word FROM words") == [("transferred", "Hello, ")]


# daily_summary


def test_days_add_up_newest_first(world):
    assert all_of(world, "SELECT * FROM daily_summary") == [
        {
            "day": "2026-05-10",
            "calls": 4,
            "connected": 3,
            "transferred": 0,
            "minutes": 1.0,
            "average_seconds": 60.0,
            "cost_dollars": 0.15,
            "success_rate": None,
        },
        {
            "day": "2026-05-09",
            "calls": 2,
            "connected": 2,
            "transferred": 1,
            "minutes": 2.0,
            "average_seconds": 60.0,
            "cost_dollars": 0.85,
            "success_rate": 0.5,
        },
    ]


def test_a_transferred_call_counts_once_however_its_transfer_is_reported(world):
    for step in ("transfer_started", "transfer_bridged", "transfer_ended"):
        world.execute(
            "INSERT INTO transfers (call_id, body_sha256, event) VALUES ('transferred', ?, ?)",
            (step, step),
        )
    assert table_of(
        world, "SELECT calls, transferred, cost_dollars FROM daily_summary WHERE day = '2026-05-09'"
    ) == [(2, 1, 0.85)]


def test_an_answered_dial_attempt_of_old_is_not_connected(tmp_path):
    # Until 2025 a busy line came with status ended and a start.
    with closing(create(tmp_path / "retell.db")) as connection:
        start = ms("2024-10-02T17:12:00Z")
        add(connection, "a", 3, "2024-10-02T17:13:00Z", call_status="ended",
            disconnection_reason="dial_busy", start_timestamp=start)  # fmt: skip
        assert table_of(connection, "SELECT calls, connected FROM daily_summary") == [(1, 0)]


def test_where_days_begin_within_an_hour_they_are_read_by_the_index_on_the_time_of_calls(tmp_path):
    with closing(create(tmp_path / "retell.db", "Asia/Kolkata")) as connection:
        steps = plan(connection, "SELECT * FROM daily_summary LIMIT 51")
    assert set(tables_touched(steps)) == {
        "SEARCH c USING INDEX calls_at",
        "SEARCH c USING INDEX calls_at (<expr><?)",
        "SEARCH c USING INDEX calls_at (<expr>>? AND <expr><?)",
        "SEARCH a USING INDEX sqlite_autoindex_analyses_1 (call_id=?)",
        "SEARCH r USING INDEX sqlite_autoindex_disconnection_reasons_1 (reason=?) LEFT-JOIN",
    }


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
def test_days_have_the_same_figures_by_the_hour_and_by_the_call(tmp_path, timezone):
    with closing(create(tmp_path / "retell.db", timezone)) as connection:
        add(connection, "hangup", 3, "2026-05-09T12:03:00Z", **HANGUP)
        add(connection, "no_answer", 3, "2026-05-09T12:08:00Z", **NO_ANSWER)
        add(connection, "unanalysed", 2, "2026-05-10T10:05:00Z", **UNANALYSED)
        assert table_of(connection, "SELECT * FROM daily_summary") == [
            ("2026-05-10", 1, 1, 0, 1.0, 60.0, 0.15, None),
            ("2026-05-09", 2, 1, 0, 1.5, 90.9, 0.25, 1.0),
        ]


# Scorecards


def test_agents_are_scored_by_version(world):
    assert all_of(world, "SELECT * FROM agent_scorecard ORDER BY agent_id") == [
        {
            "agent_id": "agent_1",
            "agent_version": 0,
            "agent_name": "Dental",
            "calls": 3,
            "connected_share": 0.6667,
            "success_rate": 0.5,
            "average_seconds": 60.0,
            "cost_per_call_dollars": 0.2833,
            "cost_per_success_dollars": 0.85,
            "negative_share": 0.5,
            "latency_p50_ms": 1000.0,
            "interruptions_per_call": 0.5,
            "tool_calls": 4,
            "failed_tool_calls": 1,
        },
        {
            "agent_id": "agent_2",
            "agent_version": 3,
            "agent_name": "Shop",
            "calls": 3,
            "connected_share": 1.0,
            "success_rate": None,
            "average_seconds": 60.0,
            "cost_per_call_dollars": 0.15,
            "cost_per_success_dollars": None,
            "negative_share": None,
            "latency_p50_ms": None,
            "interruptions_per_call": None,
            "tool_calls": None,
            "failed_tool_calls": None,
        },
    ]


def test_tools_are_scored_without_their_scrubbed_copies(world):
    assert all_of(world, "SELECT * FROM tool_scorecard ORDER BY name") == [
        {
            "name": "book",
            "type": "custom",
            "calls": 2,
            "failed": 1,
            "without_result": 0,
            "said_no": 1,
            "average_ms": 1000.0,
            "longest_ms": 1500,
        },
        {
            "name": "end_call",
            "type": "end_call",
            "calls": 1,
            "failed": 0,
            "without_result": 1,
            "said_no": 0,
            "average_ms": None,
            "longest_ms": None,
        },
    ]


@pytest.mark.parametrize(
    ("result", "said_no"),
    [
        ('{"success": false}', 1),
        ('{"success": true}', 0),
        ('{"success": "false"}', 0),
        ('{"ok": true}', 0),
        ("[false]", 0),
        ("false", 0),
        ("no", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_only_the_answer_success_false_says_no(world, result, said_no):
    world.execute("UPDATE tool_calls SET result = ? WHERE name = 'book'", (result,))
    assert table_of(world, "SELECT said_no FROM tool_scorecard WHERE name = 'book'") == [(said_no,)]


def test_costs_are_split_by_product_and_transferred_legs(world):
    assert all_of(world, "SELECT * FROM cost_by_product ORDER BY product") == [
        {
            "product": "llm",
            "calls": 1,
            "cost_dollars": 0.15,
            "share": 0.1765,
            "cost_per_call_dollars": 0.15,
            "transfer_leg_dollars": 0.0,
        },
        {
            "product": "tts",
            "calls": 2,
            "cost_dollars": 0.7,
            "share": 0.8235,
            "cost_per_call_dollars": 0.35,
            "transfer_leg_dollars": 0.4,
        },
    ]


def test_latencies_are_averaged_over_calls(world):
    assert table_of(world, "SELECT * FROM latency_by_agent ORDER BY component") == [
        ("agent_1", 0, "Dental", "e2e", 2, 1000.0, 1500.0, 2500.0),
        ("agent_1", 0, "Dental", "llm", 1, 400.0, None, 500.0),
    ]


def test_a_call_of_which_little_is_known_is_still_scored(world):
    world.execute("INSERT INTO calls (call_id, agent_id) VALUES ('bare', 'agent_3')")
    assert table_of(
        world,
        "SELECT agent_version, agent_name, calls, connected_share, success_rate, negative_share, "
        "cost_per_success_dollars FROM agent_scorecard WHERE agent_id = 'agent_3'",
    ) == [(None, None, 1, 0.0, None, None, None)]


# What is added up by the hour


def test_calls_that_wait_to_be_added_up_are_found_by_index(world):
    for view in ("hourly_calls", "hourly_tools", "agent_scorecard", "daily_summary"):
        steps = plan(world, f"SELECT * FROM {view}")
        assert "SEARCH c USING INDEX calls_at (<expr>>? AND <expr><?)" in steps
        assert "SEARCH c USING INDEX calls_at (<expr>=?)" in steps
        assert not [step for step in steps if step.startswith(("SCAN calls", "SCAN tool_calls"))]


def test_views_are_the_same_when_every_hour_is_added_up(world):
    names = [name for name in views() if name not in ("call_log", "timeline", "words")]
    before = {name: sorted(table_of(world, f"SELECT * FROM {name}"), key=repr) for name in names}
    world.execute("PRAGMA foreign_keys = ON")
    hours = table_of(world, "SELECT DISTINCT hour FROM hourly_calls")
    for hour in hours:
        for statement in (sql.SETTLE, *sql.ROLL_UP):
            world.execute(statement, {"hour": hour[0]})
    assert table_of(world, "SELECT sum(calls) FROM rollup_calls") == [(6,)]
    assert {
        name: sorted(table_of(world, f"SELECT * FROM {name}"), key=repr) for name in names
    } == before


def test_steps_between_nodes_are_counted_by_name(world):
    assert table_of(
        world, "SELECT agent_id, former_node, new_node, calls, transitions FROM hourly_transitions"
    ) == [("agent_1", "Greet", "Book", 1, 1)]


# disconnections and needs_attention


def test_disconnections_are_explained_and_shared_out(world):
    assert table_of(world, "SELECT * FROM disconnections ORDER BY reason") == [
        ("agent_hangup", "agent", "The agent hung up.", 1, 0.25),
        ("call_transfer", "transfer", "The call was transferred.", 1, 0.25),
        ("dial_no_answer", "not_connected", "Nobody answered.", 1, 0.25),
        ("user_hangup", "user", "The user hung up.", 1, 0.25),
    ]


def test_what_is_stuck_unanalysed_or_not_understood_needs_attention(world):
    assert table_of(world, "SELECT * FROM needs_attention") == [
        ("quarantined", "sha:00", "2026-05-10T07:00:00Z", "not a JSON object"),
        ("stuck in progress", "stuck", "2026-05-10T09:00:01Z", "last heard of as ongoing"),
        ("never analysed", "unanalysed", "2026-05-10T10:05:00Z", "ended by agent_hangup"),
    ]


@pytest.mark.parametrize(("level", "patience_ms"), [(1, 2 * 3_600_000), (2, 3_600_000)])
def test_patience_is_measured_against_the_newest_news(tmp_path, level, patience_ms):
    with closing(create(tmp_path / "retell.db")) as connection:
        now = 1778328000000
        insert = "INSERT INTO calls (call_id, level, observed_at, updated_at) VALUES (?, ?, ?, ?)"
        connection.execute(insert, ("newest", 3, now, now))
        for name, age in (("patient", patience_ms), ("late", patience_ms + 1)):
            connection.execute(insert, (name, level, now - age, now - age))
        assert table_of(connection, "SELECT entity_id FROM needs_attention") == [("late",)]


# Time zones


def shown(path, timezone, *times):
    """started_at of calls that began at these UTC times."""
    with closing(create(path, timezone)) as connection:
        for time in times:
            add(connection, time, 3, time, start_timestamp=ms(time))
        return [row[0] for row in connection.execute("SELECT started_at FROM call_log")]


def test_times_in_berlin_follow_both_switches(tmp_path):
    assert shown(
        tmp_path / "retell.db",
        "Europe/Berlin",
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:00:00Z",
        "2026-10-25T00:59:59Z",
        "2026-10-25T01:00:00Z",
    ) == [
        "2026-03-29T01:59:59+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-10-25T02:59:59+02:00",
        "2026-10-25T02:00:00+01:00",
    ]


def test_times_in_kolkata_are_half_an_hour_off(tmp_path):
    assert shown(tmp_path / "retell.db", "Asia/Kolkata", "2026-05-09T18:30:00Z") == [
        "2026-05-10T00:00:00+05:30"
    ]


def test_times_west_of_greenwich_have_a_negative_offset(tmp_path):
    assert shown(tmp_path / "retell.db", "America/St_Johns", "2026-01-10T03:00:00Z") == [
        "2026-01-09T23:30:00-03:30"
    ]


def test_days_in_berlin_have_23_and_25_hours(tmp_path):
    with closing(create(tmp_path / "retell.db", "Europe/Berlin")) as connection:
        for time in (
            "2026-03-28T22:59:59Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T21:59:59Z",
            "2026-03-29T22:00:00Z",
            "2026-10-24T21:59:59Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T22:59:59Z",
            "2026-10-25T23:00:00Z",
        ):
            add(connection, time, 3, time, start_timestamp=ms(time))
        assert table_of(connection, "SELECT day, calls FROM daily_summary") == [
            ("2026-10-26", 1),
            ("2026-10-25", 2),
            ("2026-10-24", 1),
            ("2026-03-30", 1),
            ("2026-03-29", 2),
            ("2026-03-28", 1),
        ]


@pytest.mark.parametrize(
    "timezone",
    [
        "UTC",
        "Africa/Abidjan",
        "Africa/Cairo",  # switches at midnight
        "Africa/Casablanca",  # switches around Ramadan
        "America/Havana",  # has midnight twice
        "America/Santiago",  # skips a midnight
        "America/St_Johns",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",  # switches by half an hour
        "Europe/Berlin",
        "Europe/Chisinau",  # switches at midnight UTC
        "Pacific/Apia",
        "Pacific/Chatham",
    ],
)
def test_times_and_days_are_those_of_the_zone_database(tmp_path, timezone):
    zone = ZoneInfo(timezone)
    days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(20 * 365)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    switches = [day for day, before, after in zip(days, offsets, offsets[1:], strict=False)
                if before != after]  # fmt: skip
    # Every hour of the days around a switch, to the second, and a time in every month.
    times = {day + timedelta(hours=n, seconds=s) for day in switches for n in range(-24, 49)
             for s in (0, -1)} | set(days[::29])  # fmt: skip
    with closing(create(tmp_path / "retell.db", timezone)) as connection:
        connection.executemany(
            "INSERT INTO calls (call_id, start_timestamp) VALUES (?, ?)",
            [(time.isoformat(), int(time.timestamp() * 1000)) for time in times],
        )
        by_day = {}
        for call_id, started_at in connection.execute("SELECT call_id, started_at FROM call_log"):
            local = datetime.fromisoformat(call_id).astimezone(zone)
            utc = local.isoformat().replace("+00:00", "Z")
            assert started_at in (local.isoformat(), utc)
            assert started_at.endswith("Z") == (timezone in ("UTC", "Africa/Abidjan"))
            by_day[local.date().isoformat()] = by_day.get(local.date().isoformat(), 0) + 1
        assert dict(connection.execute("SELECT day, calls FROM daily_summary")) == by_day


def test_an_unknown_zone_is_an_error():
    with pytest.raises(ZoneInfoNotFoundError):
        views("Europe/Atlantis")


# The statements themselves


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
def test_each_statement_creates_the_view_it_is_named_for(timezone):
    for name, statement in views(timezone).items():
        assert statement.startswith(f"CREATE VIEW {name} AS\n")
        assert not re.search(r"local_|call_time|call_hour|customer\(|(is|are)_connected", statement)


def test_views_read_no_clock():
    for statement in views("Europe/Berlin").values():
        assert not re.search(r"'now'|\bnow\s*\(|\bcurrent_\w+|\brandom", statement, re.IGNORECASE)


def test_a_zone_without_switches_has_plain_statements():
    assert "CASE\n        WHEN" not in views("Asia/Kolkata")["daily_summary"]


def test_the_newest_calls_are_found_by_index(world):
    [first, *lookups] = plan(world, "SELECT * FROM call_log ORDER BY started_at_ms DESC LIMIT 50")
    assert first == "SCAN c USING INDEX calls_at"
    assert not [step for step in lookups if "SCAN" in step or "B-TREE" in step]


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        ("agent = 'Dental'", "calls_agent_name (agent_name=?)"),
        ("outcome = 'user_hangup'", "calls_disconnection_reason (disconnection_reason=?)"),
        ("direction = 'inbound'", "calls_direction (direction=?)"),
        ("who = '+493012345'", "calls_customer (<expr>=?)"),
        ("started_at_ms > 1778328000000", "calls_at (<expr>>?)"),
    ],
)
def test_the_log_is_filtered_counted_and_sorted_by_index(world, filter, index):
    newest = f"SELECT * FROM call_log WHERE {filter} ORDER BY started_at_ms DESC LIMIT 50"
    assert plan(world, newest)[0] == f"SEARCH c USING INDEX {index}"
    assert not [step for step in plan(world, newest) if "B-TREE" in step]
    [count] = plan(world, f"SELECT count(*) FROM call_log WHERE {filter}")
    assert count == f"SEARCH c USING INDEX {index}"


def test_what_needs_attention_is_found_by_small_indexes(world):
    steps = plan(world, "SELECT * FROM needs_attention")
    indexes = "(observations_problem|calls_unfinished|calls_updated_at)"
    for step in tables_touched(steps, "SCAN needs_attention", "SCAN u", "SCAN unfinished"):
        assert re.search(rf" USING INDEX {indexes}\b", step), step
    # The newest news is one search, not a range.
    assert not [step for step in steps if "calls_updated_at (" in step]
