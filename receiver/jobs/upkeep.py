"""The jobs that keep the database complete: roll up, sync and coverage."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from receiver.errors import RetellError
from receiver.jobs.worker import Run
from receiver.retell import sync as syncing
from receiver.retell.client import Retell
from receiver.retell.coverage import Report, compare
from receiver.retell.fetching import Counts, Fetcher
from receiver.retell.listing import Listing, day_of
from receiver.store import roll_up as roll_up_hours

T = TypeVar("T")
# How many days before today are compared with Retell each time.
COVERED_DAYS = 7


def roll_up(run: Run) -> None:
    """Roll up the hours and days that are over."""
    timezone = run.settings.timezone
    for _ in roll_up_hours(run.store, timezone=timezone, now_ms=run.now_ms()):
        run.check()


def sync(run: Run) -> str | None:
    """Fetch missed calls and chats, from where the last sync ended."""

    def work(listing: Listing, fetcher: Fetcher) -> Counts:
        today = day_of(run.now_ms(), listing.zone)
        days = syncing.plan(
            listing, run.settings.database, None, None, today, account=fetcher.account
        )
        return syncing.sync(
            run.store, listing, fetcher, days, now_ms=run.now_ms, progress=lambda _: run.check()
        )

    failed = sum(counts.failed for counts in _for_each_account(run, work))
    return f"{failed:,} calls could not be fetched" if failed else None


def coverage(run: Run) -> str | None:
    """Compare the last days with what Retell lists, and fetch what is missing."""

    def work(listing: Listing, fetcher: Fetcher) -> Report:
        today = day_of(run.now_ms(), listing.zone)
        windows = listing.windows(
            today - timedelta(days=COVERED_DAYS), None, today, from_start=False
        )
        _, after = compare(
            run.store, run.settings.database, listing, fetcher, windows,
            fix=True, now_ms=run.now_ms, progress=lambda _: run.check(),
        )  # fmt: skip
        return after

    reports = list(_for_each_account(run, work))
    missing = sum(len(report.missing) for report in reports)
    incomplete = sum(len(report.incomplete) for report in reports)
    if not missing and not incomplete:
        return None
    return f"{missing:,} calls are missing, {incomplete:,} are incomplete"


def _for_each_account(run: Run, work: Callable[[Listing, Fetcher], T]) -> Iterator[T]:
    """Run `work` for each account. An error of one does not stop the others and is raised at the
    end."""
    settings, failed = run.settings, None
    for account in settings.require_accounts():
        key = settings.require_api_key(account.name)
        with Retell(settings.base_url, key, sleep=run.sleep, now_ms=run.now_ms) as retell:
            listing = Listing(retell, ZoneInfo(settings.timezone), None)
            fetcher = Fetcher(run.store, settings.database, retell, account=account.name)
            try:
                yield work(listing, fetcher)
            except RetellError as error:
                failed = failed or error
    if failed is not None:
        raise failed
