"""The write-ahead log beside the database, and what to do when it is deleted or replaced.

Processes that have the log open continue to write to the deleted file: what they commit is lost
when they are killed. A process that opens the database now gets an empty log, beside an index that
all share and that is about the deleted one. So the log is copied back to its place from the open
file before anything else is written. Source of the formats: https://www.sqlite.org/walformat.html
"""

import os
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from receiver.files import atomic_write

Identity = tuple[int, int] | None
# Count, offset -> bytes, fewer at the end of the file.
Reader = Callable[[int, int], bytes]

_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
# A checkpoint may restart the log between two reads.
_READS = 5
# Closing a file drops every lock that the process has on it, SQLite's included. So an index that
# was opened here stays open.
_indexes: dict[tuple[int, int], int] = {}


def identity(path: Path) -> Identity:
    """Device and inode of the file at `path`; None if there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


class Log:
    """The log that the newest connection to a database has opened, and its index.

    Subclasses read the files: this log, the one that is in its place now, and the index.
    """

    def read(self, _count: int, _offset: int) -> bytes:
        """Bytes of this log."""
        raise NotImplementedError

    def read_present(self, _count: int, _offset: int) -> bytes:
        """Bytes of the log that is in its place now; none if there is none."""
        raise NotImplementedError

    def read_index(self, _count: int) -> bytes:
        """The first bytes of the index."""
        raise NotImplementedError

    def put_back(self) -> None:
        """Copy this log to its place, so that it is there after a power cut. Raises OSError."""
        raise NotImplementedError

    @property
    def identity(self) -> Identity:
        """Device and inode of this log."""
        raise NotImplementedError

    @property
    def is_gone(self) -> bool:
        """Whether the log or its index was deleted or replaced since."""
        raise NotImplementedError

    @property
    def is_index_gone(self) -> bool:
        """Whether its index was deleted or replaced since: processes then lock different files."""
        return False

    def close(self) -> None:
        """Close the log."""

    @property
    def is_complete(self) -> bool:
        """Whether this log has what the index says; else another process has a deleted one."""
        return any(self._has_all(self.read) for _ in range(_READS))

    def restore(self) -> None:
        """Copy the log back, if it is this one that is missing. The write lock must be held.

        Raises OSError.
        """
        present = self.read_present(_HEADER_BYTES, 0)
        is_there = self._has_all(self.read_present) or self._is_newer(present)
        if not is_there and self._has_all(self.read):
            self.put_back()

    def _has_all(self, read: Reader) -> bool:
        """Whether a log has the last frame that the index is about."""
        index = self.read_index(40)
        if len(index) < 40:
            return True
        page_bytes, frames = struct.unpack_from("=HI", index, 14)
        salts = index[32:40]
        if frames == 0:
            return True
        frame_bytes = _FRAME_HEADER_BYTES + (65536 if page_bytes == 1 else page_bytes)
        last = _HEADER_BYTES + (frames - 1) * frame_bytes
        return bool(read(8, 16) == salts and read(8, last + 8) == salts)

    def _is_newer(self, header: bytes) -> bool:
        """Whether a log was begun after this one: its first salt is one more each time."""
        mine = self.read(_HEADER_BYTES, 0)
        if len(header) < _HEADER_BYTES or len(mine) < _HEADER_BYTES or header[:4] not in _MAGIC:
            return False
        theirs, ours = (int.from_bytes(found[16:20]) for found in (header, mine))
        return 0 < (theirs - ours) % 2**32 < 2**31


class FileLog(Log):
    """The log of a file on disk."""

    def __init__(self, path: Path) -> None:
        """Open the log and the index of the database at `path`. Raises OSError."""
        self._path = path.with_name(path.name + "-wal")
        self._index_path = path.with_name(path.name + "-shm")
        self._log = os.open(self._path, os.O_RDONLY)
        self._log_identity = _identity_of(self._log)
        try:
            index = os.open(self._index_path, os.O_RDONLY)
        except OSError:
            os.close(self._log)
            raise
        self._index_identity = _identity_of(index)
        self._index = _indexes.setdefault(self._index_identity, index)

    def read(self, count: int, offset: int) -> bytes:
        """Bytes of this log, which may be deleted."""
        return os.pread(self._log, count, offset)

    def read_present(self, count: int, offset: int) -> bytes:
        """Bytes of the log that is in its place now."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(offset)
            return file.read(count)
        return b""

    def read_index(self, count: int) -> bytes:
        """The first bytes of the index."""
        return os.pread(self._index, count, 0)

    def put_back(self) -> None:
        """Copy this log to its place."""
        with (
            atomic_write(self._path) as part,
            open(os.dup(self._log), "rb") as source,
            part.open("wb") as target,
        ):
            source.seek(0)
            shutil.copyfileobj(source, target)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @property
    def identity(self) -> Identity:
        """Device and inode of this log."""
        return self._log_identity

    @property
    def is_gone(self) -> bool:
        """Whether the log or its index was deleted or replaced since."""
        return identity(self._path) != self._log_identity or self.is_index_gone

    @property
    def is_index_gone(self) -> bool:
        """Whether its index was deleted or replaced since."""
        return identity(self._index_path) != self._index_identity

    def close(self) -> None:
        """Close the log; SQLite has no locks on it."""
        os.close(self._log)


def _identity_of(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino
