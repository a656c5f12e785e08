"""Remove the remains of deleted rows from the files of a SQLite database while events arrive.

`secure_delete` overwrites a deleted row, but three copies can be left: terms in the full-text
index, pages in the write-ahead log, and the unused middle of a page whose rows SQLite moved to
another one. `clean` removes them in steps that hold the write lock for some milliseconds. `shrink`
returns free pages to the file system.
"""

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from receiver.store import sql
from receiver.store.connection import INCREMENTAL, Connection, connect, connect_readonly, sqlite3
from receiver.store.store import Store
from schema.tables import CALL_TABLES, CHAT_TABLES, Table
from schema.transcript import Row

# Pages of the index that a step writes, and pages of the file that a step moves, overwrites or
# reads.
_INDEX_PAGES, _MOVED_PAGES, _CLEARED_PAGES, _READ_PAGES = 64, 64, 256, 1024
_REPACKED_ROWS = 250
# How long a checkpoint may wait for readers; other writers wait as long.
_CHECKPOINT_MS = 50
# How long to try until no reader needs the log.
TRUNCATE_SECONDS = 20.0
_PAUSE_SECONDS = 0.05
# Beyond so many pages, the first byte of other pages can look like that of a b-tree page.
_MOST_PAGES = 2**25
# Types of b-tree pages and the length of their header.
# Source: https://www.sqlite.org/fileformat2.html#b_tree_pages
_HEADER_BYTES = {2: 12, 5: 12, 10: 8, 13: 8}
_LOCK_BYTE = 2**30

# Closing a file releases every lock of the process on it, including SQLite's, so files stay open.
_files: dict[tuple[int, int], int] = {}

Pause = Callable[[float], None]


def clean(store: Store, *, pause: Pause = time.sleep) -> str | None:
    """Remove the remains of deleted rows from the files of the store; return what is left and why.

    `pause` is called after each step with the seconds that it took, and lets others work. Raises
    StoreUnavailable and sqlite3.Error.
    """
    merge_index(store, pause=pause)
    with closing(connect(store.path, busy_timeout_ms=_CHECKPOINT_MS)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        pages = _unclean(store.path)
        if pages is None:
            return "the file has more than 32 million pages, whose unused parts are not cleaned"
        for n in range(0, len(pages), _CLEARED_PAGES):
            began = time.monotonic()
            if not _clear(store.path, connection, pages[n : n + _CLEARED_PAGES]):
                break
            pause(time.monotonic() - began)
        else:
            if truncate_log(store.path, connection):
                return None
    return (
        "another process reads the write-ahead log, so copies of erased rows may be left in it and "
        "in unused parts of the file"
    )


def merge_index(store: Store, *, pause: Pause) -> None:
    """Merge all segments of each full-text index into one: deleted terms are not copied.

    Source: https://www.sqlite.org/fts5.html#the_merge_command
    """
    for index in sql.SEARCH_INDEXES:
        _merge(store, index, pause=pause)


def _merge(store: Store, index: str, *, pause: Pause) -> None:
    # A negative number starts a merge of all segments; later segments have no deleted terms.
    count = -_INDEX_PAGES
    while True:
        began = time.monotonic()
        with store.transaction() as connection:
            before = connection.total_changes
            connection.execute(sql.MERGE[index], (count,))
            is_done = connection.total_changes - before < 2
        if is_done and count > 0:
            return
        count = _INDEX_PAGES
        pause(time.monotonic() - began)


def truncate_log(path: Path, connection: Connection) -> bool:
    """Copy the log into the file and empty it; False if a reader needs it all the time."""
    deadline = time.monotonic() + TRUNCATE_SECONDS
    while True:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        with _writer_lock(path):
            if _truncated(connection):
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)


def _truncated(connection: Connection) -> bool:
    try:
        is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    return not is_busy


@contextmanager
def _writer_lock(path: Path) -> Iterator[None]:
    """Lock the file that store.py locks while it waits for the write lock."""
    with path.with_name(path.name + ".turn").open("a") as turnstile:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        yield


def _clear(path: Path, connection: Connection, pages: list[int]) -> bool:
    """Overwrite the unused middle of pages; False if the log cannot be emptied.

    SQLite has no statement for it, so the bytes are written to the file while no other process can
    read or write these pages: the write lock is held, and the log is empty. The bytes are unused,
    so a power cut at any point does no harm. The commit invalidates the page caches of all
    connections.
    """
    deadline = time.monotonic() + TRUNCATE_SECONDS
    while True:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        with _writer_lock(path):
            if _truncated(connection) and _begun(connection):
                try:
                    if _log_bytes(path) == 0:
                        _overwrite(path, pages)
                        _touch(connection)
                        return True
                finally:
                    if connection.in_transaction:
                        connection.execute("COMMIT")
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)


def _begun(connection: Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


def _touch(connection: Connection) -> None:
    """Write a page without changing it."""
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    connection.execute(f"PRAGMA application_id = {mark}")


def _log_bytes(path: Path) -> int:
    return os.stat(path.with_name(path.name + "-wal")).st_size


def _file(path: Path) -> int:
    stat = os.stat(path)
    key = (stat.st_dev, stat.st_ino)
    if key not in _files:
        _files[key] = os.open(path, os.O_RDWR)
    return _files[key]


def _unclean(path: Path) -> list[int] | None:
    """Numbers of the pages whose unused middle is not empty, as far as they are in the file; None
    if there are too many pages."""
    file = _file(path)
    header = os.pread(file, 100, 0)
    size, usable = _sizes(header)
    count = os.fstat(file).st_size // size
    if count >= _MOST_PAGES:
        return None
    maps = set(_pointer_maps(count, size, usable)) if header[52:56] != bytes(4) else set()
    found = []
    # Page 1 contains only the schema.
    for first in range(2, count + 1, _READ_PAGES):
        block = os.pread(file, size * _READ_PAGES, (first - 1) * size)
        for n in range(len(block) // size):
            page = block[n * size : n * size + usable]
            if (first + n) not in maps and (gap := unused(page)) and any(page[slice(*gap)]):
                found.append(first + n)
    return found


def _sizes(header: bytes) -> tuple[int, int]:
    """Bytes of a page, and how many of them are used."""
    (size,) = struct.unpack_from(">H", header, 16)
    size = 65536 if size == 1 else size
    return size, size - header[20]


def _pointer_maps(count: int, size: int, usable: int) -> Iterator[int]:
    """The pages of a file with auto_vacuum that say where others belong.

    Source: https://www.sqlite.org/fileformat2.html#pointer_map_or_ptrmap_pages
    """
    for number in range(2, count + 1, usable // 5 + 1):
        yield number + (number == _LOCK_BYTE // size + 1)


def unused(page: bytes) -> tuple[int, int] | None:
    """The bytes between a b-tree page's pointers and its cells; None for another page."""
    header = _HEADER_BYTES.get(page[0])
    if header is None:
        return None
    cells, start = struct.unpack_from(">HH", page, 3)
    first = header + 2 * cells
    if not first <= (start or 65536) <= len(page):
        return None
    pointers = struct.unpack_from(f">{cells}H", page, header)
    if any(not start <= pointer < len(page) for pointer in pointers):
        return None
    return first, start or len(page)


def _overwrite(path: Path, pages: list[int]) -> None:
    file = _file(path)
    size, usable = _sizes(os.pread(file, 100, 0))
    count = os.fstat(file).st_size // size
    for number in pages:
        at = (number - 1) * size
        gap = unused(os.pread(file, usable, at)) if number <= count else None
        if gap is not None:
            os.pwrite(file, bytes(gap[1] - gap[0]), at + gap[0])
    os.fsync(file)


def shrink(store: Store, *, repack: bool, pause: Pause = time.sleep) -> int:
    """Return free pages to the file system, after moving others into their place; return the bytes
    that stay free because the file was not created for it.

    `repack` first rewrites the tables that are ordered by call id: deletions leave many of their
    pages half empty.
    """
    if repack:
        for table in _by_key(store):
            _repack(store, table, pause)
    with closing(connect_readonly(store.path)) as connection:
        (mode,), (size,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("auto_vacuum", "page_size")
        )
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if mode != INCREMENTAL:
        return int(free * size)
    while free:
        began = time.monotonic()
        with store.transaction() as connection:
            connection.execute(f"PRAGMA incremental_vacuum({_MOVED_PAGES})").fetchall()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        pause(time.monotonic() - began)
    with closing(connect(store.path, busy_timeout_ms=_CHECKPOINT_MS)) as connection:
        truncate_log(store.path, connection)
    return 0


def _by_key(store: Store) -> list[Table]:
    """The tables of calls and chats whose rows are in the order of their key."""
    with closing(connect_readonly(store.path)) as connection:
        found = connection.execute("SELECT name FROM pragma_table_list WHERE wr").fetchall()
    names = {name for (name,) in found}
    return [table for table in (*CALL_TABLES, *CHAT_TABLES) if table.name in names]


def _repack(store: Store, table: Table, pause: Pause) -> None:
    """Delete rows and insert them again in the order of their key, some at a time."""
    width = len(table.key)
    last: Row = ()
    while True:
        began = time.monotonic()
        select = f"{sql.rows_after(table, is_first=not last)} LIMIT {_REPACKED_ROWS}"
        with store.transaction() as connection:
            rows = connection.execute(select, last).fetchall()
            if not rows:
                return
            first, last = rows[0][:width], rows[-1][:width]
            connection.execute(sql.delete_between(table), (*first, *last))
            connection.upsert(table.name, rows)
        pause(time.monotonic() - began)


def vacuum(path: Path, *, busy_seconds: float) -> None:
    """Rewrite the whole file, so that `shrink` can return free pages later. Nobody can write
    meanwhile. Raises sqlite3.Error."""
    with closing(connect(path, busy_timeout_ms=round(busy_seconds * 1000))) as connection:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("VACUUM")
        truncate_log(path, connection)
