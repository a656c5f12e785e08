"""All tables as Parquet files by day. Each run writes what has changed since the last.

In: a database, and a directory or the URI of an object store. Out: files, and a manifest beside
them that says which rows each was written from.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from receiver.config import Settings
from receiver.errors import ExportFailed, SettingsError
from receiver.files import atomic_write
from receiver.store import GROUPS, UNKNOWN_DAY, Fingerprint, Part, Snapshot, snapshot
from receiver.transfer.exporting import Counted, Progress
from receiver.transfer.formats import Writer, parquet_writer
from schema.tables import PRIVATE, TABLES, Table


class Place:
    """The files under a directory or a URI, each written in full or not at all.

    Names are relative, with slashes. Every method raises OSError; the constructor raises
    SettingsError for an invalid target.
    """

    def __init__(self, target: str) -> None:
        # Imported here: without the extra it is not installed.
        from pyarrow import ArrowException, fs

        if "://" not in target:
            _require_directory(Path(target))
            target = Path(os.path.realpath(target)).as_uri()
        try:
            self._files, self._root = fs.FileSystem.from_uri(target)
        except (ArrowException, ValueError):
            # Its message could contain a key from the URI.
            raise _invalid_target() from None
        if not self._root.strip("/"):
            raise _invalid_target()
        self._fs = fs
        self._is_local = isinstance(self._files, fs.LocalFileSystem)

    def names(self) -> set[str]:
        """The names of all files."""
        selector = self._fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        found = self._files.get_file_info(selector)
        start = len(self._root.rstrip("/")) + 1
        return {file.path[start:] for file in found if file.type is self._fs.FileType.File}

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        try:
            with self._files.open_input_stream(self._path(name)) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """A local path to write to; afterwards the file appears under its name."""
        path = self._path(name)
        if self._is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(Path(path)) as part:
                yield part
            return
        # An object store shows a half-written file as complete, so only complete ones are sent.
        with tempfile.TemporaryDirectory(prefix="callhouse-") as folder:
            part = Path(folder) / "part"
            yield part
            self._fs.copy_files(str(part), path, self._fs.LocalFileSystem(), self._files)

    def remove(self, name: str) -> None:
        """Delete a file, and its directory if that is empty then."""
        path = self._path(name)
        self._files.delete_file(path)
        if self._is_local:
            with suppress(OSError):
                os.rmdir(Path(path).parent)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _invalid_target() -> SettingsError:
    return SettingsError(
        "--parquet is neither a directory nor a URI that pyarrow can write to",
        hint="Give a directory, s3://bucket/folder or gs://bucket/folder.",
    )


def _require_directory(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise SettingsError(f"{path} is not a directory")
    if not path.parent.is_dir():
        raise SettingsError(f"{path} is not in a directory that exists")


# Query engines ignore names that begin with an underscore.
MANIFEST = "_callhouse.json"

# Groups whose files differ with --private.
_WITH_PRIVATE = {
    group for group, tables in GROUPS.items() for t in tables if t.name in {n for n, _ in PRIVATE}
}

# Files of an export, also the hidden ones that a killed run left.
_EXPORTED = re.compile(
    r"(?P<table>\w+)/(day=\d{4}-\d\d-\d\d/)?\.?(?P=table)\.parquet(\.[0-9a-f]{8}\.part)?"
)


@dataclass(frozen=True, slots=True)
class Written:
    """A part as last written: the fingerprint of its rows, and the number of rows by file."""

    fingerprint: str
    files: dict[str, int]


@dataclass(slots=True)
class Manifest:
    """The parts that are written completely, with or without private columns."""

    private: bool
    parts: dict[Part, Written] = field(default_factory=dict)

    @classmethod
    def read(cls, text: bytes | None, *, private: bool) -> "Manifest":
        """Parse a manifest; an invalid one, or one of other columns, is empty."""
        manifest = cls(private)
        with suppress(ValueError, TypeError, AttributeError, KeyError):
            value: Any = json.loads(text or b"{}")
            if value.items() >= manifest._head().items():
                manifest.parts = {
                    Part(group, day): Written(**written)
                    for group, days in value["parts"].items()
                    for day, written in days.items()
                    if group not in _WITH_PRIVATE or value["private"] == private
                }
        return manifest

    def text(self) -> bytes:
        """The text that `read` parses; equal for equal parts."""
        parts: dict[str, dict[str, Any]] = {}
        for part, written in sorted(self.parts.items()):
            entry = {"fingerprint": written.fingerprint, "files": written.files}
            parts.setdefault(part.group, {})[part.day] = entry
        return json.dumps(self._head() | {"private": self.private, "parts": parts}).encode() + b"\n"

    def stale(self, fingerprints: dict[Part, str], names: set[str]) -> list[Part]:
        """The parts to write, in order: new, changed, or with a missing file."""
        return sorted(
            part
            for part, fingerprint in fingerprints.items()
            if (written := self.parts.get(part)) is None
            or written.fingerprint != fingerprint
            or not written.files.keys() <= names
        )

    def surplus(self, names: Iterable[str]) -> list[str]:
        """Exported files that belong to no part."""
        current = {name for written in self.parts.values() for name in written.files}
        tables = {table.name for table in TABLES}
        return sorted(
            name
            for name in names
            if name not in current and (of := _EXPORTED.fullmatch(name)) and of["table"] in tables
        )

    def _head(self) -> dict[str, Any]:
        columns = {t.name: list(t.names) for tables in GROUPS.values() for t in tables}
        return {"format": 1, "tables": columns}


def file_of(table: str, day: str) -> str:
    """The name of the file with a table's rows of a day."""
    return f"{table}/day={day}/{table}.parquet" if day else f"{table}/{table}.parquet"


# These are written even without rows, so that queries find the columns.
_ALWAYS = {UNKNOWN_DAY, ""}
# Rows between two writes of the manifest: at most this many are written again after a kill.
_SAVED_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Partitioned:
    """Counts of a run: files written, their rows, files deleted, and unchanged parts."""

    files: int
    rows: int
    removed: int
    current: int


def export_partitions(
    settings: Settings, target: str, *, private: bool, progress: Progress
) -> Partitioned:
    """Update the files under `target`, a directory or the URI of an object store.

    `progress` is called with the observations read, then with the parts written and to write.
    Raises SettingsError for an invalid target or without pyarrow, NotStored without a database,
    DatabaseAway without its server, and ExportFailed if not all could be read or written; the next
    run continues then.
    """
    write = parquet_writer()
    try:
        place = Place(target)
        with (
            snapshot(settings.database, timezone=None, private=private) as moment,
            moment.exclusive(),
        ):
            return _Run(place, moment, write, progress).update(private=private)
    except OSError as error:
        raise ExportFailed(
            f"cannot write: {error.strerror or error}",
            hint="The files written so far are complete. Run it again to continue.",
        ) from error


def has_private_columns(target: str) -> bool:
    """Whether an earlier export wrote the files under `target` with private columns.

    Raises SettingsError without an earlier export or pyarrow, ExportFailed if it cannot be read.
    """
    parquet_writer()
    try:
        text = Place(target).read(MANIFEST)
    except OSError as error:
        raise ExportFailed(f"cannot read {target}: {error.strerror or error}") from error
    try:
        return bool(json.loads(text or b"")["private"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError(
            f"{target} has no Parquet files of callhouse export",
            hint="Give the place that `callhouse export --parquet` wrote to.",
        ) from None


@dataclass(frozen=True, slots=True)
class _Run:
    place: Place
    moment: Snapshot
    write: Writer
    progress: Progress

    def update(self, *, private: bool) -> Partitioned:
        made = self.moment.parts(progress=lambda done: self.progress(done, None))
        names = self.place.names()
        text = self.place.read(MANIFEST)
        manifest = Manifest.read(text, private=private)
        stale = manifest.stale({part: of.fingerprint for part, of in made.items()}, names)
        manifest.parts = {
            part: written
            for part, written in manifest.parts.items()
            if part in made and part not in stale
        }
        current = len(manifest.parts)
        if manifest.text() != text:
            # If this run is killed, files it was about to replace do not count as complete.
            self._save(manifest)
        files, rows, saved = 0, 0, 0
        for done, part in enumerate(stale):
            self.progress(done, len(stale))
            written = self._write_part(part, made[part])
            manifest.parts[part] = Written(made[part].fingerprint, written)
            files, rows = files + len(written), rows + sum(written.values())
            if rows - saved >= _SAVED_ROWS or done == len(stale) - 1:
                self._save(manifest)
                saved = rows
        surplus = manifest.surplus(names)
        for name in surplus:
            self.place.remove(name)
        self.progress(len(stale), len(stale))
        return Partitioned(files=files, rows=rows, removed=len(surplus), current=current)

    def _write_part(self, part: Part, of: Fingerprint) -> dict[str, int]:
        """Write the files of a part; return the rows of each."""
        files = {}
        for table in GROUPS[part.group]:
            name = file_of(table.name, part.day)
            rows = self._write_file(name, table, part, of)
            if rows is not None:
                files[name] = rows
        return files

    # Tried: pyarrow.dataset.write_dataset. A killed run leaves an unreadable file under its final
    # name, a table without rows has no file, and files are called calls-0.parquet. It would save
    # the ten lines of this method, and none of the manifest.
    def _write_file(self, name: str, table: Table, part: Part, of: Fingerprint) -> int | None:
        """Write a table's rows and return how many; None if there is no file to write."""
        result = self.moment.read_part(table, part, of)
        first = next(result.rows, None)
        if first is None and part.day not in _ALWAYS:
            return None
        counted = Counted(chain([first] if first else [], result.rows), _silent)
        with self.place.file(name) as path, path.open("wb") as out:
            self.write(out, replace(result, rows=iter(counted)))
        return counted.done

    def _save(self, manifest: Manifest) -> None:
        with self.place.file(MANIFEST) as path:
            path.write_bytes(manifest.text())


def _silent(_done: int, _of: int | None) -> None:
    pass
