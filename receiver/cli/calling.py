"""Commands that place calls: call."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiver import clock, config
from receiver.addresses import Location
from receiver.cli.group import Number, err, main, one_account, progress, resumable
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from receiver.retell.call_lists import Row, Summary
    from receiver.store import AnyStore, CallState

    # Called with the run's id.
    ReadRows = Callable[[str], list[Row]]

# Calls to a number in a day by a query.
_PER_DAY = 3


@main.command()
@click.argument("to_number", metavar="[TO]", required=False)
@click.option("--from", "from_number", metavar="NUMBER", help="Your number, E.164.")
@click.option("--agent", "override_agent_id", metavar="ID", help="Agent, for this call only.")
@click.option(
    "--agent-version",
    "override_agent_version",
    metavar="V",
    help="Its version: number or tag.",
)
@one_account
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Stored with the call.")
@click.option("--var", multiple=True, metavar="KEY=VALUE", help="Dynamic variable of the agent.")
@click.option("--sip-header", multiple=True, metavar="X-NAME=VALUE", help="Custom SIP header.")
@click.option("--ignore-e164", is_flag=True, help="Custom telephony: do not check numbers.")
@click.option("--honor-dnc", is_flag=True, help="Do not call contacts marked do-not-call.")
@click.option("--idempotency-key", metavar="KEY", help="Repeated within an hour, it is one call.")
@click.option("--json", "json_file", type=click.File("rb"), help="File of body fields; - is stdin.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="List of calls: to_number and more columns.",
)
@click.option("--from-view", metavar="VIEW|SQL", help="A list from the database, as --csv.")
@click.option(
    "--per-day",
    type=click.IntRange(min=1),
    default=None,
    help="With --from-view: calls to a number in a day, at most; 3 by default.",
)
@click.option("--dry-run", is_flag=True, help="With --from-view: print the list, call nobody.")
@click.option(
    "--per-second",
    type=Number(0, 100, min_open=True),
    default=None,
    help="Requests per second of a list; 1 by default.",
)
@click.option("--wait", is_flag=True, help="Wait until the call is over and stored.")
@click.option(
    "--timeout",
    type=Number(0, 604_800, min_open=True),
    default=7200.0,
    show_default=True,
    help="Seconds to wait at most.",
)
def call(
    csv_file: Path | None,
    from_view: str | None,
    per_day: int | None,
    dry_run: bool,
    wait: bool,
    timeout: float,
    per_second: float | None,
    account: str | None,
    **options: Any,
) -> None:
    """Place a call, or a list of calls, and store it before it rings.

    \b
    Examples:
      callhouse call +14155550123 --from +14155550100 --var name=Ann --wait
      callhouse call --from +14155550100 --agent agent_... --csv customers.csv
      callhouse call --from +14155550100 --from-view busy_today --dry-run
    """
    body = _body(options)
    if from_view is None and (dry_run or per_day is not None):
        raise SettingsError(f"--{'dry-run' if dry_run else 'per-day'} needs --from-view")
    settings = config.load()
    key = settings.require_api_key(account)
    if csv_file is None and from_view is None:
        if per_second is not None:
            raise SettingsError("--per-second needs --csv or --from-view")
        sys.exit(_place_one(settings, key, body, timeout if wait else None))
    if wait or "to_number" in body or "idempotency_key" in body:
        raise SettingsError("a list cannot be combined with TO, --wait or --idempotency-key")
    if csv_file is not None and from_view is not None:
        raise SettingsError("--csv cannot be combined with --from-view")
    if csv_file is not None:
        read = _csv_reader(csv_file, body)
        sys.exit(_place_list(settings, key, csv_file, read, per_second))
    path, read = _view_reader(settings, from_view or "", body, per_day or _PER_DAY)
    if dry_run:
        sys.exit(_print_list(read("dry-run")))
    sys.exit(_place_list(settings, key, path, read, per_second))


def _csv_reader(path: Path, defaults: dict[str, Any]) -> "ReadRows":
    from receiver.retell.call_lists import read_rows, text_of

    text = text_of(path)
    return lambda run_id: read_rows(text, name=path.name, run_id=run_id, defaults=defaults)


def _view_reader(
    settings: config.Settings, what: str, defaults: dict[str, Any], per_day: int
) -> "tuple[Path, ReadRows]":
    """The name of the list and its rows; numbers that were called often enough are left out."""
    from receiver.retell import redial

    now = redial.today(settings.timezone, clock.now_ms())
    path = redial.list_path(what, now)

    def read(run_id: str) -> "list[Row]":
        rows = redial.query_rows(
            settings.database, what, name=path.name, run_id=run_id, defaults=defaults,
            timezone=settings.timezone,
        )  # fmt: skip
        left, skipped = redial.within_cap(settings.database, rows, per_day, now)
        if skipped:
            err.print(f"{skipped:,} left out: called {per_day} times today.")
        return left

    return path, read


def _print_list(rows: "list[Row]") -> int:
    for row in rows:
        # Enough to recognise a number, and no more: terminals are logged.
        number = str(row.body.get("to_number") or "")[-2:]
        click.echo(f"line {row.line}  •••{number}  {row.problem or 'would be called'}")
    return 1 if any(row.problem for row in rows) else 0


def _body(options: dict[str, Any]) -> dict[str, Any]:
    """The body: the options' values over the JSON file's. Raises UnusableCall, SettingsError."""
    from receiver.retell.placing import merged, pairs

    file = options["json_file"]
    try:
        base = json.load(file) if file else {}
    except (ValueError, RecursionError):
        raise SettingsError("--json is not a JSON file") from None
    if not isinstance(base, dict):
        raise SettingsError("--json is not an object", hint="Write the fields of the call.")
    version = options["override_agent_version"]
    if version is not None and version.isascii() and version.isdigit():
        version = int(version)
    over = {name: options[name] for name in ("to_number", "from_number", "override_agent_id")}
    over |= {
        "override_agent_version": version,
        "idempotency_key": options["idempotency_key"],
        "ignore_e164_validation": options["ignore_e164"] or None,
        "honor_internal_dnc": options["honor_dnc"] or None,
        "metadata": pairs(options["metadata"], option="--metadata") or None,
        "retell_llm_dynamic_variables": pairs(options["var"], option="--var") or None,
        "custom_sip_headers": pairs(options["sip_header"], option="--sip-header") or None,
    }
    return merged(base, over)


def _place_one(
    settings: config.Settings, key: str, body: dict[str, Any], timeout: float | None
) -> int:
    from receiver.retell.client import Retell
    from receiver.retell.placing import check, place

    check(body)
    store = _store(settings)
    try:
        with Retell(settings.base_url, key) as retell:
            placed = place(retell, store, body)
    finally:
        store.close()
    click.echo(placed.call_id)
    return 0 if timeout is None else _wait(settings.database, placed.call_id, timeout)


def _wait(where: Location, call_id: str, timeout: float) -> int:
    from receiver.retell.placing import follow

    with resumable(f"The call continues. To print it: callhouse show {call_id}"):
        state = follow(
            where,
            call_id,
            timeout_seconds=timeout,
            changed=lambda s: err.print(s.call_status or "unknown", style="dim"),
            sleep=time.sleep,
            monotonic=time.monotonic,
        )
    if state is None or not state.is_over:
        err.print("The end of the call was not received.", style="bold red")
        hint = "  Check that `callhouse serve` runs, and run `callhouse webhook test`."
        err.print(hint, style="dim")
        return 1
    _print_state(state)
    return 0 if state.call_status == "ended" else 1


def _print_state(state: "CallState") -> None:
    seconds = None if state.duration_ms is None else state.duration_ms / 1000
    cents = state.combined_cost_cents
    cost = "" if cents is None else f"${cents / 100:.4f}"
    for name, value in (
        ("status", state.call_status),
        ("reason", state.disconnection_reason),
        ("duration", clock.format_duration(seconds)),
        ("cost", cost if state.cost_is_final else f"{cost} so far".strip()),
        ("summary", state.call_summary),
    ):
        click.echo(f"{name:9} {value or '-'}")


def _place_list(
    settings: config.Settings,
    key: str,
    path: Path,
    read: "ReadRows",
    per_second: float | None,
) -> int:
    from receiver.retell.call_lists import PER_SECOND, Caller, Pace
    from receiver.retell.client import Retell
    from receiver.retell.journal import Journal

    per_second = PER_SECOND if per_second is None else per_second
    store = _store(settings)
    try:
        with (
            Journal(path) as journal,
            Retell(settings.base_url, key) as retell,
            progress() as bar,
        ):
            rows = read(journal.run_id)
            caller = Caller(retell, store, journal, Pace(per_second, sleep=time.sleep))
            task = bar.add_task("Calling", total=len(rows))
            try:
                with resumable("Run the same command again to continue: nobody is called twice."):
                    caller.place_all(rows, advance=lambda: bar.advance(task))
            finally:
                bar.stop()
                _print_summary(caller.summary, len(rows))
    finally:
        store.close()
    return 1 if caller.summary.refused or caller.summary.unknown else 0


def _print_summary(summary: "Summary", rows: int) -> None:
    counts = summary.counts
    left = rows - sum(counts.values())
    found = [("placed", counts["placed"])]
    found += [(name, counts[name]) for name in ("placed before", "refused", "unknown")]
    width = len(f"{rows:,}")
    for name, count in [*found, ("not tried", left)]:
        if count or name == "placed":
            err.print(f"{count:>{width},}  {name}")
    for title, lines in (("Refused", summary.refused), ("Unknown", summary.unknown)):
        for line, reason in lines:
            err.print(f"{title}, line {line}: {reason}")


def _store(settings: config.Settings) -> "AnyStore":
    """Open the database, created if needed: before a call is placed, it can be stored."""
    from receiver.store import migrate, open_store

    migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    return open_store(settings.database)
