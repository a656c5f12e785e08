"""Adding up the hours and days that are over, so that views read sums instead of calls.

Nothing depends on it but the time that views take: they count the calls of every hour that is not
rolled up, and whatever touches a call takes its hour and day back, in the same transaction.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from receiver import clock
from receiver.errors import StoreUnavailable
from receiver.store import rollup_sql
from receiver.store.engine import AnyStore
from receiver.store.protocols import Connection
from schema.sql.zones import Zone

# An hour of which there was news so lately is likely to have more: it would be added up again.
QUIET_MS = 15 * 60_000
# How long an hour that is over may stay a scan of its calls.
ROLL_UP_SECONDS = 60


def keep_rolled_up(store: AnyStore, timezone: str, stop: threading.Event) -> None:
    """Roll up until stopped, between two hours or days at the latest."""
    while not stop.is_set():
        # What cannot be written now is tried again; the receiver's health says what is wrong.
        with suppress(StoreUnavailable):
            for _ in roll_up(store, timezone=timezone, now_ms=clock.now_ms()):
                if stop.is_set():
                    return
        stop.wait(ROLL_UP_SECONDS)


def roll_up(store: AnyStore, *, timezone: str, now_ms: int) -> Iterator[tuple[int, int]]:
    """Roll up hours with calls that are over and quiet by `now_ms`, then days, the oldest first.

    One hour or day for each step of the iteration, which gives how many are done of how many hours,
    and then of how many days. Each is one short transaction, in which it cannot change. In a
    database whose views are of another time zone or version, nothing is rolled up. Raises
    StoreUnavailable.
    """
    # Of no hour at all: would it be of use?
    if not store.read(lambda connection: store.settle(connection, timezone, 0, -1)):
        return
    zone = Zone(timezone)
    quiet_since = now_ms - QUIET_MS
    levels = (
        (rollup_sql.unsettled_hours(zone), rollup_sql.SETTLE_HOUR, rollup_sql.FILL_HOUR),
        (rollup_sql.days_over(zone), rollup_sql.settle_day(zone), rollup_sql.FILL_DAY),
    )
    for find, settle, fill in levels:
        spans = store.read(partial(_found, find, {"now": now_ms, "quiet_since": quiet_since}))
        for done, span in enumerate(spans, start=1):
            store.run(partial(_settle, store, timezone, settle, fill, span))
            yield done, len(spans)


def _settle(
    store: AnyStore,
    timezone: str,
    settle: str,
    fill: list[str],
    span: dict[str, Any],
    connection: Connection,
) -> None:
    since, last = (span["hour"], span["last"]) if "hour" in span else (span["since"], span["until"])
    if (
        store.settle(connection, timezone, since, last)
        and connection.execute(settle, span).fetchall()
    ):
        for statement in fill:
            connection.execute(statement, span)


def _found(query: str, times: dict[str, int], connection: Connection) -> list[dict[str, Any]]:
    found = connection.execute(query, times)
    rows = found.fetchall()
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in rows]
