"""The command that spreads the tables over a cluster: distribute."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from receiver import config
from receiver.cli.group import main
from receiver.cli.tables import print_table

if TYPE_CHECKING:
    from receiver.store.postgres.distributing import Placed


@main.command()
def distribute() -> None:
    """Spread the tables over a Citus cluster, all of a call on one node.

    CALLHOUSE_DATABASE_URL names the cluster's coordinator. What is distributed already is left as
    it is. Receivers may go on; they wait while rows are moved.

    \b
    Example:
      CALLHOUSE_DATABASE_URL=postgresql://callhouse@coordinator/callhouse callhouse distribute
    """
    from receiver.store import distribute as distribute_tables

    settings = config.load()
    placed = distribute_tables(settings.database, timezone=settings.timezone)
    _print(placed)
    new = sum(place.is_new for place in placed)
    click.echo(f"{new} tables were distributed now." if new else "Nothing had to be distributed.")


def _print(placed: "Sequence[Placed]") -> None:
    print_table(
        (("table", "piece"), ("how", "text")),
        [(p.table, f"{p.how} by {p.column}" if p.column else p.how) for p in placed],
        styles=["bold" if place.is_new else None for place in placed],
    )
