"""The fuzzer's targets pass on what it begins with, and fail for what they are there to find."""

import re

import pytest

from tests.fuzz.targets import SEPARATOR, TARGETS, seeds
from tests.support.webhooks import NOW_MS


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_pass(target):
    for seed in seeds(target):
        TARGETS[target](seed)


def sloppy_header(monkeypatch):
    pattern = re.compile(rb"v=([0-9]{1,16}),d=([0-9a-f]{64}).*")
    monkeypatch.setattr("receiver.webhook.signature._HEADER", pattern)


def surrogates_get_through(monkeypatch):
    monkeypatch.setattr("schema.events._storable_json", lambda body: body)


def last_arrival_wins(monkeypatch):
    def fold(observations):
        return {name: value for o in observations for name, value in o.fields.items()}

    monkeypatch.setattr("schema.merge.fold", fold)


TWO_ENDS = [
    b'{"event":"call_ended","call":{"call_id":"c","agent_name":"%s"}}' % name
    for name in (b"a", b"b")
    for name in (b"a", b"b")
]


@pytest.mark.parametrize(
    ("target", "plant", "data"),
    [
        ("header", sloppy_header, b"x" + SEPARATOR + b"." * len(f"v={NOW_MS},d=" + "0" * 64)),
        ("body", surrogates_get_through, rb'{"event":"\ud800"}'),
        ("store", last_arrival_wins, SEPARATOR.join(TWO_ENDS)),
    ],
    ids=["header", "body", "store"],
)
def test_planted_fault_is_found(target, plant, data, monkeypatch):
    TARGETS[target](data)
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        TARGETS[target](data)
