"""The command that runs a local Retell."""

import secrets
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from receiver import config
from receiver.addresses import parse_bind, require_free
from receiver.cli.group import Number, main, seed_option
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from receiver.sandbox.deliveries import Delivery

_SHARE = Number(0, 1)
_out = Console(highlight=False, soft_wrap=True)


@main.command()
@click.option("--bind", default="127.0.0.1:8002", show_default=True, help="Address of the API.")
@seed_option
@click.option(
    "--speed",
    default=10.0,
    show_default=True,
    type=Number(0, 1_000_000),
    help="How many times faster than real time; 0 does not wait.",
)
@click.option(
    "--webhook-url",
    default=None,
    help="The account's webhook URL; by default the configured receiver's.",
)
@click.option("--scenario", default=None, help="Scenario of calls to numbers without one.")
@click.option(
    "--history",
    type=click.IntRange(0, 1_000_000),
    default=0,
    help="Number of past calls of the account.",
)
@click.option("--drop", default=0.0, type=_SHARE, help="Share of webhooks that are never sent.")
@click.option("--duplicate", default=0.0, type=_SHARE, help="... that are sent twice.")
@click.option("--delay", default=0.0, type=_SHARE, help="... that are late.")
@click.option("--reorder", default=0.0, type=_SHARE, help="... that are swapped with the next.")
@click.option(
    "--resign-late", default=0.0, type=_SHARE, help="... that are sent again, with a new signature."
)
@click.option("--future", default=0.0, type=_SHARE, help="... that are signed ten minutes ahead.")
def sandbox(
    bind: str,
    seed: int,
    speed: float,
    webhook_url: str | None,
    scenario: str | None,
    history: int,
    **mischief: Any,
) -> None:
    """Run a local Retell: its API and its webhooks, without an account.

    \b
    Examples:
      callhouse sandbox
      callhouse sandbox --speed 0 --scenario answered --drop 0.1
    """
    from receiver.sandbox.server import Sandbox

    settings = config.load()
    try:
        address = parse_bind(bind)
    except ValueError as error:
        raise SettingsError(f"--bind is not valid: {error}") from None
    require_free(address, "--bind")
    key = settings.webhook_keys[0] if settings.webhook_keys else ""
    local = Sandbox(
        api_key=key or f"key_{secrets.token_hex(14)}",
        seed=seed,
        speed=speed,
        webhook_url=webhook_url or f"http://{settings.bind}/webhook",
        scenario=scenario,
        host=address.host,
        port=address.port,
        on_request=_request_line,
        on_delivery=_delivery_line,
        **mischief,
    )
    with local:
        local.populate(calls=history)
        _where(local.url, local.api_key, generated=not key, webhook_url=str(local.webhook_url))
        signal.pause()


def _where(url: str, key: str, *, generated: bool, webhook_url: str) -> None:
    shown = key if generated else "(as in RETELL_API_KEY)"
    _out.print(f"A local Retell at [bold]{url}[/bold], API key [bold]{shown}[/bold]")
    _out.print(f"Webhooks go to {webhook_url}", markup=False)
    _out.print("\nPoint callhouse at it, and start the receiver:")
    if generated:
        _out.print(f"  export RETELL_API_KEY={key}", markup=False)
    _out.print(f"  export RETELL_BASE_URL={url}", markup=False)
    _out.print("  callhouse serve")
    _out.print("or retell-sdk:")
    _out.print(f'  Retell(api_key="...", base_url="{url}")', markup=False)
    _out.print("\n[dim]Ctrl-C stops it.[/dim]")


def _request_line(method: str, path: str, status: int) -> None:
    _line("request", f"{method:6} {path}", str(status), good=status < 400)


def _delivery_line(delivery: "Delivery") -> None:
    what = f"{delivery.event or 'tool request':18} {delivery.call_id}"
    answer = str(delivery.status or "no answer")
    if delivery.attempts == 0:
        answer = "dropped"
    elif delivery.attempts > 1:
        answer += f", attempt {delivery.attempts}"
    _line("webhook", what, answer, good=delivery.arrived)


def _line(kind: str, what: str, answer: str, *, good: bool) -> None:
    now = datetime.now().strftime("%H:%M:%S")
    line = Text.assemble(
        (now, "dim"), f"  {kind}  {what:56}  ", (answer, "green" if good else "red")
    )
    # In one call: requests and webhooks print from several threads.
    _out.print(line)
