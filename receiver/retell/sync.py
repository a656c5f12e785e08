"""`callhouse sync`: list Retell's calls and chats day by day, and fetch missing and incomplete
ones.

A cursor on a call's start would skip calls that end late. So a sync lists the last days of an
earlier sync again, and fetches every stored call and chat that is not complete.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from receiver.addresses import Location
from receiver.retell.fetching import BATCH, Counts, Fetcher
from receiver.retell.listing import Listing, day_of, resume_day, window
from receiver.store import AnyStore
from receiver.store.upstream import SyncRow, store_fetched, syncs_of


@dataclass(frozen=True, slots=True)
class Range:
    """The days to sync; those before `begin` are done.

    `since` None is the oldest call's day, `until` None is open. `is_named`: `since` was given
    explicitly.
    """

    since: date | None
    until: date | None
    begin: date
    is_named: bool = False

    @property
    def is_from_start(self) -> bool:
        """Whether this is the first sync, from the oldest call on."""
        return self.since is None


@dataclass(frozen=True, slots=True)
class Step:
    """The progress of a sync."""

    day: date
    days_done: int
    days: int
    counts: Counts


def plan(
    listing: Listing,
    where: Location,
    since: date | None,
    until: date | None,
    today: date,
    *,
    account: str,
) -> Range:
    """Which days to list. Only earlier syncs of the same account are considered.

    With `since`, it begins there, or where the same sync was interrupted; otherwise at the end of
    the earlier syncs, as far as they left no day out. The first sync begins with the oldest call.
    """
    before = syncs_of(where, listing.agent_id or "", account)
    if since is not None:
        wanted = (since.isoformat(), until.isoformat() if until else "")
        begun = [r for r in before if (r.since, r.until) == wanted and r.finished_at is None]
        begin = max(since, *(_resume_day(r, listing) for r in begun)) if begun else since
        return Range(since, until, begin, is_named=True)
    if before:
        last, *others = sorted(before, key=lambda r: r.since)
        begin = _resume_day(last, listing)
        for row in others:
            # One that began later may have left days out.
            if row.since <= begin.isoformat() and _resume_day(row, listing) > begin:
                last, begin = row, _resume_day(row, listing)
        # The first sync of all was interrupted: this one continues it.
        is_same = last.since == "" and last.finished_at is None
        return Range(None if is_same else begin, until, begin)
    return Range(None, until, listing.first_day() or today)


def _resume_day(row: SyncRow, listing: Listing) -> date:
    return resume_day(date.fromisoformat(row.next_day), day_of(row.started_at, listing.zone))


def sync(
    store: AnyStore,
    listing: Listing,
    fetcher: Fetcher,
    days: Range,
    *,
    now_ms: Callable[[], int],
    progress: Callable[[Step], None],
) -> Counts:
    """List the days, and fetch missing and open calls and chats.

    Counts are in `fetcher.counts` too. Each page is stored with the position before the next is
    requested. Raises RetellError and StoreUnavailable; pages fetched before are stored.
    """
    started_at = now_ms()
    today = day_of(started_at, listing.zone)
    last = days.until or max(today, days.begin)

    def row(next_day: date, finished_at: int | None = None) -> Callable[[Counts], SyncRow]:
        return lambda counts: SyncRow(
            listing.agent_id or "",
            fetcher.key_id,
            days.since.isoformat() if days.since else "",
            days.until.isoformat() if days.until else "",
            next_day.isoformat(),
            started_at,
            finished_at,
            counts.found,
            counts.new,
            counts.changed,
            counts.unchanged,
            counts.gone,
            counts.failed,
            fetcher.account,
        )

    def report(day: date) -> None:
        done = (day - days.begin).days
        progress(Step(day, done, (last - days.begin).days + 1, fetcher.counts))

    windows = listing.windows(days.begin, days.until, today, from_start=days.is_from_start)
    for here in windows:
        report(here.day)
        for page in listing.pages(here, limit=BATCH):
            next_day = here.day + timedelta(days=1) if page.is_last else here.day
            fetcher.fetch_listed(page.entity_type, page.items, sync=row(next_day))
            report(here.day)
        fetcher.fetch_unlisted(listing, here)
    fetcher.fetch_open(
        since=window(days.since, listing.zone).since if days.is_named and days.since else None,
        until=window(days.until, listing.zone).until if days.until else None,
        agent_id=listing.agent_id,
    )
    finished = row(max(last + timedelta(days=1), days.begin), now_ms())
    store_fetched(store, [], sync=lambda _: finished(fetcher.counts))
    return fetcher.counts
