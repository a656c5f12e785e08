"""The `callhouse` command. Exit status: 0 done, 1 something is wrong, 2 unusable arguments."""

import json
import os
import re
import sys
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from receiver import config
from receiver.errors import CallhouseError, SettingsError

_err = Console(stderr=True, highlight=False)


class _Group(click.Group):
    """Prints our errors as one sentence and what to do next, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CallhouseError as error:
            fail(error)
            ctx.exit(2 if isinstance(error, SettingsError) else 1)


def fail(error: CallhouseError) -> None:
    """Print an error and its hint."""
    _err.print("Error:", style="bold red", end=" ")
    _err.print(str(error), markup=False)
    if error.hint:
        _err.print(f"  {error.hint}", style="dim", markup=False)


def progress() -> Progress:
    """A progress bar on stderr, silent where stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_err,
        disable=not _err.is_terminal,
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="callhouse")
def main() -> None:
    """Keep every call of your Retell AI voice agents: receive, browse, ask.

    \b
    See it in a minute:   callhouse demo
    The real thing:       RETELL_API_KEY=key_... callhouse serve
    """


@main.command()
def serve() -> None:
    """Receive Retell's webhooks, verify them and store them.

    \b
    Example:
      RETELL_API_KEY=key_... callhouse serve
    """
    from receiver.store import sqlite_warning

    settings = config.load()
    settings.require_keys()
    config.require_free(settings.bind, "CALLHOUSE_BIND")
    if warning := sqlite_warning():
        _err.print(f"Warning: {warning}", style="yellow", markup=False)
    _err.print(f"Receiving on http://{settings.bind}/webhook, storing in {settings.database_path}")
    conf = str(config.shipped("gunicorn.conf.py"))
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", conf])


@main.command()
def browse() -> None:
    """Browse the calls with Datasette.

    \b
    Example:
      CALLHOUSE_BROWSE_PASSWORD=... callhouse browse
    """
    from receiver.browse.server import run

    run(config.load(), say=lambda text: _err.print(text, markup=False))


@main.command()
@click.option("--exit", "exit_", is_flag=True, help="End once every event is stored.")
@click.option("--calls", default=120, show_default=True, help="How many calls the day has.")
@click.option("--seed", default=1, show_default=True, help="Another seed, another day.")
@click.option("--day", default=None, metavar="YYYY-MM-DD", help="The day; yesterday by default.")
def demo(exit_: bool, calls: int, seed: int, day: str | None) -> None:
    """Run the whole thing on this machine with a made-up day of calls.

    \b
    Examples:
      callhouse demo
      callhouse demo --exit --seed 7
    """
    from receiver.demo import run

    sys.exit(
        run(config.load(), seed=seed, calls=calls, date=day, stay=not exit_, progress=progress)
    )


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--url", default=None, help="Endpoint; the configured receiver's by default.")
@click.option("--event", default=None, help="Send as this event.")
def send(files: tuple[Path, ...], url: str | None, event: str | None) -> None:
    """Sign JSON files and post them: webhook bodies as they are, call objects as call_analyzed.

    \b
    Examples:
      callhouse send call.json
      callhouse send --url https://calls.example.com/webhook --event call_ended *.json
    """
    from receiver.sending import TIMEOUT_SECONDS
    from receiver.sending import send as send_file

    settings = config.load()
    key = settings.require_keys()[0]
    url = url or f"http://{settings.bind}/webhook"
    failed = 0
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        width = max(len(path.name) for path in files)
        for path in files:
            try:
                sent = send_file(client, url, path, key=key, event=event)
            except httpx.HTTPError as error:
                line, good = f"not sent: {type(error).__name__}: {error}", False
            except CallhouseError as error:
                line, good = f"not sent: {error}", False
            else:
                line = f"{sent.status} {sent.milliseconds:6.1f} ms  {sent.event}  {sent.entity_id}"
                line, good = f"{line}  {sent.error}".rstrip(), not sent.error
            failed += not good
            click.secho(f"{path.name:{width}}  {line}", fg=None if good else "red")
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("call_id")
def show(call_id: str) -> None:
    """Print a stored call or chat as JSON in Retell's shape.

    \b
    Example:
      callhouse show call_b7559010ef20eb3a8e72252a524 | jq .call_analysis
    """
    from receiver.store import show as show_call

    text = json.dumps(show_call(config.load().database_path, call_id), ensure_ascii=False, indent=2)
    # A lone surrogate has no UTF-8; JSON can still spell it.
    click.echo(re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", text))


@main.command()
def rebuild() -> None:
    """Make every table anew from the stored observations, beside a running receiver.

    \b
    Example:
      callhouse rebuild
    """
    from receiver.store import Store
    from receiver.store import migrate as migrate_file
    from receiver.store import rebuild as rebuild_tables

    settings = config.load()
    migrate_file(settings.database_path, timezone=settings.timezone)
    store = Store(settings.database_path)
    with progress() as bar:
        task = bar.add_task("Rebuilding", total=None)
        done = rebuild_tables(store, progress=lambda n, of: bar.update(task, completed=n, total=of))
    store.close()
    click.echo(f"Rebuilt {done} calls, chats and other entities.")


@main.command()
def migrate() -> None:
    """Create or update the database and its views.

    \b
    Example:
      callhouse migrate
    """
    from receiver.store import migrate as migrate_file

    settings = config.load()
    applied = migrate_file(settings.database_path, timezone=settings.timezone)
    click.echo(f"{settings.database_path}: " + (", ".join(applied) or "already up to date"))


if __name__ == "__main__":
    main()
