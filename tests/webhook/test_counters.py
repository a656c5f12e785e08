"""Counts are exact across threads, processes and restarts."""

import subprocess
import sys
import threading

import pytest

from receiver.webhook.health import NAMES, Counters, note

NOW_MS = 1_778_699_295_274
ADD = """
import sys
from pathlib import Path
from receiver.webhook.health import Counters
counters = Counters(Path(sys.argv[1]))
for i in range(2000):
    with counters.change() as counts:
        counts["forged"] += 1
        counts["too_large"] += 3
        counts["last_event_ms"] = max(counts["last_event_ms"], int(sys.argv[2]) + i)
counters.close()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "retell.counters"


@pytest.fixture
def counters(path):
    counters = Counters(path)
    yield counters
    counters.close()


def test_new_file_counts_from_zero(counters):
    assert counters.read() == dict.fromkeys(NAMES, 0)


def test_names_are_only_ever_appended():
    assert NAMES[:17] == (
        "stored", "duplicate", "quarantined", "erased", "missing", "malformed", "forged", "stale",
        "too_large", "busy", "unavailable", "last_event_ms", "last_stale_ms", "last_forged_ms",
        "last_refused_ms", "forged_since_event", "refused_since_event",
    )  # fmt: skip


def test_each_name_counts_apart(counters):
    for count, name in enumerate(NAMES):
        with counters.change() as counts:
            counts[name] += count
    assert counters.read() == {name: count for count, name in enumerate(NAMES)}


def test_unknown_outcome_is_a_mistake(counters):
    with pytest.raises(KeyError):
        note(counters, "nonsense", now_ms=NOW_MS)
    note(counters, "stored", now_ms=NOW_MS)
    assert counters.read()["stored"] == 1


def test_time_is_raised_and_never_lowered(counters):
    note(counters, "stored", now_ms=NOW_MS)
    note(counters, "stored", now_ms=NOW_MS - 1)
    assert counters.read()["last_event_ms"] == NOW_MS


def test_time_from_a_fast_clock_is_replaced(counters):
    note(counters, "stored", now_ms=NOW_MS + 365 * 86_400_000)
    note(counters, "stored", now_ms=NOW_MS)
    assert counters.read()["last_event_ms"] == NOW_MS


def test_count_beyond_32_bits_is_exact(counters):
    with counters.change() as counts:
        counts["stored"] = 2**40
    note(counters, "stored", now_ms=NOW_MS)
    assert counters.read()["stored"] == 2**40 + 1


def test_counts_survive_closing_and_opening(path):
    for count in (1, 2, 3):
        counters = Counters(path)
        note(counters, "stored", now_ms=NOW_MS)
        assert counters.read()["stored"] == count
        counters.close()


def test_counts_are_exact_across_processes(path, counters):
    processes = [
        subprocess.Popen([sys.executable, "-c", ADD, str(path), str(start)])
        for start in (1000, 5000, 9000, 2000)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    counts = counters.read()
    assert (counts["forged"], counts["too_large"]) == (4 * 2000, 4 * 2000 * 3)
    assert counts["last_event_ms"] == 9000 + 1999


@pytest.fixture
def _eager_threads():
    """Threads change places so often that a race shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_counts_are_exact_across_threads(counters):
    def add() -> None:
        for _ in range(2000):
            note(counters, "stored", now_ms=NOW_MS)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.read()["stored"] == 8 * 2000


def test_process_that_is_killed_leaves_its_counts(path, counters):
    script = ADD.replace("counters.close()", "import os; os.kill(os.getpid(), 9)")
    process = subprocess.run([sys.executable, "-c", script, str(path), "0"], check=False)
    assert process.returncode == -9
    assert counters.read()["forged"] == 2000
    note(counters, "forged", now_ms=NOW_MS)
    assert counters.read()["forged"] == 2001
