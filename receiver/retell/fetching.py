"""Getting calls that were missed: asked for one by one, kept page by page."""

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
from receiver.retell.listing import Held, Item, Listing, Window, is_news, is_open, lacks, snapshot
from receiver.store import AnyStore, Outcome, Received, receive
from receiver.store import upstream as stored
from receiver.store.upstream import Here, SyncRow

# How many calls are fetched, at most, before they are kept.
BATCH = 100
# So many calls one after the other that Retell fails to answer, each tried several times, and it is
# not the calls.
MAX_FAILURES = 5


@dataclass(slots=True)
class Counts:
    """What became of the calls that were found. Each is counted once."""

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


@dataclass(slots=True)
class _Batch:
    """What was fetched and waits to be kept."""

    received: list[Received] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    gone: list[tuple[str, int]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    # Those of which nothing had to be fetched, or that were found as they are.
    others: list[str] = field(default_factory=list)


class Fetcher:
    """Brings the warehouse up to what Retell has of some calls, and counts."""

    def __init__(self, store: AnyStore, where: Location, retell: Retell, *, key_id: str) -> None:
        self._store = store
        self._where = where
        self._retell = retell
        self.key_id = key_id
        self._has_other_key: bool | None = None
        self.counts = Counts()
        # What this run has looked at already.
        self.done: set[str] = set()
        self._failures = 0

    def held(self, call_ids: Iterable[str]) -> dict[str, Held]:
        """What is here of each of the calls."""
        found = stored.here(self._where, call_ids)
        return {call_id: _held(here) for call_id, here in found.items()}

    def take(
        self, items: Sequence[Item], *, sync: Callable[[Counts], SyncRow] | None = None
    ) -> None:
        """Fetch what is lacking of listed calls and keep it; keep an item that says something new.

        An interruption keeps what was fetched by then, without `sync`: how far the sync has come
        with these calls. Raises RetellError if it makes no sense to go on.
        """
        batch, held = _Batch(), self.held(item.call_id for item in items)
        try:
            for item in items:
                here = held[item.call_id]
                if here.is_erased:
                    batch.others.append(item.call_id)
                elif not lacks(item.snapshot, here) or not self._get(item.call_id, batch):
                    batch.received.append(self._receive(item.body, item.observed_at))
        except BaseException:
            self._keep(batch, held, None)
            raise
        self._keep(batch, held, sync)

    def ask_unlisted(self, listing: Listing, here: Window) -> None:
        """Ask for stored calls of a window, just listed, that were not among them: are they gone?

        Raises RetellError.
        """
        calls = stored.started_calls(
            self._where,
            since=here.since,
            until=here.until,
            agent_id=listing.agent_id,
            key_id=self.key_id,
        )
        unlisted = {
            call_id: ours for call_id, ours in calls.items() if call_id not in listing.listed
        }
        self._ask(unlisted, lambda held: not (held.is_gone or held.is_erased))

    def ask_open(self, *, since: int | None, until: int | None, agent_id: str | None) -> None:
        """Ask again for stored calls that are open, of those that began from `since` to `until`.

        Raises RetellError.
        """
        candidates = stored.open_calls(
            self._where, since=since, until=until, agent_id=agent_id, key_id=self.key_id
        )
        self._ask(candidates, is_open)

    def _ask(self, calls: dict[str, bool], is_worth: Callable[[Held], bool]) -> None:
        rest = [i for i, ours in calls.items() if i not in self.done and (ours or self.is_alone())]
        for start in range(0, len(rest), BATCH):
            held = self.held(rest[start : start + BATCH])
            self._ask_batch({call_id: here for call_id, here in held.items() if is_worth(here)})

    def is_alone(self) -> bool:
        """Whether no other key brought anything: then a call of which no key is known is ours.

        Looked up once, when it is first asked for: it reads all observations.
        """
        if self._has_other_key is None:
            self._has_other_key = stored.has_other_key(self._where, self.key_id)
        return not self._has_other_key

    def _ask_batch(self, held: dict[str, Held]) -> None:
        batch = _Batch()
        try:
            for call_id in held:
                self._get(call_id, batch)
        finally:
            self._keep(batch, held, None)

    def _get(self, call_id: str, batch: _Batch) -> bool:
        """Ask for one call; say whether an answer came that can be kept."""
        try:
            answer = self._retell.get_call(call_id)
        except (
            BadRequest,
            NotAtRetell,
            UnusableReference,
            RetellFailed,
            UnexpectedAnswer,
        ) as error:
            if _is_not_found(error):
                batch.gone.append((call_id, self._retell.now_ms()))
            else:
                batch.failed[call_id] = str(error)
                self._failures += 1
                if self._failures == MAX_FAILURES:
                    raise
            return False
        self._failures = 0
        received = self._receive(answer.body, answer.started_at_ms)
        if received.event.entity_id != call_id:
            batch.failed[call_id] = "Retell answered with something else than this call"
            return False
        batch.asked.append((call_id, answer.started_at_ms))
        batch.received.append(received)
        return True

    def _receive(self, body: bytes, observed_at: int) -> Received:
        now_ms = self._retell.now_ms()
        return receive(
            body, source="api", observed_at=observed_at, received_at=now_ms, key_id=self.key_id
        )

    def _keep(
        self,
        batch: _Batch,
        held: dict[str, Held],
        sync: Callable[[Counts], SyncRow] | None,
    ) -> None:
        ids = [received.event.entity_id for received in batch.received]
        said = stored.said_of(self._where, ids)
        news = [r for r in batch.received if is_news(r.event.fields, said[r.event.entity_id])]

        before = deepcopy(self.counts)

        def row(outcomes: Sequence[Outcome]) -> SyncRow:
            assert sync is not None
            # A transaction that has to be retried asks again.
            self.counts = deepcopy(before)
            self._count(batch, news, outcomes, held)
            return sync(self.counts)

        outcomes = stored.keep(
            self._store, news, asked=batch.asked, gone=batch.gone, sync=row if sync else None
        )
        if sync is None:
            self._count(batch, news, outcomes, held)

    def _count(
        self,
        batch: _Batch,
        news: Sequence[Received],
        outcomes: Sequence[Outcome],
        held: dict[str, Held],
    ) -> None:
        became = {
            received.event.entity_id: outcome
            for received, outcome in zip(news, outcomes, strict=True)
        }
        failed = dict(batch.failed)
        failed |= {
            call_id: "kept, but not understood: see needs_attention"
            for call_id, outcome in became.items()
            if outcome is Outcome.QUARANTINED
        }
        gone = {call_id for call_id, _ in batch.gone}
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
            elif held[call_id].snapshot is None:
                counts.new += 1
            else:
                counts.changed += 1


def _is_not_found(error: RetellError) -> bool:
    """Retell documents 422 for an id it does not know, answers 404, and has said Not Found."""
    return isinstance(error, NotAtRetell | UnusableReference) or "not found" in str(error).lower()


def _held(here: Here) -> Held:
    return Held(
        snapshot=snapshot(here.row, is_analysed=here.is_analysed) if here.row else None,
        has_transcript=here.has_transcript,
        asked_at=here.asked_at,
        is_gone=here.is_gone,
        is_erased=here.is_erased,
    )
