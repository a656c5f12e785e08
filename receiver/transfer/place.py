"""Where partitions lie: a directory, or a bucket that pyarrow can reach."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, copy_files

from receiver.errors import SettingsError
from receiver.files import atomic_write


class Place:
    """The files under a directory or a URI, each there whole or not at all.

    Their names are relative, with slashes. Everything raises OSError; making a place raises
    SettingsError for what is neither.
    """

    def __init__(self, target: str) -> None:
        if "://" not in target:
            _refuse_other_than_a_directory(Path(target))
            target = Path(os.path.realpath(target)).as_uri()
        try:
            self._files, self._root = FileSystem.from_uri(target)
        except (ArrowException, ValueError):
            # What it says could repeat a key that stands in the URI.
            raise _nowhere() from None
        if not self._root.strip("/"):
            raise _nowhere()
        self._is_local = isinstance(self._files, LocalFileSystem)

    def names(self) -> set[str]:
        """All files there are."""
        selector = FileSelector(self._root, recursive=True, allow_not_found=True)
        found = self._files.get_file_info(selector)
        start = len(self._root.rstrip("/")) + 1
        return {file.path[start:] for file in found if file.type is FileType.File}

    def read(self, name: str) -> bytes | None:
        """What a file holds; None without it."""
        try:
            with self._files.open_input_stream(self._path(name)) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A local path to write to; the file gets its name and its place once that is done."""
        path = self._path(name)
        if self._is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(Path(path)) as part:
                yield part
            return
        # A store shows what was sent as a whole, even if writing it stopped half-way: only what is
        # done is sent.
        with tempfile.TemporaryDirectory(prefix="callhouse-") as folder:
            part = Path(folder) / "part"
            yield part
            copy_files(str(part), path, LocalFileSystem(), self._files)

    def remove(self, name: str) -> None:
        """Remove a file, and its directory if it was the only one."""
        path = self._path(name)
        self._files.delete_file(path)
        if self._is_local:
            with suppress(OSError):
                os.rmdir(Path(path).parent)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _nowhere() -> SettingsError:
    return SettingsError(
        "--parquet is neither a directory nor a URI that pyarrow can write to",
        hint="Give a directory, s3://bucket/folder or gs://bucket/folder.",
    )


def _refuse_other_than_a_directory(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SettingsError(f"{path} is not a directory")
    if not path.parent.is_dir():
        raise SettingsError(f"{path} is not in a directory that exists")
