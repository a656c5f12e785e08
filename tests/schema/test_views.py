"""The views of calls on a small world, worked out by hand, in files of both SQLites at hand."""

import re

import pytest

from schema.sql.views import views
from tests.support.viewing import (
    NO_ANSWER,
    add,
    all_of,
    plan,
    table_of,
    tables_touched,
)

# call_log


def test_a_call_is_one_line_of_the_log(world):
    [line] = all_of(world, "SELECT * FROM call_log WHERE call_id = 'hangup'")
    assert line == {
        "call_id": "hangup",
        "started_at": "2026-05-09T12:00:00Z",
        "agent": "Dental",
        "direction": "inbound",
        "who": "+493012345",
        "duration": "0:01:30",
        "status": "ended",
        "outcome": "user_hangup",
        "success": 1,
        "sentiment": "Positive",
        "cost_dollars": 0.25,
        "summary": "The caller wanted a cleaning. " * 3 + "The caller wanted a cleaning.…",
        "account": None,
        "duration_seconds": 90.9,
        "started_at_ms": 1778328000000,
    }


def test_call_log_shows_the_other_partys_number(world):
    assert table_of(world, "SELECT call_id, who FROM call_log ORDER BY started_at_ms") == [
        ("hangup", "+493012345"),
        ("transferred", "+493055555"),
        ("no_answer", "+493066666"),
        ("stuck", None),
        ("unanalysed", None),
        ("going_on", None),
    ]


def test_unconnected_call_is_placed_when_reported(world):
    assert table_of(
        world, "SELECT started_at, duration, success FROM call_log WHERE call_id = 'no_answer'"
    ) == [("2026-05-10T08:00:00Z", "0:00:00", 0)]


def test_ongoing_call_has_no_duration_cost_or_summary(world):
    assert table_of(
        world,
        "SELECT duration, duration_seconds, cost_dollars, summary, success, status "
        "FROM call_log WHERE call_id = 'stuck'",
    ) == [(None, None, None, None, None, "ongoing")]


def test_call_without_time_has_no_day(engine):
    with engine.viewed("Europe/Berlin", engine.dialects[-1]) as connection:
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


@pytest.mark.sqlite
def test_timeline_of_a_call_uses_an_index(world):
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


@pytest.mark.sqlite
def test_first_timeline_page_sorts_only_one_call(world):
    steps = plan(world, "SELECT * FROM timeline LIMIT 51")
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


def test_every_word_is_a_row(world):
    assert table_of(
        world,
        "SELECT track, position, word_index, word, start_seconds, end_seconds FROM words "
        "WHERE call_id = 'hangup' ORDER BY track, position, word_index",
    ) == [
        ("scrubbed_session", 0, 0, "Hello, ", 0.5, 2.0),
        ("session", 0, 0, "Hello, ", 0.5, 2.0),
        ("session", 1, 0, "Tomorrow?", 1.5, 3.0),
        ("session", 4, 0, "One moment.", 4.0, 4.5),
    ]


def test_malformed_words_fail_no_page(world, dialect):
    world.execute("DELETE FROM utterance_words WHERE call_id = 'transferred'")
    world.execute("""UPDATE utterance_words SET words = '["Hi", {"a b": 1}, [null, 2], 3]'""")
    assert table_of(
        world, "SELECT word, start_seconds FROM words WHERE track = 'session' AND position = 0"
    ) == [(None, None), (None, None), (None, 2), (None, None)]
    world.execute("""UPDATE utterance_words SET words = '{"a b": ["Hi", 1, 2]}'""")
    found = table_of(world, "SELECT word, start_seconds, end_seconds FROM words")
    # PostgreSQL's view reads lists alone.
    assert set(found) == (set() if dialect == "PostgreSQL" else {("Hi", 1, 2)})


def test_words_that_are_no_json_have_no_rows(world):
    world.execute("UPDATE utterance_words SET words = 'not JSON' WHERE call_id = 'hangup'")
    assert table_of(world, "SELECT call_id, word FROM words") == [("transferred", "Hello, ")]


# disconnections and needs_attention


def test_disconnections_are_explained_and_shared_out(world):
    assert table_of(world, "SELECT * FROM disconnections ORDER BY reason") == [
        ("agent_hangup", "agent", "The agent hung up.", 1, 0.25),
        ("call_transfer", "transfer", "The call was transferred.", 1, 0.25),
        ("dial_no_answer", "not_connected", "Nobody answered.", 1, 0.25),
        ("user_hangup", "user", "The user hung up.", 1, 0.25),
    ]


def test_stuck_unanalysed_or_quarantined_needs_attention(world):
    assert table_of(world, "SELECT * FROM needs_attention") == [
        ("quarantined", "sha:00", "2026-05-10T07:00:00Z", "not a JSON object"),
        ("stuck in progress", "stuck", "2026-05-10T09:00:01Z", "last heard of as ongoing"),
        ("never analysed", "unanalysed", "2026-05-10T10:05:00Z", "ended by agent_hangup"),
    ]


@pytest.mark.parametrize("what", ["call", "chat"])
@pytest.mark.parametrize(("level", "patience_ms"), [(1, 2 * 3_600_000), (2, 3_600_000)])
def test_patience_is_measured_against_the_newest_update(engine, level, patience_ms, what):
    with engine.viewed("UTC", engine.dialects[-1]) as connection:
        now = 1778328000000
        columns = f"{what}_id, level, observed_at, updated_at"
        insert = f"INSERT INTO {what}s ({columns}) VALUES (?, ?, ?, ?)"
        connection.execute(insert, ("newest", 3, now, now))
        for name, age in (("patient", patience_ms), ("late", patience_ms + 1)):
            connection.execute(insert, (name, level, now - age, now - age))
        assert table_of(connection, "SELECT entity_id FROM needs_attention") == [("late",)]


# The statements themselves


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
def test_each_statement_creates_the_view_it_names(timezone):
    for name, statement in views(timezone).items():
        assert statement.startswith(f"CREATE VIEW {name} AS\n")
        assert not re.search(r"local_|call_time|step_of|customer\(|(is|are)_connected", statement)


def test_views_read_no_clock():
    for statement in views("Europe/Berlin").values():
        assert not re.search(r"'now'|\bnow\s*\(|\bcurrent_\w+|\brandom", statement, re.IGNORECASE)


def test_a_zone_without_switches_has_plain_statements():
    assert "CASE\n        WHEN" not in views("Asia/Kolkata")["daily_summary"]


@pytest.mark.sqlite
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
        ("account = 'default'", "calls_account (account=?)"),
        ("who = '+493012345'", "calls_customer (<expr>=?)"),
        ("started_at_ms > 1778328000000", "calls_at (<expr>>?)"),
    ],
)
@pytest.mark.sqlite
def test_call_log_filters_counts_and_sorts_by_index(world, filter, index):
    newest = f"SELECT * FROM call_log WHERE {filter} ORDER BY started_at_ms DESC LIMIT 50"
    assert plan(world, newest)[0] == f"SEARCH c USING INDEX {index}"
    assert not [step for step in plan(world, newest) if "B-TREE" in step]
    [count] = plan(world, f"SELECT count(*) FROM call_log WHERE {filter}")
    assert count == f"SEARCH c USING INDEX {index}"


@pytest.mark.sqlite
def test_what_needs_attention_is_found_by_small_indexes(world):
    steps = plan(world, "SELECT * FROM needs_attention")
    indexes = "(observations_problem|calls_unfinished|calls_updated_at|chats_figures"
    indexes += r"|sqlite_autoindex_chats_1 \(chat_id=\?)"
    of_views = [f"SCAN {name}" for name in ("needs_attention", "u", "unfinished")]
    for step in tables_touched(steps, *of_views, "SEARCH n", "SEARCH p"):
        assert re.search(rf" USING INDEX {indexes}", step), step
    # The newest update is one search, not a range.
    assert not [step for step in steps if "calls_updated_at (" in step]
