"""`callhouse coverage`: for each day and agent, which listed calls and chats are stored."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from receiver.addresses import Location
from receiver.retell.client import PAGE
from receiver.retell.fetching import BATCH, Fetcher
from receiver.retell.listing import Item, Listing, StoredCall, Window, begins_on, missing_parts
from receiver.store import AnyStore
from receiver.store.upstream import gone_calls, write_coverage

_SUMMED = (
    "listed", "stored", "ended", "with_transcript", "analysed", "with_final_cost", "gone_upstream",
    "erased", "missing_call_ids", "incomplete_call_ids",
)  # fmt: skip


@dataclass(slots=True)
class Row:
    """A day of an agent: the number of calls or chats that Retell lists, and which parts are
    stored."""

    day: str
    agent_id: str
    agent_name: str | None = None
    listed: int = 0
    stored: int = 0
    ended: int = 0
    with_transcript: int = 0
    analysed: int = 0
    with_final_cost: int = 0
    gone_upstream: int = 0
    erased: int = 0
    missing_call_ids: list[str] = field(default_factory=list)
    incomplete_call_ids: list[str] = field(default_factory=list)

    def count(self, item: Item, stored: StoredCall) -> None:
        """Add a listed call or chat."""
        self.listed += 1
        self.agent_name = max(self.agent_name or "", item.agent_name or "") or None
        self.erased += stored.is_erased and stored.progress is None
        if stored.progress is not None:
            self.stored += 1
            self.ended += stored.progress.is_over
            self.with_transcript += stored.has_transcript
            self.analysed += stored.progress.is_analysed
            self.with_final_cost += stored.progress.cost_is_final
        if missing := missing_parts(item.progress, stored):
            (self.missing_call_ids if "call" in missing else self.incomplete_call_ids).append(
                item.entity_id
            )

    def values(self, checked_at: int, key_id: str, account: str) -> tuple[Any, ...]:
        """A row of the table coverage."""
        return (
            self.day, self.agent_id, self.agent_name, self.listed, self.stored, self.ended,
            self.with_transcript, self.analysed, self.with_final_cost,
            len(self.missing_call_ids), len(self.incomplete_call_ids),
            self.gone_upstream, self.erased,
            json.dumps(sorted(self.missing_call_ids)), json.dumps(sorted(self.incomplete_call_ids)),
            checked_at, key_id, account,
        )  # fmt: skip


@dataclass(slots=True)
class Report:
    """The rows of some days, by day and agent_id."""

    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)

    def row(self, day: date, agent_id: str) -> Row:
        """The row of a day and agent, created if needed."""
        key = (day.isoformat(), agent_id)
        return self.rows.setdefault(key, Row(*key))

    def add(self, other: "Report", account: str) -> None:
        """Add the rows of an account. Those of two accounts may have no agent."""
        self.rows |= {(account, *key): row for key, row in other.rows.items()}

    def sorted(self) -> list[Row]:
        """By day, and by agent within a day."""
        return sorted(self.rows.values(), key=lambda r: (r.day, r.agent_name or "", r.agent_id))

    @property
    def missing(self) -> list[str]:
        """The ids of calls and chats that are not stored."""
        return [call_id for row in self.sorted() for call_id in row.missing_call_ids]

    @property
    def incomplete(self) -> list[str]:
        """The ids of calls and chats of which a part is not stored."""
        return [call_id for row in self.sorted() for call_id in row.incomplete_call_ids]

    @property
    def is_complete(self) -> bool:
        """Whether everything that Retell has is stored."""
        return not any(r.missing_call_ids or r.incomplete_call_ids for r in self.rows.values())

    def total(self) -> Row:
        """The sum of all rows."""
        total = Row("", "")
        for row in self.rows.values():
            for name in _SUMMED:
                setattr(total, name, getattr(total, name) + getattr(row, name))
        return total


def compare(
    store: AnyStore,
    where: Location,
    listing: Listing,
    fetcher: Fetcher,
    windows: Iterable[Window],
    *,
    fix: bool,
    now_ms: Callable[[], int],
    progress: Callable[[date], None],
) -> tuple[Report, Report]:
    """Compare calls and chats of the windows with what is stored: before, and after a `fix`, which
    fetches what is missing. Each compared day is written to the table coverage.

    Raises RetellError and StoreUnavailable; the days compared until then are written.
    """
    before, after = Report(), Report()
    # Skipped days have no calls at Retell any more, so their rows are deleted too.
    since: date | None = None
    for here in windows:
        progress(here.day)
        now = Report()
        _count_gone(before, here, listing, where, fetcher.account)
        for page in listing.pages(here, limit=PAGE):
            ids = [item.entity_id for item in page.items]
            stored = fetcher.stored_calls(page.entity_type, ids)
            _count(before, page.items, stored)
            if fix:
                incomplete = [
                    item
                    for item in page.items
                    if missing_parts(item.progress, stored[item.entity_id])
                ]
                for start in range(0, len(incomplete), BATCH):
                    fetcher.fetch_listed(page.entity_type, incomplete[start : start + BATCH])
                stored = fetcher.stored_calls(page.entity_type, ids)
            _count(now, page.items, stored)
        fetcher.fetch_unlisted(listing, here)
        _count_gone(now, here, listing, where, fetcher.account)
        after.rows |= now.rows
        if since is None and here.since is not None:
            since = here.day
        write_coverage(
            store,
            [row.values(now_ms(), fetcher.key_id, fetcher.account) for row in now.rows.values()],
            since=since.isoformat() if since else None,
            until=here.day.isoformat() if here.until is not None else None,
            agent_id=listing.agent_id,
            account=fetcher.account,
            is_alone=fetcher.is_alone(),
        )
        since = here.day + timedelta(days=1)
    return before, after


def _count(report: Report, items: Sequence[Item], stored: dict[str, StoredCall]) -> None:
    for item in items:
        report.row(item.day, item.agent_id).count(item, stored[item.entity_id])


def _count_gone(
    report: Report, here: Window, listing: Listing, where: Location, account: str
) -> None:
    for agent_id, agent_name, at in gone_calls(where, listing.agent_id, account):
        if (here.since is None or at >= here.since) and (here.until is None or at <= here.until):
            row = report.row(begins_on(at, listing.zone, otherwise=here.day), agent_id)
            row.gone_upstream += 1
            row.agent_name = row.agent_name or agent_name
