"""The store keeps its promises in simulated histories, which find the faults that are planted."""

import pytest

from tests.simulation import disk
from tests.simulation.history import History
from tests.simulation.planted import PLANTED

if not disk.register():
    pytest.skip("SQLite's library cannot be reached from Python", allow_module_level=True)


def test_histories_keep_every_promise(tmp_path):
    for seed in range(100):
        check(seed, tmp_path)


def test_seed_repeats_its_history(tmp_path):
    for seed in range(10):
        assert check(seed, tmp_path) == check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_fault_is_found(plant, tmp_path, monkeypatch):
    plant(monkeypatch.setattr)
    for seed in range(PLANTED[plant]):
        try:
            History(seed, tmp_path).run()
        except AssertionError:
            return
    pytest.fail(f"not found in {PLANTED[plant]} histories")


@pytest.mark.slow
def test_thousand_histories_keep_every_promise(tmp_path):
    for seed in range(100, 1100):
        check(seed, tmp_path)


def check(seed, folder):
    """Run a history; what fails says with which seed."""
    history = History(seed, folder)
    try:
        return history.run()
    except Exception as error:
        pytest.fail(f"seed {seed}: {error}; faults: {'; '.join(history.report.faults)}")
