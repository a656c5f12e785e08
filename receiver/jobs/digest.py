"""The digest: a day or a week in figures, worst calls, new versions, budgets and open alerts.

In: views, as of a day. Out: text and HTML without personal data, with links that ask for a login.
The job writes it as a message to each URL of the configuration, once for each day.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.clock import format_duration, midnight_ms
from receiver.config import Settings
from receiver.errors import SettingsError
from receiver.jobs.alert_findings import read_budgets, write
from receiver.jobs.alerts import pages_url
from receiver.jobs.notify import target_of
from receiver.jobs.worker import Run
from receiver.store.alerts import Message, has_message, put_messages, read_alerts
from receiver.store.engine import reading
from receiver.store.protocols import Connection
from schema.sql.macros import plain
from schema.statistics import Estimate, difference, mean, share

PAST_DAYS = 28
# With fewer calls on either side, no difference is shown.
MIN_CALLS = 30
_WORST, _ALERTS = 5, 10
# Sums of some days: they have the columns of daily_calls.
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
FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE h.day >= ? AND h.day <= ?
""")
_WORST_CALLS = plain("""
SELECT c.call_id, coalesce(c.agent_name, c.agent_id), lower(a.user_sentiment), c.duration_ms
FROM calls c JOIN analyses a ON a.call_id = c.call_id
WHERE call_time(c) >= ? AND call_time(c) < ? AND a.call_successful = 0
ORDER BY
    CASE WHEN lower(a.user_sentiment) = 'negative' THEN 0 ELSE 1 END,
    coalesce(c.duration_ms, 0) DESC, c.call_id
LIMIT ?
""")
_OLDEST = "SELECT min(day) FROM daily_calls WHERE day >= ?"
# Versions whose first call is of these days, of agents that had calls before.
_NEW_VERSIONS = """
SELECT agent_id, agent_version, max(agent_name), sum(calls) FROM daily_calls
WHERE day <= :last AND agent_version IS NOT NULL AND agent_id IN (
    SELECT agent_id FROM daily_calls WHERE day < :first AND agent_id IS NOT NULL
)
GROUP BY agent_id, agent_version
HAVING min(day) >= :first
ORDER BY agent_id, agent_version
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its usual value, and better or worse; empty if chance explains the difference."""

    name: str
    value: str
    usual: str
    word: str = ""


@dataclass(slots=True)
class Digest:
    """The content of a digest. `calls`, `versions`, `budgets` and `alerts` are texts with links."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    versions: list[tuple[str, str]] = field(default_factory=list)
    budgets: list[tuple[str, str]] = field(default_factory=list)
    alerts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def sections(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The lists that have entries, with their headings."""
        found = {
            "Open alerts": self.alerts,
            "Budgets": self.budgets,
            "New versions": self.versions,
            "Calls to listen to": self.calls,
        }
        return [(name, entries) for name, entries in found.items() if entries]


def read_digest(settings: Settings, last: date, *, days: int = 1) -> Digest:
    """The digest of a day, or of the days until it. Raises what `reading` raises."""
    zone = ZoneInfo(settings.timezone)
    first = last - timedelta(days=days - 1)
    since, until = (midnight_ms(day, zone) for day in (first, last + timedelta(days=1)))
    title = last.isoformat() if days == 1 else f"{first} to {last}"
    found = Digest(f"Calls of {title}")
    with reading(settings.database) as connection:
        now = _sums(connection, first, last)
        before = first - timedelta(days=PAST_DAYS)
        past = _sums(connection, before, first - timedelta(days=1))
        [oldest] = connection.execute(_OLDEST, (before.isoformat(),)).fetchone()
        past_days = (first - date.fromisoformat(oldest)).days if oldest else 0
        found.figures = compare_sums(now, past, days / past_days if past_days > 0 else 0.0)
        for call_id, agent, sentiment, duration in connection.execute(
            _WORST_CALLS, (since, until, _WORST)
        ).fetchall():
            words = ["not successful", *(["negative"] if sentiment == "negative" else [])]
            length = format_duration((duration or 0) / 1000)
            text = f"{agent or 'Unknown agent'}: {' and '.join(words)}, {length}"
            found.calls.append((text, f"/-/call/{call_id}"))
        bounds = {"first": first.isoformat(), "last": last.isoformat()}
        for agent_id, version, name, calls in connection.execute(_NEW_VERSIONS, bounds).fetchall():
            text = f"{name or agent_id}, version {version}: {int(calls):,} calls"
            found.versions.append((text, f"/-/dashboards/versions?agent={agent_id}"))
        alerts = [a for a in read_alerts(connection) if not a.cause]
    found.alerts = [
        (f"{alert.severity.capitalize()}: {alert.text}", f"/-/alerts#alert-{alert.alert_id}")
        for alert in alerts[:_ALERTS]
    ]
    found.budgets = _budgets(settings, until - 1)
    return found


def _sums(connection: Connection, first: date, last: date) -> dict[str, Any]:
    found = connection.execute(_SUMS, (first.isoformat(), last.isoformat()))
    names = [column[0] for column in found.description]
    return dict(zip(names, (float(v or 0) for v in found.fetchone()), strict=True))


def compare_sums(now: Mapping[str, float], past: Mapping[str, float], part: float) -> list[Figure]:
    """The figures of some days beside the usual ones: `part` of the sums of the days before."""

    def usual(name: str, form: str, per: float = 1.0) -> str:
        return form.format(past[name] / per * part) if part else ""

    minutes = f"{now['duration_ms'] / 60_000:,.0f}"
    figures = [
        Figure("Calls", f"{now['calls']:,.0f}", usual("calls", "{:,.0f}")),
        Figure("Minutes", minutes, usual("duration_ms", "{:,.0f}", 60_000)),
        Figure("Cost", f"${now['cost_cents'] / 100:,.2f}", usual("cost_cents", "${:,.2f}", 100)),
    ]
    pairs: tuple[tuple[str, int, str, Callable[[Mapping[str, float]], Estimate | None]], ...] = (
        ("Success", 1, "share", lambda of: share(of["successful"], int(of["judged"]))),
        ("Negative", -1, "share", lambda of: share(of["negative"], int(of["with_sentiment"]))),
        (
            "Time to answer", -1, "ms",
            lambda of: mean(of["answer_ms"], of["answer_squares"], int(of["answers"])),
        ),
    )  # fmt: skip
    for name, better, unit, estimate in pairs:
        of_now, of_past = estimate(now), estimate(past)
        if of_now is not None:
            before = "" if of_past is None else write(of_past.value, unit)
            word = _word(of_past, of_now, better)
            figures.append(Figure(name, write(of_now.value, unit), before, word))
    return figures


def _word(past: Estimate | None, now: Estimate, better: int) -> str:
    """better or worse, if the 95 % interval of the difference does not contain 0."""
    if past is None:
        return ""
    change = difference(past, now)
    if change.count < MIN_CALLS or change.low <= 0 <= change.high:
        return ""
    return "better" if (change.low > 0) == (better > 0) else "worse"


def _budgets(settings: Settings, now_ms: int) -> list[tuple[str, str]]:
    found = []
    for budget, spent in read_budgets(settings, now_ms=now_ms):
        percent, end = spent.percent_of(budget.dollars), spent.day_of(budget.dollars)
        rest = f"; all of it on {end}" if end and percent < 100 else ""
        text = f"{budget.name}: ${spent.cents / 100:,.2f} of ${budget.dollars:,.2f}"
        found.append((f"{text} ({percent:.0f} %){rest}", f"/-/statement?month={spent.month}"))
    return found


def as_text(digest: Digest, base: str | None) -> str:
    """The digest as text, which reads well in a chat too."""
    lines = []
    for figure in digest.figures:
        usual = f" (usually {figure.usual}{', ' + figure.word if figure.word else ''})"
        lines.append(f"{figure.name}: {figure.value}{usual if figure.usual else ''}")
    for heading, entries in digest.sections:
        lines += ["", heading]
        lines += [f"- {text}{f' {base}{link}' if base else ''}" for text, link in entries]
    return "\n".join(lines)


def as_html(digest: Digest, base: str | None) -> str:
    """The digest as HTML for a mail client: styles are within it, and nothing is loaded."""
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


def run_digest(run: Run) -> None:
    """Write the digest of yesterday, or on Mondays of the last week, unless it was written."""
    of = run.settings.file.alerts
    now_ms = run.now_ms()
    now = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(run.settings.timezone))
    if now.hour < of.digest_hour or (of.digest == "weekly" and now.weekday() != 0):
        return
    last = now.date() - timedelta(days=1)
    message_id = f"digest-{last.isoformat()}"
    with reading(run.settings.database) as connection:
        if has_message(connection, message_id):
            return
    digest = read_digest(run.settings, last, days=7 if of.digest == "weekly" else 1)
    put_messages(
        run.store,
        [message_of(run.settings, digest, message_id, url, now_ms=now_ms) for url in of.notify],
    )


def parse_day(text: str | None, settings: Settings, *, now_ms: int) -> date:
    """The day of a text, or yesterday. Raises SettingsError."""
    if text is None:
        today = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(settings.timezone)).date()
        return today - timedelta(days=1)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r} is not a date", hint="Write it as 2026-10-31.") from None
