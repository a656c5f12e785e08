"""Evaluate a rule of alerts at a time: its SELECT, a comparison of figures, or a function.

In: a rule, settings and a time. Out: findings. Everything except the sources `health`, `disk` and
`backup` depends only on the time, so that a rule can be tried on the past.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from typing import Any
from zoneinfo import ZoneInfo

from receiver.config import Settings
from receiver.errors import SettingsError, docs
from receiver.jobs.alert_rules import BUDGET_LEVELS, COMPARED, SEVERITIES, Budget, Rule
from receiver.jobs.schedule import intervals, job_states
from receiver.jobs.status import at, free_on_disk, read_counts, read_growth, size
from receiver.store.engine import engine, reading, snapshot
from receiver.store.jobs import job_rows
from receiver.store.snapshots import Snapshot
from receiver.store.statements import Spending, read_spending
from receiver.webhook.health import MIN_FREE_BYTES, NEARLY_FULL, traffic_problems
from schema.sql.macros import plain
from schema.sql.rollups import ROLLUPS
from schema.statistics import Estimate, difference, mean, share

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
# The days of the past with which a comparison compares.
PAST_DAYS = 28
# The maximum number of rows of a rule.
MAX_FINDINGS = 200
MAX_TEXT = 500
_RECENT = re.compile(r"\brecent\((\w+)\)")
# E-mail addresses and phone numbers, which the text of a rule could contain.
_PERSONAL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+|(?<![\w-])\+\d[\d ()-]{6,}\d")
_BACKUP_GRACE_MS = HOUR_MS


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a rule about one of its subjects."""

    rule: str
    key: str
    text: str
    severity: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    link: str | None = None


def find(
    rule: Rule, settings: Settings, *, now_ms: int, moment: Snapshot | None = None
) -> list[Finding]:
    """Evaluate a rule at a time, in an open snapshot or in a new one.

    Raises SettingsError for a SELECT that cannot run or has unusable rows, and what `snapshot` and
    `reading` raise.
    """
    if rule.source:
        return list(SOURCES[rule.source](rule, settings, now_ms))
    if moment is None:
        with opened(settings) as new:
            return find(rule, settings, now_ms=now_ms, moment=new)
    rows = _select(rule, settings, now_ms, moment)
    if not rule.compare:
        return [_from_row(rule, row) for row in rows]
    try:
        return [found for row in rows if (found := compare(rule, row)) is not None]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SettingsError(
            f"its rows cannot be compared, or its text cannot be filled: {type(error).__name__}",
            hint=f"See {docs('how-to/alerts.md')}",
        ) from None


def can_replay(rule: Rule) -> bool:
    """Whether a rule can be evaluated for the past."""
    return rule.source in ("", "budget")


def opened(settings: Settings) -> AbstractContextManager[Snapshot]:
    """A read-only snapshot for rules, without raw bodies."""
    return snapshot(settings.database, timezone=None, private=False)


def _select(rule: Rule, settings: Settings, now_ms: int, moment: Snapshot) -> list[dict[str, Any]]:
    sql = expand(rule, settings.timezone, now_ms)
    found = moment.read(sql, since=None, typed=False)
    rows = [row for row, _ in zip(found.rows, range(MAX_FINDINGS), strict=False)]
    return [dict(zip(found.names, row, strict=True)) for row in rows]


def expand(rule: Rule, timezone: str, now_ms: int) -> str:
    """The SELECT of a rule at a time, without macros and parameters."""
    words = {**moments(timezone, now_ms), **rule.parameters}

    def literal(match: re.Match[str]) -> str:
        value = words.get(match[1])
        if value is None:
            return match[0]
        return f"'{value}'" if isinstance(value, str) else repr(value)

    sql = _RECENT.sub(lambda match: _recent(match[1]), rule.sql)
    return re.sub(r"(?<![:\w]):([a-z_]\w*)", literal, plain(sql))


def moments(timezone: str, now_ms: int) -> dict[str, int | str]:
    """The times that a rule can use, by name."""
    zone = ZoneInfo(timezone)
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    since_ms = (now_ms - DAY_MS) // HOUR_MS * HOUR_MS
    past_until = datetime.fromtimestamp(since_ms / 1000, zone).date()
    found: dict[str, int | str] = {
        "now": now_ms,
        "since": since_ms,
        "past_since": (past_until - timedelta(days=PAST_DAYS)).isoformat(),
        "past_until": past_until.isoformat(),
        "today": now.date().isoformat(),
        "yesterday": (now.date() - timedelta(days=1)).isoformat(),
        "week_ago": (now.date() - timedelta(days=7)).isoformat(),
    }
    for n in range(1, 5):
        # The same local time on that day, whatever its UTC offset.
        then = (now - timedelta(weeks=n)).astimezone(UTC)
        found[f"week_{n}"] = now_ms - round(then.timestamp() * 1000)
    return found


def _recent(name: str) -> str:
    """The rows of an hourly view for the last day, and of the daily view for the days before."""
    rollup = next((each for each in ROLLUPS if each.name == name), None)
    if rollup is None:
        raise SettingsError(f"recent({name}): there is no view hourly_{name}")
    columns = ", ".join(rollup.columns[1:])
    return (
        f"(SELECT 1 AS is_now, '' AS day, {columns} FROM {rollup.hourly} "
        "WHERE hour >= :since AND hour < :now "
        f"UNION ALL SELECT 0, day, {columns} FROM {rollup.daily} "
        "WHERE day >= :past_since AND day < :past_until)"
    )


def _from_row(rule: Rule, row: Mapping[str, Any]) -> Finding:
    figures = {k: v for k, v in row.items() if k not in ("key", "text", "severity", "link")}
    shown = ", ".join(f"{name} {value}" for name, value in figures.items())
    severity = row.get("severity")
    return Finding(
        rule=rule.name,
        key=without_people(str(row.get("key") or "")),
        text=without_people(str(row.get("text") or f"{row.get('key') or rule.title}: {shown}")),
        severity=severity if severity in SEVERITIES else rule.severity,
        figures={k: without_people(v) if isinstance(v, str) else v for k, v in figures.items()},
        link=_link(row.get("link")),
    )


def without_people(text: str) -> str:
    """Text without phone numbers and e-mail addresses, cut to the maximum length."""
    return _PERSONAL.sub("…", text)[:MAX_TEXT]


def _link(value: Any) -> str | None:
    """A path on callhouse's pages."""
    text = str(value or "")
    return text if text.startswith("/") and not text.startswith("//") else None


def compare(rule: Rule, row: Mapping[str, Any]) -> Finding | None:
    """A finding if the last day of a row is worse than the past and the difference is
    significant."""
    of = rule.parameters
    counted = "past_days" if rule.compare == "days" else "past_count"
    counts = [int(row.get(name) or 0) for name in ("count", counted)]
    least = of["least_days"] if rule.compare == "days" else of["least_count"]
    if counts[0] < of["least_count"] or counts[1] < least:
        return None
    if rule.compare == "days":
        now, past = _days(row, counts, of["deviations"])
    else:
        names = COMPARED[rule.compare]
        now, past = (
            _estimate(rule.compare, {n: row.get(f"{prefix}{n}") for n in names}, of["deviations"])
            for prefix in ("", "past_")
        )
    if now is None or past is None:
        return None
    change = difference(past, now)
    is_worse = change.high < 0 if rule.better > 0 else change.low > 0
    # Means are compared by their ratio.
    unit = 1.0 if rule.compare == "share" else past.value or 1.0
    if not is_worse or abs(change.value) / unit < of["least_change"]:
        return None
    words = {
        "name": row.get("name") or row.get("key"),
        "now": write(now.value, rule.unit),
        "past": write(past.value, rule.unit),
        "count": f"{counts[0]:,}",
    }
    return Finding(
        rule=rule.name,
        key=without_people(str(row.get("key") or "")),
        text=without_people(rule.text.format_map(_Words(words))),
        severity=rule.severity,
        figures={"now": now.value, "past": past.value, "count": counts[0], counted: counts[1]},
        link=_link(row.get("link")),
    )


class _Words(dict[str, Any]):
    """Unknown names are not replaced."""

    def __missing__(self, name: str) -> str:
        return f"{{{name}}}"


def _estimate(kind: str, of: Mapping[str, Any], z: float) -> Estimate | None:
    count = int(of["count"] or 0)
    if kind == "share":
        return share(of["part"], count, z=z)
    return mean(of["total"], of["squares"], count, z=z)


def _days(
    row: Mapping[str, Any], counts: Sequence[int], z: float
) -> tuple[Estimate | None, Estimate | None]:
    """A figure of the last day, and its mean over past days, with the deviation of the past days
    for both."""
    past = mean(row.get("past_total"), row.get("past_squares"), counts[1], z=z)
    value = row.get("value")
    if past is None or value is None:
        return None, past
    reach = (past.high - past.value) * sqrt(counts[1])
    return Estimate(value, value - reach, value + reach, counts[0]), past


def write(value: float, unit: str) -> str:
    """A figure for people."""
    match unit:
        case "share":
            return f"{100 * value:.{0 if value >= 0.0995 or not value else 1}f} %"
        case "ms":
            return f"{value:,.0f} ms"
        case "cents":
            return f"${value / 100:,.3f}"
    return f"{value:,.4g}"


def _health(rule: Rule, settings: Settings, now_ms: int) -> Iterator[Finding]:
    """Each problem of the database, the disk and the jobs."""
    problems: list[str] = []
    found = engine(settings.database).check(problems)
    if free_on_disk(settings.counters_path) < MIN_FREE_BYTES:
        problems.append(NEARLY_FULL)
    states = job_states(found.get("jobs") or {}, intervals(settings), now_ms=now_ms)
    # This job is running now, whatever its row says.
    problems += [job.problem for job in states if job.problem and job.row.name != "alerts"]
    for problem in dict.fromkeys(problems):
        begin, _, rest = problem.partition(": ")
        # The subject contains the job's name, but no times and counts.
        key = f"{begin}: {rest.partition(',')[0]}" if begin.startswith("a job") else begin
        yield Finding(rule.name, key, _sentence(problem), rule.severity, link="/-/status")


def _deliveries(rule: Rule, settings: Settings, now_ms: int) -> Iterator[Finding]:
    """Each problem that the receiver's counters show."""
    for problem in traffic_problems(read_counts(settings.counters_path), now_ms):
        yield Finding(
            rule.name, problem.partition(":")[0], _sentence(problem), rule.severity,
            link="/-/status",
        )  # fmt: skip


def _sentence(text: str) -> str:
    return without_people(text[:1].upper() + text[1:])


def _disk(rule: Rule, settings: Settings, now_ms: int) -> Iterator[Finding]:
    growth = read_growth(settings, now_ms=now_ms)
    days = growth.days_until_full
    if days is not None and days < rule.parameters["days"]:
        text = (
            f"The disk will be full in {days:.0f} days: {size(growth.free_disk_bytes)} are free, "
            f"and {size(growth.bytes_per_day)} are added a day"
        )
        figures = {"days": days, "free_bytes": growth.free_disk_bytes}
        yield Finding(rule.name, "", text, rule.severity, figures, "/-/status")


def _backup(rule: Rule, settings: Settings, now_ms: int) -> Iterator[Finding]:
    interval_ms = intervals(settings)["backup"]
    with reading(settings.database) as connection:
        row = job_rows(connection).get("backup")
    if not interval_ms or row is None or row.started_at is None:
        return
    done = row.ended_at if row.result in ("done", "incomplete") else None
    # The row of a failed run does not contain the time of the last complete one.
    since = done or row.started_at
    if now_ms - since > 2 * interval_ms + _BACKUP_GRACE_MS or (done is None and row.failures):
        made = at(done, settings.timezone)
        text = f"The last backup was made at {made}" if made else "The last backup failed"
        yield Finding(rule.name, "", text, rule.severity, {"at": done}, "/-/status")


def read_budgets(
    settings: Settings, budgets: Iterable[Budget], *, now_ms: int
) -> Iterator[tuple[Budget, Spending]]:
    """Budgets with the cost of their subjects. Raises what `reading` raises."""
    for budget in budgets:
        yield (
            budget,
            read_spending(
                settings.database,
                budget.grouping,
                [budget.key],
                timezone=settings.timezone,
                now_ms=now_ms,
            ),
        )


def _budget(rule: Rule, settings: Settings, now_ms: int) -> Iterator[Finding]:
    """Each budget that has reached a level, with the day on which it will be spent."""
    for budget, spent in read_budgets(settings, settings.file.alerts.budgets, now_ms=now_ms):
        percent = spent.percent_of(budget.dollars)
        reached = [level for level in BUDGET_LEVELS if percent >= level]
        if not reached:
            continue
        end = spent.day_of(budget.dollars)
        figures = {"percent": round(percent, 1), "dollars": round(spent.cents / 100, 2)}
        yield Finding(
            rule.name,
            f"{budget.name} {spent.month}",
            f"Budget {budget.name}: {percent:.0f} % of ${budget.dollars:,.2f} for {spent.month} "
            f"is spent{_end(end, percent)}",
            BUDGET_LEVELS[reached[-1]],
            figures | {"full_on": end.isoformat() if end else None},
            f"/-/statement?month={spent.month}",
        )


def _end(day: date | None, percent: float) -> str:
    if percent >= 100:
        return ""
    if day is None:
        return "; at this pace, it lasts to the end of the month"
    return f"; at this pace, all of it on {day.isoformat()}"


SOURCES: dict[str, Callable[[Rule, Settings, int], Iterator[Finding]]] = {
    "health": _health,
    "deliveries": _deliveries,
    "disk": _disk,
    "backup": _backup,
    "budget": _budget,
}
