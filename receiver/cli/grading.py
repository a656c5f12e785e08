"""The command of questions that a model answers about calls: grade."""

import json
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.cli.group import Day, main, progress, resumable, terminable
from receiver.cli.tables import print_table
from receiver.errors import SettingsError, docs

if TYPE_CHECKING:
    from receiver.config import Settings
    from receiver.grading_settings import Question
    from receiver.jobs.grading import Counts, Found

# How long a transaction waits for receivers that write.
BUSY_SECONDS = 30.0


@main.command()
@click.option("--question", "names", multiple=True, metavar="NAME", help="Only this; repeatable.")
@click.option(
    "--since",
    type=Day(),
    metavar="DAY",
    help="Calls from this day on; 7 days by default.",
)
@click.option("--dry-run", is_flag=True, help="Ask nothing: print how much, and about its cost.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N requests.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def grade(
    names: tuple[str, ...],
    since: datetime | None,
    dry_run: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Ask a model the questions of callhouse.toml about calls.

    The transcripts go to the model's provider. A call that was asked before is left out, so a
    stopped run continues. The worker does the same each hour. Exit status 1 if an answer did not
    fit, a request had no answer, or the limit of the day was reached.

    \b
    Examples:
      callhouse grade --dry-run
      callhouse grade --question address_confirmed --since 2026-05-01 --limit 50
    """
    from receiver.jobs.grading import DAYS, find

    settings, now_ms = config.load(), clock.now_ms()
    questions = _questions(settings, names)
    today = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(settings.timezone)).date()
    first = since.date() if since else today - timedelta(days=DAYS - 1)
    if dry_run:
        _print_plan(settings, find(settings, questions, first, now_ms=now_ms), as_json=as_json)
        return
    counts = _grade(settings, questions, first, limit)
    dollars = settings.file.grading.dollars(counts.input_tokens, counts.output_tokens)
    if as_json:
        click.echo(json.dumps(asdict(counts) | {"dollars": dollars}))
    else:
        cost = "" if dollars is None else f", ${dollars:,.2f}"
        click.echo(
            f"{counts.graded:,} answers stored, {counts.left:,} calls left to ask.\n"
            f"{counts.input_tokens:,} input and {counts.output_tokens:,} output tokens{cost}."
        )
        if counts.incomplete:
            click.echo(f"Incomplete: {counts.incomplete}.")
    sys.exit(1 if counts.incomplete else 0)


def _questions(settings: "Settings", names: tuple[str, ...]) -> "tuple[Question, ...]":
    known = {question.name: question for question in settings.file.grading.questions}
    if not known:
        raise SettingsError(
            "callhouse.toml has no [[grading.question]]",
            hint=f"See {docs('how-to/grading.md')}",
        )
    for name in names:
        if name not in known:
            raise SettingsError(
                f"there is no question {name}", hint=f"The questions are: {', '.join(known)}."
            )
    return tuple(known[name] for name in dict.fromkeys(names)) or tuple(known.values())


def _grade(
    settings: "Settings", questions: "tuple[Question, ...]", first: date, limit: int | None
) -> "Counts":
    from receiver.jobs.grading import find, grade
    from receiver.jobs.worker import Run, running
    from receiver.store import open_store

    with (
        terminable(),
        resumable("Run the same command again to ask the rest."),
        closing(open_store(settings.database, busy_seconds=BUSY_SECONDS)) as store,
        running(settings, "grade", store) as lease,
        progress() as bar,
    ):
        found = find(settings, questions, first, now_ms=clock.now_ms())
        total = sum(len(each.ids) for each in found)
        task = bar.add_task("Asking", total=total if limit is None else min(limit, total))
        run = Run(settings, store, stop=lease.stop)
        counts = grade(run, found, limit=limit, progress=lambda: bar.advance(task))
        lease.incomplete = counts.incomplete
        return counts


def _print_plan(settings: "Settings", found: "list[Found]", *, as_json: bool) -> None:
    from receiver.jobs.grading import estimate

    grading, rows = settings.file.grading, []
    for each in found:
        tokens = estimate(settings, each)
        rows.append((each, tokens, grading.dollars(*tokens)))
    if as_json:
        plan = [
            asdict(each) | {"input_tokens": tokens[0], "output_tokens": tokens[1], "dollars": cost}
            for each, tokens, cost in rows
        ]
        click.echo(json.dumps(plan, ensure_ascii=False, indent=2))
        return
    print_table(
        (("question", "piece"), ("to ask", "count"), ("asked", "count"), ("no text", "count"),
         ("input tokens", "count"), ("cost", "count")),
        [
            (each.question.name, f"{len(each.ids):,}", f"{each.asked:,}",
             f"{each.without_text:,}", f"{tokens[0]:,}", "" if cost is None else f"${cost:,.2f}")
            for each, tokens, cost in rows
        ],
    )  # fmt: skip
    for each in found:
        answers = ", ".join(each.question.answers)
        click.echo(f"{each.question.name}: {each.question.ask} ({answers})")
    click.echo(
        f"Nothing was asked. {grading.model} would read {grading.text} transcripts; tokens and "
        "cost are estimates."
    )
