"""When a job is due, and its state, computed from its row in jobs and its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from receiver.config import Settings
from receiver.store.jobs import JobRow

# After a failure: the first wait, which doubles, and the longest one.
FIRST_RETRY_MS = 15_000
LAST_RETRY_MS = 3_600_000
# How late a job may be before it is a problem.
GRACE_MS = 15 * 60_000
# A single failure can be a short problem of the network.
MIN_FAILURES = 3

OVERDUE = "a job is overdue"
FAILING = "a job fails"


def intervals(settings: Settings) -> dict[str, int]:
    """The interval of each job in milliseconds; 0 for one that is disabled or has nothing to do."""
    unused = missing_settings(settings)
    return {
        name: 0 if name in unused else seconds * 1000
        for name, seconds in settings.file.intervals.items()
    }


def missing_settings(settings: Settings) -> dict[str, str]:
    """The jobs that have nothing to do, each with the setting that it needs."""
    has_api = any(account.api_key for account in settings.accounts)
    needs = {
        "recordings": (settings.media.location, "CALLHOUSE_MEDIA_URL"),
        "prune": (settings.keep, "CALLHOUSE_KEEP_PERSONAL_DAYS or another of them"),
        "sync": (has_api, "RETELL_API_KEY"),
        "coverage": (has_api, "RETELL_API_KEY"),
        "forward": (settings.file.forward, "[[forward]] in callhouse.toml"),
        "digest": (
            any(each.notify for each in settings.file.alerts.digests),
            "`notify` under [[alerts.digest]] in callhouse.toml",
        ),
        "backup": (settings.file.backup.to, "`to` under [backup] in callhouse.toml"),
        "grade": (settings.file.grading.questions, "[[grading.question]] in callhouse.toml"),
    }
    return {name: setting for name, (value, setting) in needs.items() if not value}


def due_at(row: JobRow, interval_ms: int, *, now_ms: int) -> int:
    """When the job may run next; a time that has passed is now."""
    lease_end = row.lease_end(now_ms)
    if lease_end is not None:
        return lease_end
    if row.ended_at is None:
        return now_ms
    planned = row.next_run_at
    if planned is None:
        # Only a command has run it.
        is_done = row.result in ("done", "incomplete")
        planned = row.ended_at + (interval_ms if is_done else retry_ms(row.failures or 1))
    if not row.failures:
        # The interval may have become shorter since the run was planned.
        planned = min(planned, row.ended_at + interval_ms)
    # A later time was written while the clock was ahead.
    return planned if planned <= now_ms + max(interval_ms, LAST_RETRY_MS) else now_ms


def expected_at(row: JobRow, now_ms: int) -> int | None:
    """When its lease ends, if it runs; else when it runs next."""
    lease_end = row.lease_end(now_ms)
    return row.next_run_at if lease_end is None else lease_end


def retry_ms(failures: int) -> int:
    """How long to wait after so many failures in a row."""
    return int(min(FIRST_RETRY_MS * 2 ** min(failures - 1, 20), LAST_RETRY_MS))


@dataclass(frozen=True, slots=True)
class JobState:
    """A job for a person: its row, its interval (0 is off), and `state`.

    `state` is off, new, running, waiting, failing or overdue. At `expected_ms` it runs next, or its
    lease ends.
    """

    row: JobRow
    interval_ms: int
    state: str
    expected_ms: int | None

    @property
    def words(self) -> str:
        """The state for a person."""
        return "not run yet" if self.state == "new" else self.state

    @property
    def problem(self) -> str | None:
        """Its problem, for the health check."""
        if self.state == "overdue":
            return f"{OVERDUE}: {self.row.name}, due at {_text(self.expected_ms)}"
        if self.state == "failing" and (self.row.failures or 0) >= MIN_FAILURES:
            return f"{FAILING}: {self.row.name}, {self.row.failures} times: {self.row.problem}"
        return None

    def as_json(self) -> dict[str, Any]:
        """For /healthz and `--json`; times in milliseconds."""
        return {
            "name": self.row.name,
            "state": self.state,
            "interval_seconds": self.interval_ms // 1000,
            "started_ms": self.row.started_at,
            "ended_ms": self.row.ended_at,
            "result": self.row.result,
            "problem": self.row.problem,
            "failures": self.row.failures or 0,
            "next_run_ms": self.row.next_run_at,
        }


def job_states(
    rows: Mapping[str, JobRow], intervals_ms: Mapping[str, int], *, now_ms: int
) -> list[JobState]:
    """Every job, in the order of the settings."""
    return [
        JobState(row, interval_ms, _state(row, interval_ms, now_ms), expected_at(row, now_ms))
        for name, interval_ms in intervals_ms.items()
        for row in [rows.get(name, JobRow(name))]
    ]


def _state(row: JobRow, interval_ms: int, now_ms: int) -> str:
    lease_end = row.lease_end(now_ms)
    if lease_end is not None and lease_end > now_ms:
        return "running"
    if not interval_ms:
        return "off"
    if row.started_at is None:
        return "new"
    # A job that runs only as a command has no next run.
    planned = expected_at(row, now_ms)
    if planned is not None and planned + GRACE_MS < now_ms:
        return "overdue"
    return "failing" if row.failures else "waiting"


def _text(at_ms: int | None) -> str:
    return datetime.fromtimestamp((at_ms or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
