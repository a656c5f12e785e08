"""Commands that handle single events and calls: send, show."""

import json
import sys
from pathlib import Path

import click
import httpx

from receiver import config
from receiver.cli.group import main
from receiver.errors import CallhouseError


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
    from receiver.retell.http import TIMEOUT_SECONDS, Client
    from receiver.retell.http import send as send_file

    settings = config.load()
    key = settings.require_keys()[0]
    url = url or f"http://{settings.bind}/webhook"
    failed = 0
    with Client(total_seconds=TIMEOUT_SECONDS, timeout=TIMEOUT_SECONDS) as client:
        width = max(len(path.name) for path in files)
        for path in files:
            try:
                sent = send_file(
                    client, url, path, key=key, event=event, max_bytes=settings.max_body_bytes
                )
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

    found = show_call(config.load().database, call_id)
    click.echo(json.dumps(found, ensure_ascii=False, indent=2))
