"""Connections for SQL that other people write: their limits are theirs alone."""

import platform
import subprocess
import sys

import pytest

from receiver.store.connection import sqlite3
from receiver.store.limits import connect_bounded

LONG = "SELECT length(zeroblob(2000))"
# Threads open connections of both kinds at once, as the pages of browse do.
OPENING = """
import sys, threading, time
from pathlib import Path
from receiver.store.limits import connect_bounded
from receiver.store.connection import sqlite3

def repeat(open):
    while time.monotonic() < end:
        open().close()

# A thread is interrupted as often as can be.
sys.setswitchinterval(1e-6)
end = time.monotonic() + 8
path = Path(sys.argv[1])
opens = [lambda: sqlite3.connect(":memory:")] * 3
opens.append(lambda: connect_bounded(path, max_value_bytes=1000))
threads = [threading.Thread(target=repeat, args=[each]) for each in opens]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_limits_are_of_bounded_connections_alone(db_path):
    bounded = connect_bounded(db_path, max_value_bytes=1000)
    with pytest.raises(sqlite3.DataError):
        bounded.execute(LONG).fetchall()
    assert sqlite3.connect(db_path).execute(LONG).fetchone() == (2000,)


@pytest.mark.slow
def test_threads_open_both_kinds_at_once(db_path):
    # In a process of its own, which would crash.
    subprocess.run([sys.executable, "-c", OPENING, str(db_path)], check=True)


# Prints how many MB are left of 200 MB that were freed, with small blocks between the large ones.
FREEING = """
from pathlib import Path
from receiver.store.limits import return_freed_memory

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 10**6

return_freed_memory()
# glibc's threshold follows the largest block that was freed.
b"a" * 30_000_000
before, large, small = resident_mb(), [], []
for _ in range(40):
    large.append(b"a" * 5_000_000)
    small.append(b"a" * 50_000)
assert resident_mb() - before > 190
large.clear()
print(resident_mb() - before)
"""


def test_large_blocks_are_returned_to_the_system():
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("waits for glibc")
    found = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, check=True)
    assert int(found.stdout) < 20
