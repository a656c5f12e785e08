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
)
_SLOT = struct.Struct("<q")
_BYTES = mmap.PAGESIZE


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
        """Set a time, unless it is later already."""
        self._change(name, lambda before: max(before, value))

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
