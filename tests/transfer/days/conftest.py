"""Runs of the test's own database into a directory."""

import random
from pathlib import Path

import pytest

from receiver.store import receive
from receiver.transfer import Partitioned, export_partitions
from tests.support.exporting import DAY_MS, silent
from tests.support.histories import deliver, seeded
from tests.support.webhooks import PAYLOADS


@pytest.fixture
def lake(tmp_path) -> Path:
    return tmp_path / "lake"


@pytest.fixture
def update(settings, lake):
    """A run; what it did."""

    def run(target=lake, *, private=False, progress=silent) -> Partitioned:
        return export_partitions(settings, str(target), private=private, progress=progress)

    return run


@pytest.fixture
def varied_update(store, update):
    """A run on everything: calls and chats of every era, some without a time, quarantine."""
    chance = random.Random(1)
    for body in sorted(PAYLOADS.glob("*.json")):
        at = chance.randrange(DAY_MS, DAY_MS + 4 * 86_400_000)
        received = receive(body.read_bytes(), source="webhook", observed_at=at, received_at=at)
        store.add(received)
    deliver(store, seeded(1, 60))
    return update
