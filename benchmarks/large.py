"""`make bench-large`: writing to and reading a file with very many calls.

Fills a file through the store, call_analyzed by call_analyzed, then measures ingest against ingest
at a thousand calls, rolling up, views before and after it, every page of the browser, and the
export of a month.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import pages
from benchmarks.bodies import pair
from receiver.store import Received, Store, migrate, receive, roll_up, sql
from receiver.store.connection import connect_readonly
from receiver.store.ingest import observe
from receiver.store.rollups import QUIET_MS

# Six of ten calls are answered.
_KINDS = ("30 seconds",) * 6 + ("unanswered",) * 4
# A million calls fill thirty days, the last of which is today.
_APART_MS = 2_592
_BATCH = 200
_SAMPLE = 400
_FIRST = 1_000
_DAY_MS = 86_400_000
_ADDING = (
    "agent_scorecard",
    "latency_by_agent",
    "tool_scorecard",
    "cost_by_product",
    "daily_summary",
)
_STARTED = re.compile(rb'"start_timestamp":\d+')

console = Console(width=130)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="file to fill and keep; looked at if it is there")
    parser.add_argument("--limit-ms", type=int, default=500, help="processor time of a page")
    parser.add_argument("--only", default="", help="pages whose address has this; no export")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder) / "retell.db"
        if not path.exists():
            write(path, options.calls)
        with closing(Store(path)) as store:
            hours_ms(store, time.time_ns() // 1_000_000)
        asyncio.run(pages.measure(path, console, limit_ms=options.limit_ms, only=options.only))
        if not options.only:
            pages.export_month(path, console)


def write(path: Path, calls: int) -> None:
    """Fill a new file; measure writing and rolling up."""
    migrate(path, timezone="UTC")
    store = Store(path)
    first_ms = time.time_ns() // 1_000_000 - calls * _APART_MS
    fill(store, range(_FIRST), first_ms)
    small = ingest_ms(store, _FIRST, first_ms)
    began = time.monotonic()
    fill(store, range(_FIRST + _SAMPLE, calls - _SAMPLE), first_ms)
    seconds = time.monotonic() - began
    large = ingest_ms(store, calls - _SAMPLE, first_ms)
    gigabytes = path.stat().st_size / 1e9
    console.print(
        f"{calls:,} calls: {gigabytes:.2f} GB, filled in {seconds / 60:.1f} minutes\n"
        f"An event takes {large:.2f} ms at {calls:,} calls and {small:.2f} ms at "
        f"{_FIRST:,}: ingest there ÷ ingest at {_FIRST:,} = {small / large:.2f}"
    )
    add_up(store, first_ms + calls * _APART_MS)
    store.close()


def add_up(store: Store, now_ms: int) -> None:
    """Time the views that sum hours: without rollups, with all hours except the newest day, and
    with all hours except the newest, as in normal operation."""
    table = Table(title="Views over hours that are added up, in milliseconds")
    for column in ("added up", "hours", "s", "most ms", *_ADDING):
        table.add_column(column, justify="left" if column == "added up" else "right")
    table.add_row("nothing", "", "", "", *view_ms(store.path))
    midnight = now_ms // _DAY_MS * _DAY_MS
    for name, now in (("all but a day", midnight), ("all but an hour", now_ms)):
        # Hours are rolled up only after some minutes without changes.
        times = hours_ms(store, now + QUIET_MS)
        row = (f"{len(times)}", f"{sum(times) / 1000:.1f}", f"{max(times, default=0):.0f}")
        table.add_row(name, *row, *view_ms(store.path))
    console.print(table)


def hours_ms(store: Store, now_ms: int) -> list[float]:
    """Roll up; milliseconds of each hour, in which nobody else can write."""
    times, began = [], time.perf_counter()
    for _ in roll_up(store, timezone="UTC", now_ms=now_ms):
        times.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
    return times


def view_ms(path: Path) -> Iterator[str]:
    """Milliseconds of each view from end to end, through a connection of its own."""
    for view in _ADDING:
        with closing(connect_readonly(path)) as connection:
            began = time.perf_counter()
            connection.execute(sql.select_from(view)).fetchall()
            yield f"{(time.perf_counter() - began) * 1000:,.0f}"


def body(number: int, at_ms: int) -> bytes:
    """The call_analyzed of a call that started, if it did, at that time."""
    analyzed = pair(_KINDS[number % len(_KINDS)], number)[1]
    return _STARTED.sub(b'"start_timestamp":%d' % at_ms, analyzed)


def received(number: int, first_ms: int) -> Received:
    """The event of a call, as it arrives when the call starts."""
    at = first_ms + number * _APART_MS
    return receive(body(number, at), source="webhook", observed_at=at, received_at=at)


def fill(store: Store, numbers: range, first_ms: int) -> None:
    """Add calls, many to a transaction."""
    with Progress() as progress:
        for start in progress.track(range(numbers.start, numbers.stop, _BATCH), description="Fill"):
            with store.transaction() as connection:
                for number in range(start, min(start + _BATCH, numbers.stop)):
                    observe(connection, received(number, first_ms))


def ingest_ms(store: Store, first: int, first_ms: int) -> float:
    """Median milliseconds of one event, its own commit included."""
    times = []
    for number in range(first, first + _SAMPLE):
        event = received(number, first_ms)
        began = time.perf_counter()
        store.add(event)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
