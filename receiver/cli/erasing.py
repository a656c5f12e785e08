"""`callhouse erase`: erase calls and chats permanently."""

import getpass
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from receiver import clock, config
from receiver.addresses import PostgresUrl
from receiver.cli.group import err, main, progress, resumable, terminable
from receiver.cli.tables import print_table
from receiver.errors import FileUnusable, SettingsError, docs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from receiver.jobs.erase import AtRetell, Erased, Plan
    from receiver.store.erasing import Receipt
    from receiver.store.protocols import Connection

# How long a transaction waits for receivers that write.
BUSY_SECONDS = 30.0
_SHOWN_IDS = 5
# Custom telephony has extensions of three digits.
_LEAST_DIGITS = 3
_NOT_FOUND = "Nothing has this number. Write it as it is stored, usually like +14155550123."
_NOT_REWRITTEN = (
    "PostgreSQL keeps the bytes of deleted rows until their space is used again. --vacuum rewrites "
    "the tables without them, while nobody can write."
)


@main.command()
@click.argument("ids", nargs=-1, metavar="[CALL_ID]...")
@click.option("--number", help="All calls from or to this number, and bodies that contain it.")
@click.option("--chat", "chats", multiple=True, metavar="CHAT_ID", help="A chat; may be repeated.")
@click.option("--where", metavar="SQL", help="All calls that fulfil a condition over calls.")
@click.option("--where-chats", metavar="SQL", help="All chats that fulfil a condition over chats.")
@click.option("--reason", help="Why; stored with the tombstones and the receipt.")
@click.option("--at-retell", is_flag=True, help="Delete the calls and chats at Retell first.")
@click.option(
    "--partitions",
    multiple=True,
    metavar="DIR",
    help="Then update Parquet files of `callhouse export` there; may be repeated.",
)
@click.option("--vacuum", is_flag=True, help="Then rewrite the whole database; writers wait.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON; needs --yes.")
def erase(
    ids: tuple[str, ...],
    number: str | None,
    chats: tuple[str, ...],
    where: str | None,
    where_chats: str | None,
    reason: str | None,
    at_retell: bool,
    partitions: tuple[str, ...],
    vacuum: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase calls and chats for good, with a receipt.

    Rows, raw bodies, recordings, the search index and lists of ids go. A tombstone stays, so that
    nothing of them is stored again. It runs beside a running receiver. If it was stopped,
    run it again. With --yes, it erases even if its output is closed, as with `| head`.

    \b
    Examples:
      callhouse erase call_b7559010ef20eb3a8e72252a524 --reason "asked by e-mail"
      callhouse erase --number +14155550123 --at-retell
      callhouse erase --where "agent_id = 'agent_7' AND start_timestamp < 1767225600000"
    """
    conditions = {"calls": where, "chats": where_chats}
    ways = [bool(ids or chats), number is not None, any(v is not None for v in conditions.values())]
    if sum(ways) != 1:
        raise click.UsageError("Give ids, --number or conditions: exactly one of them.")
    if "" in (*ids, *chats):
        raise click.UsageError("An id is empty.")
    if number is not None:
        number = re.sub(r"[ ().-]", "", number)
        # A shorter text is in almost every body.
        if len(number.lstrip("+")) < _LEAST_DIGITS:
            raise click.UsageError("--number is not a phone number, such as +14155550123.")
    if as_json and not yes:
        raise click.UsageError("--json needs --yes: it cannot ask.")
    settings = config.load()
    retell = _at_retell(settings, chats) if at_retell else nullcontext()
    exported = _exported(partitions)
    found = [*ids, *chats] or _find(settings, number, conditions)
    planned = _plan(settings, found)
    is_read = as_json or _printed(lambda: _print_plan(planned))
    if number is not None and not found:
        err.print(_NOT_FOUND)
    if planned.ids and not yes:
        if not is_read:
            raise FileUnusable(
                "nothing was erased: the output was closed before the question",
                hint="Print to a terminal, or do not ask: --yes.",
            )
        click.confirm(f"Erase {_entities(len(planned.ids))} for good?", abort=True)
    done = _erase(settings, planned, reason=reason, at_retell=retell, vacuum=vacuum)
    _printed(lambda: _print_done(done, as_json=as_json))
    _update(settings, exported)
    print_left(settings, done.left, vacuum=vacuum)
    for call_id, problem in done.refused.items():
        err.print(f"{call_id} was not erased: {problem}", style="red")
    sys.exit(1 if done.refused or done.left else 0)


def _printed(write: Callable[[], None]) -> bool:
    """Print; return False if the output was closed, as with `| head`."""
    try:
        write()
    # rich raises SystemExit for a closed pipe.
    except (BrokenPipeError, SystemExit):
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _print_done(done: "Erased", *, as_json: bool) -> None:
    if as_json:
        receipt = fields_of(done.receipt) if done.receipt else None
        click.echo(json.dumps({"receipt": receipt, "refused": done.refused, "left": done.left}))
    elif done.receipt:
        print_receipt(done.receipt)


def _at_retell(settings: config.Settings, chats: Sequence[str]) -> "AtRetell":
    from receiver.jobs.erase import AtRetell

    return AtRetell(settings, chats)


def _exported(places: Sequence[str]) -> dict[str, bool]:
    """Whether the Parquet files of each place have private columns. Checked before anything is
    erased."""
    if not places:
        return {}
    from receiver.transfer import has_private_columns

    return {place: has_private_columns(place) for place in places}


def _update(settings: config.Settings, exported: Mapping[str, bool]) -> None:
    """Write the days whose calls were erased again."""
    from receiver.transfer import export_partitions

    with resumable("Run the same command again to update the Parquet files."):
        for place, private in exported.items():
            export_partitions(settings, place, private=private, progress=lambda *_: None)


def _find(
    settings: config.Settings, number: str | None, conditions: Mapping[str, str | None]
) -> list[str]:
    from receiver.store.engine import reading
    from receiver.store.erasing import ids_with_number

    with reading(settings.database) as connection:
        if number is not None:
            return ids_with_number(connection, number)
        return [
            entity_id
            for table, condition in conditions.items()
            if condition is not None
            for entity_id in _ids_where(connection, table, condition)
        ]


def _ids_where(connection: "Connection", table: str, condition: str) -> list[str]:
    from receiver.store.erasing import ids_where

    try:
        return ids_where(connection, table, condition)
    except connection.DatabaseError as error:
        # The server's message may repeat values of calls; only the first line is about the SQL.
        raise SettingsError(
            f"the condition over {table} cannot be used: {str(error).splitlines()[0]}",
            hint=f"It names columns of {table}: {docs('reference/tables.md')}",
        ) from None


def _plan(settings: config.Settings, ids: Sequence[str]) -> "Plan":
    from receiver.jobs.erase import plan

    return plan(settings, sorted(set(ids)))


def _print_plan(planned: "Plan") -> None:
    if planned.erased:
        click.echo(f"Erased before: {_entities(planned.erased)}.")
    if not planned.ids:
        click.echo("Nothing to erase.")
        return
    print_table(
        (("table", "piece"), ("rows", "count")),
        [(table, f"{count:,}") for table, count in sorted(planned.counts.items())],
    )
    shown = ", ".join(planned.ids[:_SHOWN_IDS])
    more = len(planned.ids) - _SHOWN_IDS
    click.echo(f"{_entities(len(planned.ids))}: {shown}{f' and {more:,} more' if more > 0 else ''}")
    if planned.with_files:
        click.echo(f"Recordings of {planned.with_files:,} of them are deleted too.")


def _erase(
    settings: config.Settings,
    planned: "Plan",
    *,
    reason: str | None,
    at_retell: "AbstractContextManager[AtRetell | None]",
    vacuum: bool,
) -> "Erased":
    from receiver.jobs.erase import erase as erase_ids
    from receiver.store import open_store

    with (
        terminable(),
        resumable("Run the same command again to erase the rest."),
        closing(open_store(settings.database, busy_seconds=BUSY_SECONDS)) as store,
        at_retell as retell,
        progress() as bar,
    ):
        task = bar.add_task("Erasing", total=len(planned.ids))
        return erase_ids(
            settings,
            store,
            planned.ids,
            author=author(),
            reason=reason,
            now_ms=clock.now_ms,
            at_retell=retell,
            rewrite=vacuum,
            progress=lambda done: bar.update(task, completed=done),
        )


def print_receipt(receipt: "Receipt") -> None:
    """Print a receipt for a person."""
    at = datetime.fromtimestamp(receipt.created_at / 1000, UTC)
    verb = "Erased" if receipt.action == "erase" else "Pruned"
    click.echo(
        f"Receipt {receipt.receipt_id}\n"
        f"  {verb} ({receipt.scope}): {_entities(receipt.entities)}, {receipt.rows:,} rows, "
        f"{receipt.files:,} files\n"
        f"  At {at:%Y-%m-%d %H:%M:%S} UTC by {receipt.author}"
        + (f", reason: {receipt.reason}" if receipt.reason else "")
        + f"\n  SHA-256 of the ids: {receipt.ids_sha256}"
    )
    rows = [(f"  {table}", f"{count:,}") for table, count in receipt.counts]
    if rows:
        print_table((("  table", "piece"), ("rows", "count")), rows)


def print_left(settings: config.Settings, left: str | None, *, vacuum: bool) -> None:
    """Print which remains of deleted rows may still be in the files, or in backups."""
    if left:
        err.print(f"Not all could be cleaned: {left}", style="yellow")
    elif isinstance(settings.database, PostgresUrl) and not vacuum:
        err.print(_NOT_REWRITTEN)


def fields_of(receipt: "Receipt") -> dict[str, Any]:
    """A receipt as a JSON object."""
    return asdict(receipt) | {"counts": dict(receipt.counts)}


def author() -> str:
    """The user of this machine, as far as it is known."""
    with suppress(KeyError, OSError, ImportError):
        return getpass.getuser()
    return "unknown"


def _entities(count: int) -> str:
    return f"{count:,} {'call or chat' if count == 1 else 'calls and chats'}"
