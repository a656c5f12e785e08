"""What the commands that compare the warehouse with Retell print."""

from typing import TYPE_CHECKING, Any

import click

from receiver.cli.group import err
from receiver.cli.tables import Column, print_table

if TYPE_CHECKING:
    from receiver.retell.coverage import Report, Row
    from receiver.retell.fetching import Counts

# How many ids are printed; --json and the table coverage have them all.
_IDS = 20
_COLUMNS = ("listed", "stored", "ended", "with_transcript", "analysed", "with_final_cost")


# Broken so that the columns, with a day and a name before them, fit 80 characters.
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
    click.echo(f"{len(found)} {things} unknown to this version. All of it is kept; see `extra`.")


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
