"""Is the warehouse well: what /healthz answers and /metrics exposes."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from receiver.counters import Counters
from receiver.errors import SchemaMismatch
from receiver.store.connection import connect, is_busy, sqlite3
from receiver.store.damage import damage
from receiver.store.migrate import applied, check

# Below this, the next burst may not fit.
MIN_FREE_BYTES = 64 * 1024 * 1024
# How long one stale event keeps the answer red: long enough for any monitor to see it.
STALE_ALARM_MS = 15 * 60 * 1000

# How long one answer may look for damage; requests of the same worker wait that long.
DAMAGE_SECONDS = 0.2
# How many times as long nobody looks again: 2% of the time at most is spent on it.
DAMAGE_REST = 50

_looked: dict[Path, tuple[float, str | None]] = {}

_QUARANTINED = "SELECT count(*) FROM observations WHERE problem IS NOT NULL"


def health(path: Path, counters: Counters, *, now_ms: int) -> dict[str, Any]:
    """The state of the database at `path`; `problems` is empty when all is well."""
    problems: list[str] = []
    counts = counters.read()
    database = _database(path, problems)
    free = free_bytes(path)
    if free < MIN_FREE_BYTES:
        problems.append("the disk is nearly full")
    if counts["last_stale_ms"] > now_ms - STALE_ALARM_MS:
        problems.append("authentic events arrived too old: check this machine's clock")
    return {
        "status": "error" if problems else "ok",
        "problems": problems,
        **database,
        "last_event_ms": counts["last_event_ms"] or None,
        "stale": counts["stale"],
        "wal_bytes": size(path.with_name(path.name + "-wal")),
        "free_disk_bytes": free,
    }


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def free_bytes(path: Path) -> int:
    """Bytes left on the disk that holds `path`, 0 if its folder is gone."""
    return shutil.disk_usage(path.parent).free if path.parent.exists() else 0


def _database(path: Path, problems: list[str]) -> dict[str, Any]:
    """What a look into the file tells, without ever waiting for the write lock."""
    found: dict[str, Any] = {"writable": False, "schema": None, "quarantined": None}
    try:
        connection = connect(path, busy_timeout_ms=0)
    except sqlite3.Error as error:
        problems.append(f"the database cannot be opened: {error}")
        return found
    try:
        if damaged := _damage(path, connection):
            problems.append(f"the database is damaged: {damaged}")
        found["schema"] = max(applied(connection), default=None)
        check(connection)
        found["quarantined"] = connection.execute(_QUARANTINED).fetchone()[0]
        found["writable"] = _is_writable(connection)
    except (sqlite3.Error, SchemaMismatch) as error:
        problems.append(str(error))
    finally:
        connection.close()
    return found


def _damage(path: Path, connection: sqlite3.Connection) -> str | None:
    """What was found at the last look; a new one is taken when the rest is over."""
    due, found = _looked.get(path, (0.0, None))
    began = time.monotonic()
    if began >= due:
        found = damage(connection, seconds=DAMAGE_SECONDS)
        ended = time.monotonic()
        _looked[path] = ended + DAMAGE_REST * (ended - began), found
    return found


def _is_writable(connection: sqlite3.Connection) -> bool:
    """Raises sqlite3.Error if not. Somebody else writing just now is a good sign."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
    else:
        connection.execute("ROLLBACK")
    return True


def prometheus(path: Path, counters: Counters) -> str:
    """Counters and gauges in Prometheus' text format."""
    counts = counters.read()
    last_event_ms, _ = counts.pop("last_event_ms"), counts.pop("last_stale_ms")
    lines = [
        "# HELP callhouse_events_total Requests to /webhook by what became of them.",
        "# TYPE callhouse_events_total counter",
        *(f'callhouse_events_total{{outcome="{name}"}} {n}' for name, n in counts.items()),
    ]
    gauges = {
        "last_event_timestamp_seconds": (last_event_ms / 1000, "When the last event was stored."),
        "database_bytes": (size(path), "Size of the database file."),
        "wal_bytes": (size(path.with_name(path.name + "-wal")), "Size of the write-ahead log."),
        "free_disk_bytes": (free_bytes(path), "Room left on its disk."),
    }
    for name, (value, meaning) in gauges.items():
        lines += [
            f"# HELP callhouse_{name} {meaning}",
            f"# TYPE callhouse_{name} gauge",
            f"callhouse_{name} {value}",
        ]
    return "\n".join(lines) + "\n"
