"""Who waits for whom on a server where no row says so: locks of tables, and of numbers.

The numbers are any that no other program is likely to take.
"""

from receiver.store import rollup_sql, sql

# Who looks whether an unknown reason is there, and adds it, shares this lock. Who looks whether any
# call has one still, and drops it, has it alone: a call that is not committed yet is waited for.
_SHARE_REASONS = "SELECT pg_advisory_xact_lock_shared(7310868735905654120)"
_HOLD_REASONS = "SELECT pg_advisory_xact_lock(7310868735905654120)"
_REASONS = {
    sql.HAS_REASON: _SHARE_REASONS,
    sql.CALL_WITH_REASON: _HOLD_REASONS,
    sql.USED_REASONS: _HOLD_REASONS,
}

# Whoever touches a call shares its hour with others who do, and then takes back what was added up
# of it. Who adds an hour up has it alone: a call of it that is not committed yet is waited for, and
# who comes later finds the hour added up.
_SHARE_HOUR = "SELECT pg_advisory_xact_lock_shared(1667329132, %s)"
_HOLD_HOUR = "SELECT pg_advisory_xact_lock(1667329132, ?)"

# One process changes tables at a time, and the others wait.
CHANGE_TABLES = "SELECT pg_advisory_xact_lock(7310868735905654117)"

# One process adds up at a time, and no other waits for it but one that throws away what was added.
ADD_UP = "SELECT pg_try_advisory_xact_lock(7310868735905654118)"
STOP_ADDING_UP = "SELECT pg_advisory_xact_lock(7310868735905654118)"

# One export by day at a time.
EXPORT_DAYS = "SELECT pg_try_advisory_xact_lock(7310868735905654119)"


def before(statement: str, parameters: object) -> tuple[str, tuple[int, ...]] | None:
    """What has to be waited for before a statement, and with which parameters; None for most."""
    if lock := _REASONS.get(statement):
        return lock, ()
    if statement == rollup_sql.UNSETTLE_HOUR and isinstance(parameters, dict):
        return _SHARE_HOUR, (_key(parameters["at"] // rollup_sql.HOUR_MS),)
    return None


def hold(since_ms: int, last_ms: int) -> list[tuple[str, tuple[int, ...]]]:
    """What has a span of hours for oneself, in the order in which everybody takes them."""
    first, last = since_ms // rollup_sql.HOUR_MS, last_ms // rollup_sql.HOUR_MS
    return [(_HOLD_HOUR, (_key(hour),)) for hour in range(first, last + 1)]


def _key(hour: int) -> int:
    """As many bits as a lock's second number has; two hours of one key are thousands of years
    apart."""
    return hour % 2**31
