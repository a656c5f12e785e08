"""Adding up the hours and days that are over, so that views read sums instead of calls.

Nothing depends on it but the time that views take: they count the calls of every hour that is not
rolled up, and whatever touches a call takes its hour and day back, in the same transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from receiver.errors import StoreUnavailable
from receiver.store import rollup_sql, sql
from receiver.store.connection import Connection, connect_readonly, sqlite3
from receiver.store.engine import AnyStore
from receiver.store.store import Store
from schema.rollups import ROLLUPS
from schema.views import views
from schema.zones import Zone

# An hour of which there was news so lately is likely to have more: it would be added up again.
QUIET_MS = 15 * 60_000


def roll_up(store: AnyStore, *, timezone: str, now_ms: int) -> Iterator[tuple[int, int]]:
    """Roll up hours with calls that are over and quiet by `now_ms`, then days, the oldest first.

    One hour or day for each step of the iteration, which gives how many are done of how many hours,
    and then of how many days. Each is one short transaction, in which it cannot change. In a file
    whose views are of another time zone or version, nothing is rolled up. Raises StoreUnavailable.
    """
    if not isinstance(store, Store):
        # The views that read these sums are SQLite's.
        return
    zone, are_ours = Zone(timezone), _are_ours(timezone)
    quiet_since = now_ms - QUIET_MS
    levels = (
        (rollup_sql.unsettled_hours(zone), rollup_sql.SETTLE_HOUR, rollup_sql.FILL_HOUR),
        (rollup_sql.days_over(zone), rollup_sql.settle_day(zone), rollup_sql.FILL_DAY),
    )
    for find, settle, fill in levels:
        spans = _find(store, find, {"now": now_ms, "quiet_since": quiet_since})
        for done, span in enumerate(spans, start=1):
            with store.transaction() as connection:
                # Another process may have been faster.
                settled = are_ours(connection) and connection.execute(settle, span).rowcount
                for statement in fill if settled else ():
                    connection.execute(statement, span)
            yield done, len(spans)


def _are_ours(timezone: str) -> Callable[[Connection], bool]:
    """Whether a file's views are those that this process would make."""
    expected = views(timezone)
    names = [name for rollup in ROLLUPS for name in (rollup.hourly, rollup.daily)]

    def ask(connection: Connection) -> bool:
        present = dict(connection.execute(sql.VIEWS).fetchall())
        return all(present.get(name) == expected[name] for name in names)

    return ask


def _find(store: Store, query: str, times: dict[str, int]) -> list[dict[str, Any]]:
    """Read beside whoever writes: looking for work holds up nobody."""
    try:
        with closing(connect_readonly(store.path)) as connection:
            found = connection.execute(query, times)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]
    except sqlite3.Error as error:
        raise StoreUnavailable(f"what to roll up could not be read: {error}") from error
