"""The command that spreads the tables over a cluster: distribute."""

import click

from receiver import config
from receiver.cli.group import main


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
    width = max(len(place.table) for place in placed)
    for place in placed:
        how = f"{place.how} by {place.column}" if place.column else place.how
        click.secho(f"{place.table:{width}}  {how}", bold=place.is_new)
    new = sum(place.is_new for place in placed)
    click.echo(f"{new} tables were distributed now." if new else "Nothing had to be distributed.")
