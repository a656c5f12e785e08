"""Histories of calls at the edges of hours, and rolling them up."""

from hypothesis import strategies as st

from receiver.store import rebuild, roll_up
from schema.sql.rollups import ROLLUPS
from tests.support.histories import deliver, utterances
from tests.support.naive_model import Delivery

HOUR_MS = 3_600_000
# A time at which every hour and the first two days can be rolled up.
LATER = 100 * HOUR_MS
# A time at which hours can be rolled up, but no day.
THAT_EVENING = 23 * HOUR_MS


def tool(id, name, *, type="custom", result=None, successful=True, at=1.0):
    invoked = {
        "role": "tool_call_invocation", "tool_call_id": id, "name": name, "type": type,
        "time_sec": at,
    }  # fmt: skip
    answered = {
        "role": "tool_call_result", "tool_call_id": id, "content": result, "time_sec": at + 0.25,
        "successful": successful,
    }  # fmt: skip
    return [invoked] if result is None else [invoked, answered]


def step(former, new):
    return {"role": "node_transition", "former_node_name": former, "new_node_name": new,
            "new_node_id": "n", "time_sec": 2.0}  # fmt: skip


FIELDS = {
    "start_timestamp": [0, HOUR_MS - 1, HOUR_MS, 24 * HOUR_MS - 1, 30 * HOUR_MS, None],
    "agent_id": ["a", "b", "", None],
    "agent_version": [0, -1, None],
    "agent_name": ["A", "B", None],
    "direction": ["inbound", "outbound", None],
    "disconnection_reason": ["user_hangup", "dial_busy", "call_transfer", "of_tomorrow", None],
    "transfer_destination": ["+1", None],
    "duration_ms": [0, 1500, 2**40, None],
    "call_analysis": [
        {},
        {"call_successful": True, "user_sentiment": "Positive"},
        {"call_successful": False, "user_sentiment": "negative ", "in_voicemail": True},
        {"user_sentiment": "Neutral"},
    ],
    "call_cost": [
        {"combined_cost": 0.5, "product_costs": [{"product": "x", "cost": 0.25}]},
        {"combined_cost": 2, "product_costs": [
            {"product": "x", "cost": 1.5},
            {"product": "x", "cost": 0.5, "is_transfer_leg_cost": True},
            {"cost": 4}, {"product": "y"}]},
    ],
    "latency": [
        {"e2e": {"p50": 1.5, "p95": 2, "max": 3, "values": [1.5, 3, 999]}, "llm": {"p50": 1}},
        {"e2e": {"p95": 4, "max": 4, "values": [1, 1000, 1e300, -20, None, "x"]}},
    ],
    "transcript_with_tool_calls": [
        [],
        [*utterances("a"), *tool("1", "look", result='{"success": false}'), step("n1", "n2")],
        [*tool("1", "look", successful=False, result="no"), *tool("2", "look", type=None)],
        [step("n1", "n2"), step("n1", "n2"), step("n2", None)],
    ],
}  # fmt: skip


def sums(rollup):
    """Every figure of each hour, and of each day, whose rows are to be added up."""
    yield f"SELECT * FROM {rollup.hourly}"
    figures = [c for c in rollup.columns[1:] if c not in GROUPS]
    added = [f"max({c})" if c in LARGEST else f"sum({c})" for c in figures]
    groups = ", ".join(["day", *(c for c in rollup.columns if c in GROUPS)])
    yield f"SELECT {groups}, {', '.join(added)} FROM {rollup.daily} GROUP BY {groups}"


GROUPS = {
    "agent_id", "agent_version", "direction", "disconnection_reason", "started", "product",
    "component", "name", "type", "former_node", "new_node", "wait_ms", "account",
}  # fmt: skip
LARGEST = {"agent_name", "max_ms", "longest_ms"}
SUMS = [query for rollup in ROLLUPS for query in sums(rollup)]


@st.composite
def runs(draw):
    """Calls with a start and few other fields, rolled up or rebuilt, and later events of them."""
    palette = sorted(
        {"start_timestamp", *draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=3))}
    )
    deliveries = st.builds(
        Delivery,
        st.sampled_from(["call_started", "call_ended", "call_analyzed"]),
        st.fixed_dictionaries({name: st.sampled_from(FIELDS[name]) for name in palette}),
        at=st.sampled_from([0, 1, HOUR_MS]),
        id=st.sampled_from(["c", "d"]),
    )
    between = st.sampled_from([LATER, 25 * HOUR_MS, HOUR_MS, "rebuild"])
    rounds = st.tuples(st.lists(deliveries, min_size=1, max_size=3), between)
    return [act for events, then in draw(st.lists(rounds, min_size=2, max_size=3))
            for act in (*events, then)]  # fmt: skip


def run(store, acts):
    for act in acts:
        if isinstance(act, Delivery):
            deliver(store, [act])
        elif isinstance(act, int):
            added_up(store, act)
        else:
            rebuild(store, progress=lambda *_: None)


def added_up(store, now_ms=LATER, timezone="UTC"):
    """Roll up; return the numbers of hours and days."""
    return len(list(roll_up(store, timezone=timezone, now_ms=now_ms)))
