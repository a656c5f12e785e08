"""What the commands that compare the warehouse with Retell print."""

import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from receiver.cli.group import err, fail
from receiver.errors import CallhouseError

if TYPE_CHECKING:
    from receiver.upstream.coverage import Report, Row
    from receiver.upstream.fetching import Counts

# How many ids are printed; --json and the table coverage have them all.
_IDS = 20
_COLUMNS = ("listed", "stored", "ended", "with_transcript", "analysed", "with_final_cost")


def _out() -> Console:
    """Where tables go: as wide as a terminal, and never cut where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def print_drift(found: list[dict[str, Any]]) -> None:
    """Print the rows of the drift view."""
    table = Table("where", "what", "name", "count", "first seen", "example")
    table.columns[3].justify = "right"
    for row in found:
        table.add_row(
            row["place"], row["what"], row["name"], f"{row['entities']:,}",
            row["first_seen"] or "", row["example"],
        )  # fmt: skip
    _out().print(table)
    things = "thing is" if len(found) == 1 else "things are"
    click.echo(f"{len(found)} {things} unknown to this version. All of it is kept; see `extra`.")


def print_stopped(stopped: CallhouseError | KeyboardInterrupt, advice: str) -> None:
    """Print why a command ended before its end, and what to do."""
    if isinstance(stopped, CallhouseError):
        fail(stopped)
    else:
        err.print("Interrupted.", style="bold red")
    err.print(f"  {advice}", style="dim")


def print_counts(counts: "Counts") -> None:
    """Print how many calls became what, and on stderr why some failed."""
    parts = [
        f"{counts.new:,} new",
        f"{counts.changed:,} changed",
        f"{counts.unchanged:,} unchanged",
    ]
    if counts.gone:
        parts.append(f"{counts.gone:,} gone at Retell")
    parts.append(f"{counts.failed:,} failed")
    click.echo(f"{counts.found:,} found: {', '.join(parts)}.")
    for call_id, reason in list(counts.reasons.items())[:_IDS]:
        err.print(f"  {call_id}: {reason}", style="red", markup=False)
    if len(counts.reasons) > _IDS:
        err.print(f"  … and {len(counts.reasons) - _IDS:,} more", style="red")


def print_report(report: "Report") -> None:
    """Print a row for each day and agent, a sentence, and the ids that are lacking."""
    table = Table("day", "agent", show_footer=True)
    total = report.total()
    names = ["listed", "stored", "ended", "transcript", "analysed", "final cost", "missing",
             "incomplete", "gone"]  # fmt: skip
    table.columns[0].footer = "total"
    for name, figure in zip(names, _figures(total), strict=True):
        table.add_column(name, figure, justify="right")
    for row in report.sorted():
        style = "red" if row.missing_call_ids or row.incomplete_call_ids else None
        table.add_row(row.day, row.agent_name or row.agent_id, *_figures(row), style=style)
    if report.rows:
        _out().print(table)
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
    calls = "1 call" if total.listed == 1 else f"{total.listed:,} calls"
    if not total.listed:
        text = "Retell lists no calls."
    elif report.is_complete:
        text = f"Complete: of the {calls} that Retell lists, all that it has is here."
    else:
        text = (
            f"Incomplete: of the {calls} that Retell lists, {len(report.missing):,} are missing "
            f"and {len(report.incomplete):,} lack something. `callhouse coverage --fix` fetches it."
        )
    if total.erased:
        text += f" {total.erased:,} were erased here for good."
    if total.gone_upstream:
        text += f" {total.gone_upstream:,} that are here are gone at Retell."
    return text


def as_json(report: "Report", counts: "Counts | None") -> dict[str, Any]:
    """The report as a JSON object; `counts` if something was fetched."""

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
