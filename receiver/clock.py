"""The clock that commands use; everything that needs the time takes it as an argument."""

import time


def now_ms() -> int:
    """The time now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
