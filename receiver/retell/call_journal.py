"""What became of each row of a list, on disk before and after each request.

A file of JSON lines beside the CSV. A line is durable before what it announces happens, so that a
run that was killed at any moment is continued without calling anybody twice.
"""

import errno
import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from receiver.errors import ListStopped, SettingsError

SUFFIX = ".calls.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """The last that is known of a row: about to be sent at `sent_at_ms` (its outcome unknown),
    refused, placed (and not yet stored) or stored."""

    state: str
    sent_at_ms: int
    call_id: str | None = None


class Journal:
    """The journal of the list at `csv_path`; one process at a time. Raises SettingsError."""

    def __init__(self, csv_path: Path) -> None:
        self.path = csv_path.with_name(csv_path.name + SUFFIX)
        self._entries: dict[str, Entry] = {}
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise SettingsError(
                f"cannot write {self.path}: {error.strerror}",
                hint="The list needs a journal beside it: put it where you may write.",
            ) from None
        try:
            self._lock()
            self.run_id = self._read() or self._begin()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def entry(self, key: str) -> Entry | None:
        """What is known of a row; None if it was never sent."""
        return self._entries.get(key)

    def sent(self, key: str, *, at_ms: int) -> None:
        """A request is about to leave."""
        self._note(key, Entry("sent", at_ms))

    def refused(self, key: str) -> None:
        """Retell placed nothing."""
        self._note(key, Entry("refused", self._entries[key].sent_at_ms))

    def placed(self, key: str, call_id: str) -> None:
        """Retell has placed the call; it is not stored yet."""
        self._note(key, Entry("placed", self._entries[key].sent_at_ms, call_id))

    def stored(self, key: str) -> None:
        """The call is in the warehouse."""
        before = self._entries[key]
        self._note(key, Entry("stored", before.sent_at_ms, before.call_id))

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                "another run is placing this list", hint="Wait for it, or stop it first."
            ) from None

    def _read(self) -> str | None:
        """Take in what is written and cut off a line that was not finished; return the run's id."""
        self._file.seek(0)
        run_id, end = None, 0
        for line in self._file.read().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            try:
                value: dict[str, Any] = json.loads(line)
                if "run_id" in value:
                    run_id = str(value["run_id"])
                else:
                    key = value.pop("key")
                    self._entries[key] = Entry(**value)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise SettingsError(
                    f"{self.path} is not a journal of calls",
                    hint="Put it back as it was: without it, people are called again.",
                ) from None
        self._file.truncate(end)
        return run_id

    def _begin(self) -> str:
        run_id = secrets.token_hex(8)
        self._write({"run_id": run_id})
        # The file's name must outlive a power cut too.
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return run_id

    def _note(self, key: str, entry: Entry) -> None:
        value = {"key": key, "state": entry.state, "sent_at_ms": entry.sent_at_ms}
        self._write(value | ({"call_id": entry.call_id} if entry.call_id else {}))
        self._entries[key] = entry

    def _write(self, value: dict[str, Any]) -> None:
        line = json.dumps(value).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ListStopped(f"the journal cannot be written: {error.strerror}") from None
