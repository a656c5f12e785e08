"""The storage of recordings: a directory, or an S3-compatible bucket.

Names are relative, `<call>/<kind>.<extension>`, so that a directory can be moved. A file gets its
name when it is complete, so a killed process leaves no truncated file.
"""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from receiver.addresses import Bucket, MediaLocation
from receiver.config import Settings
from receiver.errors import SettingsError, StorageUnavailable, docs

T = TypeVar("T")

# Content types that are stored and served, with the file's extension.
EXTENSIONS = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/webm": "webm",
    "text/plain": "txt",
    "application/octet-stream": "bin",
}
# Bytes per read for a browser.
PIECE_BYTES = 256 * 1024
# Ids that are used as a folder's name. Lower case, because some file systems ignore case.
_PLAIN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_HASHED = "sha256-"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)?(/[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)?)*")
# Of the folder for unfinished downloads.
PARTIAL = ".partial"
# Retries of a request to a bucket, and the longest time for one, a large file included.
_RETRIES, _REQUEST_SECONDS = 3, 600


class Storage(Protocol):
    """Complete files by name. All methods raise StorageUnavailable."""

    # The directory for unfinished downloads.
    partial: Path

    def put(self, name: str, source: Path) -> None:
        """Store the file `source` durably under a name, replacing an existing file. `source` may be
        moved."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""

    def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to before `end`, in pieces."""

    def names(self) -> list[str]:
        """The names of all files that are in no folder."""

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there counts as deleted."""

    def delete_folder(self, folder: str) -> int:
        """Delete a folder's files, unfinished downloads too; return how many files there were."""


def folder_of(call_id: str) -> str:
    """The folder of a call's files: its id, or its hash if the id is no safe name."""
    if _PLAIN_ID.fullmatch(call_id) and not call_id.startswith(_HASHED):
        return call_id
    return _HASHED + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()


def storage_of(settings: Settings) -> Storage | None:
    """The storage of recordings; None if they are not stored. Raises SettingsError."""
    where = settings.media.location
    return None if where is None else open_storage(where, partial=settings.media_partial_path)


def open_storage(where: MediaLocation, *, partial: Path) -> Storage:
    """The storage at a location. A bucket's unfinished downloads are in `partial`.

    Raises SettingsError if the library for buckets is not installed, or its settings are invalid.
    """
    if isinstance(where, Bucket):
        return BucketStorage(where, partial)
    return DirectoryStorage(where)


class DirectoryStorage:
    """Files below a directory, for their owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.partial = root / PARTIAL

    def put(self, name: str, source: Path) -> None:
        """Move the file. It must be on the same file system, as those in `partial` are."""
        target = self._path(name)

        def move() -> None:
            make_private(target.parent)
            source.chmod(0o600)
            _sync(source)
            source.replace(target)
            for folder in (target.parent, self.root):
                _sync(folder)

        _guard(move)

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(error) from None

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to before `end`, in pieces."""
        path = self._path(name)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except OSError as error:
            raise _unavailable(error) from None
        with file:
            file.seek(start)
            while start < end:
                piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, end - start))
                if not piece:
                    raise StorageUnavailable("a stored file is shorter than before")
                start += len(piece)
                yield piece

    def names(self) -> list[str]:
        """The names of all files that are in no folder."""
        return _guard(lambda: [path.name for path in self.root.iterdir() if path.is_file()])

    def delete(self, name: str) -> None:
        """Delete a file, and its folder if it is the last."""
        path = self._path(name)

        def remove() -> None:
            path.unlink(missing_ok=True)
            if path.parent != self.root:
                with suppress(OSError):
                    path.parent.rmdir()

        _guard(remove)

    def delete_folder(self, folder: str) -> int:
        """Delete a folder's files, unfinished downloads too; return how many files there were."""
        path = self._path(folder)

        def remove() -> int:
            _delete_unfinished(self.partial, folder)
            if not path.is_dir():
                return 0
            names = list(path.iterdir())
            for name in names:
                name.unlink(missing_ok=True)
            path.rmdir()
            _sync(self.root)
            return len(names)

        return _guard(remove)

    def _path(self, name: str) -> Path:
        _require_name(name)
        return self.root / name


class BucketStorage:
    """Objects below a prefix of a bucket. Credentials and endpoint come from the AWS_ variables."""

    def __init__(self, where: Bucket, partial: Path) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError:
            raise SettingsError(
                "keeping recordings in a bucket needs obstore",
                hint="pip install 'callhouse[s3]'",
            ) from None
        self.partial = partial
        self._obstore: Any = obstore
        self._errors = (BaseError, OSError)
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        try:
            self._store = S3Store(
                where.bucket,
                prefix=where.prefix or None,
                client_options={
                    "timeout": f"{_REQUEST_SECONDS}s",
                    "connect_timeout": "10s",
                    "allow_http": endpoint.startswith("http://"),
                },
                retry_config={"max_retries": _RETRIES},
            )
        except BaseError:
            raise SettingsError(
                "the AWS_ variables are not valid", hint=f"See {docs('how-to/recordings.md')}"
            ) from None

    def put(self, name: str, source: Path) -> None:
        """Upload the file, a large one in several requests; its name appears after the last."""
        _require_name(name)
        self._guard(lambda: self._obstore.put(self._store, name, source))

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        _require_name(name)

        def head() -> int | None:
            with suppress(FileNotFoundError):
                return int(self._obstore.head(self._store, name)["size"])
            return None

        return self._guard(head)

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to before `end`, in pieces."""
        _require_name(name)
        if start >= end:
            return
        try:
            found = await self._obstore.get_async(
                self._store, name, options={"range": (start, end)}
            )
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)
        except self._errors as error:
            raise _unavailable(error) from None

    def names(self) -> list[str]:
        """The names of all files that are in no folder."""
        return self._guard(
            lambda: [
                found["path"] for found in self._obstore.list_with_delimiter(self._store)["objects"]
            ]
        )

    def delete(self, name: str) -> None:
        """Delete a file."""
        _require_name(name)

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._obstore.delete(self._store, name)

        self._guard(remove)

    def delete_folder(self, folder: str) -> int:
        """Delete a folder's files, unfinished downloads too; return how many files there were."""
        _require_name(folder)

        def remove() -> int:
            _delete_unfinished(self.partial, folder)
            pages = self._obstore.list(self._store, folder)
            names = [found["path"] for page in pages for found in page]
            if names:
                self._obstore.delete(self._store, names)
            return len(names)

        return self._guard(remove)

    def _guard(self, work: Callable[[], T]) -> T:
        return _guard(work, self._errors)


def make_private(folder: Path) -> None:
    """Create a directory for its owner alone, and those above it."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)


def _delete_unfinished(partial: Path, folder: str) -> None:
    """Delete received bytes. The file that names the call stays for the next pass, which deletes a
    file that a killed process stored meanwhile."""
    for end in ("part", "etag"):
        for path in partial.glob(f"{folder}.*.{end}"):
            path.unlink(missing_ok=True)


def _require_name(name: str) -> None:
    """Raise ValueError unless it is relative and stays below the root."""
    if not _NAME.fullmatch(name):
        raise ValueError("not a name of a stored file")


def _sync(path: Path) -> None:
    """Write the content of a file, or the names in a directory, to disk (fsync)."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _guard(work: Callable[[], T], errors: tuple[type[Exception], ...] = (OSError,)) -> T:
    try:
        return work()
    except errors as error:
        raise _unavailable(error) from None


def _unavailable(error: Exception) -> StorageUnavailable:
    # Messages of the bucket's library contain URLs and the server's responses.
    reason = getattr(error, "strerror", None) or type(error).__name__
    return StorageUnavailable(f"the storage failed: {reason}")


def free_bytes(folder: Path) -> int:
    """Free space of the disk that a folder is on, or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
