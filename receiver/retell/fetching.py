"""Fetching missing calls one by one, and storing them in batches."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from receiver.addresses import Location
from receiver.errors import (
    BadRequest,
    NotAtRetell,
    RetellError,
    RetellFailed,
    UnexpectedAnswer,
    UnusableReference,
)
from receiver.retell.client import Retell
from receiver.retell.listing import (
    Item,
    Listing,
    StoredCall,
    Window,
    adds_information,
    is_open,
    missing_parts,
    progress_of,
)
from receiver.store import AnyStore, Outcome, Received, receive, upstream
from receiver.store.upstream import StoredCallStatus, SyncRow

# Calls fetched before they are stored.
BATCH = 100
# After this many failed calls in a row, each retried, the cause is not the calls.
MAX_FAILURES = 5


@dataclass(slots=True)
class Counts:
    """The outcomes of the calls that were found. Each is counted once."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0
    failed: int = 0
    # call_id -> why it failed.
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> int:
        """All of them."""
        return self.new + self.changed + self.unchanged + self.gone + self.failed

    def add(self, other: "Counts") -> None:
        """Add the outcomes of other calls."""
        self.new += other.new
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.gone += other.gone
        self.failed += other.failed
        self.reasons |= other.reasons


@dataclass(slots=True)
class _Batch:
    """What was fetched and is not stored yet."""

    received: list[Received] = field(default_factory=list)
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    gone: list[tuple[str, int, str]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    # Calls of which nothing had to be fetched.
    others: list[str] = field(default_factory=list)


class Fetcher:
    """Fetches what is missing of calls, stores it and counts the outcomes."""

    def __init__(self, store: AnyStore, where: Location, retell: Retell, *, account: str) -> None:
        self._store = store
        self._where = where
        self._retell = retell
        self.key_id = retell.key_id
        self.account = account
        self._has_other_account: bool | None = None
        self.counts = Counts()
        # Ids that this run is done with.
        self.done: set[str] = set()
        self._failures = 0

    def stored_calls(self, call_ids: Iterable[str]) -> dict[str, StoredCall]:
        """What is stored of each of the calls."""
        found = upstream.call_statuses(self._where, call_ids)
        return {call_id: _stored_call(status) for call_id, status in found.items()}

    def fetch_listed(
        self, items: Sequence[Item], *, sync: Callable[[Counts], SyncRow] | None = None
    ) -> None:
        """Fetch and store what is missing of listed calls; store an item that adds information.

        `sync` returns the position to store with them. An interruption stores what was fetched
        until then, without the position. Raises RetellError if no further call can be fetched.
        """
        batch, stored = _Batch(), self.stored_calls(item.call_id for item in items)
        try:
            for item in items:
                call = stored[item.call_id]
                if call.is_erased:
                    batch.others.append(item.call_id)
                elif not missing_parts(item.progress, call) or not self._get(item.call_id, batch):
                    batch.received.append(self._receive(item.body, item.observed_at))
        except BaseException:
            self._store_batch(batch, stored, None)
            raise
        self._store_batch(batch, stored, sync)

    def fetch_unlisted(self, listing: Listing, window: Window) -> None:
        """Fetch the stored calls of a window, just listed, that were not in it: they may be gone.

        Raises RetellError.
        """
        calls = upstream.started_calls(
            self._where,
            since=window.since,
            until=window.until,
            agent_id=listing.agent_id,
            account=self.account,
        )
        unlisted = {
            call_id: ours for call_id, ours in calls.items() if call_id not in listing.listed
        }
        self._fetch(unlisted, lambda stored: not (stored.is_gone or stored.is_erased))

    def fetch_open(self, *, since: int | None, until: int | None, agent_id: str | None) -> None:
        """Fetch the stored calls that are open and began from `since` to `until`.

        Raises RetellError.
        """
        candidates = upstream.open_calls(
            self._where, since=since, until=until, agent_id=agent_id, account=self.account
        )
        self._fetch(candidates, is_open)

    def _fetch(self, calls: dict[str, bool], is_wanted: Callable[[StoredCall], bool]) -> None:
        rest = [i for i, ours in calls.items() if i not in self.done and (ours or self.is_alone())]
        for start in range(0, len(rest), BATCH):
            stored = self.stored_calls(rest[start : start + BATCH])
            self._fetch_batch({call_id: c for call_id, c in stored.items() if is_wanted(c)})

    def is_alone(self) -> bool:
        """Whether there are no calls of another account. Then calls without a key are this one's.

        Looked up once, because it reads all observations.
        """
        if self._has_other_account is None:
            self._has_other_account = upstream.has_other_account(self._where, self.account)
        return not self._has_other_account

    def _fetch_batch(self, stored: dict[str, StoredCall]) -> None:
        batch = _Batch()
        try:
            for call_id in stored:
                self._get(call_id, batch)
        finally:
            self._store_batch(batch, stored, None)

    def _get(self, call_id: str, batch: _Batch) -> bool:
        """Fetch one call; return whether there is a response to store."""
        try:
            answer = self._retell.get_call(call_id)
        except (
            BadRequest,
            NotAtRetell,
            UnusableReference,
            RetellFailed,
            UnexpectedAnswer,
        ) as error:
            if is_not_found(error):
                batch.gone.append((call_id, self._retell.now_ms(), self.account))
            else:
                batch.failed[call_id] = str(error)
                self._failures += 1
                if self._failures == MAX_FAILURES:
                    raise
            return False
        self._failures = 0
        received = self._receive(answer.body, answer.started_at_ms)
        if received.event.entity_id != call_id:
            batch.failed[call_id] = "Retell answered with another call"
            return False
        batch.asked.append((call_id, answer.started_at_ms, self.account))
        batch.received.append(received)
        return True

    def _receive(self, body: bytes, observed_at: int) -> Received:
        now_ms = self._retell.now_ms()
        return receive(
            body,
            source="api",
            observed_at=observed_at,
            received_at=now_ms,
            key_id=self.key_id,
        )

    def _store_batch(
        self,
        batch: _Batch,
        stored: dict[str, StoredCall],
        sync: Callable[[Counts], SyncRow] | None,
    ) -> None:
        ids = [received.event.entity_id for received in batch.received]
        known = upstream.stored_fields(self._where, ids)
        new = [
            r for r in batch.received if adds_information(r.event.fields, known[r.event.entity_id])
        ]

        before = deepcopy(self.counts)

        def row(outcomes: Sequence[Outcome]) -> SyncRow:
            assert sync is not None
            # Called again if the transaction is retried.
            self.counts = deepcopy(before)
            self._count(batch, new, outcomes, stored)
            return sync(self.counts)

        outcomes = upstream.store_fetched(
            self._store, new, asked=batch.asked, gone=batch.gone, sync=row if sync else None
        )
        if sync is None:
            self._count(batch, new, outcomes, stored)

    def _count(
        self,
        batch: _Batch,
        new: Sequence[Received],
        outcomes: Sequence[Outcome],
        stored: dict[str, StoredCall],
    ) -> None:
        became = {
            received.event.entity_id: outcome
            for received, outcome in zip(new, outcomes, strict=True)
        }
        failed = dict(batch.failed)
        failed |= {
            call_id: "stored, but quarantined: see needs_attention"
            for call_id, outcome in became.items()
            if outcome is Outcome.QUARANTINED
        }
        gone = {call_id for call_id, *_ in batch.gone}
        received = [r.event.entity_id for r in batch.received]
        counts = self.counts
        for call_id in dict.fromkeys([*received, *batch.others, *gone, *failed]):
            self.done.add(call_id)
            if call_id in failed:
                counts.failed += 1
                counts.reasons[call_id] = failed[call_id]
            elif call_id in gone:
                counts.gone += 1
            elif call_id not in became:
                counts.unchanged += 1
            elif stored[call_id].progress is None:
                counts.new += 1
            else:
                counts.changed += 1


def is_not_found(error: RetellError) -> bool:
    """Retell documents 422 for an unknown id, answers 404, and has answered with Not Found."""
    return isinstance(error, NotAtRetell | UnusableReference) or "not found" in str(error).lower()


def _stored_call(status: StoredCallStatus) -> StoredCall:
    return StoredCall(
        progress=progress_of(status.row, is_analysed=status.is_analysed) if status.row else None,
        has_transcript=status.has_transcript,
        fetched_at=status.asked_at,
        is_gone=status.is_gone,
        is_erased=status.is_erased,
    )
