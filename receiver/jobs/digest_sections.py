"""The lists of a digest: costs, versions, calls, reviews, and the state of callhouse.

In: the days, and the calls and chats that the digest is limited to. Out: entries, each a text
without personal data and a link that asks for a login.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from receiver.clock import format_duration, midnight_ms
from receiver.config import Settings
from receiver.jobs.alert_findings import read_budgets, without_people
from receiver.jobs.alert_rules import Budget, DigestSettings
from receiver.jobs.statement import dollars
from receiver.jobs.status import Status, at, read_counts, read_status, size
from receiver.store.alerts import Alert, read_alerts
from receiver.store.protocols import Connection
from receiver.store.statements import key_of_chat, of_groups, read_spending
from receiver.webhook.health import traffic_problems
from schema.billing import Forecast
from schema.sql.macros import plain
from schema.sql.rollups import ROLLUPS

Entry = tuple[str, str]
# The days before that define the usual values.
PAST_DAYS = 28
_MOST_CALLS, _MOST_ALERTS, _MOST_AGENTS = 5, 10, 5
_DAILY_CALLS = "SELECT * FROM daily_calls WHERE day >= :first AND day <= :last"
_FIGURES_OF_CALLS = next(rollup for rollup in ROLLUPS if rollup.name == "calls")
_TIME = plain("call_time(c) >= :since AND call_time(c) < :until")
_OLDEST = "SELECT min(day) FROM daily_calls WHERE day >= :first"
_OLDEST_CALL = plain("SELECT min(call_time(c)) FROM calls c WHERE {time} AND {condition}")
# Agents that have only calls of the digest.
_AGENTS = """
SELECT c.agent_id FROM calls c WHERE {time} AND c.agent_id IS NOT NULL
GROUP BY c.agent_id HAVING sum(CASE WHEN {condition} THEN 0 ELSE 1 END) = 0
"""
_WORST_CALLS = plain("""
SELECT c.call_id, coalesce(c.agent_name, c.agent_id), lower(a.user_sentiment), c.duration_ms
FROM calls c JOIN analyses a ON a.call_id = c.call_id
WHERE {time} AND {condition} AND a.call_successful = 0
ORDER BY
    CASE WHEN lower(a.user_sentiment) = 'negative' THEN 0 ELSE 1 END,
    coalesce(c.duration_ms, 0) DESC, c.call_id
LIMIT {most}
""")
# Versions with their first call in these days, of agents that had calls before.
_NEW_VERSIONS = """
WITH known AS (
    SELECT agent_id, agent_version, min(day) AS day FROM daily_calls
    WHERE agent_id IS NOT NULL GROUP BY agent_id, agent_version
)
SELECT h.agent_id, h.agent_version, max(h.agent_name), sum(h.calls)
FROM ({calls}) h
JOIN known k ON k.agent_id = h.agent_id AND k.agent_version = h.agent_version
WHERE k.day >= :first AND h.agent_id IN (SELECT agent_id FROM known WHERE day < :first)
GROUP BY h.agent_id, h.agent_version
ORDER BY h.agent_id, h.agent_version
"""
_NEGATIVE = plain("""
SELECT h.agent_id, max(h.agent_name), sum(h.negative_count * are_connected(h, r)) AS negative,
    sum(h.sentiment_count * are_connected(h, r))
FROM ({calls}) h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
GROUP BY h.agent_id
HAVING sum(h.negative_count * are_connected(h, r)) > 0
ORDER BY negative DESC, h.agent_id
LIMIT {most}
""")
# Assigned, and without a verdict of a person.
_IS_OPEN = """
n.kind = 'assignee' AND n.removed_at IS NULL AND n.changed_at < :until
AND NOT EXISTS (
    SELECT 1 FROM annotations v WHERE v.entity_id = n.entity_id AND v.kind = 'verdict'
        AND v.position IS NULL AND v.removed_at IS NULL AND substr(v.author, 1, 6) <> 'model:'
)
"""
_REVIEWS = plain("""
SELECT n.changed_at, c.call_id, coalesce(c.agent_name, c.agent_id), n.value
FROM annotations n JOIN calls c ON c.call_id = n.entity_id WHERE {open} AND {condition}
""")
_REVIEWS_OF_CHATS = plain("""
SELECT c.account, c.agent_id, c.metadata, n.changed_at, c.chat_id,
    coalesce(agent_of_chat(c), c.agent_id), n.value
FROM annotations n JOIN chats c ON c.chat_id = n.entity_id WHERE {open}
""")
_CHATS = plain("""
SELECT c.account, c.agent_id, c.metadata, c.combined_cost_cents, c.chat_successful,
    lower(trim(c.user_sentiment))
FROM chats c WHERE call_time(c) >= :since AND call_time(c) < :until
""")
# `updated_at` is the arrival of a call's newest event, so it finds the calls with events in these
# days.
_DELIVERIES = """
SELECT e.account, count(*), count(DISTINCT e.id)
FROM (
    SELECT c.account, c.call_id AS id FROM calls c WHERE c.updated_at >= :since
    UNION ALL SELECT c.account, c.chat_id FROM chats c WHERE c.updated_at >= :since
) e
JOIN observations o ON o.entity_id = e.id
WHERE o.source = 'webhook' AND o.first_received_at >= :since AND o.first_received_at < :until
GROUP BY e.account ORDER BY e.account
"""
_COVERAGE = """
SELECT account, sum(listed), sum(stored), sum(missing), sum(incomplete), max(checked_at)
FROM coverage WHERE day >= :first AND day <= :last
GROUP BY account ORDER BY account
"""


@dataclass(frozen=True)
class Scope:
    """The days of a digest, the calls it is limited to, and the database."""

    connection: Connection
    settings: Settings
    of: DigestSettings
    first: date
    last: date
    now_ms: int

    def days(self, first: date, last: date) -> dict[str, Any]:
        """The parameters of the statements for some days."""
        zone = ZoneInfo(self.settings.timezone)
        since, until = (midnight_ms(day, zone) for day in (first, last + timedelta(days=1)))
        _, named = of_groups(self.of.grouping, self.of.keys)
        days = {"first": first.isoformat(), "last": last.isoformat()}
        return named | days | {"since": since, "until": until}

    @property
    def bounds(self) -> dict[str, Any]:
        """The parameters for the days of the digest."""
        return self.days(self.first, self.last)

    @property
    def calls(self) -> str:
        """A SELECT of sums with the columns of daily_calls."""
        if self.of.grouping is None:
            return _DAILY_CALLS
        return _FIGURES_OF_CALLS.of_calls(f"{_TIME} AND {self._condition}")

    @property
    def _condition(self) -> str:
        return of_groups(self.of.grouping, self.of.keys)[0]

    def read(self, sql: str, days: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a statement of this module, for the days of the digest or others."""
        words = {
            "calls": self.calls, "time": _TIME, "open": _IS_OPEN, "condition": self._condition,
        }  # fmt: skip
        sql = sql.format(**words, most=_MOST_CALLS)
        return [tuple(row) for row in self.connection.execute(sql, days or self.bounds).fetchall()]

    def read_chats(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement over chats that are of the digest, without their first three
        columns: account, agent and metadata."""
        of = self.of
        return [
            tuple(row)
            for account, agent_id, metadata, *row in self.read(sql)
            if of.grouping is None
            or key_of_chat(of.grouping, account, agent_id, metadata) in of.keys
        ]

    @cached_property
    def past_days(self) -> int:
        """The number of days before that have data."""
        past = self.days(self.first - timedelta(days=PAST_DAYS), self.first - timedelta(days=1))
        if self.of.grouping is None:
            [(oldest,)] = self.read(_OLDEST, past)
            return max(0, (self.first - date.fromisoformat(oldest)).days) if oldest else 0
        [(oldest_ms,)] = self.read(_OLDEST_CALL, past)
        if oldest_ms is None:
            return 0
        zone = ZoneInfo(self.settings.timezone)
        return (self.first - datetime.fromtimestamp(oldest_ms / 1000, zone).date()).days

    @cached_property
    def agents(self) -> set[str]:
        """The agents that had only calls of the digest in the last weeks."""
        past = self.days(self.first - timedelta(days=PAST_DAYS), self.last)
        return {agent for (agent,) in self.read(_AGENTS, past)}

    @property
    def as_of_ms(self) -> int:
        """The end of the last day, or its last millisecond where the next day is of another month:
        costs are those of the month of the last day."""
        until: int = self.bounds["until"]
        return until - (1 if self.is_month_over else 0)

    @property
    def is_month_over(self) -> bool:
        """Whether the last day ends a month."""
        return (self.last + timedelta(days=1)).month != self.last.month

    @cached_property
    def status(self) -> Status:
        """The state of callhouse now."""
        return read_status(self.settings, now_ms=self.now_ms)

    def has_budget(self, budget: Budget) -> bool:
        """Whether a budget is only for calls of the digest."""
        if self.of.grouping is None or (budget.grouping == "agent" and budget.key in self.agents):
            return True
        return budget.grouping == self.of.grouping and budget.key in self.of.keys

    def has_alert(self, alert: Alert) -> bool:
        """Whether an alert is only about calls of the digest."""
        if self.of.grouping is None:
            return True
        subject = alert.key.partition(" ")[0]
        if alert.rule == "budget":
            budgets = self.settings.file.alerts.budgets
            return any(each.name == subject and self.has_budget(each) for each in budgets)
        if alert.rule == "account_silence":
            return self.of.grouping == "account" and alert.key in self.of.keys
        return subject in self.agents


def _alerts(scope: Scope) -> list[Entry]:
    found = [a for a in read_alerts(scope.connection) if not a.cause and scope.has_alert(a)]
    return [
        (f"{alert.severity.capitalize()}: {alert.text}", f"/-/alerts#alert-{alert.alert_id}")
        for alert in found[:_MOST_ALERTS]
    ]


def _month(scope: Scope) -> list[Entry]:
    spent = read_spending(
        scope.settings.database,
        scope.of.grouping,
        scope.of.keys,
        timezone=scope.settings.timezone,
        now_ms=scope.as_of_ms,
    )
    link = f"/-/statement?month={spent.month}"
    found = [(f"{spent.month} until {scope.last}: ${dollars(spent.cents)}", link)]
    if spent.forecast and not scope.is_month_over:
        found.append((f"Forecast for the month: {_expected(spent.forecast)}", link))
    return found


def _expected(found: Forecast) -> str:
    low, expected, high = (f"${dollars(v)}" for v in (found.low, found.expected, found.high))
    return f"{expected} (80 % interval: {low} to {high})"


def _budgets(scope: Scope) -> list[Entry]:
    budgets = [each for each in scope.settings.file.alerts.budgets if scope.has_budget(each)]
    found = []
    for budget, spent in read_budgets(scope.settings, budgets, now_ms=scope.as_of_ms):
        percent, end = spent.percent_of(budget.dollars), spent.day_of(budget.dollars)
        text = f"{budget.name}: ${dollars(spent.cents)} of ${budget.dollars:,.2f} ({percent:.0f} %)"
        if spent.forecast and not scope.is_month_over:
            text += f"; forecast {_expected(spent.forecast)}"
        if end and percent < 100:
            text += f"; all of it on {end}"
        found.append((text, f"/-/statement?month={spent.month}"))
    return found


def _versions(scope: Scope) -> list[Entry]:
    return [
        (f"{name or agent_id}, version {version}: {_count(int(calls), 'call')}",
         f"/-/dashboards/versions?agent={agent_id}")
        for agent_id, version, name, calls in scope.read(_NEW_VERSIONS)
    ]  # fmt: skip


def _calls(scope: Scope) -> list[Entry]:
    found = []
    for call_id, agent, sentiment, duration in scope.read(_WORST_CALLS):
        words = ["not successful", *(["negative"] if sentiment == "negative" else [])]
        length = format_duration((duration or 0) / 1000)
        text = f"{agent or 'Unknown agent'}: {' and '.join(words)}, {length}"
        found.append((text, f"/-/call/{call_id}"))
    return found


def _negative(scope: Scope) -> list[Entry]:
    days = f"since={scope.first}&until={scope.last}&sentiment=negative"
    found = []
    for agent_id, name, negative, count in scope.read(_NEGATIVE):
        agent = name or agent_id or "Unknown agent"
        text = f"{agent}: {int(negative):,} of {_count(int(count), 'call')}"
        found.append((text, f"/-/calls?{days}" + (f"&agent={agent_id}" if agent_id else "")))
    return found


def _chats(scope: Scope) -> list[Entry]:
    chats = scope.read_chats(_CHATS)
    if not chats:
        return []
    judged = [success for _, success, _ in chats if success is not None]
    cents = sum(cost for cost, _, _ in chats if cost is not None)
    text = f"{_count(len(chats), 'chat')}: ${dollars(cents)}"
    if judged:
        text += f", {sum(map(bool, judged)):,} of {len(judged):,} successful"
    if negative := sum(sentiment == "negative" for _, _, sentiment in chats):
        text += f", {negative:,} negative"
    return [(text, f"/-/calls?kind=chat&since={scope.first}&until={scope.last}")]


def _reviews(scope: Scope) -> list[Entry]:
    found = sorted(
        [("call", *row) for row in scope.read(_REVIEWS)]
        + [("chat", *row) for row in scope.read_chats(_REVIEWS_OF_CHATS)],
        key=lambda review: review[1:3],
    )
    shown = [
        (f"{agent or 'Unknown agent'}: assigned to {person} on "
         f"{at(assigned_ms, scope.settings.timezone)[:10]}", f"/-/{kind}/{entity_id}")
        for kind, assigned_ms, entity_id, agent, person in found[:_MOST_CALLS]
    ]  # fmt: skip
    rest = len(found) - len(shown)
    return [*shown, *([(f"and {rest:,} more", "/-/review")] if rest else [])]


def _deliveries(scope: Scope) -> list[Entry]:
    found = [
        (f"{account or 'no account'}: {_count(events, 'event')} of "
         f"{_count(entities, 'call or chat', 'calls and chats')}", "/-/status")
        for account, events, entities in scope.read(_DELIVERIES)
    ] or [("No event was stored", "/-/status")]  # fmt: skip
    if scope.status.quarantined:
        events = _count(scope.status.quarantined, "event")
        found.append((f"{events} not understood", "/retell/needs_attention?what=quarantined"))
    problems = traffic_problems(read_counts(scope.settings.counters_path), scope.now_ms)
    return [*found, *((_sentence(problem), "/-/status") for problem in problems)]


def _coverage(scope: Scope) -> list[Entry]:
    link, timezone = "/retell/coverage?_sort_desc=day", scope.settings.timezone
    # Calls that began later are not counted.
    return [
        (f"{account or 'no account'}: {int(stored or 0):,} of {_count(int(listed or 0), 'call')} "
         f"stored, {int(missing or 0):,} missing, {int(incomplete or 0):,} incomplete, compared on "
         f"{at(checked_ms, timezone)}", link)
        for account, listed, stored, missing, incomplete, checked_ms in scope.read(_COVERAGE)
    ] or [("Not compared with Retell yet", link)]  # fmt: skip


def _jobs(scope: Scope) -> list[Entry]:
    jobs = [job for job in scope.status.jobs if job.interval_ms]
    problems = [_sentence(job.problem) for job in jobs if job.problem]
    backup = at(scope.status.last_backup_ms, scope.settings.timezone)
    texts = problems or [f"{_count(len(jobs), 'job')}, none of which failed or is overdue"]
    return [
        (text, "/-/status")
        for text in [*texts, f"Last backup: {backup or scope.status.without_backup}"]
    ]


def _disk(scope: Scope) -> list[Entry]:
    of = scope.status
    where = "" if of.is_file else " on this machine"
    text = f"{size(of.free_disk_bytes)} free{where}; the database has {size(of.database_bytes)}"
    text += f" and grows by {size(of.bytes_per_day)} a day"
    if of.days_until_full is not None and of.days_until_full < 3_650:
        text += f"; full in {of.days_until_full:,.0f} days"
    return [(text, "/-/status")]


def _sentence(text: str) -> str:
    return without_people(text[:1].upper() + text[1:])


def _count(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


# Name -> heading and entries.
SECTIONS: Mapping[str, tuple[str, Callable[[Scope], list[Entry]]]] = MappingProxyType(
    {
        "alerts": ("Open alerts", _alerts),
        "month": ("Cost of the month", _month),
        "budgets": ("Budgets", _budgets),
        "versions": ("New versions", _versions),
        "calls": ("Calls to listen to", _calls),
        "negative": ("Negative sentiment", _negative),
        "chats": ("Chats", _chats),
        "reviews": ("Open reviews", _reviews),
        "deliveries": ("Deliveries", _deliveries),
        "coverage": ("Coverage", _coverage),
        "jobs": ("Jobs", _jobs),
        "disk": ("Disk", _disk),
    }
)
