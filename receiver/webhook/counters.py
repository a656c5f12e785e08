"""Counts that are exact across workers and restarts: a memory-mapped file beside the database.

Counting a refused request in the database would let anybody on the internet cause disk syncs.
"""

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

# One slot each, in this order for ever: a name is appended, never moved.
NAMES = (
    "stored",
    "duplicate",
    "quarantined",
    "erased",
    "missing",
    "malformed",
    "forged",
    "stale",
    "too_large",
    "busy",
    "unavailable",
    "last_event_ms",
    "last_stale_ms",
    "last_forged_ms",
    "last_refused_ms",
    "forged_since_event",
    "refused_since_event",
    "too_slow",
    "unreadable",
    "overloaded",
)
# These say when something was last, or what came since; what is not here counts requests.
STATE = frozenset(NAMES[11:17])
# A time so far ahead was written while the clock was wrong.
_AHEAD_MS = 60_000
_SLOT = struct.Struct("<q")
_BYTES = mmap.PAGESIZE


def is_future(at_ms: int, now_ms: int) -> bool:
    """Whether a time can only have been written while the clock was ahead."""
    return at_ms > now_ms + _AHEAD_MS


class Counters:
    """Counts by name, shared by every process that opens the same path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Of a database on a server, nothing else may have made the folder.
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._lock = threading.Lock()
        self._file.truncate(_BYTES)
        # A page without room on the disk kills whoever touches it; better an error now.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, _BYTES)
        self._map = mmap.mmap(self._file.fileno(), _BYTES)

    def add(self, name: str, count: int = 1) -> None:
        """Add to a count."""
        self._change(name, lambda value: value + count)

    def raise_to(self, name: str, value: int) -> None:
        """Set a time, unless it is later already; a time in the future is replaced."""
        self._change(name, lambda before: value if is_future(before, value) else max(before, value))

    def reset(self, name: str) -> None:
        """Set a count to zero. Costs nothing if it is."""
        if self._get(NAMES.index(name)):
            self._change(name, lambda _: 0)

    def read(self) -> dict[str, int]:
        """All of them."""
        return {name: self._get(i) for i, name in enumerate(NAMES)}

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
        self._file.close()

    def _get(self, slot: int) -> int:
        value: int = _SLOT.unpack_from(self._map, slot * _SLOT.size)[0]
        return value

    def _change(self, name: str, change: Callable[[int], int]) -> None:
        slot = NAMES.index(name)
        # The file lock orders processes, the other one the threads of this process.
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                _SLOT.pack_into(self._map, slot * _SLOT.size, change(self._get(slot)))
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
