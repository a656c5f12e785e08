"""Calls of all shapes that a view reads, and a comparison of queries between engines."""

import math
import re
from decimal import Decimal

from receiver.store import open_store, receive
from receiver.store.engine import reading
from schema.sql.views import views
from tests.support.days import day
from tests.support.storing import add
from tests.support.viewing import (
    HANGUP,
    NO_ANSWER,
    ONGOING,
    TRANSFERRED,
    UNANALYSED,
    answered,
    invoked,
)
from tests.support.webhooks import PAYLOADS

DAY_MS = 1_778_544_000_000
VIEWS = [f"SELECT * FROM {name}" for name in views()]
# Figures that views do not round: their last digits depend on the order of the addition.
UNROUNDED = re.compile(r"\b(hourly|daily|rollup)_(?!summary)")
SAID_NO = [
    '{"success": false}',
    ' {"a": "\\ud83d \\u0000 \\\\u0041", "success" : false } ',
    '{"success": false, "success": true}',
    '{"success": true, "success": false}',
    '{"success": "false"}',
    '{"success": 0}',
    '{"success": null}',
    '{"x": {"success": false}}',
    '[{"success": false}]',
    '{"success": false',
    "{'success': false}",
    "false",
    "",
    None,
]
ODD = {
    "tools": {
        "transcript_with_tool_calls": [
            entry
            for n, result in enumerate(SAID_NO)
            for entry in (
                invoked(f"t{n}", "look", "custom", n),
                answered(f"t{n}", result, n + 0.25, successful=True),
            )
        ],
        "start_timestamp": DAY_MS,
    },
    "waits": {
        "latency": {
            "e2e": {"p50": 0.5, "values": [
                1, 2.5, 9.99, 999.5, 1000, 9999.99, 1e300, -1e300, -20, 10**25, -(10**25), 5e-324,
                2**53 + 1, 2**63 - 1, 9.007199254740993e15, True, None, "x\0\ud800", "5", [1], {},
            ]},
            "llm": {"values": {"a": 1}},
        },
        "start_timestamp": DAY_MS + 1,
    },
    "words": {
        "transcript_object": [
            {"role": "agent", "content": "x", "words": [
                {"word": "a\0b\ud800\U0001f600\\u0000\"\x01", "start": 0.1, "end": 7},
                {"word": "", "start": None}, {"start": 1e22}, None, {"word": "ä"},
            ]},
            {"role": "user", "content": "y", "words": "none"},
        ],
    },
    "far": {
        "start_timestamp": -(2**63), "duration_ms": 2**62, "call_cost": {"combined_cost": 1e308},
    },
    "further": {"start_timestamp": 2**62, "duration_ms": 2**62, "agent_id": "z"},
    "before": {"start_timestamp": -1, "duration_ms": 5},
}  # fmt: skip


def tell(where) -> None:
    """Store a day, every payload, a small world and odd shapes."""
    store = open_store(where)
    bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
    bodies += [delivery.body for delivery in day(1, day_start_ms=DAY_MS, calls=40)]
    for n, body in enumerate(bodies):
        store.add(receive(body, source="webhook", observed_at=DAY_MS + n, received_at=DAY_MS))
    world = {"a": HANGUP, "b": TRANSFERRED, "c": NO_ANSWER, "d": ONGOING, "e": UNANALYSED} | ODD
    for call_id, fields in world.items():
        add(store, "call_ended", call_id, at=DAY_MS, **fields)
    store.close()


def rows_of(where, query) -> list[list]:
    """Its rows; a number is one, whatever its type. SQLite's sums of nothing can be integers."""
    with reading(where) as connection:
        rows = connection.execute(query).fetchall()
    return sorted(([_plain(value) for value in row] for row in rows), key=_place)


def _plain(value):
    if isinstance(value, str | None):
        return value
    # A sum of integers, of the tests' own, is a Decimal.
    assert isinstance(value, int | float | Decimal), type(value)
    return float(value)


def _place(row):
    """Rows are identified by text or integers."""
    is_sum = [isinstance(value, float) and not value.is_integer() for value in row]
    return [repr(f"{v:.6g}" if rough else v) for v, rough in zip(row, is_sum, strict=True)]


def _alike(one, other, *, exact) -> bool:
    if exact or not isinstance(one, float) or not isinstance(other, float):
        return one == other
    return math.isclose(one, other, rel_tol=1e-12)


def differing(pg, path, queries) -> set[str]:
    """Queries with different results on the engines; rounded values must be exactly equal."""
    return {
        query
        for query in queries
        for rows in [[rows_of(where, query) for where in (pg, path)]]
        if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]
        or not all(
            _alike(*values, exact=not UNROUNDED.search(query))
            for pair in zip(*rows, strict=True)
            for values in zip(*pair, strict=True)
        )
    }
