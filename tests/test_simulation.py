"""The store keeps its promises in simulated histories, which find the faults that are planted."""

import pytest
from greenlet import getcurrent

from receiver.store.connection import sqlite3
from tests.simulation import disk
from tests.simulation.history import History
from tests.simulation.planted import (
    PLANTED,
    connection_is_kept_after_an_error,
    followers_are_not_woken,
)

if not disk.register():
    pytest.skip("SQLite's library cannot be reached from Python", allow_module_level=True)


def test_histories_keep_every_promise(tmp_path):
    for seed in range(50):
        check(seed, tmp_path)


def test_seed_repeats_its_history(tmp_path):
    for seed in range(10):
        assert check(seed, tmp_path) == check(seed, tmp_path)


@pytest.mark.parametrize(
    "plant", [followers_are_not_woken, connection_is_kept_after_an_error], ids=lambda p: p.__name__
)
def test_failed_history_leaves_no_task_and_no_connection(plant, tmp_path, monkeypatch):
    """The garbage collector would end them in a later test, and free memory that SQLite uses."""
    plant(monkeypatch.setattr)
    history = first_failure(plant, tmp_path)
    tasks = [task for task in history.world.processes_of if task is not getcurrent()]
    # A greenlet is true from its first turn to its end.
    assert [task for task in tasks if task] == []
    assert history.world.connections
    for connection in history.world.connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_fault_is_found(plant, tmp_path, monkeypatch):
    plant(monkeypatch.setattr)
    first_failure(plant, tmp_path)


@pytest.mark.slow
def test_thousand_histories_keep_every_promise(tmp_path):
    for seed in range(50, 1050):
        check(seed, tmp_path)


def first_failure(plant, folder):
    """The first history that finds a planted fault."""
    for seed in range(PLANTED[plant]):
        history = History(seed, folder)
        try:
            history.run()
        except AssertionError:
            return history
    pytest.fail(f"not found in {PLANTED[plant]} histories")


def check(seed, folder):
    """Run a history; what fails says with which seed."""
    history = History(seed, folder)
    try:
        return history.run()
    except Exception as error:
        pytest.fail(f"seed {seed}: {error}; faults: {'; '.join(history.report.faults)}")
