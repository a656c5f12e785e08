"""Place the calls of a CSV file at a limited rate. A journal ensures that nobody is called twice.

An attempt whose outcome is unknown (killed, or no response) is first searched among the account's
calls by the marker in its metadata. If it is not found, the same request with the same idempotency
key is repeated while the key is valid at Retell; after that the row is reported as unknown.
"""

import csv
import difflib
import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from receiver.retell.client import PAGE, Retell, items_of, pages_of
from receiver.retell.journal import Journal
from receiver.retell.placing import Placed, check, create, merged, store_response
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
# Prefix of a column prefix.NAME -> the field that has the key NAME.
PREFIXES = {
    "metadata": "metadata",
    "var": "retell_llm_dynamic_variables",
    "sip_header": "custom_sip_headers",
}
# Key in a call's metadata that names its row, so that a call whose response was lost is found.
MARKER = "callhouse_row"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the file: the body to send, or why it is not sent (`problem`)."""

    line: int
    key: str
    body: dict[str, Any]
    problem: str | None

    @property
    def marker(self) -> str:
        """The marker in the metadata of this row's call."""
        text: str = self.body["metadata"][MARKER]
        return text


def text_of(path: Path) -> str:
    """The text of a file. Raises SettingsError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8", hint="Save it as CSV UTF-8.") from None


def read_rows(text: str, *, name: str, run_id: str, defaults: Mapping[str, Any]) -> list[Row]:
    """The rows of a file named `name`; `defaults` apply to all.

    A row's key is its idempotency_key, else made from `name` and to_number, so that after another
    cell was corrected nobody is called again. `run_id` separates this file's calls from those of an
    earlier file with the same name. Raises SettingsError for an invalid header.
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
                rows.append(row if first == row.line else _repeated(row, first))
    except csv.Error:
        raise SettingsError(f"line {reader.line_num + 1} is not CSV") from None
    return rows


def _delimiter(text: str) -> str:
    """Spreadsheets write semicolons in many countries."""
    first = text.split("\n", 1)[0]
    return ";" if ";" in first and "," not in first else ","


def _check_header(header: list[str]) -> None:
    known = [*COLUMNS, *(f"{prefix}.NAME" for prefix in PREFIXES)]
    if "to_number" not in header:
        raise SettingsError(
            "the header has no column to_number", hint=f"Columns: {', '.join(known)}."
        )
    for column in header:
        prefix, dot, rest = column.partition(".")
        if column not in COLUMNS and not (prefix in PREFIXES and dot and rest):
            near = difflib.get_close_matches(column, known, n=1, cutoff=0)[0]
            raise SettingsError(f"unknown column {column!r}", hint=f"Did you mean {near}?")
        if header.count(column) > 1:
            raise SettingsError(f"column {column!r} is there twice")


def _row(
    header: list[str],
    cells: list[str],
    line: int,
    name: str,
    run_id: str,
    defaults: Mapping[str, Any],
) -> Row:
    problem = "more cells than the header" if len(cells) > len(header) else None
    given: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=False):
        if cell := cell.strip():
            prefix, _, rest = column.partition(".")
            if prefix in PREFIXES:
                given.setdefault(PREFIXES[prefix], {})[rest] = cell
            else:
                given[column] = _value(column, cell)
    key = given.get("idempotency_key") or _key(name, given.get("to_number", ""))
    body = merged(defaults, {**given, "idempotency_key": key})
    try:
        check(body)
        body = merged(body, {"metadata": {MARKER: f"{run_id}-{_digest(key)[:16]}"}})
        check(body)
    except UnusableCall as error:
        problem = problem or str(error)
    return Row(line, key, body, problem)


def _repeated(row: Row, first: int) -> Row:
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


def find_call(retell: Retell, row: Row) -> str | None:
    """The id of a row's call; None if the account does not have it. Raises RetellError."""
    for item in _calls_to(retell, row.body["to_number"]):
        metadata = item.get("metadata")
        if isinstance(metadata, dict) and metadata.get(MARKER) == row.marker:
            call_id = item.get("call_id")
            if not isinstance(call_id, str) or not call_id:
                raise UnexpectedAnswer("Retell lists a call without call_id", answered=200)
            return call_id
    return None


def _calls_to(retell: Retell, number: str) -> Iterator[dict[str, Any]]:
    equal = {"type": "string", "op": "eq", "value": number}
    body = {"filter_criteria": {"to_number": equal}, "limit": PAGE}
    for answer in pages_of(
        lambda key: retell.list_calls(body | ({"pagination_key": key} if key else {}))
    ):
        yield from items_of(answer, "calls")


# Calls per second by default: the first limit of an account at its telephony provider.
# Source: https://docs.retellai.com/deploy/concurrency
PER_SECOND = 1.0
# Wait after a rejected request: Retell allows 60 of these in a minute.
AFTER_REFUSAL_SECONDS = 1.0
# An idempotency key is valid for an hour; less for differing clocks and the request's duration.
KEY_HOLDS_MS = 50 * 60 * 1000
# Attempts of a row if Retell is rate-limited or unreachable, attempts if responses get lost, and
# rows in a row with lost responses after which the list stops.
ATTEMPTS = 10
LOST_ATTEMPTS = 4
LOST_IN_A_ROW = 3


@dataclass(slots=True)
class Summary:
    """Outcomes of the rows: counts, and (line, reason) of those not placed."""

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
        """Wait until the next request may be sent."""
        now = self.monotonic()
        if self._next > now:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.per_second

    def refused(self) -> None:
        """Slow down: rejected requests have a lower limit at Retell."""
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

        Raises ListStopped, RetellError, PlacedButNotStored if the rest would fail too; `summary`
        then has the outcomes until there.
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
            self._resolve(row, entry.sent_at_ms)
        else:
            if entry.call_id is not None and entry.state == "placed":
                # Retell may have deleted it since.
                with suppress(NotAtRetell):
                    self._fetch(row, entry.call_id)
            self.summary.counts["placed before"] += 1

    def _resolve(self, row: Row, lost_at_ms: int) -> None:
        """Find the call of an attempt with a lost response, or repeat it if the key is valid."""
        if self._found(row):
            return
        if self._key_holds(lost_at_ms):
            self._attempt(row, lost_at_ms=lost_at_ms)
        else:
            self._count_unknown(row, "the response was lost, and Retell does not list the call")

    def _attempt(self, row: Row, *, lost_at_ms: int | None) -> None:
        """Send a row until Retell has placed or rejected it.

        `lost_at_ms` is when the first attempt with an unknown outcome was sent; while there is one,
        a rejection is not recorded. Raises ListStopped if the next row would fail too.
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
        raise ListStopped(f"Retell has neither placed nor rejected line {row.line}")

    def _keep(self, row: Row, placed: Placed) -> None:
        self.journal.placed(row.key, placed.call_id)
        self._lost_in_a_row = 0
        self.summary.counts["placed"] += 1
        store_response(self.store, self.retell, placed.call_id, placed.answer)
        self.journal.stored(row.key)

    def _is_final(self, row: Row, error: RetellError) -> bool:
        """Whether Retell has rejected this row for good.

        Re-raises errors of the account, which every other row would get too.
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
            raise ListStopped(f"the outcome of {LOST_IN_A_ROW} calls in a row is unknown")

    def _found(self, row: Row) -> bool:
        """Whether the account has this row's call; if so, it is recorded and stored."""
        call_id = find_call(self.retell, row)
        if call_id is None:
            return False
        self.journal.placed(row.key, call_id)
        self.summary.counts["placed"] += 1
        self._fetch(row, call_id)
        return True

    def _key_holds(self, sent_at_ms: int) -> bool:
        return 0 <= self.retell.now_ms() - sent_at_ms < KEY_HOLDS_MS

    def _fetch(self, row: Row, call_id: str) -> None:
        store_response(self.store, self.retell, call_id, self.retell.get_call(call_id))
        self.journal.stored(row.key)
