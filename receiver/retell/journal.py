"""The journal of a list of calls: a file of JSON lines beside the list.

A line is written to disk before the request that it announces, so that a run killed at any moment
can be continued.
"""

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from receiver.errors import ListStopped, SettingsError

SUFFIX = ".calls.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """The last entry of a row. `state` is sent (at `sent_at_ms`, outcome unknown), refused, placed
    (not stored yet) or stored. In a batch, `sent_at_ms` is 0, as no idempotency key is valid."""

    state: str
    sent_at_ms: int
    call_id: str | None = None


SENT_IN_A_BATCH = Entry("sent", 0)


class Journal:
    """The journal of the list at `csv_path`, for one process at a time. Raises SettingsError."""

    def __init__(self, csv_path: Path) -> None:
        self.path = csv_path.with_name(csv_path.name + SUFFIX)
        self._entries: dict[str, Entry] = {}
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise SettingsError(
                f"cannot write {self.path}: {error.strerror}",
                hint="The journal is written beside the list: move the list to a writable folder.",
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
        """The last entry of a row; None if it was never sent."""
        return self._entries.get(key)

    def sent(self, key: str, *, at_ms: int) -> None:
        """Record that a request is about to be sent."""
        self._note(key, Entry("sent", at_ms))

    def refused(self, key: str) -> None:
        """Record that Retell placed no call."""
        self._note(key, Entry("refused", self._entries[key].sent_at_ms))

    def placed(self, key: str, call_id: str) -> None:
        """Record that Retell placed the call."""
        self._note(key, Entry("placed", self._entries[key].sent_at_ms, call_id))

    def stored(self, key: str) -> None:
        """Record that the call is stored."""
        before = self._entries[key]
        self._note(key, Entry("stored", before.sent_at_ms, before.call_id))

    def note_batch(self, keys: Sequence[str], state: str) -> None:
        """Record the state of the rows of a batch, of all or of none."""
        self._write({"keys": list(keys), "state": state, "sent_at_ms": 0})
        self._entries |= dict.fromkeys(keys, Entry(state, 0))

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                "another run is placing this list", hint="Wait for it, or stop it first."
            ) from None

    def _read(self) -> str | None:
        """Read the entries and cut off an incomplete last line; return the run's id."""
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
                    keys = value.pop("keys", None) or [value.pop("key")]
                    self._entries |= dict.fromkeys(keys, Entry(**value))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise SettingsError(
                    f"{self.path} is not a journal of calls",
                    hint="Restore it: without it, people are called again.",
                ) from None
        self._file.truncate(end)
        return run_id

    def _begin(self) -> str:
        run_id = secrets.token_hex(8)
        self._write({"run_id": run_id})
        # The directory entry must survive a power cut too.
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
