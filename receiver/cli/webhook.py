"""Commands about webhooks: webhook show, set, test; send."""

import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx

from receiver import config
from receiver.cli.group import err, main, one_account, progress, some_accounts
from receiver.cli.tables import print_table
from receiver.errors import CallhouseError, RetellError, SettingsError

if TYPE_CHECKING:
    from receiver.retell.client import Retell
    from receiver.retell.webhooks import AgentWebhook


@main.group()
def webhook() -> None:
    """Show, set and test the agents' webhook URLs.

    \b
    Examples:
      callhouse webhook show
      callhouse webhook test https://calls.example.com/webhook
    """


@webhook.command()
@some_accounts
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(account: str | None, as_json: bool) -> None:
    """Show the webhook URL of each agent of each account.

    \b
    Example:
      callhouse webhook show
    """
    from receiver.retell.webhooks import agent_webhooks

    found = []
    for name, _, retell in _each(account):
        _print_workspace(retell)
        webhooks = list(agent_webhooks(retell))
        found += [{"account": name, **asdict(w)} for w in webhooks]
        if not as_json:
            _print_webhooks(webhooks)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))


def _print_webhooks(webhooks: list["AgentWebhook"]) -> None:
    print_table(
        (("agent", "piece"), ("name", "text"), ("version", "piece"), ("webhook URL", "piece")),
        [
            (w.agent_id, w.agent_name or "", _version(w), w.webhook_url or "the account's")
            for w in webhooks
        ],
    )
    own = sum(w.webhook_url is not None for w in webhooks)
    err.print(
        f"{own} of {len(webhooks)} agents have their own URL: for these Retell never calls "
        "the account's. Only Retell's dashboard shows that one (Webhooks).",
    )


@webhook.command(name="set")
@click.argument("url")
@click.option("--agent", "agent_id", metavar="ID", help="The agent to set it for.")
@click.option("--all", "all_agents", is_flag=True, help="Set it for every agent.")
@one_account
def set_(url: str, agent_id: str | None, all_agents: bool, account: str | None) -> None:
    """Set the webhook URL of one agent, or of all.

    \b
    Example:
      callhouse webhook set https://calls.example.com/webhook --agent agent_...
    """
    from receiver.retell.webhooks import channel_of, require_url, set_webhook

    require_url(url)
    if (agent_id is None) != all_agents:
        raise SettingsError("use either --agent ID or --all")
    with _retell(account) as retell, progress() as bar:
        agents = (
            [(agent_id, channel_of(retell, agent_id))]
            if agent_id is not None
            else [(a["agent_id"], str(a.get("channel") or "voice")) for a in retell.agents()]
        )
        differs = drafts = 0
        for one, channel in bar.track(agents, description="Setting"):
            now = set_webhook(retell, one, url, channel=channel)
            differs += now.webhook_url != url
            drafts += now.is_published is False
            click.echo(f"{one}  {_version(now)}  {now.webhook_url or 'none'}")
    if drafts:
        err.print("A draft applies to calls after it is published in Retell's dashboard.")
    if differs:
        err.print(f"{differs:,} of {len(agents):,} agents still have another URL.", style="red")
    sys.exit(1 if differs else 0)


@webhook.command()
@click.argument("url", required=False)
@some_accounts
def test(url: str | None, account: str | None) -> None:
    """Post a signed test event to a webhook URL, by default each agent's, and report problems.

    One event for each account, signed with its key. The receiver verifies it and does not store it.

    \b
    Example:
      callhouse webhook test https://calls.example.com/webhook
    """
    from receiver.retell.webhooks import agent_webhooks, require_url

    if url is not None:
        require_url(url)
    tested, wrong = 0, False
    for _, key, retell in _each(account):
        _print_workspace(retell)
        urls = (
            [url]
            if url is not None
            else sorted({w.webhook_url for w in agent_webhooks(retell) if w.webhook_url})
        )
        tested += len(urls)
        for one in urls:
            wrong |= _test(one, key)
    if not tested:
        raise SettingsError(
            "no agent has a webhook URL of its own",
            hint="Add the account's: callhouse webhook test https://HOST/webhook",
        )
    sys.exit(1 if wrong else 0)


def _test(url: str, key: str) -> bool:
    """Test a URL and print what was found; return whether something is wrong."""
    from receiver.retell.webhooks import check_webhook_url

    wrong = False
    click.echo(url)
    for finding in check_webhook_url(url, key=key, nonce=secrets.token_hex(8)):
        wrong |= finding.is_wrong
        mark, color = ("wrong", "red") if finding.is_wrong else ("", None)
        click.secho(f"  {mark:5} {finding.what}", fg=color)
        if finding.hint:
            click.secho(f"        {finding.hint}", dim=True)
    return wrong


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--url", default=None, help="Endpoint; the configured receiver's by default.")
@click.option("--event", default=None, help="Send as this event.")
def send(files: tuple[Path, ...], url: str | None, event: str | None) -> None:
    """Sign and post JSON files: webhook bodies unchanged, call objects as call_analyzed.

    \b
    Examples:
      callhouse send call.json
      callhouse send --url https://calls.example.com/webhook --event call_ended *.json
    """
    from receiver.retell.http import TIMEOUT_SECONDS, Client
    from receiver.retell.http import send as send_file
    from receiver.retell.webhooks import require_url

    settings = config.load()
    key = settings.require_keys()[0]
    url = url or f"http://{settings.bind}/webhook"
    require_url(url)
    failed = 0
    with Client(total_seconds=TIMEOUT_SECONDS, timeout=TIMEOUT_SECONDS) as client:
        width = max(len(path.name) for path in files)
        for path in files:
            try:
                sent = send_file(
                    client, url, path, key=key, event=event, max_bytes=settings.max_body_bytes
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                line, good = f"not sent: {type(error).__name__}: {error}", False
            except CallhouseError as error:
                line, good = f"not sent: {error}", False
            else:
                line = f"{sent.status} {sent.milliseconds:6.1f} ms  {sent.event}  {sent.entity_id}"
                line, good = f"{line}  {sent.error}".rstrip(), not sent.error
            failed += not good
            click.secho(f"{path.name:{width}}  {line}", fg=None if good else "red")
    sys.exit(1 if failed else 0)


def _print_workspace(retell: "Retell") -> None:
    try:
        name = retell.workspace()
    except RetellError as error:
        # Later requests will report it, and a URL can be tested without it.
        err.print(f"Workspace unknown: {error}", style="yellow")
    else:
        if name:
            err.print(f"Workspace: {name}")


def _version(webhook: "AgentWebhook") -> str:
    draft = " (draft)" if webhook.is_published is False else ""
    return f"{webhook.version}{draft}" if webhook.version is not None else ""


def _retell(account: str | None) -> "Retell":
    from receiver.retell.client import Retell

    settings = config.load()
    return Retell(settings.base_url, settings.require_api_key(account))


def _each(account: str | None) -> Iterator[tuple[str, str, "Retell"]]:
    """Name, key and API of the account, or of all, whose names are printed then."""
    from receiver.retell.client import Retell

    settings = config.load()
    accounts = settings.require_accounts(account)
    for one in accounts:
        if len(accounts) > 1:
            err.print(f"Account {one.name}", style="bold")
        key = settings.require_api_key(one.name)
        with Retell(settings.base_url, key) as retell:
            yield one.name, key, retell
