"""Digests: figures and lists of a day or a week, for everybody or a role, of all calls or some.

In: views and tables, as of a day. Out: text and HTML without personal data, with links that require
a login. The job writes one message per digest, URL and day.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.config import Settings
from receiver.jobs.alert_findings import write
from receiver.jobs.alert_rules import DigestSettings
from receiver.jobs.alerts import pages_url
from receiver.jobs.digest_sections import PAST_DAYS, SECTIONS, Entry, Scope
from receiver.jobs.notify import deliver, target_of
from receiver.jobs.worker import Run
from receiver.store.alerts import Message, has_message, put_messages
from receiver.store.engine import reading
from schema.sql.macros import plain
from schema.statistics import Estimate, difference, mean, share

EVERYTHING = DigestSettings()
# With fewer calls on either side, no difference is shown.
MIN_CALLS = 30
# Sums of some days.
_SUMS = plain("""
SELECT
    coalesce(sum(h.calls), 0) AS calls,
    coalesce(sum(h.duration_ms_sum), 0) AS duration_ms,
    coalesce(sum(h.cost_cents_sum), 0) AS cost_cents,
    sum(h.successful_count * are_connected(h, r)) AS successful,
    sum(h.judged_count * are_connected(h, r)) AS judged,
    sum(h.negative_count * are_connected(h, r)) AS negative,
    sum(h.sentiment_count * are_connected(h, r)) AS with_sentiment,
    sum(h.e2e_p50_ms_sum) AS answer_ms,
    sum(h.e2e_p50_ms_squares) AS answer_squares,
    sum(h.e2e_p50_count) AS answers
FROM ({calls}) h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
""")
_SUM_NAMES = re.findall(r" AS (\w+)", _SUMS)
# Role -> its figures and lists, in this order. None means everybody.
_ROLES: dict[str | None, tuple[str, str]] = {
    None: (
        "Calls, Minutes, Cost, Success, Negative, Time to answer",
        "alerts month budgets versions calls chats reviews",
    ),
    "owner": ("Calls, Minutes, Cost, Cost of a minute, Success", "month budgets versions chats"),
    "support": ("Calls, Success, Negative, Time to answer", "calls negative chats reviews"),
    "operator": ("Calls, Minutes", "alerts deliveries coverage jobs disk"),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its usual value, and `better` or `worse`; empty if the difference is not
    significant."""

    name: str
    value: str
    usual: str
    word: str = ""


@dataclass(frozen=True, slots=True)
class Digest:
    """The content of a digest: figures, and lists by their headings. None is empty."""

    title: str
    figures: list[Figure]
    sections: dict[str, list[Entry]]


def read_digest(
    settings: Settings,
    last: date,
    of: DigestSettings = EVERYTHING,
    *,
    days: int = 1,
    now_ms: int,
) -> Digest:
    """A digest of a day, or of the days until it. Raises what `reading` and `read_status` raise."""
    first = last - timedelta(days=days - 1)
    figures, lists = _ROLES[of.role]
    with reading(settings.database) as connection:
        scope = Scope(connection, settings, of, first, last, now_ms)
        now = _sums(scope, first, last)
        past = _sums(scope, first - timedelta(days=PAST_DAYS), first - timedelta(days=1))
        part = days / scope.past_days if scope.past_days else 0.0
        found = compare_sums(now, past, part)
        sections = {SECTIONS[name][0]: SECTIONS[name][1](scope) for name in lists.split()}
    dates = f"{last}" if days == 1 else f"{first} to {last}"
    return Digest(
        f"{of.name}: calls of {dates}" if of.name else f"Calls of {dates}",
        [figure for figure in found if figure.name in figures.split(", ")],
        {heading: entries for heading, entries in sections.items() if entries},
    )


def _sums(scope: Scope, first: date, last: date) -> dict[str, Any]:
    [values] = scope.read(_SUMS, scope.days(first, last))
    return dict(zip(_SUM_NAMES, (float(value or 0) for value in values), strict=True))


def compare_sums(now: Mapping[str, float], past: Mapping[str, float], part: float) -> list[Figure]:
    """The figures of some days and the usual ones: the share `part` of the sums of the days
    before."""

    def usual(name: str, form: str, per: float = 1.0) -> str:
        return form.format(past[name] / per * part) if part else ""

    minutes = f"{now['duration_ms'] / 60_000:,.0f}"
    figures = [
        Figure("Calls", f"{now['calls']:,.0f}", usual("calls", "{:,.0f}")),
        Figure("Minutes", minutes, usual("duration_ms", "{:,.0f}", 60_000)),
        Figure("Cost", f"${now['cost_cents'] / 100:,.2f}", usual("cost_cents", "${:,.2f}", 100)),
    ]
    of_now, of_past = (_cents_of_a_minute(of) for of in (now, past))
    if of_now:
        figures.append(Figure("Cost of a minute", of_now, of_past))
    pairs: tuple[tuple[str, int, str, Callable[[Mapping[str, float]], Estimate | None]], ...] = (
        ("Success", 1, "share", lambda of: share(of["successful"], int(of["judged"]))),
        ("Negative", -1, "share", lambda of: share(of["negative"], int(of["with_sentiment"]))),
        (
            "Time to answer", -1, "ms",
            lambda of: mean(of["answer_ms"], of["answer_squares"], int(of["answers"])),
        ),
    )  # fmt: skip
    for name, better, unit, estimate in pairs:
        new, old = estimate(now), estimate(past)
        if new is not None:
            before = "" if old is None else write(old.value, unit)
            figures.append(Figure(name, write(new.value, unit), before, _word(old, new, better)))
    return figures


def _cents_of_a_minute(of: Mapping[str, float]) -> str:
    minutes = of["duration_ms"] / 60_000
    return write(of["cost_cents"] / minutes, "cents") if minutes else ""


def _word(past: Estimate | None, now: Estimate, better: int) -> str:
    """better or worse, if the 95 % interval of the difference does not contain 0."""
    if past is None:
        return ""
    change = difference(past, now)
    if change.count < MIN_CALLS or change.low <= 0 <= change.high:
        return ""
    return "better" if (change.low > 0) == (better > 0) else "worse"


def as_text(digest: Digest, base: str | None) -> str:
    """The digest as plain text."""
    lines = []
    for figure in digest.figures:
        usual = f" (usually {figure.usual}{', ' + figure.word if figure.word else ''})"
        lines.append(f"{figure.name}: {figure.value}{usual if figure.usual else ''}")
    for heading, entries in digest.sections.items():
        lines += ["", heading]
        lines += [f"- {text}{f' {base}{link}' if base else ''}" for text, link in entries]
    return "\n".join(lines)


def as_html(digest: Digest, base: str | None) -> str:
    """The digest as HTML for a mail client, with inline styles and without external files."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("receiver.jobs", "."), autoescape=True, trim_blocks=True
    )
    return environment.get_template("digest.html").render(digest=digest, base=base or "")


def message_of(
    settings: Settings, digest: Digest, message_id: str, url: str, *, now_ms: int
) -> Message:
    """The digest as a message to a URL."""
    base = pages_url(settings.file)
    return Message(
        message_id, target_of(url), now_ms, digest.title, as_text(digest, base),
        as_html(digest, base), next_attempt_at=now_ms,
    )  # fmt: skip


def run_digest(run: Run) -> str | None:
    """Write the digests that are due, for yesterday, or on Mondays for the last week, and deliver
    messages."""
    for of in run.settings.file.alerts.digests:
        run.check()
        _write_if_due(run, of)
    return "; ".join(deliver(run)) or None


def _write_if_due(run: Run, of: DigestSettings) -> None:
    now_ms = run.now_ms()
    now = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(run.settings.timezone))
    if now.hour < of.hour or (of.every == "weekly" and now.weekday() != 0) or not of.notify:
        return
    last = now.date() - timedelta(days=1)
    message_id = "-".join(["digest", *filter(None, [of.name]), last.isoformat()])
    with reading(run.settings.database) as connection:
        if has_message(connection, message_id):
            return
    digest = read_digest(run.settings, last, of, days=of.days, now_ms=now_ms)
    put_messages(
        run.store,
        [message_of(run.settings, digest, message_id, url, now_ms=now_ms) for url in of.notify],
    )
