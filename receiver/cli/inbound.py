"""`callhouse inbound test`: print the answer of the rules of callhouse.toml to an inbound call or
chat."""

import json
import sys
import time
from contextlib import closing
from datetime import datetime
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.cli.group import err, main
from receiver.cli.tables import print_table
from receiver.errors import SettingsError


@main.group()
def inbound() -> None:
    """Try the rules that answer inbound calls and chats.

    \b
    Example:
      callhouse inbound test +14155550100
    """


@inbound.command()
@click.argument("from_number")
@click.option("--to", "to_number", default="", metavar="NUMBER", help="The number that is called.")
@click.option("--agent", "agent_id", default="", metavar="ID", help="The agent of that number.")
@click.option("--chat", "is_chat", is_flag=True, help="An SMS chat instead of a call.")
@click.option(
    "--at", type=click.DateTime(), help="The time, in CALLHOUSE_TIMEZONE; now by default."
)
@click.option("--account", default=config.DEFAULT_ACCOUNT, metavar="NAME", help="The account.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def test(
    from_number: str,
    to_number: str,
    agent_id: str,
    is_chat: bool,
    at: datetime | None,
    account: str,
    as_json: bool,
) -> None:
    """Print what Retell would be answered, and which rules do not match.

    Nothing is stored. The exit status is 1 if the rules failed and the answer is therefore empty.

    \b
    Examples:
      callhouse inbound test +14155550100
      callhouse inbound test +14155550100 --to +14155550199 --at "2026-11-27 22:15:00"
    """
    from receiver.inbound_rules import InboundRequest
    from receiver.store import open_store
    from receiver.webhook.inbound import InboundRules

    settings = config.load()
    if not settings.file.inbound:
        raise SettingsError(
            "no rule is configured", hint="Add one under [[inbound.rule]] in callhouse.toml."
        )
    names = [each.name for each in settings.accounts]
    if names and account not in names:
        raise SettingsError(
            f"there is no account {account}", hint=f"The accounts are: {', '.join(names)}."
        )
    event = "chat_inbound" if is_chat else "call_inbound"
    request = InboundRequest(event, account, from_number, to_number, agent_id)
    zone = ZoneInfo(settings.timezone)
    now_ms = round(at.replace(tzinfo=zone).timestamp() * 1000) if at else clock.now_ms()
    with closing(open_store(settings.database)) as store:
        rules = InboundRules(settings, store)
        rules.check()
        began = time.perf_counter()
        decision = rules.decide(request, now_ms=now_ms)
        took_ms = round((time.perf_counter() - began) * 1000, 1)
    if as_json:
        value = {
            "rule": decision.rule,
            "answer": {event: decision.answer},
            "mismatches": dict(decision.mismatches),
            "problem": decision.problem,
            "ms": took_ms,
        }
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
    else:
        if decision.mismatches:
            print_table((("rule", "text"), ("does not match", "text")), decision.mismatches)
        click.echo(f"Answered by {decision.rule or 'no rule'} in {took_ms} ms:")
        click.echo(json.dumps({event: decision.answer}, ensure_ascii=False, indent=2))
    if decision.problem:
        err.print(f"The rules failed: {decision.problem}")
        sys.exit(1)
