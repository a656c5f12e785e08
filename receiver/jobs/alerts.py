"""The job `alerts`: findings of rules open and resolve alerts, and are sent as messages.

`advance` is pure. In: open alerts and findings. Out: the alerts that changed, and the changes to
report. All changes of one run are one message. An alert that another one explains is not reported,
unless it is still open when the other one is resolved.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from receiver.clock import has_passed
from receiver.config import Settings
from receiver.config_file import ConfigFile
from receiver.jobs.alert_findings import Finding, find, opened, without_people
from receiver.jobs.alert_rules import SEVERITIES, AlertSettings, Rule
from receiver.jobs.notify import deliver, target_of
from receiver.jobs.status import at
from receiver.jobs.worker import Run, message_of
from receiver.store import alerts as store_of
from receiver.store.alerts import Alert, Message, RetellAlert
from receiver.store.engine import reading

# An alert is resolved when its rule has not found it for so many runs and this time.
SETTLE_RUNS, SETTLE_MS = 6, 600_000
# Lines of a message.
MAX_LINES = 10
# Older events of Retell's rules were imported and are not reported.
_RECENT_MS = 3_600_000
_FORGET_MS = 90 * 86_400_000
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class AlertChange:
    """A change of an alert that a message reports: `what` is opened, worse, still open or
    resolved."""

    what: str
    alert: Alert


@dataclass(slots=True)
class Advance:
    """The result of a run: new rows, changed rows, and the changes to report."""

    opened: list[Alert] = field(default_factory=list)
    changed: list[Alert] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)


def advance(
    rules: Sequence[Rule],
    found: Mapping[str, Sequence[Finding]],
    open_alerts: Iterable[Alert],
    *,
    now_ms: int,
) -> Advance:
    """Compare findings with the open alerts. Rules that are not in `found` did not run."""
    result = Advance()
    by_key = {(alert.rule, alert.key): alert for alert in open_alerts}
    known = {rule.name for rule in rules}
    for place, alert in list(by_key.items()):
        if alert.rule not in known:
            # The rule is disabled or deleted.
            result.changed.append(replace(alert, resolved_at=now_ms, changed_at=now_ms))
            del by_key[place]
    # Rules that hide others come first, so that these are hidden in the same run.
    for rule in sorted(rules, key=lambda rule: (not rule.hides, -len(rule.hides))):
        if rule.name not in found:
            continue
        findings = {finding.key: finding for finding in found[rule.name]}
        for key, finding in findings.items():
            before = by_key.get((rule.name, key))
            cause = _cause(rule, rules, by_key)
            alert, changes = _seen(before, finding, cause, now_ms)
            by_key[rule.name, key] = alert
            (result.opened if before is None else result.changed).append(alert)
            result.changes += changes
        settle_ms = max(SETTLE_MS, min(SETTLE_RUNS * rule.interval * 1000, _DAY_MS))
        for (name, key), alert in list(by_key.items()):
            is_settled = has_passed(settle_ms, since=alert.seen_at, now_ms=now_ms)
            if name != rule.name or key in findings or not is_settled:
                continue
            ended = replace(alert, resolved_at=now_ms, changed_at=now_ms)
            del by_key[name, key]
            result.changed.append(ended)
            if alert.notified_at is not None and not alert.is_snoozed(now_ms):
                result.changes.append(AlertChange("resolved", ended))
    return result


def _cause(
    rule: Rule, rules: Sequence[Rule], by_key: Mapping[tuple[str, str], Alert]
) -> str | None:
    """An open alert that explains the rule's findings, and is itself not explained by another."""
    hiding = {other.name for other in rules if rule.name in other.hides}
    found = [a for (name, _), a in by_key.items() if name in hiding and a.cause is None]
    return min((alert.alert_id for alert in found), default=None)


def _seen(
    before: Alert | None, finding: Finding, cause: str | None, now_ms: int
) -> tuple[Alert, list[AlertChange]]:
    figures = json.dumps(finding.figures, default=str)
    if before is None:
        name = f"{finding.rule}\0{finding.key}\0{now_ms}"
        alert = Alert(
            hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16],
            finding.rule, finding.key, finding.severity, finding.text, figures, finding.link,
            cause, opened_at=now_ms, seen_at=now_ms, changed_at=now_ms,
        )  # fmt: skip
        return alert, [] if cause else [AlertChange("opened", alert)]
    if before.cause is not None and before.notified_at is None:
        # It was hidden until now: it is reported when no open alert explains it.
        is_hidden = cause is not None
    else:
        is_hidden, cause = False, before.cause
    alert = replace(
        before, severity=finding.severity, text=finding.text, figures=figures, link=finding.link,
        cause=cause, seen_at=now_ms, changed_at=now_ms,
    )  # fmt: skip
    if is_hidden or alert.is_snoozed(now_ms):
        return alert, []
    if before.cause is not None and cause is None:
        return alert, [AlertChange("opened", alert)]
    if SEVERITIES.index(finding.severity) > SEVERITIES.index(before.severity):
        return alert, [AlertChange("worse", alert)]
    if before.snoozed_until is not None and before.seen_at < before.snoozed_until:
        return alert, [AlertChange("still open", alert)]
    return alert, []


def run_alerts(run: Run) -> str | None:
    """Evaluate the rules that are due, write what changed, and deliver messages."""
    now_ms, of = run.now_ms(), run.settings.file.alerts
    last: dict[str, int] = run.memory.setdefault("alerts", {})
    due = [
        rule
        for rule in of.rules
        if has_passed(rule.interval * 1000 - 1000, since=last.get(rule.name, 0), now_ms=now_ms)
    ]
    found, problems = evaluate(due, run.settings, now_ms=now_ms, check=run.check)
    with reading(run.settings.database) as connection:
        alerts = store_of.read_alerts(connection)
        of_retell = store_of.new_retell_alerts(connection, now_ms=now_ms)
    result = advance(of.rules, found, alerts, now_ms=now_ms)
    recent = [each for each in of_retell if now_ms - (each.received_at or 0) < _RECENT_MS]
    messages = []
    if of.notify and (result.changes or recent):
        messages = compose(run.settings, result.changes, recent, now_ms=now_ms)
        told = {change.alert.alert_id for change in result.changes}
        for rows in (result.opened, result.changed):
            rows[:] = [replace(a, notified_at=now_ms) if a.alert_id in told else a for a in rows]
    if result.opened or result.changed or of_retell:
        store_of.write_run(run.store, result.opened, result.changed, messages, of_retell)
    # Not before: if the findings were not stored, the rules are due again.
    last |= dict.fromkeys((rule.name for rule in due), now_ms)
    if has_passed(_DAY_MS, since=last.get("", 0), now_ms=now_ms):
        store_of.forget_messages(run.store, before=now_ms - _FORGET_MS)
        last[""] = now_ms
    problems += deliver(run)
    return "; ".join(problems) or None


def evaluate(
    rules: Iterable[Rule], settings: Settings, *, now_ms: int, check: Any = lambda: None
) -> tuple[dict[str, list[Finding]], list[str]]:
    """The findings of each rule, and why rules could not run."""
    found: dict[str, list[Finding]] = {}
    problems = []
    for rule in rules:
        check()
        try:
            found[rule.name] = find(rule, settings, now_ms=now_ms)
        except Exception as error:
            # Whatever is wrong with one rule, the others must be evaluated.
            problems.append(f"the rule {rule.name}: {message_of(error)}")
    return found, problems


def compose(
    settings: Settings,
    changes: Sequence[AlertChange],
    of_retell: Sequence[RetellAlert],
    *,
    now_ms: int,
) -> list[Message]:
    """One message about all changes, for each URL."""
    of = settings.file.alerts
    lines = [_line(each, settings) for each in changes]
    lines += [f"Retell: {describe_retell(alert)}" for alert in of_retell]
    rest = len(lines) - MAX_LINES
    shown = lines[:MAX_LINES] + ([f"… and {rest} more."] if rest > 0 else [])
    base = pages_url(settings.file)
    if base:
        shown.append(f"{base}/-/alerts")
    title, body = _title(of, changes, of_retell), "\n".join(shown)
    message_id = hashlib.sha256(f"{now_ms}\0{title}\0{body}".encode()).hexdigest()[:16]
    return [
        Message(message_id, target_of(url), now_ms, title, body, next_attempt_at=now_ms)
        for url in of.notify
    ]


def _title(
    of: AlertSettings, changes: Sequence[AlertChange], of_retell: Sequence[RetellAlert]
) -> str:
    if len(changes) == 1 and not of_retell:
        [only] = changes
        rule = of.rule(only.alert.rule)
        name = rule.title if rule else only.alert.rule
        is_over = only.what == "resolved"
        return f"{'Resolved' if is_over else only.alert.severity.capitalize()}: {name}"
    counts = {
        "resolved": sum(each.what == "resolved" for each in changes),
        "open": sum(each.what != "resolved" for each in changes) + len(of_retell),
    }
    return "Alerts: " + ", ".join(
        f"{counts[name]} {name}" for name in ("open", "resolved") if counts[name]
    )


def _line(change: AlertChange, settings: Settings) -> str:
    alert = change.alert
    base = pages_url(settings.file)
    link = f" {base}{alert.link}" if base and alert.link else ""
    match change.what:
        case "resolved":
            since = at(alert.opened_at, settings.timezone)
            return f"Resolved: {alert.text} (open since {since} {settings.timezone})."
        case "opened":
            return f"{alert.severity.capitalize()}: {alert.text}.{link}"
    return f"{change.what.capitalize()} ({alert.severity}): {alert.text}.{link}"


def describe_retell(alert: RetellAlert) -> str:
    """An alert of Retell's rules, for people."""
    value = "" if alert.current_value is None else f" is {alert.current_value:g}"
    than = ""
    if alert.threshold_value is not None:
        than = f", threshold {alert.comparator or ''} {alert.threshold_value:g}"
        than += " % of change" if alert.threshold_type == "relative" else ""
    metric = (alert.metric_type or "a value").replace("_", " ")
    period = f" within {alert.period}" if alert.period else ""
    return without_people(f"{alert.name or 'a rule'}: {metric}{period}{value}{than}")


def pages_url(file: ConfigFile) -> str | None:
    """The address of callhouse's pages, without a slash at its end: `alerts.pages`, else the host
    of the webhook URL."""
    if file.alerts.pages:
        return file.alerts.pages.rstrip("/")
    if file.public_url is None:
        return None
    parts = urlsplit(file.public_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert that a rule would have opened; `resolved_at` None: it would be open."""

    key: str
    severity: str
    text: str
    opened_at: int
    resolved_at: int | None


def replay(
    rule: Rule, settings: Settings, *, since_ms: int, now_ms: int, step_ms: int | None = None
) -> Iterator[Episode]:
    """The alerts that a rule would have opened in a period, computed from the stored data, ordered
    by their end.

    Raises what `find` raises.
    """
    step = step_ms or max(rule.interval * 1000, 300_000)
    open_alerts: dict[str, Alert] = {}
    with opened(settings) as moment:
        for at_ms in range(since_ms, now_ms + 1, step):
            found = {rule.name: find(rule, settings, now_ms=at_ms, moment=moment)}
            result = advance([rule], found, open_alerts.values(), now_ms=at_ms)
            for alert in [*result.opened, *result.changed]:
                if alert.is_open:
                    open_alerts[alert.alert_id] = alert
                else:
                    del open_alerts[alert.alert_id]
                    yield _episode(alert)
    yield from map(_episode, open_alerts.values())


def _episode(alert: Alert) -> Episode:
    return Episode(alert.key, alert.severity, alert.text, alert.opened_at, alert.resolved_at)
