"""Roll up the hours and days that are over, so that views read sums instead of calls.

Rollups only make views faster: views count the calls of every hour that is not rolled up, and every
write to a call invalidates its hour and day in the same transaction.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from receiver import clock
from receiver.errors import StoreUnavailable
from receiver.store.engine import AnyStore
from receiver.store.protocols import Connection
from schema.sql import rollups
from schema.sql.zones import Zone

# Skip hours updated in the last 15 minutes; they are likely to change again.
QUIET_MS = 15 * 60_000
# The interval at which the receiver rolls up.
ROLL_UP_SECONDS = 60


def keep_rolled_up(store: AnyStore, timezone: str, stop: threading.Event) -> None:
    """Roll up until stopped, between two hours or days at the latest."""
    while not stop.is_set():
        # Retried at the next interval; /healthz reports the problem.
        with suppress(StoreUnavailable):
            for _ in roll_up(store, timezone=timezone, now_ms=clock.now_ms()):
                if stop.is_set():
                    return
        stop.wait(ROLL_UP_SECONDS)


def roll_up(store: AnyStore, *, timezone: str, now_ms: int) -> Iterator[tuple[int, int]]:
    """Roll up hours that are over and have not changed recently by `now_ms`, then days, the oldest
    first.

    Each step of the iteration rolls up one hour or day in a short transaction, and yields the
    numbers done and in total, first of hours, then of days. If the views belong to another time
    zone or version, nothing is rolled up. Raises StoreUnavailable.
    """
    # Empty range: only checks that the views match this version and time zone.
    if not store.read(lambda connection: store.lock_hours(connection, timezone, 0, -1)):
        return
    zone = Zone(timezone)
    quiet_since = now_ms - QUIET_MS
    levels = (
        (rollups.hours_to_fill(zone), rollups.MARK_HOUR, rollups.FILL_HOUR),
        (rollups.days_to_fill(zone), rollups.mark_day(zone), rollups.FILL_DAY),
    )
    for find, mark, fill in levels:
        spans = store.read(partial(_found, find, {"now": now_ms, "quiet_since": quiet_since}))
        for done, span in enumerate(spans, start=1):
            store.run(partial(_fill, store, timezone, mark, fill, span))
            yield done, len(spans)


def _fill(
    store: AnyStore,
    timezone: str,
    mark: str,
    fill: list[str],
    span: dict[str, Any],
    connection: Connection,
) -> None:
    since, last = (span["hour"], span["last"]) if "hour" in span else (span["since"], span["until"])
    if (
        store.lock_hours(connection, timezone, since, last)
        and connection.execute(mark, span).fetchall()
    ):
        for statement in fill:
            connection.execute(statement, span)


def _found(query: str, times: dict[str, int], connection: Connection) -> list[dict[str, Any]]:
    found = connection.execute(query, times)
    rows = found.fetchall()
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in rows]
