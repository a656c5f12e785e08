"""Placing a list of calls: paced, every attempt in the journal, nobody called twice.

An attempt whose outcome is unknown (killed, or no answer) is first looked for among the account's
calls by the marker in its metadata. If it is not there, the same request with the same idempotency
key is repeated, as long as the key holds at Retell; after that it is reported instead.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from receiver.errors import (
    KeyRefused,
    ListStopped,
    NotAtRetell,
    PaymentRequired,
    RetellError,
    UnexpectedAnswer,
)
from receiver.retell.call_journal import Journal
from receiver.retell.call_rows import MARKER, Row
from receiver.retell.client import PAGE, Retell, items_of, next_key
from receiver.retell.placing import Placed, create, keep
from receiver.store import AnyStore

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
