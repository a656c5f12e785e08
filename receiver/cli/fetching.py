"""Commands that compare the warehouse with Retell: drift, sync, coverage."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.cli.group import Day, err, main, progress, resumable, some_accounts
from receiver.cli.tables import Column, print_table
from receiver.errors import RetellError, SettingsError

if TYPE_CHECKING:
    from receiver.retell.coverage import Report, Row
    from receiver.retell.fetching import Counts

# Ids printed at most; --json and the table coverage have all.
_IDS = 20
_COLUMNS = ("listed", "stored", "ended", "with_transcript", "analysed", "with_final_cost")


# Line breaks make the table fit 80 columns.
_COVERAGE: tuple[Column, ...] = (
    ("day", "piece"),
    ("agent", "text"),
    ("listed", "count"),
    ("stored", "count"),
    ("ended", "count"),
    ("tran-\nscript", "count"),
    ("ana-\nlysed", "count"),
    ("final\ncost", "count"),
    ("miss-\ning", "count"),
    ("incom-\nplete", "count"),
    ("gone", "count"),
)
_DRIFT: tuple[Column, ...] = (
    ("where", "text"),
    ("name", "text"),
    ("what", "text"),
    ("count", "count"),
    ("first seen", "text"),
    ("example", "piece"),
)


def print_drift(found: list[dict[str, Any]]) -> None:
    """Print the rows of the drift view."""
    rows = [
        (
            row["place"], row["name"], row["what"], f"{row['entities']:,}",
            row["first_seen"] or "", row["example"] or "",
        )
        for row in found
    ]  # fmt: skip
    print_table(_DRIFT, rows)
    things = "thing is" if len(found) == 1 else "things are"
    click.echo(f"{len(found)} {things} unknown to this version. All of it is stored; see `extra`.")


def print_counts(counts: "Counts") -> None:
    """Print the outcomes of the calls and chats, and on stderr why some failed."""
    click.echo(_outcomes(counts))
    if counts.undated:
        click.echo(
            f"{counts.undated:,} of the new ones never connected. Retell reports no time for such "
            "calls: they count on the day of this sync."
        )
    _print_reasons(counts)


def _outcomes(counts: "Counts") -> str:
    parts = [
        f"{counts.new:,} new",
        f"{counts.changed:,} changed",
        f"{counts.unchanged:,} unchanged",
    ]
    if counts.gone:
        parts.append(f"{counts.gone:,} gone at Retell")
    parts.append(f"{counts.failed:,} failed")
    return f"{counts.found:,} found: {', '.join(parts)}."


def _print_reasons(counts: "Counts") -> None:
    for call_id, reason in list(counts.reasons.items())[:_IDS]:
        err.print(f"  {call_id}: {reason}", style="red")
    if len(counts.reasons) > _IDS:
        err.print(f"  … and {len(counts.reasons) - _IDS:,} more", style="red")


def print_report(report: "Report") -> None:
    """Print a row for each day and agent, a sentence, and the ids of what is missing or partial."""
    total = report.total()
    found = report.sorted()
    if found:
        print_table(
            _COVERAGE,
            [(row.day, row.agent_name or row.agent_id, *_figures(row)) for row in found],
            styles=["red" if r.missing_call_ids or r.incomplete_call_ids else None for r in found],
            footer=("total", "", *_figures(total)),
        )
    click.echo(_sentence(report, total))
    for what, ids in (("missing", report.missing), ("incomplete", report.incomplete)):
        for call_id in ids[:_IDS]:
            click.echo(f"  {what:10}  {call_id}")
        if len(ids) > _IDS:
            click.echo(f"  … and {len(ids) - _IDS:,} more {what}: --json lists them all")


def _figures(row: "Row") -> list[str]:
    numbers = [getattr(row, name) for name in _COLUMNS]
    numbers += [len(row.missing_call_ids), len(row.incomplete_call_ids), row.gone_upstream]
    return [f"{number:,}" for number in numbers]


def _sentence(report: "Report", total: "Row") -> str:
    listed = "1 call or chat" if total.listed == 1 else f"{total.listed:,} calls and chats"
    if not total.listed:
        text = "Retell lists no calls or chats."
    elif report.is_complete:
        text = f"Complete: everything that Retell has of the {listed} it lists is stored."
    else:
        text = (
            f"Incomplete: of the {listed} that Retell lists, {len(report.missing):,} are missing "
            f"and {len(report.incomplete):,} lack something. `callhouse coverage --fix` fetches it."
        )
    if total.erased:
        text += f" {total.erased:,} are erased."
    if total.gone_upstream:
        text += f" {total.gone_upstream:,} stored ones are gone at Retell."
    return text


def coverage_json(report: "Report", counts: "Counts | None") -> dict[str, Any]:
    """The report as a JSON object, with `counts` if something was fetched."""

    def figures(row: "Row") -> dict[str, Any]:
        named = {name: getattr(row, name) for name in (*_COLUMNS, "gone_upstream", "erased")}
        return named | {
            "missing": len(row.missing_call_ids),
            "incomplete": len(row.incomplete_call_ids),
        }

    fetched = {} if counts is None else {
        "fetched": {
            name: getattr(counts, name)
            for name in ("found", "new", "changed", "unchanged", "gone", "failed")
        }
    }  # fmt: skip
    return {
        "complete": report.is_complete,
        "total": figures(report.total()),
        "days": [
            {"day": row.day, "agent_id": row.agent_id, "agent_name": row.agent_name}
            | figures(row)
            | {
                "missing_call_ids": sorted(row.missing_call_ids),
                "incomplete_call_ids": sorted(row.incomplete_call_ids),
            }
            for row in report.sorted()
        ],
        "missing_call_ids": report.missing,
        "incomplete_call_ids": report.incomplete,
        **fetched,
    }


if TYPE_CHECKING:
    from receiver.retell.fetching import Fetcher
    from receiver.retell.listing import Listing
    from receiver.store import AnyStore

# A sync can wait longer for the write lock than a webhook.
_BUSY_SECONDS = 60.0

_TO_CONTINUE = "The fetched calls are stored; run the same command again to continue."
_SINCE = click.option("--since", type=Day(), metavar="DAY", help="First day, as YYYY-MM-DD.")
_UNTIL = click.option("--until", type=Day(), metavar="DAY", help="Last day, included.")
_AGENT = click.option("--agent", metavar="ID", help="Only calls and chats of this agent.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def drift(as_json: bool) -> None:
    """List keys, events, roles, products and values that this version does not know.

    \b
    Example:
      callhouse drift
    """
    from receiver.store import read_drift

    found = read_drift(config.load().database)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if not found:
        click.echo("Nothing unknown: this version knows every key, event, role, product and value.")
        return
    print_drift(found)


@main.command()
@_SINCE
@_UNTIL
@_AGENT
@some_accounts
def sync(
    since: datetime | None, until: datetime | None, agent: str | None, account: str | None
) -> None:
    """Fetch missed calls and chats, and complete partial ones.

    Days are those of CALLHOUSE_TIMEZONE. Without --since it continues from the last sync; the first
    one begins with the oldest call or chat. An interrupted sync continues when it is run again.

    \b
    Examples:
      callhouse sync
      callhouse sync --since 2026-01-01 --until 2026-01-31
      callhouse sync --account acme
    """
    from receiver.retell.fetching import Counts

    first, last = _days(since, until)
    settings = config.load()
    settings.require_accounts(account)
    total = Counts()

    def work(each: config.Account) -> bool:
        counts = _sync(settings, each, agent, first, last)
        total.add(counts)
        return bool(counts.failed)

    is_part = any((since, until, agent, account))
    with resumable(_TO_CONTINUE), _as_job(settings, None if is_part else "sync"):
        failed = _for_each_account(settings, account, work)
    if agent is not None and not total.found:
        _require_agent(settings, account, agent)
    sys.exit(1 if failed else 0)


def _sync(
    settings: config.Settings,
    account: config.Account,
    agent: str | None,
    first: date | None,
    last: date | None,
) -> "Counts":
    """Sync an account, and print and return what was found."""
    from receiver.retell import sync as syncing

    with _fetching(settings, account, agent) as (store, listing, fetcher), progress() as bar:
        today = _today(listing.zone)
        days = syncing.plan(listing, settings.database, first, last, today, account=account.name)
        task = bar.add_task(f"{days.begin}", total=None)

        def show(step: "syncing.Step") -> None:
            text = f"{step.day}  {step.counts.found:,} found"
            bar.update(task, completed=step.days_done, total=step.days, description=text)

        try:
            syncing.sync(store, listing, fetcher, days, now_ms=clock.now_ms, progress=show)
        except RetellError as error:
            error.hint = f"{error.hint} {_TO_CONTINUE}".strip()
            raise
        finally:
            bar.stop()
            print_counts(fetcher.counts)
    return fetcher.counts


@main.command()
@_SINCE
@_UNTIL
@_AGENT
@some_accounts
@click.option("--fix", is_flag=True, help="Fetch missing and incomplete calls, and report again.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every id.")
def coverage(
    since: datetime | None,
    until: datetime | None,
    agent: str | None,
    account: str | None,
    fix: bool,
    as_json: bool,
) -> None:
    """Compare what is stored with what Retell lists, for each day and agent.

    Days are those of CALLHOUSE_TIMEZONE; all of them without --since. The exit status is 1 if
    something is missing. The result is stored in the table coverage.

    \b
    Examples:
      callhouse coverage --since 2026-05-01
      callhouse coverage --fix
      callhouse coverage --json | jq -r .missing_call_ids[]
    """
    from receiver.retell.coverage import Report
    from receiver.retell.fetching import Counts
    from receiver.store import require_bodies

    first, last = _days(since, until)
    settings = config.load()
    # `_fetching` would create the database, which is right for sync, but not for a report.
    require_bodies(settings.database)
    before, after, counts = Report(), Report(), Counts()

    def compare(each: config.Account) -> bool:
        found, now, fetched = _compare(settings, each, agent, first, last, fix=fix)
        before.add(found, each.name)
        after.add(now, each.name)
        counts.add(fetched)
        return False

    is_part = any((since, until, agent, account))
    with _as_job(settings, None if is_part else "coverage"):
        failed = _for_each_account(settings, account, compare, is_quiet=True)
    if agent is not None and not after.total().listed:
        _require_agent(settings, account, agent)
    if as_json:
        document = coverage_json(after, counts if fix else None)
        document["complete"] &= not failed
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    elif not fix or before.is_complete:
        print_report(after)
    else:
        print_report(before)
        click.echo(_outcomes(counts))
        print_report(after)
    _print_reasons(counts)
    if failed:
        err.print("Not every account could be compared.", style="red")
    sys.exit(0 if after.is_complete and not counts.failed and not failed else 1)


def _compare(
    settings: config.Settings,
    account: config.Account,
    agent: str | None,
    first: date | None,
    last: date | None,
    *,
    fix: bool,
) -> "tuple[Report, Report, Counts]":
    """An account's coverage before and after, and the outcomes of what was fetched."""
    from receiver.retell.coverage import compare

    with _fetching(settings, account, agent) as (store, listing, fetcher), progress() as bar:
        today = _today(listing.zone)
        begin = first or listing.first_day() or today
        task = bar.add_task(f"{begin}", total=((last or max(today, begin)) - begin).days + 1)

        def show(day: date) -> None:
            bar.update(task, completed=(day - begin).days, description=f"{day}")

        with resumable("The days compared so far are in the table coverage."):
            before, after = compare(
                store, settings.database, listing, fetcher,
                listing.windows(begin, last, today, from_start=first is None),
                fix=fix, now_ms=clock.now_ms, progress=show,
            )  # fmt: skip
    return before, after, fetcher.counts


def _for_each_account(
    settings: config.Settings,
    name: str | None,
    work: Callable[[config.Account], bool],
    *,
    is_quiet: bool = False,
) -> bool:
    """Run `work` for each account, or the named one.

    Returns whether it failed for one. An error of one account does not stop the others.
    """
    accounts = settings.require_accounts(name)
    failed = False
    for account in accounts:
        if len(accounts) > 1 and not is_quiet:
            click.echo(f"Account {account.name}:")
        try:
            failed |= work(account)
        except RetellError as error:
            if len(accounts) == 1:
                raise
            err.print(f"Account {account.name}: {error} {error.hint}", style="red")
            failed = True
    return failed


def _require_agent(settings: config.Settings, account: str | None, agent: str) -> None:
    """Check that something of an agent is stored, or that an account has it.

    Raises SettingsError, so that a mistyped id does not look like an agent without calls.
    """
    from receiver.retell.client import Retell
    from receiver.store.upstream import has_agent

    if has_agent(settings.database, agent):
        return
    for each in settings.require_accounts(account):
        with Retell(settings.base_url, settings.require_api_key(each.name)) as retell:
            if any(item["agent_id"] == agent for item in retell.agents()):
                return
    raise SettingsError(
        f"no agent {agent}: nothing of it is stored, and Retell does not know it",
        hint="`callhouse webhook show` lists the agents.",
    )


@contextmanager
def _fetching(
    settings: config.Settings, account: config.Account, agent: str | None
) -> "Iterator[tuple[AnyStore, Listing, Fetcher]]":
    """The configured database, created if needed, and an account's API."""
    from receiver.retell.client import Retell
    from receiver.retell.fetching import Fetcher
    from receiver.retell.listing import Listing
    from receiver.store import migrate, open_store

    key = settings.require_api_key(account.name)
    with Retell(settings.base_url, key) as retell:
        migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
        store = open_store(settings.database, busy_seconds=_BUSY_SECONDS)
        try:
            listing = Listing(retell, ZoneInfo(settings.timezone), agent)
            fetcher = Fetcher(store, settings.database, retell, account=account.name)
            yield store, listing, fetcher
        finally:
            store.close()


@contextmanager
def _as_job(settings: config.Settings, name: str | None) -> Iterator[None]:
    """Run the block as a job of the worker, which then does not run it at the same time.

    A part of the job (None) may be run at any time. Raises JobIsRunning.
    """
    if name is None:
        yield
        return
    from receiver.jobs.worker import running
    from receiver.store import migrate, open_store

    migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    store = open_store(settings.database, busy_seconds=_BUSY_SECONDS)
    try:
        with running(settings, name, store):
            yield
    finally:
        store.close()


def _days(since: datetime | None, until: datetime | None) -> tuple[date | None, date | None]:
    if since and until and since > until:
        raise click.UsageError("--since is after --until")
    return since and since.date(), until and until.date()


def _today(zone: ZoneInfo) -> date:
    return datetime.now(zone).date()
