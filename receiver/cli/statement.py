"""`callhouse statement`: what a month cost, by client, and an invoice compared with it."""

import json
import re
import sys
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.cli.group import main
from receiver.cli.tables import Column, print_table
from receiver.errors import SettingsError
from receiver.jobs.statement import as_csv, dollars, explanations, line_name, notes
from schema import billing
from schema.products import product_label

if TYPE_CHECKING:
    from receiver.store.statements import Month
    from schema.billing import Line

# The number of families with a column in the terminal; CSV, HTML and JSON have all.
_SHOWN_FAMILIES = 3
_GROUPINGS = ("account", "agent")


def _share(_context: click.Context, _option: click.Parameter, value: str) -> Decimal:
    """A percentage such as 20% or 12.5, as a share."""
    percent = value.removesuffix("%")
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,4})?", percent):
        return Decimal(percent) / 100
    raise click.BadParameter("a markup is a percentage such as 20%")


def _grouping(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value in (None, *_GROUPINGS) or (value.startswith("metadata.") and value != "metadata."):
        return value
    raise click.BadParameter("a statement is by account, agent or metadata.NAME")


@main.command()
@click.option("--month", default=None, metavar="YYYY-MM", help="The month; this one by default.")
@click.option(
    "--by",
    "grouping",
    default=None,
    callback=_grouping,
    metavar="GROUP",
    help="A line for each account, agent, or value of metadata.NAME.",
)
@click.option(
    "--markup",
    default="0",
    callback=_share,
    metavar="PERCENT",
    help="Add this percentage to each line.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "html"]),
    default=None,
    help="table by default; html is a page for printing or for a PDF.",
)
@click.option(
    "--invoice",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Compare the month's products with an invoice as CSV.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; amounts in US cents.")
def statement(
    month: str | None,
    grouping: str | None,
    markup: Decimal,
    format_: str | None,
    invoice: Path | None,
    as_json: bool,
) -> None:
    """Print what a month cost: calls, minutes, and dollars by family of product.

    Lines add up to the cent. A month is closed once it is over and its costs are final: from then
    on its statement stays the same, and what changes later is printed as a correction.

    \b
    Examples:
      callhouse statement --month 2026-10
      callhouse statement --month 2026-10 --by metadata.client --markup 20%
      callhouse statement --month 2026-10 --by agent --format html > statement.html
      callhouse statement --month 2026-10 --invoice invoice.csv
    """
    from receiver.store.statements import read_month

    if as_json and format_:
        raise click.UsageError("--json cannot be combined with --format.")
    if invoice and (grouping or markup or format_):
        raise click.UsageError("--invoice cannot be combined with --by, --markup or --format.")
    settings = config.load()
    now_ms = clock.now_ms()
    zone = ZoneInfo(settings.timezone)
    month = month or f"{datetime.fromtimestamp(now_ms / 1000, zone):%Y-%m}"
    try:
        found = read_month(
            settings.database,
            month,
            grouping=grouping,
            timezone=settings.timezone,
            now_ms=now_ms,
            markup=markup,
        )
    except ValueError:
        raise SettingsError(f"{month!r} is not a month", hint="Write it as 2026-10.") from None
    if invoice:
        _print_reconciled(found, _read(invoice), as_json=as_json)
    elif as_json:
        click.echo(json.dumps(_as_json(found)))
    elif format_ == "csv":
        click.echo(as_csv(found), nl=False)
    elif format_ == "html":
        click.echo(_html(found, settings.timezone, has_markup=bool(markup)))
    else:
        _print(found, zone, has_markup=bool(markup))


def _print(found: "Month", zone: ZoneInfo, *, has_markup: bool) -> None:
    of = found.statement
    # The largest families and the sum of the rest, so that a row fits a terminal.
    largest = sorted(of.families, key=lambda family: -of.total.families[family])[:_SHOWN_FAMILIES]
    shown = [family for family in of.families if family in largest]
    rest = [family for family in of.families if family not in largest]
    columns: list[Column] = [
        ((of.grouping or "month").removeprefix("metadata."), "text"),
        *((name, "count") for name in ["calls", *(["chats"] if of.total.chats else []), "minutes"]),
        *((family.replace(" ", "\n"), "count") for family in shown),
        *((name, "count") for name in [*(["rest"] if rest else []), "cost"]),
        *((name, "count") for name in (["with\nmarkup"] if has_markup else [])),
    ]

    def cells(line: "Line", name: str) -> list[str]:
        amounts = [line.families.get(family, 0) for family in shown]
        if rest:
            amounts.append(sum(line.families.get(family, 0) for family in rest))
        amounts += [line.total, *([line.price] if has_markup else [])]
        chats = [f"{line.chats:,}"] if of.total.chats else []
        return [name, f"{line.calls:,}", *chats, f"{line.minutes:,.1f}", *map(dollars, amounts)]

    click.echo(f"{of.month}, US dollars, days in {zone.key}")
    rows = [cells(line, line_name(of.grouping, line)) for line in of.lines]
    if of.grouping:
        print_table(columns, rows, footer=cells(of.total, "Total"))
    else:
        print_table(columns, [cells(of.total, of.month)])
    for correction in of.corrections:
        click.echo(
            f"Correction since the month was closed: {correction.name or 'all'}: "
            f"{correction.calls:+,} calls, {correction.chats:+,} chats, "
            f"{dollars(correction.total)}"
        )
    for note in notes(found, zone):
        click.echo(note)


def _html(found: "Month", timezone: str, *, has_markup: bool) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("receiver.cli", "."), autoescape=True)
    environment.filters["dollars"] = dollars
    return environment.get_template("statement.html").render(
        found=found,
        of=found.statement,
        timezone=timezone,
        has_markup=has_markup,
        names=[line_name(found.statement.grouping, line) for line in found.statement.lines],
        notes=notes(found, ZoneInfo(timezone)),
    )


def _as_json(found: "Month") -> dict[str, object]:
    fields = asdict(found)
    fields["products"] = {product: float(amount) for product, amount in found.products.items()}
    return fields


def _read(invoice: Path) -> dict[str, Decimal]:
    try:
        return billing.read_invoice(invoice.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{invoice} cannot be read: {error.strerror}") from error
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise SettingsError(
            f"{invoice} cannot be read as an invoice: {reason}",
            hint="It needs a column product and a column amount in dollars, with a heading.",
        ) from None


def _print_reconciled(found: "Month", invoice: dict[str, Decimal], *, as_json: bool) -> None:
    lines = billing.reconcile(found.products, invoice)
    differing = [line for line in lines if line.verdict != "agrees"]
    if as_json:
        click.echo(json.dumps([asdict(line) | {"verdict": line.verdict} for line in lines]))
    else:
        print_table(
            (
                ("product", "text"),
                ("calls", "count"),
                ("invoice", "count"),
                ("difference", "count"),
                ("", "text"),
            ),
            [
                (
                    product_label(line.product),
                    "" if line.ours is None else dollars(line.ours),
                    "" if line.theirs is None else dollars(line.theirs),
                    dollars((line.ours or 0) - (line.theirs or 0)),
                    line.verdict,
                )
                for line in lines
            ],
        )
        for note in explanations(found, is_equal=not differing):
            click.echo(note)
    sys.exit(1 if differing else 0)
