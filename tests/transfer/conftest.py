"""The command on a day of calls, and on the test's own database."""

import pytest

from tests.support.exporting import export_of, filled


@pytest.fixture(scope="session")
def day_path(tmp_path_factory):
    """A file with the sandbox's day; no test changes it."""
    return filled(tmp_path_factory.mktemp("day") / "retell.db")


@pytest.fixture
def run(monkeypatch, day_path):
    """`callhouse export` on the sandbox's day."""
    return export_of(day_path, monkeypatch)


@pytest.fixture
def run_on_store(monkeypatch, settings):
    """The same on the test's own database."""
    return export_of(settings.database, monkeypatch)
