"""Adding up the hours that are over, so that views read sums instead of calls.

Nothing depends on it but the time that views take: they count the calls of every hour that is not
rolled up, and whatever touches a call takes its hour back, in the same transaction.
"""

from collections.abc import Iterator
from contextlib import closing

from receiver.errors import StoreUnavailable
from receiver.store import sql
from receiver.store.connection import sqlite3
from receiver.store.reading import connect_readonly
from receiver.store.store import Store

# An hour of which there was news so lately is likely to have more: it would be added up again.
QUIET_MS = 15 * 60_000


def roll_up(store: Store, *, now_ms: int) -> Iterator[tuple[int, int]]:
    """Roll up the hours with calls that are over and quiet by `now_ms`, oldest first.

    One hour for each step of the iteration, which gives how many are done of how many. Each is one
    short transaction, in which it cannot change. Raises StoreUnavailable.
    """
    hours = _unsettled(store, now_ms)
    for done, hour in enumerate(hours, start=1):
        with store.transaction() as connection:
            settled = connection.execute(sql.SETTLE, {"hour": hour}).rowcount
            # Another process may have been faster.
            for statement in sql.ROLL_UP if settled else ():
                connection.execute(statement, {"hour": hour})
        yield done, len(hours)


def _unsettled(store: Store, now_ms: int) -> list[int]:
    """Read beside whoever writes: looking for work holds up nobody."""
    times = {"now": now_ms, "quiet_since": now_ms - QUIET_MS}
    try:
        with closing(connect_readonly(store.path)) as connection:
            return [hour for (hour,) in connection.execute(sql.UNSETTLED_HOURS, times)]
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the hours to roll up could not be read: {error}") from error
