"""Commands that compare the warehouse with Retell: drift."""

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from receiver import config
from receiver.cli.group import main


def _out() -> Console:
    """Where reports go: as wide as a terminal, and never cut where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def drift(as_json: bool) -> None:
    """List what Retell says that this version does not know: keys, events, roles, products, values.

    \b
    Example:
      callhouse drift
    """
    from receiver.store import read_drift

    found = read_drift(config.load().database_path)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    if not found:
        click.echo("Nothing unknown: every key, event, role, product and value is one we know.")
        return
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
