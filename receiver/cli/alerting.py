"""Commands about alerts: alerts, and alerts test, ack, snooze; and digest."""

import json
import re
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from receiver import clock, config
from receiver.cli.erasing import author
from receiver.cli.group import Day, err, main
from receiver.cli.tables import print_table
from receiver.errors import NotStored, SettingsError

if TYPE_CHECKING:
    from receiver.config import Settings
    from receiver.jobs.alert_rules import DigestSettings, Rule

_DAY_MS = 86_400_000
_UNITS = {"m": 60_000, "h": 3_600_000, "d": _DAY_MS}


@main.group(invoke_without_command=True)
@click.option(
    "--days",
    default=7,
    metavar="N",
    type=click.IntRange(0, 36_600),
    help="Also alerts that were resolved in the last N days; 7 by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times in milliseconds.")
@click.pass_context
def alerts(context: click.Context, days: int, as_json: bool) -> None:
    """List the open alerts, and those that were resolved in the last days.

    The worker evaluates the rules each minute. The exit status is 1 while an alert is open.

    \b
    Examples:
      callhouse alerts
      callhouse alerts test silence
      callhouse alerts snooze 5f0c2a --for 2h
    """
    if context.invoked_subcommand is not None:
        return
    from receiver.jobs.status import ago
    from receiver.store.alerts import read_alerts
    from receiver.store.engine import reading

    settings, now_ms = config.load(), clock.now_ms()
    with reading(settings.database) as connection:
        found = read_alerts(connection, resolved_since=now_ms - days * _DAY_MS)
    found.sort(key=lambda alert: (not alert.is_open, -alert.opened_at))
    if as_json:
        rows = [asdict(alert) | {"figures": json.loads(alert.figures or "{}")} for alert in found]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif not found:
        click.echo("No alert is open.")
    else:
        print_table(
            (("id", "piece"), ("state", "piece"), ("severity", "piece"), ("opened", "piece"),
             ("what", "text")),
            [
                (alert.alert_id[:8], alert.state(now_ms), alert.severity,
                 ago(alert.opened_at, now_ms), alert.text)
                for alert in found
            ],
            styles=["red" if alert.is_open and not alert.cause else None for alert in found],
        )  # fmt: skip
    sys.exit(1 if any(alert.is_open for alert in found) else 0)


@alerts.command(name="test")
@click.argument("rule", metavar="RULE")
@click.option(
    "--days",
    default=30,
    metavar="N",
    type=click.IntRange(1, 366),
    help="How many days back; 30 by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times in milliseconds.")
def test_rule(rule: str, days: int, as_json: bool) -> None:
    """Print when a rule would have opened an alert in the last 30 days.

    It is evaluated on what is stored now, at each of its intervals, at most every 5 minutes.

    \b
    Example:
      callhouse alerts test success
    """
    from receiver.jobs.alert_findings import can_replay
    from receiver.jobs.alerts import replay
    from receiver.jobs.status import at

    settings, now_ms = config.load(), clock.now_ms()
    found = _rule(settings, rule)
    if not can_replay(found):
        raise SettingsError(
            f"the past of the rule {rule} is not stored",
            hint="`callhouse work --once alerts` evaluates it now.",
        )
    episodes = sorted(
        replay(found, settings, since_ms=now_ms - days * _DAY_MS, now_ms=now_ms),
        key=lambda episode: episode.opened_at,
    )
    if as_json:
        click.echo(json.dumps([asdict(each) for each in episodes], ensure_ascii=False, indent=2))
        return
    times = f"{len(episodes):,} time{'s' * (len(episodes) != 1)}"
    click.echo(f"{rule} would have opened an alert {times} in the last {days} days.")
    if episodes:
        print_table(
            (("opened", "piece"), ("resolved", "piece"), ("what", "text")),
            [
                (at(each.opened_at, settings.timezone),
                 at(each.resolved_at, settings.timezone) or "open", each.text)
                for each in episodes
            ],
        )  # fmt: skip


@alerts.command()
@click.argument("alert_id", metavar="ALERT", nargs=-1, required=True)
def ack(alert_id: tuple[str, ...]) -> None:
    """Acknowledge open alerts: show others that you work on them.

    \b
    Example:
      callhouse alerts ack 5f0c2a
    """
    from receiver.store import open_store
    from receiver.store.alerts import acknowledge

    settings = config.load()
    found = _ids(settings, alert_id)
    with closing(open_store(settings.database)) as store:
        count = acknowledge(store, found, user=author(), now_ms=clock.now_ms())
    click.echo(f"{count:,} acknowledged.")


@alerts.command()
@click.argument("alert_id", metavar="ALERT", nargs=-1, required=True)
@click.option(
    "--for", "length", default="1d", metavar="TIME", help="How long: 30m, 2h or 1d; 1d by default."
)
def snooze(alert_id: tuple[str, ...], length: str) -> None:
    """Send no message about open alerts for a time.

    If one is open after that time, a message says so.

    \b
    Example:
      callhouse alerts snooze 5f0c2a --for 2h
    """
    from receiver.jobs.status import at
    from receiver.store import alerts as store_of
    from receiver.store import open_store

    match = re.fullmatch(r"([1-9][0-9]{0,3})([mhd])", length)
    if match is None:
        raise SettingsError("--for must be a time such as 30m, 2h or 1d")
    settings, now_ms = config.load(), clock.now_ms()
    until = now_ms + int(match[1]) * _UNITS[match[2]]
    found = _ids(settings, alert_id)
    with closing(open_store(settings.database)) as store:
        count = store_of.snooze(store, found, until=until, now_ms=now_ms)
    click.echo(f"{count:,} snoozed until {at(until, settings.timezone)}.")


def _rule(settings: "Settings", name: str) -> "Rule":
    found = settings.file.alerts.rule(name)
    if found is None:
        names = ", ".join(rule.name for rule in settings.file.alerts.rules)
        raise SettingsError(f"there is no rule {name}", hint=f"The rules are: {names}.")
    return found


def _digest(settings: "Settings", name: str) -> "DigestSettings":
    digests = settings.file.alerts.digests
    found = next((each for each in digests if each.name == name), None)
    if found is None:
        names = ", ".join(filter(None, (each.name for each in digests)))
        hint = f"The digests are: {names}." if names else "[[alerts.digest]] adds one."
        raise SettingsError(f"there is no digest {name}", hint=hint)
    return found


def _ids(settings: "Settings", begins: tuple[str, ...]) -> list[str]:
    """The open alerts whose ids begin like these. Raises NotStored."""
    from receiver.store.alerts import read_alerts
    from receiver.store.engine import reading

    with reading(settings.database) as connection:
        known = [a.alert_id for a in read_alerts(connection)]
    found = []
    for begin in begins:
        matching = [alert_id for alert_id in known if alert_id.startswith(begin)]
        if len(matching) != 1:
            raise NotStored(
                f"{len(matching)} open alerts have an id that begins with {begin}",
                hint="`callhouse alerts` lists the ids.",
            )
        found += matching
    return found


@main.command()
@click.option("--day", type=Day(), metavar="YYYY-MM-DD", help="The last day; yesterday by default.")
@click.option("--week", is_flag=True, help="The seven days until that day.")
@click.option(
    "--name", metavar="NAME", help="A digest of [[alerts.digest]]; everything by default."
)
@click.option(
    "--to",
    "target",
    default="-",
    metavar="URL",
    help="Send it to a URL of apprise; - prints it, which is the default.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "html"]),
    default="text",
    help="The format in which it is printed.",
)
def digest(day: datetime | None, week: bool, name: str | None, target: str, format_: str) -> None:
    """Print or send a digest: figures, costs, new versions, worst calls and open alerts.

    The worker sends those that [alerts] in callhouse.toml has, daily or weekly.

    \b
    Examples:
      callhouse digest
      callhouse digest --day 2026-10-31 --week --format html
      callhouse digest --name owner
    """
    from receiver.jobs.alerts import pages_url
    from receiver.jobs.digest import (
        EVERYTHING,
        as_html,
        as_text,
        message_of,
        read_digest,
    )
    from receiver.jobs.notify import UNKNOWN_URL, send

    settings, now_ms = config.load(), clock.now_ms()
    today = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(settings.timezone)).date()
    last = day.date() if day else today - timedelta(days=1)
    of = _digest(settings, name) if name else EVERYTHING
    found = read_digest(settings, last, of, days=7 if week else of.days, now_ms=now_ms)
    if target == "-":
        base = pages_url(settings.file)
        is_html = format_ == "html"
        click.echo(as_html(found, base) if is_html else f"{found.title}\n\n{as_text(found, base)}")
        return
    problem = send(target, message_of(settings, found, "digest", target, now_ms=now_ms))
    if problem == UNKNOWN_URL:
        raise SettingsError(f"the digest was not sent: {problem}")
    if problem is not None:
        err.print(f"The digest was not sent: {problem}.", style="red")
        sys.exit(1)
    click.echo("The digest was sent.")
