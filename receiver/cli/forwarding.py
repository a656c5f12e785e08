"""Commands about forwarded events: forward, and forward list, replay, discard."""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from receiver import clock, config
from receiver.cli.group import main
from receiver.cli.tables import print_table
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from receiver.store import AnyStore
    from receiver.store.outbox import QueueCount

_TARGET = click.option("--target", metavar="NAME", help="Only events for this target.")
# The maximum number of dead events that are printed.
_LISTED = 20


@main.group(invoke_without_command=True)
@click.pass_context
def forward(context: click.Context) -> None:
    """Send the events that wait to the targets of callhouse.toml, once.

    The worker does this all the time. The exit status is 1 if events still wait or are dead.

    \b
    Examples:
      callhouse forward
      callhouse forward list
    """
    if context.invoked_subcommand is not None:
        return
    from receiver.jobs.forward import close
    from receiver.jobs.forward import forward as send
    from receiver.jobs.worker import Run, running
    from receiver.store import open_store
    from receiver.store.engine import reading
    from receiver.store.outbox import queue_counts

    settings = config.load()
    if not settings.file.forward:
        raise SettingsError(
            "no target is configured", hint="Add one under [[forward]] in callhouse.toml."
        )
    store = open_store(settings.database)
    run = Run(settings, store)
    try:
        with running(settings, "forward", store) as lease:
            lease.incomplete = send(run)
    finally:
        close(run)
        store.close()
    with reading(settings.database) as connection:
        counts = queue_counts(connection)
    _print_counts(counts)
    sys.exit(1 if counts else 0)


@forward.command(name="list")
@_TARGET
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every dead event.")
def list_(target: str | None, as_json: bool) -> None:
    """List how many events wait or are dead, and the dead ones.

    \b
    Example:
      callhouse forward list
    """
    from receiver.jobs.status import at
    from receiver.store.engine import reading
    from receiver.store.outbox import dead_events, queue_counts

    settings = config.load()
    with reading(settings.database) as connection:
        queues = queue_counts(connection)
        _require_target(settings, queues, target)
        counts = [c for c in queues if target in (None, c.target)]
        dead = dead_events(connection, target, limit=1_000_000 if as_json else _LISTED)
    if as_json:
        value = {"targets": [asdict(c) for c in counts], "dead": [asdict(d) for d in dead]}
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
        return
    _print_counts(counts)
    if not dead:
        return
    click.echo()
    print_table(
        (("target", "piece"), ("call or chat", "text"), ("received", "piece"), ("problem", "text")),
        [
            (event.target, event.entity_id, at(event.received_at, settings.timezone),
             f"{event.problem}, {event.attempts} attempts")
            for event in dead
        ],
    )  # fmt: skip
    total = sum(c.events for c in counts if c.state == "dead")
    if total > len(dead):
        click.echo(f"… and {total - len(dead):,} more: --json lists them all")


@forward.command()
@_TARGET
def replay(target: str | None) -> None:
    """Send dead events again, with the next run of the worker or of `callhouse forward`.

    \b
    Example:
      callhouse forward replay --target crm
    """
    from receiver.store.outbox import replay as replay_dead

    with _opened(target) as store:
        count = replay_dead(store, target, now_ms=clock.now_ms())
    click.echo(f"{count:,} dead events wait again.")


@forward.command()
@_TARGET
@click.confirmation_option(prompt="Delete these events for good?")
def discard(target: str | None) -> None:
    """Delete dead events, and those for targets that callhouse.toml no longer has.

    They stay stored in callhouse itself.

    \b
    Example:
      callhouse forward discard --target crm --yes
    """
    from receiver.store.outbox import discard as discard_events

    known = [each.name for each in config.load().file.forward]
    with _opened(target) as store:
        count = discard_events(store, target, known=known)
    click.echo(f"{count:,} events deleted.")


def _opened(target: str | None) -> "closing[AnyStore]":
    """The configured database. Raises NotStored if there is none, SettingsError for an unknown
    target."""
    from receiver.store import open_store, require_bodies
    from receiver.store.engine import reading
    from receiver.store.outbox import queue_counts

    settings = config.load()
    require_bodies(settings.database)
    with reading(settings.database) as connection:
        _require_target(settings, queue_counts(connection), target)
    return closing(open_store(settings.database))


def _require_target(
    settings: config.Settings, queues: Sequence["QueueCount"], target: str | None
) -> None:
    """Raise SettingsError for a target that is not configured and has no events."""
    known = sorted({each.name for each in settings.file.forward} | {q.target for q in queues})
    if target is not None and target not in known:
        raise SettingsError(
            f"there is no target {target}", hint=f"The targets are: {', '.join(known) or 'none'}."
        )


def _print_counts(counts: Sequence["QueueCount"]) -> None:
    from receiver.jobs.status import ago

    if not counts:
        click.echo("No event waits.")
        return
    now_ms = clock.now_ms()
    print_table(
        (("target", "piece"), ("state", "piece"), ("events", "count"), ("oldest", "piece"),
         ("next attempt", "piece")),
        [
            (c.target, c.state, f"{c.events:,}", ago(c.oldest_ms, now_ms),
             "" if c.next_attempt_ms is None else ago(c.next_attempt_ms, now_ms))
            for c in counts
        ],
        styles=["red" if c.state == "dead" else None for c in counts],
    )  # fmt: skip
