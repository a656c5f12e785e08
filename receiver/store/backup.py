"""Back up a SQLite file that is in use, verify the copy, and restore one.

A backup reads a snapshot of the file and takes no lock that blocks writers. A restored file has the
tombstones of the file that it replaces, so that data erased since the backup stays erased.
"""

import fcntl
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from receiver.addresses import files_beside
from receiver.errors import BackupFailed, DatabaseInUse, NotStored
from receiver.files import atomic_write
from receiver.store import sql
from receiver.store.cleaning import clean
from receiver.store.connection import (
    Connection,
    FileKind,
    connect,
    connect_readonly,
    file_kind,
    no_database,
    refuse,
    sqlite3,
)
from receiver.store.copying import select_all
from receiver.store.erasing import apply_tombstones
from receiver.store.migrate import migrate
from receiver.store.store import Store
from schema.tables import ALL_TABLES, ERASURES, RECEIPTS
from schema.transcript import Row

# Pages copied between two checks of whether to stop: 8 MB.
_PAGES = 2000
# Every connection to a file in WAL mode holds a shared lock on these bytes for as long as it lives.
# Source: https://www.sqlite.org/src/file/src/os.h (SHARED_FIRST, SHARED_SIZE)
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
_BATCH = 100

_TOMBSTONES = select_all(ERASURES)
_ERASED_BY_REQUEST = (
    "SELECT e.entity_id, e.scope, e.erased_at FROM erasures e "
    "LEFT JOIN receipts r ON r.receipt_id = e.receipt_id "
    "WHERE r.action IS NULL OR r.action = 'erase' ORDER BY 1, 2"
)
_RECEIPTS = select_all(RECEIPTS)
_OBSERVED = (
    "SELECT entity_id, body_sha256, source, times_received, length(body) FROM observations "
    "ORDER BY entity_id, body_sha256, source"
)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Rows by table, and a hash of the observations: their keys, counts and lengths."""

    rows: dict[str, int]
    observations_sha256: str


def back_up(path: Path, target: Path, *, check: Callable[[], None] = lambda: None) -> Fingerprint:
    """Copy the file at `path` to `target`, and verify the copy; `check` may raise to stop.

    The copy is one file without a log, for its owner alone, which appears once it is verified.
    Raises NotStored, ForeignDatabase, CopyWithoutBodies, BackupFailed.
    """
    if not path.exists():
        raise no_database(path)
    try:
        with closing(connect_readonly(path)) as source, atomic_write(target) as part:
            refuse(file_kind(source), path)
            # The snapshot lasts to the end of this transaction, so the copy never starts again.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            with closing(sqlite3.connect(part)) as copy:
                source.backup(copy, pages=_PAGES, progress=lambda *_: check(), sleep=0)
                copy.execute("PRAGMA journal_mode = DELETE")
            expected = fingerprint(source)
            check()
            found = verify(part)
            if found != expected:
                raise BackupFailed("the copy differs from the database")
            return found
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BackupFailed(f"the copy could not be written: {reason}") from error


def verify(path: Path) -> Fingerprint:
    """Open a backup, check it for damage, and count its rows.

    Raises NotStored, ForeignDatabase, CopyWithoutBodies, BackupFailed.
    """
    if not path.exists():
        raise NotStored(f"there is no backup at {path}", hint="Check the path.")
    try:
        with closing(connect_readonly(path)) as connection:
            kind = file_kind(connection)
            if kind is FileKind.EMPTY:
                raise BackupFailed(f"{path} is empty")
            refuse(kind, path)
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise BackupFailed(f"{path} is damaged: {' '.join(found.split())}")
            return fingerprint(connection)
    except sqlite3.DatabaseError as error:
        raise BackupFailed(f"{path} is damaged: {error}") from error


def fingerprint(connection: Connection) -> Fingerprint:
    """The rows of each table that the file has, and the hash of its observations."""
    names = {name for (name,) in connection.execute(sql.READABLE)}
    rows = {
        table.name: connection.execute(sql.count_rows(table)).fetchone()[0]
        for table in ALL_TABLES
        if table.name in names
    }
    digest = hashlib.sha256()
    for row in connection.execute(_OBSERVED):
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return Fingerprint(rows, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Restored:
    """The fingerprint of a restored file, and the number of calls and chats that stay erased in
    it."""

    rows: dict[str, int]
    tombstones: int


def restore(backup: Path, path: Path, *, timezone: str, erasures: Sequence[Row] = ()) -> Restored:
    """Replace the file at `path`, if there is one, by a backup, migrated to this version's schema.

    The tombstones of that file, and `erasures`, rows of that table, are applied. Raises
    DatabaseInUse while another process has it open, BackupFailed if the backup or the tombstones of
    the present file cannot be read, and what `verify` raises.
    """
    verify(backup)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    require_closed(path)
    _remove_left(path)
    with _prepared(path) as part:
        _copy_file(backup, part)
        migrate(part, timezone=timezone)
        # Its log is empty then, so a kill before the end of the restore loses nothing.
        before = _checkpointed(path)
        erased, receipts = _read_erasures(path) if path.exists() else ([], [])
        tombstones = _erase(part, [*erased, *erasures], receipts)
        with closing(connect(part, busy_timeout_ms=0)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        found = verify(part)
        require_closed(path)
        if _state(path) != before:
            raise DatabaseInUse(f"another process has changed {path} meanwhile")
        # SQLite would replay an old log into the new file.
        for end in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    return Restored(found.rows, tombstones)


def require_closed(path: Path) -> None:
    """Raise DatabaseInUse if another process has the file open."""
    if not path.exists():
        return
    # This process must not have it open: closing any descriptor releases SQLite's locks.
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except OSError:
            raise DatabaseInUse(f"another process has {path} open") from None


def _checkpointed(path: Path) -> object:
    """Empty the log of the present file, and return the file's state.

    Raises ForeignDatabase, CopyWithoutBodies, BackupFailed.
    """
    if path.exists() and path.stat().st_size:
        try:
            with closing(connect(path, busy_timeout_ms=0)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
    return _state(path)


def _state(path: Path) -> object:
    """Values that change with every write to the file. A reader creates an empty log."""
    if not path.exists():
        return None
    found, log = path.stat(), path.with_name(path.name + "-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    return found.st_ino, found.st_size, found.st_mtime_ns, log_bytes


@contextmanager
def _prepared(path: Path) -> Iterator[Path]:
    """A path beside `path`, which is renamed to it at the end; other files are removed."""
    with atomic_write(path) as part:
        try:
            yield part
        finally:
            for each in files_beside(part):
                each.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Delete the remains of killed restores beside `path`: they may contain erased calls."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\..*")
    for each in path.parent.iterdir():
        if left.fullmatch(each.name):
            each.unlink(missing_ok=True)


def _copy_file(backup: Path, part: Path) -> None:
    """Copied by SQLite, which also reads a log beside the backup."""
    try:
        with (
            closing(connect_readonly(backup)) as source,
            closing(sqlite3.connect(part)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error as error:
        raise BackupFailed(f"the backup could not be copied: {error}") from error


def _read_erasures(path: Path) -> tuple[list[Row], list[Row]]:
    """The tombstones and receipts of a file."""
    try:
        with closing(connect_readonly(path)) as present:
            if file_kind(present) is FileKind.EMPTY:
                return [], []
            return present.execute(_TOMBSTONES).fetchall(), present.execute(_RECEIPTS).fetchall()
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _erase(part: Path, tombstones: Sequence[Row], receipts: Sequence[Row]) -> int:
    """Apply tombstones to `part`; return the number of calls and chats."""
    store = Store(part)
    try:
        for start in range(0, len(tombstones), _BATCH):
            apply_tombstones(store, tombstones[start : start + _BATCH])
        store.run(lambda c: c.executemany(sql.upsert(RECEIPTS), receipts))
        if tombstones:
            # Includes remains of deleted rows in the file and in the full-text index.
            clean(store, pause=lambda _seconds: None)
    finally:
        store.close()
    return len({tombstone[0] for tombstone in tombstones})


def erased_by_request(path: Path) -> list[Row]:
    """Id, scope and time of the tombstones of `callhouse erase`. Those of retention are created
    again after a restore."""
    with closing(connect_readonly(path)) as connection:
        found: list[Row] = connection.execute(_ERASED_BY_REQUEST).fetchall()
        return found


def _unreadable(path: Path, error: Exception) -> BackupFailed:
    return BackupFailed(
        f"the tombstones of {path} cannot be read: {error}",
        hint="Move the file away, restore, and repeat the erasures since the backup.",
    )
