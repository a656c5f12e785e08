"""Advisory locks, which serialise transactions where there is no row to lock.

The numbers are arbitrary: no other program is likely to use them.
"""

from schema.sql.rollups import HOUR_MS

# A transaction that adds an unknown reason if it is missing takes this lock shared. One that
# deletes a reason if no call has it any more takes it exclusively, so that it waits for calls that
# are not committed yet.
SHARE_REASONS = "SELECT pg_advisory_xact_lock_shared(7310868735905654120)"
LOCK_REASONS = "SELECT pg_advisory_xact_lock(7310868735905654120)"

# A transaction that writes a call takes the lock of the call's hour shared, and then invalidates
# the rolled-up hour. One that rolls the hour up takes it exclusively: it waits for calls that are
# not committed yet, and later ones wait until the hour is rolled up.
SHARE_HOUR = "SELECT pg_advisory_xact_lock_shared(1667329132, ?)"
LOCK_HOUR = "SELECT pg_advisory_xact_lock(1667329132, ?)"

# One process migrates or distributes tables at a time.
CHANGE_TABLES = "SELECT pg_advisory_xact_lock(7310868735905654117)"

# One process rolls up at a time. Only a transaction that deletes all rollups waits for it.
TRY_ROLL_UP = "SELECT pg_try_advisory_xact_lock(7310868735905654118)"
STOP_ROLLING_UP = "SELECT pg_advisory_xact_lock(7310868735905654118)"

# One export by day at a time.
TRY_EXPORT_DAYS = "SELECT pg_try_advisory_xact_lock(7310868735905654119)"


def hour_key(at: int) -> int:
    """The key of a time's hour, in the bits that a lock's second number has. Two hours of one key
    are thousands of years apart."""
    return at // HOUR_MS % 2**31


def hour_keys(since: int, last: int) -> list[int]:
    """The keys of all hours from one time to another, in the order in which all lock them."""
    return [hour_key(hour * HOUR_MS) for hour in range(since // HOUR_MS, last // HOUR_MS + 1)]
