"""Backups of the SQLite file in a directory or a bucket: make one, keep the last ones, restore.

A backup is one database file, named by its time. It takes its name once it is verified.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from receiver.addresses import Bucket, MediaLocation, parse_media
from receiver.config import Settings
from receiver.errors import BackupFailed, NotStored, SettingsError, StorageUnavailable, docs
from receiver.jobs.storage import Storage, make_private, open_storage
from receiver.jobs.worker import Run
from receiver.store import backup as files
from receiver.store.backup import Fingerprint, Restored

_NAME = "callhouse-%Y%m%dt%H%M%Sz.db"
_NAMES = re.compile(r"callhouse-\d{8}t\d{6}z\.db")


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made, and the names of older ones that were deleted."""

    name: str
    size: int
    fingerprint: Fingerprint
    deleted: list[str]


def backup(run: Run) -> None:
    """The job: back up to where callhouse.toml says."""
    configured = run.settings.file.backup
    make_backup(
        run.settings, parse_place(configured.to), keep=configured.keep, now_ms=run.now_ms(),
        check=run.check,
    )  # fmt: skip


def parse_place(text: str) -> MediaLocation:
    """A directory, or s3://bucket/prefix. Raises SettingsError."""
    if not text.startswith("s3://"):
        return Path(text)
    try:
        found = parse_media(text)
    except ValueError:
        found = None
    if found is None:
        raise SettingsError(
            "the place for backups is not valid",
            hint="Write a directory, or a bucket as s3://bucket/prefix.",
        )
    return found


def make_backup(
    settings: Settings,
    where: MediaLocation,
    *,
    keep: int,
    now_ms: int,
    check: Callable[[], None] = lambda: None,
) -> Backup:
    """Back up the database, and delete all but the last `keep` backups.

    Raises SettingsError for a server's database, BackupFailed, and what `back_up` raises.
    """
    database = require_file(settings)
    with _storage(where, database) as storage:
        name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(_NAME)
        copy = _place_for_copy(storage, name)
        found = files.back_up(database, copy, check=check)
        size = copy.stat().st_size
        storage.put(name, copy)
        copy.unlink(missing_ok=True)
        names = backup_names(storage)
        deleted = names[:-keep]
        for old in deleted:
            storage.delete(old)
    return Backup(name, size, found, deleted)


def backup_names(storage: Storage) -> list[str]:
    """The names of the backups in a directory or bucket, the oldest first."""
    return sorted(name for name in storage.names() if _NAMES.fullmatch(name))


def restore_backup(settings: Settings, text: str) -> Restored:
    """Put a backup in place of the database: a file, or the latest of a directory or bucket.

    Raises SettingsError for a server's database, NotStored, and what `restore` raises.
    """
    database = require_file(settings)
    path = Path(text)
    if not text.startswith("s3://") and not path.is_dir():
        return files.restore(path, database, timezone=settings.timezone)
    folder, _, name = text.rpartition("/")
    if not (text.startswith("s3://") and _NAMES.fullmatch(name)):
        folder, name = text, ""
    with _storage(parse_place(folder), database) as storage:
        if not name:
            names = backup_names(storage)
            if not names:
                raise NotStored(f"there is no backup in {folder}", hint="Check the place.")
            name = names[-1]
        if isinstance(parse_place(folder), Path):
            return files.restore(path / name, database, timezone=settings.timezone)
        copy = _place_for_copy(storage, name)
        try:
            asyncio.run(_download(storage, name, copy))
            return files.restore(copy, database, timezone=settings.timezone)
        finally:
            copy.unlink(missing_ok=True)


def _place_for_copy(storage: Storage, name: str) -> Path:
    """Where a copy is made, without what a killed process left there."""
    make_private(storage.partial)
    for left in storage.partial.glob("*callhouse-*"):
        left.unlink(missing_ok=True)
    return storage.partial / name


async def _download(storage: Storage, name: str, target: Path) -> None:
    size = storage.size(name)
    if size is None:
        raise NotStored(f"there is no backup {name}", hint="Check the name.")
    target.touch(mode=0o600)
    with target.open("wb") as file:
        async for piece in storage.read(name, 0, size):
            file.write(piece)


@contextmanager
def _storage(where: MediaLocation, database: Path) -> Iterator[Storage]:
    """The storage at a place. A bucket's copies are made beside the database."""
    partial = database.absolute().parent / ".backup"
    try:
        yield open_storage(where, partial=partial)
    except (StorageUnavailable, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BackupFailed(f"{where} cannot be used: {reason}") from error
    finally:
        if isinstance(where, Bucket) and partial.exists() and not any(partial.iterdir()):
            partial.rmdir()


def require_file(settings: Settings) -> Path:
    """The database file. Raises SettingsError for a server's database."""
    if not isinstance(settings.database, Path):
        raise SettingsError(
            "the database is on a PostgreSQL server, which has its own backups",
            hint="Use `pg_dump --format=custom` and pg_restore, or your provider's backups. "
            f"See {docs('how-to/backup.md')}",
        )
    return settings.database
