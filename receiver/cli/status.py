"""Commands that report the state of the warehouse: status, doctor."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from receiver import clock, config
from receiver.cli.group import main
from receiver.cli.tables import Column, print_table
from receiver.errors import NotStored, StoreUnavailable

if TYPE_CHECKING:
    from receiver.jobs.status import Status

_JOBS: tuple[Column, ...] = (
    ("job", "piece"),
    ("state", "piece"),
    ("last run", "piece"),
    ("result", "piece"),
    ("next run", "piece"),
)
_LABEL_WIDTH = 15


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the database, keys, jobs, coverage and backup on one screen.

    The exit status is 1 if something is wrong.

    \b
    Example:
      callhouse status
    """
    from receiver.jobs.status import read_status

    settings = config.load()
    found = read_status(settings, now_ms=clock.now_ms())
    if as_json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    else:
        _print_status(found, settings.timezone)
    sys.exit(1 if found.problems else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check what goes wrong in practice, and say what to do.

    The exit status is 0 if all is well, 1 if something is wrong, 2 without usable settings or
    database.

    \b
    Example:
      callhouse doctor
    """
    from receiver.jobs.doctor import CheckContext, Finding, examine
    from receiver.jobs.status import read_status

    settings = config.load()
    findings = []
    try:
        found = read_status(settings, now_ms=clock.now_ms())
    except (NotStored, StoreUnavailable) as error:
        found = None
        findings.append(Finding("database", True, str(error), error.hint))
    findings += examine(CheckContext(settings, found, clock.now_ms))
    wrong = sum(finding.is_wrong for finding in findings)
    if as_json:
        values = {"wrong": wrong, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            mark = "wrong" if finding.is_wrong else ""
            _print_line(finding.subject, finding.what, mark=mark)
            if finding.hint:
                _print_line("", finding.hint, style="dim")
        click.echo("All is well." if not wrong else f"{wrong} of {len(findings)} are wrong.")
    sys.exit(2 if found is None else 1 if wrong else 0)


def _print_status(found: "Status", timezone: str) -> None:
    from receiver.jobs.status import ago, at, size

    now_ms = found.now_ms
    _print_line(
        "database",
        f"{found.database}: {size(found.database_bytes)}, write-ahead log "
        f"{size(found.wal_bytes)}, {size(found.free_disk_bytes)} free",
    )
    quarantined = "" if found.quarantined is None else f", {found.quarantined:,} quarantined"
    _print_line("calls", f"{found.calls:,} calls, {found.chats:,} chats{quarantined}")
    _print_line("last event", _when(found.last_event_ms, now_ms, timezone))
    day = found.coverage
    _print_line(
        "coverage",
        f"{day.day}: {day.stored:,} of {day.listed:,} listed calls stored, "
        f"{day.incomplete:,} incomplete, compared {ago(day.checked_ms, now_ms)}"
        if day.checked_ms is not None
        else f"{day.day}: not compared with Retell",
    )
    backup_ms = found.last_backup_ms
    has_backup = backup_ms is not None
    _print_line(
        "backup", _when(backup_ms, now_ms, timezone) if has_backup else found.without_backup
    )
    for n, key in enumerate(found.keys):
        signed = ago(key.last_signed_ms, now_ms)
        where = key.setting or "not set any more"
        _print_line("" if n else "keys", f"{key.key_id}  {where:19}  {signed}")
    click.echo()
    print_table(
        _JOBS,
        [
            (
                job.row.name,
                job.words,
                at(job.row.started_at, timezone),
                job.row.result or "",
                at(job.row.next_run_at, timezone) if job.interval_ms else "",
            )
            for job in found.jobs
        ],
        styles=["red" if job.state in ("overdue", "failing") else None for job in found.jobs],
    )
    if found.problems:
        click.echo()
        for problem in found.problems:
            _print_line("wrong", problem, style="red")


def _when(at_ms: int | None, now_ms: int, timezone: str) -> str:
    from receiver.jobs.status import ago, at

    if at_ms is None:
        return "never"
    return f"{at(at_ms, timezone)} ({ago(at_ms, now_ms)})"


def _print_line(label: str, text: str, *, mark: str = "", style: str = "") -> None:
    """A label and a text, which continues below itself on a narrow terminal."""
    console = Console(highlight=False)
    indent = _LABEL_WIDTH + 2
    room = max(console.width - indent, 20) if sys.stdout.isatty() else 10_000
    prefix = f"{label:{_LABEL_WIDTH}}  "
    text = f"{mark}: {text}" if mark else text
    for line in Text(text).wrap(console, room):
        styled = Text(f"{prefix}{line.plain.rstrip()}", style=style or ("red" if mark else ""))
        console.print(styled, soft_wrap=True)
        prefix = " " * indent
