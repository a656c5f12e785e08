"""Backups of the SQLite file in a directory or a bucket: create, delete old ones, restore.

A backup is one database file, named by its time. It gets its name after it was verified. Beside the
backups is a list of erased calls and chats, so that restoring an older backup does not bring them
back.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from receiver.addresses import Bucket, MediaLocation, parse_media
from receiver.config import Settings
from receiver.errors import BackupFailed, NotStored, SettingsError, StorageUnavailable, docs
from receiver.jobs.storage import Storage, make_private, open_storage
from receiver.jobs.worker import Run
from receiver.store import backup as files
from receiver.store.backup import Fingerprint, Restored

_NAME = "callhouse-%Y%m%dt%H%M%Sz.db"
_ERASURES = "erasures.json"
_NAMES = re.compile(r"callhouse-\d{8}t\d{6}z\.db")


@dataclass(frozen=True, slots=True)
class Backup:
    """A new backup, the names of older ones that were deleted, and why others could not be."""

    name: str
    size: int
    fingerprint: Fingerprint
    deleted: list[str]
    left: str | None


def backup(run: Run) -> str | None:
    """The job: back up to the place in callhouse.toml; return what is incomplete."""
    configured = run.settings.file.backup
    made = make_backup(
        run.settings, parse_place(configured.to), keep=configured.keep, now_ms=run.now_ms(),
        check=run.check,
    )  # fmt: skip
    return made.left


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
        # Fails before the copy is made: each repetition would leave one more backup.
        _read_erasures(storage)
        name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(_NAME)
        copy = _place_for_copy(storage, name)
        found = files.back_up(database, copy, check=check)
        size = copy.stat().st_size
        storage.put(name, copy)
        copy.unlink(missing_ok=True)
        _list_erasures(storage, database)
        deleted, left = _delete_old(storage, name, keep=keep)
    return Backup(name, size, found, deleted, left)


def _delete_old(storage: Storage, new: str, *, keep: int) -> tuple[list[str], str | None]:
    """Delete all but the last backups and the new one, before which a clock that was ahead may have
    made others with later names. Return the names, and why others could not be deleted."""
    deleted = []
    try:
        for name in backup_names(storage)[:-keep]:
            if name != new:
                storage.delete(name)
                deleted.append(name)
    except StorageUnavailable as error:
        # A bucket may not permit it.
        return deleted, f"older backups could not be deleted: {error}"
    return deleted, None


def list_erasures(settings: Settings) -> str | None:
    """Update the list of erased calls and chats beside the backups of callhouse.toml; return why
    this failed."""
    place = settings.file.backup.to
    if not place or not isinstance(settings.database, Path):
        return None
    try:
        with _storage(parse_place(place), settings.database) as storage:
            _list_erasures(storage, settings.database)
    except (BackupFailed, SettingsError) as error:
        return f"an older backup would bring back erased calls: {error}"
    return None


def _list_erasures(storage: Storage, database: Path) -> None:
    """Add the database's erasures to the list."""
    listed = {(id, scope): at for id, scope, at in _read_erasures(storage)}
    found = {(id, scope): at for id, scope, at in files.erased_by_request(database)}
    if found.keys() <= listed.keys():
        return
    make_private(storage.partial)
    new = storage.partial / _ERASURES
    new.touch(mode=0o600)
    new.write_text(json.dumps([[*key, at] for key, at in sorted((found | listed).items())]))
    storage.put(_ERASURES, new)
    new.unlink(missing_ok=True)


def _read_erasures(storage: Storage) -> list[tuple[str, str, int | None]]:
    """Id, scope and time of each erasure in the list. Raises BackupFailed if it is damaged."""

    async def read() -> bytes:
        size = storage.size(_ERASURES) or 0
        return b"".join([piece async for piece in storage.read(_ERASURES, 0, size)] if size else [])

    try:
        return [(id, scope, at) for id, scope, at in json.loads(asyncio.run(read()) or b"[]")]
    except (ValueError, TypeError):
        raise BackupFailed(
            f"{_ERASURES} beside the backups is damaged",
            hint="Move it away, and repeat the erasures since the oldest backup.",
        ) from None


def backup_names(storage: Storage) -> list[str]:
    """The names of the backups in a directory or bucket, the oldest first."""
    return sorted(name for name in storage.names() if _NAMES.fullmatch(name))


def restore_backup(settings: Settings, text: str) -> Restored:
    """Replace the database by a backup: a file, or the latest of a directory or bucket.

    Raises SettingsError for a server's database, NotStored, and what `restore` raises.
    """
    database = require_file(settings)
    path = Path(text)
    if text.startswith("s3://"):
        folder, _, name = text.rpartition("/")
        if not _NAMES.fullmatch(name):
            folder, name = text, ""
    else:
        folder, name = (text, "") if path.is_dir() else (str(path.parent), path.name)
    where = parse_place(folder)
    with _storage(where, database) as storage:
        if not name:
            names = backup_names(storage)
            if not names:
                raise NotStored(f"there is no backup in {folder}", hint="Check the place.")
            name = names[-1]
        erasures = [(*erasure, None, None) for erasure in _read_erasures(storage)]
        copy_back = partial(
            files.restore, path=database, timezone=settings.timezone, erasures=erasures
        )
        if isinstance(where, Bucket):
            copy = _place_for_copy(storage, name)
            try:
                asyncio.run(_download(storage, name, copy))
                return copy_back(copy)
            finally:
                copy.unlink(missing_ok=True)
    return copy_back(where / name)


def _place_for_copy(storage: Storage, name: str) -> Path:
    """The path of a new copy. Deletes remains of killed processes there."""
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
    """The storage at a place. Copies for a bucket are created beside the database."""
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
