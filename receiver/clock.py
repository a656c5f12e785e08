"""The one clock. Functions that need the time get it, or this function, as an argument."""

import time


def now_ms() -> int:
    """The time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
