"""Is the warehouse well: what /healthz answers and /metrics exposes."""

import shutil
from pathlib import Path
from typing import Any

from receiver.addresses import Location
from receiver.counters import Counters
from receiver.store.engine import engine

# Below this, the next burst may not fit.
MIN_FREE_BYTES = 64 * 1024 * 1024
# How long one stale event keeps the answer red: long enough for any monitor to see it.
STALE_ALARM_MS = 15 * 60 * 1000


def health(where: Location, counters: Counters, *, now_ms: int) -> dict[str, Any]:
    """The state of the database at `where`; `problems` is empty when all is well."""
    problems: list[str] = []
    counts = counters.read()
    database = engine(where)
    found = database.look(problems)
    free = free_bytes(counters.path)
    if free < MIN_FREE_BYTES:
        problems.append("the disk is nearly full")
    if counts["last_stale_ms"] > now_ms - STALE_ALARM_MS:
        problems.append("authentic events arrived too old: check this machine's clock")
    return {
        "status": "error" if problems else "ok",
        "problems": problems,
        **found,
        "last_event_ms": counts["last_event_ms"] or None,
        "stale": counts["stale"],
        "wal_bytes": database.sizes()[1],
        "free_disk_bytes": free,
    }


def free_bytes(path: Path) -> int:
    """Bytes left on the disk that holds `path`, 0 if its folder is gone."""
    return shutil.disk_usage(path.parent).free if path.parent.exists() else 0


def prometheus(where: Location, counters: Counters) -> str:
    """Counters and gauges in Prometheus' text format."""
    database_bytes, wal_bytes = engine(where).sizes()
    counts = counters.read()
    last_event_ms, _ = counts.pop("last_event_ms"), counts.pop("last_stale_ms")
    lines = [
        "# HELP callhouse_events_total Requests to /webhook by what became of them.",
        "# TYPE callhouse_events_total counter",
        *(f'callhouse_events_total{{outcome="{name}"}} {n}' for name, n in counts.items()),
    ]
    gauges = {
        "last_event_timestamp_seconds": (last_event_ms / 1000, "When the last event was stored."),
        "database_bytes": (database_bytes, "Size of the database."),
        "wal_bytes": (wal_bytes, "Size of the write-ahead log."),
        "free_disk_bytes": (free_bytes(counters.path), "Room left on this machine's disk."),
    }
    for name, (value, meaning) in gauges.items():
        lines += [
            f"# HELP callhouse_{name} {meaning}",
            f"# TYPE callhouse_{name} gauge",
            f"callhouse_{name} {value}",
        ]
    return "\n".join(lines) + "\n"
