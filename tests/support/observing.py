"""Observations and deliveries for the tests of the merge."""

import json

from receiver.store import receive
from schema import merge
from schema.events import parse, values
from schema.merge import Observation, level

FIRST, SECOND = {"call_summary": "first"}, {"call_summary": "second"}


def seen(event, at=0, *, source="webhook", beside=None, **fields) -> Observation:
    """An observation of the call `c`, made at `at`."""
    understood = parse(encoded(event, beside=beside, **fields))
    return Observation(
        level(understood, source=source), at, source, understood.body_sha256, event=understood
    )


def encoded(event, *, beside=None, **fields) -> bytes:
    return json.dumps(
        {"event": event, "call": {"call_id": "c", **fields}} | (beside or {})
    ).encode()


def add(store, event, at, *, source="webhook", **fields):
    """Deliver a body about the call `c`, observed at `at`, received when it was observed."""
    return store.add(
        receive(encoded(event, **fields), source=source, observed_at=at, received_at=at)
    )


def fold(observations):
    return values(merge.fold(observations))
