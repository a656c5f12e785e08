"""The views that sum, on a small world, worked out by hand."""

import pytest

from schema.sql import rollups
from schema.sql.rollups import ROLLUPS
from schema.sql.views import views
from schema.sql.zones import Zone
from tests.support.viewing import (
    HANGUP,
    NO_ANSWER,
    UNANALYSED,
    add,
    all_of,
    ms,
    plan,
    table_of,
)

UTC = Zone("UTC")


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


def test_transferred_call_counts_once(world):
    for step in ("transfer_started", "transfer_bridged", "transfer_ended"):
        world.execute(
            "INSERT INTO transfers (call_id, body_sha256, event) VALUES ('transferred', ?, ?)",
            (step, step),
        )
    assert table_of(
        world, "SELECT calls, transferred, cost_dollars FROM daily_summary WHERE day = '2026-05-09'"
    ) == [(2, 1, 0.85)]


def test_old_answered_dial_attempt_is_not_connected(engine):
    # Until 2025 a busy line came with status ended and a start.
    with engine.viewed("UTC", engine.dialects[-1]) as connection:
        start = ms("2024-10-02T17:12:00Z")
        add(connection, "a", 3, "2024-10-02T17:13:00Z", call_status="ended",
            disconnection_reason="dial_busy", start_timestamp=start)  # fmt: skip
        assert table_of(connection, "SELECT calls, connected FROM daily_summary") == [(1, 0)]


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
def test_hourly_and_per_call_figures_of_days_match(engine, timezone):
    with engine.viewed(timezone, engine.dialects[-1]) as connection:
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
def test_only_success_false_counts_as_failed(world, result, said_no):
    world.execute("UPDATE tool_calls SET result = ? WHERE name = 'book'", (result,))
    assert table_of(world, "SELECT said_no FROM tool_scorecard WHERE name = 'book'") == [(said_no,)]


def test_costs_are_split_by_product_and_transferred_legs(world):
    assert all_of(world, "SELECT * FROM cost_by_product ORDER BY product") == [
        {
            "product": "llm",
            "family": "other",
            "calls": 1,
            "cost_dollars": 0.15,
            "share": 0.1765,
            "cost_per_call_dollars": 0.15,
            "transfer_leg_dollars": 0.0,
        },
        {
            "product": "tts",
            "family": "other",
            "calls": 2,
            "cost_dollars": 0.7,
            "share": 0.8235,
            "cost_per_call_dollars": 0.35,
            "transfer_leg_dollars": 0.4,
        },
    ]


def test_products_of_a_family_are_added_up(world):
    names = {"gpt_4_1": 10, "claude_4_sonnet": 30, "platform_tts": 60}
    parts = [{"product": name, "cost": cents} for name, cents in names.items()]
    parts.append({"product": "gpt_4_1", "cost": 5, "is_transfer_leg_cost": True})
    cost = {"combined_cost": 105, "product_costs": parts}
    start = ms("2026-05-10T13:00:00Z")
    add(world, "both", 3, "2026-05-10T13:05:00Z", start_timestamp=start, call_cost=cost)
    found = "SELECT family, products, cost_dollars, transfer_leg_dollars FROM cost_by_family"
    assert table_of(world, f"{found} ORDER BY family") == [
        ("model", 2, 0.45, 0.05),
        ("other", 2, 0.85, 0.4),
        ("voice", 1, 0.6, 0.0),
    ]


def test_two_spellings_of_a_product_are_one_product(world):
    parts = [{"product": name, "cost": 10} for name in ("gpt-4o-mini", "gpt_4o_mini")]
    cost = {"combined_cost": 20, "product_costs": parts}
    start = ms("2026-05-10T13:00:00Z")
    add(world, "both", 3, "2026-05-10T13:05:00Z", start_timestamp=start, call_cost=cost)
    found = "SELECT product, calls, cost_dollars FROM cost_by_product WHERE product LIKE 'gpt%'"
    assert table_of(world, found) == [("gpt_4o_mini", 1, 0.2)]


def test_latencies_are_averaged_over_calls(world):
    assert table_of(world, "SELECT * FROM latency_by_agent ORDER BY component") == [
        ("agent_1", 0, "Dental", "e2e", 2, 1000.0, 1500.0, 2500.0),
        ("agent_1", 0, "Dental", "llm", 1, 400.0, None, 500.0),
    ]


def test_call_with_few_fields_is_still_scored(world):
    world.execute("INSERT INTO calls (call_id, agent_id) VALUES ('bare', 'agent_3')")
    assert table_of(
        world,
        "SELECT agent_version, agent_name, calls, connected_share, success_rate, negative_share, "
        "cost_per_success_dollars FROM agent_scorecard WHERE agent_id = 'agent_3'",
    ) == [(None, None, 1, 0.0, None, None, None)]


# What is added up by the hour


@pytest.mark.sqlite
def test_calls_not_rolled_up_are_found_by_index(world):
    for view in ("hourly_calls", "hourly_tools", "agent_scorecard", "daily_summary"):
        steps = plan(world, f"SELECT * FROM {view}")
        assert "SEARCH c USING INDEX calls_at (<expr>>? AND <expr><?)" in steps
        assert "SEARCH c USING INDEX calls_at (<expr>=?)" in steps
        assert not [step for step in steps if step.startswith(("SCAN calls", "SCAN tool_calls"))]


def test_views_are_the_same_with_everything_rolled_up(world):
    # Rows of a day are to be added up: they become fewer.
    others = {"call_log", "timeline", "words", *(rollup.daily for rollup in ROLLUPS)}
    names = [name for name in views() if name not in others]
    before = {name: sorted(table_of(world, f"SELECT * FROM {name}"), key=repr) for name in names}
    for (hour,) in table_of(world, "SELECT DISTINCT hour FROM hourly_calls"):
        for statement in (rollups.MARK_HOUR, *rollups.FILL_HOUR):
            world.execute(statement, {"hour": hour, "last": hour + 3_599_999})
    assert table_of(world, "SELECT sum(calls) FROM rollup_calls") == [(6,)]
    later = {"now": ms("2027-01-01T00:00:00Z")}
    for day, since, until in world.execute(rollups.days_to_fill(UTC), later).fetchall():
        for statement in (rollups.mark_day(UTC), *rollups.FILL_DAY):
            world.execute(statement, {"day": day, "since": since, "until": until})
    assert table_of(world, "SELECT sum(calls) FROM rollup_day_calls") == [(6,)]
    assert {
        name: sorted(table_of(world, f"SELECT * FROM {name}"), key=repr) for name in names
    } == before


def test_steps_between_nodes_are_counted_by_name(world):
    assert table_of(
        world, "SELECT agent_id, former_node, new_node, calls, transitions FROM hourly_transitions"
    ) == [("agent_1", "Greet", "Book", 1, 1)]


def test_cost_of_a_call_is_split_by_family(world):
    parts = [
        {"product": "retell_voice_engine", "cost": 10},
        {"product": "platform_tts", "cost": 20},
        {"product": "gpt-4o-mini", "cost": 5},
        {"product": "gpt_4o_mini", "cost": 6, "is_transfer_leg_cost": True},
        {"product": "llm_token_surcharge", "cost": 59},
    ]
    cost = {"combined_cost": 100, "total_duration_seconds": 60, "product_costs": parts}
    usage = {"average": 5210.4, "num_requests": 7, "values": []}
    start = ms("2026-05-10T13:00:00Z")
    add(
        world, "dear", 3, "2026-05-10T13:05:00Z",
        start_timestamp=start, call_cost=cost, llm_token_usage=usage, duration_ms=59_500,
    )  # fmt: skip
    [found] = all_of(world, "SELECT * FROM call_costs WHERE call_id = 'dear'")
    assert {name: value for name, value in found.items() if value is not None} == {
        "call_id": "dear",
        "started_at": "2026-05-10T13:00:00Z",
        "cost_dollars": 1.0,
        "cost_is_final": found["cost_is_final"],
        "duration_seconds": 59.5,
        "billed_seconds": 60,
        "voice_engine_dollars": 0.1,
        "voice_dollars": 0.2,
        "model_dollars": 0.11,
        "surcharge_dollars": 0.59,
        "transfer_leg_dollars": 0.06,
        "tokens_per_request": 5210.0,
        "llm_requests": 7,
        "started_at_ms": start,
    }
