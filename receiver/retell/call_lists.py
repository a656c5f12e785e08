"""Placing the calls of a CSV file: paced, each attempt in a journal, nobody called twice.

The journal is a file of JSON lines beside the CSV. A line is written to disk before the request
that it announces, so that a run killed at any moment can be continued.

An attempt whose outcome is unknown (killed, or no response) is first searched among the account's
calls by the marker in its metadata. If it is not found, the same request with the same idempotency
key is repeated while the key is valid at Retell; after that the row is reported as unknown.
"""

import csv
import difflib
import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from receiver.errors import (
    KeyRefused,
    ListStopped,
    NotAtRetell,
    PaymentRequired,
    RetellError,
    SettingsError,
    UnexpectedAnswer,
    UnusableCall,
)
from receiver.retell.client import PAGE, Retell, items_of, next_key
from receiver.retell.placing import Placed, check, create, keep, merged
from receiver.store import AnyStore

COLUMNS = (
    "to_number",
    "from_number",
    "override_agent_id",
    "override_agent_version",
    "ignore_e164_validation",
    "honor_internal_dnc",
    "idempotency_key",
)
# Columns of the form prefix.NAME -> the object that NAME belongs to.
PREFIXES = {
    "metadata": "metadata",
    "var": "retell_llm_dynamic_variables",
    "sip_header": "custom_sip_headers",
}
# Which row a call was placed for: stands in its metadata, so that a call whose answer was lost is
# found again.
MARKER = "callhouse_row"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the file as the body to send, or why it is not sent (`problem`)."""

    line: int
    key: str
    body: dict[str, Any]
    problem: str | None

    @property
    def marker(self) -> str:
        """What the metadata of this row's call says."""
        text: str = self.body["metadata"][MARKER]
        return text


def read_rows(text: str, *, name: str, run_id: str, defaults: Mapping[str, Any]) -> list[Row]:
    """The rows of a file named `name`, over what `defaults` says for all of them.

    A row is who is called: its key is its idempotency_key, else made from `name` and to_number, so
    that a correction elsewhere in the row calls nobody again. `run_id` tells this file's calls from
    those of an earlier file with the same name. Raises SettingsError for an unusable header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[Row] = []
    lines: dict[str, int] = {}
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = _row(header, cells, reader.line_num, name, run_id, defaults)
                first = lines.setdefault(row.key, row.line)
                rows.append(row if first == row.line else _again(row, first))
    except csv.Error:
        raise SettingsError(f"line {reader.line_num + 1} is not CSV") from None
    return rows


def _delimiter(text: str) -> str:
    """Spreadsheets of half the world write semicolons."""
    first = text.split("\n", 1)[0]
    return ";" if ";" in first and "," not in first else ","


def _check_header(header: list[str]) -> None:
    known = [*COLUMNS, *(f"{prefix}.NAME" for prefix in PREFIXES)]
    if "to_number" not in header:
        raise SettingsError("the first line has no to_number", hint=f"Columns: {', '.join(known)}.")
    for column in header:
        prefix, dot, rest = column.partition(".")
        if column not in COLUMNS and not (prefix in PREFIXES and dot and rest):
            near = difflib.get_close_matches(column, known, n=1, cutoff=0)[0]
            raise SettingsError(f"column {column!r} is not known", hint=f"Did you mean {near}?")
        if header.count(column) > 1:
            raise SettingsError(f"column {column!r} stands twice")


def _row(
    header: list[str],
    cells: list[str],
    line: int,
    name: str,
    run_id: str,
    defaults: Mapping[str, Any],
) -> Row:
    problem = "more cells than the first line has" if len(cells) > len(header) else None
    said: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=False):
        if cell := cell.strip():
            prefix, _, rest = column.partition(".")
            if prefix in PREFIXES:
                said.setdefault(PREFIXES[prefix], {})[rest] = cell
            else:
                said[column] = _value(column, cell)
    key = said.get("idempotency_key") or _key(name, said.get("to_number", ""))
    body = merged(defaults, {**said, "idempotency_key": key})
    try:
        check(body)
        body = merged(body, {"metadata": {MARKER: f"{run_id}-{_digest(key)[:16]}"}})
        check(body)
    except UnusableCall as error:
        problem = problem or str(error)
    return Row(line, key, body, problem)


def _again(row: Row, first: int) -> Row:
    what = (
        f"the same number as in line {first}; for two calls give each row an idempotency_key"
        if row.key.startswith(_OWN)
        else f"the same idempotency_key as in line {first}"
    )
    return Row(row.line, row.key, row.body, row.problem or what)


def _value(column: str, cell: str) -> Any:
    if column in ("ignore_e164_validation", "honor_internal_dnc"):
        return {"true": True, "1": True, "false": False, "0": False}.get(cell.lower(), cell)
    if column == "override_agent_version" and cell.isascii() and cell.isdigit():
        return int(cell)
    return cell


_OWN = "callhouse-"


def _key(name: str, to_number: str) -> str:
    return _OWN + _digest(f"{name}\n{to_number}")[:32]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


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


# Calls are dialled one a second by default: what an account may dial at its provider to begin with.
# Source: https://docs.retellai.com/deploy/concurrency
PER_SECOND = 1.0
# Refused creations are limited to 60 in a minute.
AFTER_REFUSAL_SECONDS = 1.0
# An idempotency key holds for an hour; the rest is for clocks and for the request's own time.
KEY_HOLDS_MS = 50 * 60 * 1000
# How often a row is tried that Retell throttles or cannot be reached for; and one whose answers get
# lost, and after how many of those in a row the rest would fare no better.
ATTEMPTS = 10
LOST_ATTEMPTS = 4
LOST_IN_A_ROW = 3


@dataclass(slots=True)
class Summary:
    """What became of the rows: counts by outcome, and (line, reason) of those not placed."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[int, str]] = field(default_factory=list)
    unknown: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Pace:
    """At most `per_second` requests."""

    per_second: float
    sleep: Callable[[float], None]
    monotonic: Callable[[], float] = time.monotonic
    _next: float = 0.0

    def wait(self) -> None:
        """Wait for the next request's turn."""
        now = self.monotonic()
        if self._next > now:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.per_second

    def refused(self) -> None:
        """Slow down: refusals have a limit of their own."""
        self._next = max(self._next, self.monotonic() + AFTER_REFUSAL_SECONDS)


@dataclass(slots=True)
class Caller:
    """Places rows one after another."""

    retell: Retell
    store: AnyStore
    journal: Journal
    pace: Pace
    summary: Summary = field(default_factory=Summary)
    _lost_in_a_row: int = 0

    def place_all(self, rows: Sequence[Row], *, advance: Callable[[], None]) -> None:
        """Place every row that is not placed yet, calling `advance` after each.

        Raises ListStopped, RetellError, PlacedButNotStored when going on makes no sense; `summary`
        then says how far it came.
        """
        for row in rows:
            self._place(row)
            advance()

    def _place(self, row: Row) -> None:
        if row.problem is not None:
            self._count_refused(row, row.problem)
            return
        entry = self.journal.entry(row.key)
        if entry is None or entry.state == "refused":
            self._attempt(row, lost_at_ms=None)
        elif entry.state == "sent":
            self._settle(row, entry.sent_at_ms)
        else:
            if entry.call_id is not None and entry.state == "placed":
                # It may have been deleted since.
                with suppress(NotAtRetell):
                    self._fetch(row, entry.call_id)
            self.summary.counts["placed before"] += 1

    def _settle(self, row: Row, lost_at_ms: int) -> None:
        """Find out what became of an attempt, or repeat it where that is safe."""
        if self._found(row):
            return
        if self._key_holds(lost_at_ms):
            self._attempt(row, lost_at_ms=lost_at_ms)
        else:
            self._count_unknown(row, "sent once, its answer was lost, and Retell does not list it")

    def _attempt(self, row: Row, *, lost_at_ms: int | None) -> None:
        """Send a row until Retell has placed or refused it. `lost_at_ms` is when the first attempt
        was sent whose outcome is not known: as long as there is one, no refusal settles the row.

        Raises ListStopped when the next row would fare no better.
        """
        lost = 0
        for attempt in range(ATTEMPTS):
            self.pace.wait()
            sent_at_ms = self.retell.now_ms() if lost_at_ms is None else lost_at_ms
            self.journal.sent(row.key, at_ms=sent_at_ms)
            try:
                placed = create(self.retell, row.body)
            except RetellError as error:
                if error.may_have_happened:
                    lost_at_ms, lost = sent_at_ms, lost + 1
                elif lost_at_ms is None:
                    self.journal.refused(row.key)
                if self._is_final(row, error):
                    return
                self.retell.sleep(self.retell.wait_seconds(error, attempt))
                if lost_at_ms is not None and self._found(row):
                    return
                if lost == LOST_ATTEMPTS or not self._key_holds(sent_at_ms):
                    self._give_up(row, error)
                    return
            else:
                self._keep(row, placed)
                return
        raise ListStopped(f"Retell has neither placed nor refused line {row.line}")

    def _keep(self, row: Row, placed: Placed) -> None:
        self.journal.placed(row.key, placed.call_id)
        self._lost_in_a_row = 0
        self.summary.counts["placed"] += 1
        keep(self.store, self.retell, placed.call_id, placed.answer)
        self.journal.stored(row.key)

    def _is_final(self, row: Row, error: RetellError) -> bool:
        """Whether Retell has refused this row for good.

        Raises what is wrong with the account, as it is wrong for every other row too.
        """
        if isinstance(error, KeyRefused | PaymentRequired):
            raise error
        if error.answered is not None and not error.may_have_happened:
            self.pace.refused()
        if error.retry or error.may_have_happened:
            return False
        self._count_refused(row, str(error))
        return True

    def _count_refused(self, row: Row, reason: str) -> None:
        self.summary.counts["refused"] += 1
        self.summary.refused.append((row.line, reason))

    def _count_unknown(self, row: Row, reason: str) -> None:
        self.summary.counts["unknown"] += 1
        self.summary.unknown.append((row.line, reason))

    def _give_up(self, row: Row, error: RetellError) -> None:
        self._count_unknown(row, str(error))
        self._lost_in_a_row += 1
        if self._lost_in_a_row == LOST_IN_A_ROW:
            raise ListStopped(f"of {LOST_IN_A_ROW} calls in a row the outcome is not known")

    def _found(self, row: Row) -> bool:
        """Whether the account has this row's call; if so, it is placed."""
        call_id = self._find(row)
        if call_id is None:
            return False
        self.journal.placed(row.key, call_id)
        self.summary.counts["placed"] += 1
        self._fetch(row, call_id)
        return True

    def _key_holds(self, sent_at_ms: int) -> bool:
        return 0 <= self.retell.now_ms() - sent_at_ms < KEY_HOLDS_MS

    def _find(self, row: Row) -> str | None:
        """The id of this row's call, if the account has it."""
        for item in self._calls_to(row.body["to_number"]):
            metadata = item.get("metadata")
            if isinstance(metadata, dict) and metadata.get(MARKER) == row.marker:
                call_id = item.get("call_id")
                if not isinstance(call_id, str) or not call_id:
                    raise UnexpectedAnswer("Retell lists a call without call_id", answered=200)
                return call_id
        return None

    def _calls_to(self, number: str) -> Iterator[dict[str, Any]]:
        equal = {"type": "string", "op": "eq", "value": number}
        body: dict[str, Any] = {"filter_criteria": {"to_number": equal}, "limit": PAGE}
        seen: set[str] = set()
        while True:
            answer = self.retell.list_calls(body)
            yield from items_of(answer, "calls")
            key = next_key(answer, seen)
            if key is None:
                return
            body["pagination_key"] = key

    def _fetch(self, row: Row, call_id: str) -> None:
        keep(self.store, self.retell, call_id, self.retell.get_call(call_id))
        self.journal.stored(row.key)
