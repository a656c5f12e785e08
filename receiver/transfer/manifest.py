"""What of a directory of partitions is up to date: the manifest that stands beside them."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from receiver.store import GROUPS, Part
from schema.tables import PRIVATE, TABLES

# Begins with an underscore, as what engines pass over when they read a directory.
NAME = "_callhouse.json"

# Groups in which files differ by what is open.
_WITH_PRIVATE = {
    group for group, tables in GROUPS.items() for t in tables if t.name in {n for n, _ in PRIVATE}
}

# Also one that a killed run left under its hidden name.
_OURS = re.compile(
    r"(?P<table>\w+)/(day=\d{4}-\d\d-\d\d/)?\.?(?P=table)\.parquet(\.[0-9a-f]{8}\.part)?"
)


@dataclass(frozen=True, slots=True)
class Written:
    """A part as it was last written: the fingerprint of its rows, and rows by file."""

    fingerprint: str
    files: dict[str, int]


@dataclass(slots=True)
class Manifest:
    """Parts that are written whole, as long as nothing else about their files differs."""

    private: bool
    parts: dict[Part, Written] = field(default_factory=dict)

    @classmethod
    def read(cls, text: bytes | None, *, private: bool) -> "Manifest":
        """The manifest of a directory; empty where it is none, or one of other columns."""
        manifest = cls(private)
        try:
            said: Any = json.loads(text or b"{}")
        except ValueError:
            return manifest
        if isinstance(said, dict) and said.items() >= manifest._head().items():
            manifest.parts = {
                Part(group, day): Written(**written)
                for group, days in said["parts"].items()
                for day, written in days.items()
                if group not in _WITH_PRIVATE or said["private"] == private
            }
        return manifest

    def text(self) -> bytes:
        """What `read` reads, the same for the same parts."""
        parts: dict[str, dict[str, Any]] = {}
        for part, written in sorted(self.parts.items()):
            entry = {"fingerprint": written.fingerprint, "files": written.files}
            parts.setdefault(part.group, {})[part.day] = entry
        return json.dumps(self._head() | {"private": self.private, "parts": parts}).encode() + b"\n"

    def stale(self, fingerprints: dict[Part, str], names: set[str]) -> list[Part]:
        """The parts to write, in order: new, changed, or with a file that is gone."""
        return sorted(
            part
            for part, fingerprint in fingerprints.items()
            if (written := self.parts.get(part)) is None
            or written.fingerprint != fingerprint
            or not written.files.keys() <= names
        )

    def surplus(self, names: Iterable[str]) -> list[str]:
        """Files of ours that belong to no part."""
        current = {name for written in self.parts.values() for name in written.files}
        tables = {table.name for table in TABLES}
        return sorted(
            name
            for name in names
            if name not in current and (of := _OURS.fullmatch(name)) and of["table"] in tables
        )

    def _head(self) -> dict[str, Any]:
        columns = {t.name: list(t.names) for tables in GROUPS.values() for t in tables}
        return {"format": 1, "tables": columns}


def file_of(table: str, day: str) -> str:
    """The name of the file that a table's rows of a day stand in."""
    return f"{table}/day={day}/{table}.parquet" if day else f"{table}/{table}.parquet"
