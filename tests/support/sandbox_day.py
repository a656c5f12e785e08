"""A made-up day of the sandbox, made once for each number of calls, and what is in it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.support.days import Delivery, day

DAY_START_MS = 1_772_409_600_000  # 2026-03-02, a Monday
DAY_MS = 86_400_000


@cache
def a_day(calls: int, seed: int = 1) -> tuple[Delivery, ...]:
    return tuple(day(seed, day_start_ms=DAY_START_MS, calls=calls))


@cache
def parsed(calls: int) -> tuple[tuple[Delivery, dict[str, Any]], ...]:
    return tuple((sent, json.loads(sent.body)) for sent in a_day(calls))


def bodies(calls: int, *events: str) -> list[dict[str, Any]]:
    return [body for sent, body in parsed(calls) if sent.event in events]


@cache
def final_calls(calls: int) -> list[dict[str, Any]]:
    """Return each call as its last complete event reports it."""
    last: dict[str, dict[str, Any]] = {}
    for event in ("call_started", "call_ended", "call_analyzed", "transfer_ended"):
        for body in bodies(calls, event):
            last[body["call"]["call_id"]] = body["call"]
    return list(last.values())


def entry_lists(call: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    for key, value in call.items():
        if "transcript" in key and isinstance(value, list):
            yield value


def entries(calls: int) -> list[dict[str, Any]]:
    return [entry for call in final_calls(calls) for each in entry_lists(call) for entry in each]
