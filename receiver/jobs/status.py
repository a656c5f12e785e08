"""The state of the warehouse, for `callhouse status`, `callhouse doctor` and the status page.

Everything is read in short queries with indexes, whatever the number of calls. Keys are shown by
their ids.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from receiver.config import DEFAULT_ACCOUNT, Account, Settings
from receiver.errors import StoreUnavailable, docs
from receiver.jobs.schedule import JobState, intervals, job_states
from receiver.jobs.storage import free_bytes
from receiver.store.engine import engine, reading
from receiver.store.jobs import JobRow, job_rows
from receiver.store.protocols import Connection
from receiver.webhook.health import NAMES, Counters, is_future, traffic_problems
from receiver.webhook.signature import key_id

# Events of so many days say which keys are in use and how fast the database grows.
RECENT_DAYS = 30
_DAY_MS = 86_400_000

_COUNT_CALLS = "SELECT count(*) FROM calls"
_COUNT_CHATS = "SELECT count(*) FROM chats"
_NEWEST = (
    "SELECT max(at) FROM (SELECT max(updated_at) AS at FROM calls "
    "UNION ALL SELECT max(updated_at) FROM chats) newest"
)
_RECENT_CALLS = "SELECT count(*) FROM calls WHERE updated_at >= ?"
# The next key in the index observations_key, and when a key signed last.
NEXT_KEY = "SELECT min(key_id) FROM observations WHERE source = 'webhook' AND key_id > ?"
LAST_SIGNED = (
    "SELECT max(last_received_at) FROM observations WHERE source = 'webhook' AND key_id = ?"
)
_COVERAGE = (
    "SELECT sum(listed), sum(stored), sum(missing), sum(incomplete), max(checked_at) "
    "FROM coverage WHERE day = ?"
)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A webhook key by its id: the setting that has it (None: no longer any), and when it signed
    last (None: never)."""

    key_id: str
    setting: str | None
    last_signed_ms: int | None


@dataclass(frozen=True, slots=True)
class DayCoverage:
    """What a day's comparison with Retell found; `checked_ms` None: it was not made."""

    day: str
    listed: int
    stored: int
    missing: int
    incomplete: int
    checked_ms: int | None


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth of the database, and the free space of this machine. `is_file`: the database is
    on its disk."""

    free_disk_bytes: int
    bytes_per_day: int
    is_file: bool

    @property
    def days_until_full(self) -> float | None:
        """None if the database does not grow, or is on a server."""
        grows = self.bytes_per_day and self.is_file
        return self.free_disk_bytes / self.bytes_per_day if grows else None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the warehouse; times in milliseconds."""

    now_ms: int
    database: str
    is_file: bool
    problems: list[str]
    database_bytes: int
    wal_bytes: int
    free_disk_bytes: int
    calls: int
    chats: int
    quarantined: int | None
    schema: str | None
    last_event_ms: int | None
    bytes_per_day: int
    coverage: DayCoverage
    keys: list[KeyUse]
    jobs: list[JobState]

    @property
    def last_backup_ms(self) -> int | None:
        """When the last backup of a job or a command was complete; None without one, and if the
        last run made none."""
        row = self._backup
        # It is incomplete if older backups could not be deleted.
        return row.ended_at if row.result in ("done", "incomplete") else None

    @property
    def without_backup(self) -> str:
        """Why there is no time of the last backup."""
        result = self._backup.result
        return "none was made" if result is None else f"the last run {result}"

    @property
    def _backup(self) -> JobRow:
        return next(job.row for job in self.jobs if job.row.name == "backup")

    @property
    def days_until_full(self) -> float | None:
        """At the growth of the last days; None if the database does not grow, or is on a
        server."""
        return Growth(self.free_disk_bytes, self.bytes_per_day, self.is_file).days_until_full

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "status": "error" if self.problems else "ok",
            "problems": self.problems,
            **{
                name: getattr(self, name)
                for name in (
                    "now_ms", "database", "database_bytes", "wal_bytes", "free_disk_bytes",
                    "calls", "chats", "quarantined", "schema", "last_event_ms", "bytes_per_day",
                    "days_until_full", "last_backup_ms",
                )
            },
            "coverage": asdict(self.coverage),
            "keys": [asdict(key) for key in self.keys],
            "jobs": [job.as_json() for job in self.jobs],
        }  # fmt: skip


def read_status(settings: Settings, *, now_ms: int) -> Status:
    """Read the state.

    Raises NotStored without a database, StoreUnavailable for one of another schema or that cannot
    be used, and what `reading` raises.
    """
    with reading(settings.database):
        problems: list[str] = []
    looked = engine(settings.database).check(problems)
    if "jobs" not in looked:
        raise StoreUnavailable(problems[0], hint=f"See {docs('reference/health.md')}")
    with reading(settings.database) as connection:
        found = _read(connection, settings, now_ms)
        jobs = job_states(job_rows(connection), intervals(settings), now_ms=now_ms)
    size, wal = engine(settings.database).sizes()
    counts = read_counts(settings.counters_path)
    problems += traffic_problems(counts, now_ms)
    problems += [job.problem for job in jobs if job.problem]
    newest = max(found.pop("newest") or 0, _past(counts["last_event_ms"], now_ms))
    total, recent = found["calls"], found.pop("recent")
    return Status(
        now_ms=now_ms,
        database=str(settings.database),
        is_file=isinstance(settings.database, Path),
        problems=problems,
        database_bytes=size,
        wal_bytes=wal,
        free_disk_bytes=free_on_disk(settings.counters_path),
        quarantined=looked["quarantined"],
        schema=looked["schema"],
        last_event_ms=newest or None,
        bytes_per_day=_growth(size, recent, total),
        jobs=jobs,
        **found,
    )


def read_growth(settings: Settings, *, now_ms: int) -> Growth:
    """The recent growth of the database. Raises what `reading` raises."""
    with reading(settings.database) as connection:
        total = _one(connection, _COUNT_CALLS)
        recent = _one(connection, _RECENT_CALLS, now_ms - RECENT_DAYS * _DAY_MS)
    size, _ = engine(settings.database).sizes()
    free, is_file = free_on_disk(settings.counters_path), isinstance(settings.database, Path)
    return Growth(free, _growth(size, recent, total), is_file)


def _growth(size: int, recent: int, total: int) -> int:
    """Bytes per day, estimated from the share of recent calls."""
    return size * recent // total // RECENT_DAYS if total else 0


def _read(connection: Connection, settings: Settings, now_ms: int) -> dict[str, Any]:
    since = now_ms - RECENT_DAYS * _DAY_MS
    yesterday = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(settings.timezone)).date()
    yesterday -= timedelta(days=1)
    listed, stored, missing, incomplete, checked = connection.execute(
        _COVERAGE, (yesterday.isoformat(),)
    ).fetchone()
    day = DayCoverage(
        yesterday.isoformat(),
        int(listed or 0), int(stored or 0), int(missing or 0), int(incomplete or 0), checked,
    )  # fmt: skip
    return {
        "calls": _one(connection, _COUNT_CALLS),
        "chats": _one(connection, _COUNT_CHATS),
        "newest": _one(connection, _NEWEST),
        "recent": _one(connection, _RECENT_CALLS, since),
        "coverage": day,
        "keys": _keys(connection, settings, since),
    }


def _keys(connection: Connection, settings: Settings, since: int) -> list[KeyUse]:
    """The keys that are configured, and others that signed events lately, the latest first."""
    names = {
        key_id(key): setting_of(account, key)
        for account in settings.accounts
        for key in account.webhook_keys
    }
    signed = dict(last_signed(connection))
    keys = [key for key, at_ms in signed.items() if at_ms >= since or key in names]
    return sorted(
        (KeyUse(key, names.get(key), signed.get(key)) for key in dict.fromkeys([*keys, *names])),
        key=lambda use: (-(use.last_signed_ms or 0), use.key_id),
    )


def last_signed(connection: Connection) -> Iterator[tuple[str, int]]:
    """Each key and when it signed last, with two index searches per key."""
    key = ""
    while key := _one(connection, NEXT_KEY, key):
        yield key, _one(connection, LAST_SIGNED, key)


def setting_of(account: Account, key: str) -> str:
    """The variable that has a key of the account."""
    suffix = "" if account.name == DEFAULT_ACCOUNT else f"_{account.name.upper()}"
    return f"{'RETELL_API_KEY' if key == account.api_key else 'RETELL_WEBHOOK_KEYS'}{suffix}"


def read_counts(path: Path) -> Mapping[str, int]:
    """The receiver's counters, if it has run on this machine."""
    if not path.exists():
        return dict.fromkeys(NAMES, 0)
    counters = Counters(path)
    try:
        return counters.read()
    finally:
        counters.close()


def free_on_disk(path: Path) -> int:
    """Free bytes on the disk that has the file, or will have it."""
    return free_bytes(path.absolute().parent)


def _past(at_ms: int, now_ms: int) -> int:
    return 0 if is_future(at_ms, now_ms) else at_ms


def _one(connection: Connection, statement: str, *values: Any) -> Any:
    return connection.execute(statement, values).fetchone()[0]


def ago(at_ms: int | None, now_ms: int) -> str:
    """How long ago, in the largest unit: `3 minutes ago`, `in 2 hours`, `never`."""
    if at_ms is None:
        return "never"
    seconds = abs(now_ms - at_ms) // 1000
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds >= length or length == 1:
            count = seconds // length
            text = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"in {text}" if at_ms > now_ms else f"{text} ago"
    raise AssertionError


def at(at_ms: int | None, timezone: str) -> str:
    """A time for a person, to the minute; empty for None."""
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M")


def size(count: int) -> str:
    """Bytes for a person: `12.3 MB`."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def utc(at_ms: int) -> str:
    """A time with its zone, to the minute."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
