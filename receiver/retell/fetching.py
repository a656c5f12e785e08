"""Fetching missing calls and chats one by one, and storing them in batches."""

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
    ENTITY_TYPES,
    EntityType,
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
from schema.merge import fields_are_over

# Calls fetched before they are stored.
BATCH = 100
# After this many consecutive failures, each with retries, the cause is not a single call.
MAX_FAILURES = 5


@dataclass(slots=True)
class Counts:
    """The outcomes of the calls and chats that were found. Each is counted once."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0
    failed: int = 0
    # New ones that ended without a start: Retell reports no time for them.
    undated: int = 0
    # call_id or chat_id -> why it failed.
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> int:
        """The sum of all outcomes."""
        return self.new + self.changed + self.unchanged + self.gone + self.failed

    def add(self, other: "Counts") -> None:
        """Add other outcomes."""
        self.new += other.new
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.gone += other.gone
        self.failed += other.failed
        self.undated += other.undated
        self.reasons |= other.reasons


@dataclass(slots=True)
class _Batch:
    """Fetched calls, or chats, that are not stored yet."""

    entity_type: EntityType
    received: list[Received] = field(default_factory=list)
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    gone: list[tuple[str, int, str]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    # Calls that did not have to be fetched.
    others: list[str] = field(default_factory=list)


class Fetcher:
    """Fetches missing and incomplete calls and chats, stores them and counts the outcomes."""

    def __init__(self, store: AnyStore, where: Location, retell: Retell, *, account: str) -> None:
        self._store = store
        self._where = where
        self._retell = retell
        self.key_id = retell.key_id
        self.account = account
        self._has_other_account: bool | None = None
        self.counts = Counts()
        # Ids that this run has completed.
        self.done: set[str] = set()
        self._failures = 0

    def stored_calls(self, entity_type: EntityType, ids: Iterable[str]) -> dict[str, StoredCall]:
        """The stored state of each of the calls or chats."""
        found = upstream.statuses(self._where, entity_type, ids)
        return {call_id: _stored_call(status) for call_id, status in found.items()}

    def fetch_listed(
        self,
        entity_type: EntityType,
        items: Sequence[Item],
        *,
        sync: Callable[[Counts], SyncRow] | None = None,
    ) -> None:
        """Fetch and store missing and incomplete items of a page, and store items that add
        information.

        `sync` returns the position to store with them. After an interruption, fetched items are
        stored without the position. Raises RetellError if no further call can be fetched.
        """
        batch = _Batch(entity_type)
        stored = self.stored_calls(entity_type, (item.entity_id for item in items))
        try:
            for item in items:
                call, id = stored[item.entity_id], item.entity_id
                if call.is_erased:
                    batch.others.append(id)
                elif not missing_parts(item.progress, call) or not self._get(id, batch):
                    batch.received.append(observation_of(self._retell, item.body, item.observed_at))
        except BaseException:
            self._store_batch(batch, stored, None)
            raise
        self._store_batch(batch, stored, sync)

    def fetch_unlisted(self, listing: Listing, window: Window) -> None:
        """Fetch stored calls of a window that Retell did not list: they may be deleted there.

        Raises RetellError.
        """
        for entity_type in ENTITY_TYPES:
            found = upstream.started(
                self._where,
                entity_type,
                since=window.since,
                until=window.until,
                agent_id=listing.agent_id,
                account=self.account,
            )
            unlisted = {id: ours for id, ours in found.items() if id not in listing.listed}
            self._fetch(
                entity_type, unlisted, lambda stored: not (stored.is_gone or stored.is_erased)
            )

    def fetch_open(self, *, since: int | None, until: int | None, agent_id: str | None) -> None:
        """Fetch the stored calls and chats that are open and began from `since` to `until`.

        Raises RetellError.
        """
        for entity_type in ENTITY_TYPES:
            candidates = upstream.started(
                self._where,
                entity_type,
                since=since,
                until=until,
                agent_id=agent_id,
                account=self.account,
                only_unfinished=True,
            )
            self._fetch(entity_type, candidates, is_open)

    def _fetch(
        self,
        entity_type: EntityType,
        found: dict[str, bool],
        is_wanted: Callable[[StoredCall], bool],
    ) -> None:
        rest = [i for i, ours in found.items() if i not in self.done and (ours or self.is_alone())]
        for start in range(0, len(rest), BATCH):
            stored = self.stored_calls(entity_type, rest[start : start + BATCH])
            self._fetch_batch(entity_type, {id: s for id, s in stored.items() if is_wanted(s)})

    def is_alone(self) -> bool:
        """Whether there is no other account.

        Then observations without a key belong to this one. Computed once, because it reads all
        observations.
        """
        if self._has_other_account is None:
            self._has_other_account = upstream.has_other_account(self._where, self.account)
        return not self._has_other_account

    def _fetch_batch(self, entity_type: EntityType, stored: dict[str, StoredCall]) -> None:
        batch = _Batch(entity_type)
        try:
            for call_id in stored:
                self._get(call_id, batch)
        finally:
            self._store_batch(batch, stored, None)

    def _get(self, call_id: str, batch: _Batch) -> bool:
        """Fetch one call or chat; return whether there is a response to store."""
        is_chat = batch.entity_type == "chat"
        try:
            answer = (self._retell.get_chat if is_chat else self._retell.get_call)(call_id)
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
        one = observation_of(self._retell, answer.body, answer.started_at_ms)
        if (one.event.entity_type, one.event.entity_id) != (batch.entity_type, call_id):
            batch.failed[call_id] = f"Retell answered with another {batch.entity_type}"
            return False
        batch.asked.append((call_id, answer.started_at_ms, self.account))
        batch.received.append(one)
        return True

    def _store_batch(
        self,
        batch: _Batch,
        stored: dict[str, StoredCall],
        sync: Callable[[Counts], SyncRow] | None,
    ) -> None:
        ids = [received.event.entity_id for received in batch.received]
        known = upstream.stored_fields(self._where, batch.entity_type, ids)
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
        undated = {
            received.event.entity_id
            for received in new
            if "start_timestamp" not in received.event.fields
            and fields_are_over(received.event.fields)
        }
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
                counts.undated += call_id in undated
            else:
                counts.changed += 1


def observation_of(retell: Retell, body: bytes, observed_at: int) -> Received:
    """The observation of an object that Retell's API has answered with."""
    return receive(
        body,
        source="api",
        observed_at=observed_at,
        received_at=retell.now_ms(),
        key_id=retell.key_id,
    )


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
