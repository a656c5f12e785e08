"""A directory of Parquet by day, and what tests ask of it."""

import json
from pathlib import Path

import pyarrow.fs
import pyarrow.parquet

from receiver.store import receive
from tests.support.exporting import DAY_MS

NEXT_DAY_MS = DAY_MS + 86_400_000
DAY, NEXT_DAY, UNKNOWN = "day=2026-05-12", "day=2026-05-13", "day=1970-01-01"
MANIFEST = "_callhouse.json"


def add(store, call_id, *, at, event="call_analyzed", received=None, **fields):
    call = {"call_id": call_id, "start_timestamp": at, **fields}
    body = json.dumps({"event": event, "call": call}).encode()
    came = at if received is None else received
    store.add(receive(body, source="webhook", observed_at=came, received_at=came))


def files(lake: Path) -> dict[str, bytes]:
    return {str(p.relative_to(lake)): p.read_bytes() for p in lake.rglob("*") if p.is_file()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Names of files that came, went or differ, the manifest aside."""
    names = {name for name in before | after if before.get(name) != after.get(name)}
    return names - {MANIFEST}


def rows(lake: Path, table: str, day: str = "*") -> list[dict]:
    paths = sorted(lake.glob(f"{table}/{day}/*.parquet")) or [lake / table / f"{table}.parquet"]
    return [row for path in paths for row in pyarrow.parquet.ParquetFile(path).read().to_pylist()]


def call_ids(lake: Path, day: str = "*") -> set[str]:
    return {row["call_id"] for row in rows(lake, "calls", day)}
