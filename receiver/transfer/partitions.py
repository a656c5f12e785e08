"""All tables as Parquet by day, of which each run writes what has changed since the last."""

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from receiver.config import Settings
from receiver.errors import ExportFailed
from receiver.store import GROUPS, UNKNOWN_DAY, Made, Part, Snapshot, snapshot
from receiver.transfer.exporting import Counted, Progress
from receiver.transfer.formats import Writer, parquet_writer
from receiver.transfer.manifest import NAME, Manifest, Written, file_of
from schema.tables import Table

if TYPE_CHECKING:
    from receiver.transfer.place import Place

# Of a table without a row, these are written all the same: a query finds columns, not an error.
_ALWAYS = {UNKNOWN_DAY, ""}
# The manifest is written after this many rows: at most so many are written again after a kill.
_SAVED_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Partitioned:
    """What a run did: files written, their rows, files removed, and parts that were current."""

    files: int
    rows: int
    removed: int
    current: int


def export_partitions(
    settings: Settings, target: str, *, private: bool, progress: Progress
) -> Partitioned:
    """Bring the files under `target`, a directory or the URI of an object store, up to date.

    `progress` gets the observations looked at, then the parts written of those to write. Raises
    SettingsError for a target that cannot be, or without pyarrow; NotStored without a database,
    DatabaseAway without its server; ExportFailed if not all could be read or written, after which
    the next run continues.
    """
    write = parquet_writer()
    from receiver.transfer.place import Place

    try:
        place = Place(target)
        with (
            snapshot(settings.database, timezone=None, private=private) as moment,
            moment.alone(),
        ):
            return _Run(place, moment, write, progress).bring_up_to_date(private=private)
    except OSError as error:
        raise ExportFailed(
            f"cannot write: {error.strerror or error}",
            hint="What was written so far is whole. Run it again: it continues from there.",
        ) from error


@dataclass(frozen=True, slots=True)
class _Run:
    place: "Place"
    moment: Snapshot
    write: Writer
    progress: Progress

    def bring_up_to_date(self, *, private: bool) -> Partitioned:
        made = self.moment.parts(progress=lambda done: self.progress(done, None))
        names = self.place.names()
        said = self.place.read(NAME)
        manifest = Manifest.read(said, private=private)
        stale = manifest.stale({part: of.fingerprint for part, of in made.items()}, names)
        manifest.parts = {
            part: written
            for part, written in manifest.parts.items()
            if part in made and part not in stale
        }
        current = len(manifest.parts)
        if manifest.text() != said:
            # Nobody takes for whole what is about to be replaced, should this run be killed.
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

    def _write_part(self, part: Part, of: Made) -> dict[str, int]:
        """Replace the part's files; return how many rows each has."""
        files = {}
        for table in GROUPS[part.group]:
            name = file_of(table.name, part.day)
            rows = self._write_file(name, table, part, of)
            if rows is not None:
                files[name] = rows
        return files

    def _write_file(self, name: str, table: Table, part: Part, of: Made) -> int | None:
        """Write a table's rows and return how many; None where there is nothing to write."""
        result = self.moment.read_part(table, part, of)
        first = next(result.rows, None)
        if first is None and part.day not in _ALWAYS:
            return None
        counted = Counted(chain([first] if first else [], result.rows), _silent)
        with self.place.file(name) as path, path.open("wb") as out:
            self.write(out, replace(result, rows=iter(counted)))
        return counted.done

    def _save(self, manifest: Manifest) -> None:
        with self.place.file(NAME) as path:
            path.write_bytes(manifest.text())


def _silent(_done: int, _of: int | None) -> None:
    pass
