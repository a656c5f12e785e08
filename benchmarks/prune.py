"""`python -m benchmarks.prune`: the effect of pruning half of a file on events that arrive
meanwhile.

Half of the calls are older than CALLHOUSE_KEEP_CALLS_DAYS. `callhouse prune` runs as a process of
its own, while events of new calls arrive at a steady rate; before, the same without it.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.bodies import KINDS, pair
from receiver.store import Received, Store, migrate, receive
from receiver.store.connection import connect
from receiver.store.ingest import observe
from schema.tables import CALL_TABLES, OBSERVATIONS

KEEP_DAYS = 30
DAY_MS = 86_400_000
# Calls that are projected; the others are copies of their rows.
_MADE = 1000
_TABLES = (OBSERVATIONS, *CALL_TABLES)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--kind", default="30 seconds", choices=list(KINDS))
    parser.add_argument("--rate", type=float, default=50, help="events per second")
    parser.add_argument("--seconds", type=float, default=20, help="of events without prune")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        path = Path(folder) / "retell.db"
        migrate(path, timezone="UTC")
        fill(path, options.kind, options.calls)
        measure(path, options.kind, options.rate, options.seconds)


def fill(path: Path, kind: str, calls: int) -> None:
    """Store calls, half of them before and half of them after the time of the setting."""
    now_ms = time.time_ns() // 1_000_000
    with closing(Store(path)) as store, store.transaction() as connection:
        for number in range(min(_MADE, calls)):
            for body in pair(kind, number):
                observe(connection, _received(body, now_ms))
    connection = connect(path, busy_timeout_ms=1000)
    connection.create_function("spread", 2, _spread, deterministic=True)
    for copy in range(1, calls // _MADE):
        connection.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            connection.execute(_COPY[table.name], {"copy": copy, "made": f"call_{_MADE:027x}"})
        connection.execute("COMMIT")
    old, new = now_ms - (KEEP_DAYS + 10) * DAY_MS, now_ms - 5 * DAY_MS
    connection.execute(
        "UPDATE calls SET start_timestamp = CASE WHEN rowid <= :half THEN :old ELSE :new END",
        {"half": calls // 2, "old": old, "new": new},
    )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def _spread(call_id: str, copy: int) -> str:
    """Another random id."""
    return "call_f" + hashlib.sha256(f"{call_id} {copy}".encode()).hexdigest()[:26]


# The rows of the first calls, with other ids.
_COPY = {
    table.name: f"INSERT INTO {table.name} ({', '.join(table.names)}) "
    f"SELECT {', '.join([f'spread({table.names[0]}, :copy)', *table.names[1:]])} "
    f"FROM {table.name} WHERE {table.names[0]} < :made"
    for table in _TABLES
}


def _received(body: bytes, now_ms: int) -> Received:
    return receive(body, source="webhook", observed_at=now_ms, received_at=now_ms)


def measure(path: Path, kind: str, rate: float, seconds: float) -> None:
    """Print the file's size and the durations of events, with and without prune."""
    before = path.stat().st_size
    environ = os.environ | {
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}",
        "CALLHOUSE_KEEP_CALLS_DAYS": str(KEEP_DAYS),
        "CALLHOUSE_MEDIA_URL": f"file:{path.parent}/media",
    }
    with closing(Store(path)) as store:
        alone = events(store, kind, 10**6, rate, until=lambda spent: spent > seconds)
        began = time.monotonic()
        prune = subprocess.Popen(
            [sys.executable, "-m", "receiver", "prune", "--json"],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        beside = events(store, kind, 2 * 10**6, rate, until=lambda _: prune.poll() is not None)
        took = time.monotonic() - began
        assert prune.stdout is not None
        done = json.loads(prune.stdout.read())
    [receipt] = done["receipts"]
    print(f"prune: {receipt['entities']:,} calls in {took:.1f} s, left: {done['left']}")
    print(f"file: {before / 1e6:,.1f} MB before, {path.stat().st_size / 1e6:,.1f} MB after")
    for name, found in (("alone", alone), ("beside prune", beside)):
        print(f"{name:13} {len(found):6,} events, " + ", ".join(_percentiles(found)))
    ratio = _percentile(beside, 99) / _percentile(alone, 99)
    print(f"p99 beside prune is {ratio:.2f} times that alone")


def events(
    store: Store, kind: str, first: int, rate: float, *, until: Callable[[float], bool]
) -> list[float]:
    """Add events at a steady rate; return the milliseconds that each took."""
    began, taken = time.monotonic(), list[float]()
    while not until(time.monotonic() - began):
        due = began + len(taken) / rate
        time.sleep(max(0.0, due - time.monotonic()))
        number, which = divmod(first + len(taken), 2)
        received = _received(pair(kind, number)[which], time.time_ns() // 1_000_000)
        started = time.perf_counter()
        store.add(received)
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def _percentile(found: list[float], percent: int) -> float:
    return statistics.quantiles(found, n=100)[percent - 1]


def _percentiles(found: list[float]) -> list[str]:
    named = [f"p{n} {_percentile(found, n):.1f} ms" for n in (50, 99)]
    return [*named, f"longest {max(found):.1f} ms"]


if __name__ == "__main__":
    main()
