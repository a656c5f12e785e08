"""The command on the test's own database on a server."""

import pytest

from receiver.store import open_store
from tests.support.exporting import export_of


@pytest.fixture
def run(pg, monkeypatch):
    return export_of(pg, monkeypatch)


@pytest.fixture
def store(pg):
    store = open_store(pg)
    yield store
    store.close()
