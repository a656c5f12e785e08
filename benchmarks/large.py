"""`make bench-large`: what a file with very many calls costs to write and to look at.

Fills a file through the store, call_analyzed by call_analyzed, then measures ingest against ingest
at a thousand calls, how long hours take to be added up and what views cost before and after, and
every table, view, search and conversation page of Datasette.
"""

import argparse
import asyncio
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import KEY
from benchmarks.bodies import START_MS, pair
from receiver import config
from receiver.browse.server import serving
from receiver.store import Store, migrate, receive, roll_up
from receiver.store.observing import observe
from receiver.store.reading import connect_readonly
from receiver.store.rollups import QUIET_MS
from schema.tables import TABLES
from schema.views import views

# Six of ten calls are answered.
_KINDS = ("30 seconds",) * 6 + ("unanswered",) * 4
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
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retell.db"
        migrate(path, timezone="UTC")
        store = Store(path)
        fill(store, range(_FIRST))
        small = ingest_ms(store, _FIRST)
        began = time.monotonic()
        fill(store, range(_FIRST + _SAMPLE, options.calls - _SAMPLE))
        seconds = time.monotonic() - began
        large = ingest_ms(store, options.calls - _SAMPLE)
        gigabytes = path.stat().st_size / 1e9
        console.print(
            f"{options.calls:,} calls: {gigabytes:.2f} GB, filled in {seconds / 60:.1f} minutes\n"
            f"An event takes {large:.2f} ms at {options.calls:,} calls and {small:.2f} ms at "
            f"{_FIRST:,}: ingest there ÷ ingest at {_FIRST:,} = {small / large:.2f}"
        )
        add_up(store, at_ms(options.calls))
        store.close()
        asyncio.run(browse(path))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"Peak memory of the whole run: {peak:,.0f} MB")


def add_up(store: Store, now_ms: int) -> None:
    """Time the views that add hours up: over calls alone, over hours but for the newest day, and
    as browsing leaves them, over hours but for the newest."""
    table = Table(title="Views over hours that are added up, in milliseconds")
    for column in ("added up", "hours", "s", "most ms", *_ADDING):
        table.add_column(column, justify="left" if column == "added up" else "right")
    table.add_row("nothing", "", "", "", *view_ms(store.path))
    midnight = now_ms // _DAY_MS * _DAY_MS
    for name, now in (("all but a day", midnight), ("all but an hour", now_ms)):
        # Nothing is quiet before some minutes have passed.
        times = hours_ms(store, now + QUIET_MS)
        row = (f"{len(times)}", f"{sum(times) / 1000:.1f}", f"{max(times, default=0):.0f}")
        table.add_row(name, *row, *view_ms(store.path))
    console.print(table)


def hours_ms(store: Store, now_ms: int) -> list[float]:
    """Roll up; milliseconds of each hour, in which nobody else can write."""
    times, began = [], time.perf_counter()
    for _ in roll_up(store, now_ms=now_ms):
        times.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
    return times


def view_ms(path: Path) -> Iterator[str]:
    """Milliseconds of each view from end to end, through a connection of its own."""
    for view in _ADDING:
        with closing(connect_readonly(path)) as connection:
            began = time.perf_counter()
            connection.execute(f"SELECT * FROM {view}").fetchall()  # noqa: S608 - our own names
            yield f"{(time.perf_counter() - began) * 1000:,.0f}"


def body(number: int) -> bytes:
    """The call_analyzed of a call that started, if it did, at its own second."""
    analyzed = pair(_KINDS[number % len(_KINDS)], number)[1]
    return _STARTED.sub(b'"start_timestamp":%d' % at_ms(number), analyzed)


def at_ms(number: int) -> int:
    return START_MS + number * 1000


def fill(store: Store, numbers: range) -> None:
    """Add calls, many to a transaction."""
    with Progress() as progress:
        for start in progress.track(range(numbers.start, numbers.stop, _BATCH), description="Fill"):
            with store.transaction() as connection:
                for number in range(start, min(start + _BATCH, numbers.stop)):
                    at = at_ms(number)
                    received = receive(
                        body(number), source="webhook", observed_at=at, received_at=at
                    )
                    observe(connection, received)


def ingest_ms(store: Store, first: int) -> float:
    """Median milliseconds of one event, its own commit included."""
    times = []
    for number in range(first, first + _SAMPLE):
        at = at_ms(number)
        received = receive(body(number), source="webhook", observed_at=at, received_at=at)
        began = time.perf_counter()
        store.add(received)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def browse(path: Path) -> None:
    """Time every page twice: as a first visitor and as a second."""
    os.environ["CALLHOUSE_DATABASE_URL"] = f"sqlite:///{path}"
    os.environ["RETELL_API_KEY"] = KEY
    served = serving(config.load(), password_hash="unused")
    cookies = {"ds_actor": served.sign({"a": {"id": "admin"}}, "actor")}
    table = Table(title="Pages of Datasette, in milliseconds")
    for column in ("page", "status", "first", "second"):
        table.add_column(column, justify="left" if column == "page" else "right")
    for page in pages():
        times = []
        for _ in range(2):
            began = time.perf_counter()
            answer = await served.client.get(page, cookies=cookies)
            times.append((time.perf_counter() - began) * 1000)
        style = "red" if max(times) > 1000 or answer.status_code != 200 else None
        table.add_row(page, str(answer.status_code), *(f"{t:,.0f}" for t in times), style=style)
    console.print(table)


def pages() -> Iterator[str]:
    yield "/retell"
    for name in [table.name for table in TABLES] + list(views()):
        if name not in {"timeline", "words"}:
            yield f"/retell/{name}"
    call_id = f"call_{_KINDS.index('30 seconds'):027x}"
    yield f"/retell/timeline?call_id={call_id}"
    yield f"/retell/words?call_id={call_id}"
    yield f"/retell/calls/{call_id}"
    yield "/retell/transcripts?_search=thee"
    yield "/retell/call_log?outcome=user_hangup"
    yield "/retell/attributes?source=metadata&name=campaign&value=spring"


if __name__ == "__main__":
    main()
