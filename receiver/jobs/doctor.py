"""`callhouse doctor`: checks for frequent problems.

Each finding says what to do. A check is a function from a CheckContext to findings. A check that
cannot be carried out is a finding too.
"""

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from receiver.addresses import files_beside
from receiver.browse import access
from receiver.config import Settings
from receiver.errors import CallhouseError, docs
from receiver.jobs.grading import load_model
from receiver.jobs.status import RECENT_DAYS, Status, ago, free_on_disk, size
from receiver.retell.client import Retell
from receiver.retell.http import Client
from receiver.retell.webhooks import SKEW_NOTED_MS, SKEW_WRONG_MS, agent_webhooks, check_webhook_url
from receiver.store import sqlite_warning
from receiver.store.connection import sqlite_version
from receiver.store.migrate import check_connection
from receiver.webhook.health import MIN_FREE_BYTES
from receiver.webhook.inbound import check_rules

# Fewer days until the disk is full are a problem.
MIN_DAYS = 14
# A log of this size means that a reader has prevented its reset for a long time.
MAX_WAL_BYTES = 512 * 1024 * 1024
# How late the last backup may be.
_LATE_MS = 3_600_000
_API_SECONDS = 10.0
_AGENTS = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: `subject` in a word, and what to do if something is wrong."""

    subject: str
    is_wrong: bool
    what: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """The input of the checks; `status` is None without a usable database."""

    settings: Settings
    status: Status | None
    now_ms: Callable[[], int]


def examine(context: CheckContext) -> Iterator[Finding]:
    """The findings of every check, in order."""
    for check in CHECKS:
        try:
            yield from check(context)
        except (CallhouseError, OSError) as error:
            hint = error.hint if isinstance(error, CallhouseError) else ""
            yield Finding(check.__name__.strip("_").replace("_", " "), True, str(error), hint)


def _good(subject: str, what: str) -> Finding:
    return Finding(subject, False, what)


def _database(context: CheckContext) -> Iterator[Finding]:
    """Schema, damage, and whether a connection gets its settings."""
    status = context.status
    if status is None:
        return
    own = [p for p in status.problems if p.startswith("the database")]
    for problem in own:
        yield Finding("database", True, problem, f"See {docs('reference/health.md')}")
    if not own and isinstance(context.settings.database, Path):
        check_connection(context.settings.database)
    if not own:
        yield _good("database", f"{status.database} is writable, schema {status.schema}")


def _sqlite(context: CheckContext) -> Iterator[Finding]:
    if isinstance(context.settings.database, Path):
        warning = sqlite_warning()
        hint = "pip install pysqlite3, where it has a wheel." if warning else ""
        yield Finding("SQLite", warning is not None, warning or sqlite_version(), hint)


def _files(context: CheckContext) -> Iterator[Finding]:
    """Files with calls or secrets that other users can read or own."""
    settings = context.settings
    paths = [Path(".env")]
    if settings.file.alerts.urls or any(target.secret for target in settings.file.forward):
        paths.append(settings.file_path)
    if isinstance(settings.database, Path):
        paths += [settings.database, *files_beside(settings.database)]
    wrong = False
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            wrong = True
            mode = f"{stat.S_IMODE(found.st_mode):o}"
            yield Finding("files", True, f"others can read {path} ({mode})", f"chmod 600 {path}")
        elif found.st_uid != os.geteuid() and os.geteuid() != 0:
            wrong = True
            yield Finding(
                "files", True, f"{path} belongs to another user",
                "Run serve, browse and work as one user, who has these files.",
            )  # fmt: skip
    if not wrong:
        yield _good("files", "only their owner can read them")


def _disk(context: CheckContext) -> Iterator[Finding]:
    free = free_on_disk(context.settings.counters_path)
    if free < MIN_FREE_BYTES:
        yield Finding("disk", True, f"{size(free)} free", "Free disk space: events are refused.")
        return
    days = context.status.days_until_full if context.status else None
    if days is None:
        yield _good("disk", f"{size(free)} free")
        return
    hint = "Enlarge the disk, or delete old data: `callhouse prune`." if days < MIN_DAYS else ""
    what = f"{size(free)} free: {_days(days)} at the growth of the last {RECENT_DAYS} days"
    yield Finding("disk", days < MIN_DAYS, what, hint)


def _days(days: float) -> str:
    return "enough for years" if days > 3650 else f"enough for {days:,.0f} days"


def _log(context: CheckContext) -> Iterator[Finding]:
    if context.status is None or not isinstance(context.settings.database, Path):
        return
    wal = context.status.wal_bytes
    hint = "A process reads for long: find it with `fuser`, and restart it."
    wrong = wal > MAX_WAL_BYTES
    yield Finding("write-ahead log", wrong, f"{size(wal)} long", hint if wrong else "")


def _traffic(context: CheckContext) -> Iterator[Finding]:
    status = context.status
    if status is None:
        return
    others = ("the database", "a job", "the disk")
    found = [p for p in status.problems if not p.startswith(others)]
    for problem in found:
        yield Finding("events", True, problem, f"See {docs('reference/health.md')}")
    if not found:
        yield _good("events", f"last event {ago(status.last_event_ms, status.now_ms)}")


def _keys(context: CheckContext) -> Iterator[Finding]:
    settings, status = context.settings, context.status
    if not settings.webhook_keys:
        yield Finding(
            "keys", True, "no key is set: no event can be verified",
            "Set RETELL_API_KEY to the key with the webhook badge in Retell's dashboard.",
        )  # fmt: skip
        return
    if status is None:
        return
    for use in status.keys:
        if use.setting is None:
            continue
        signed = f"signed last {ago(use.last_signed_ms, status.now_ms)}"
        if use.last_signed_ms is None:
            signed = "has signed no event"
        yield _good("keys", f"{use.key_id} ({use.setting}) {signed}")
    # The latest key is first; a key that is no longer configured was replaced.
    latest = status.keys[0]
    if latest.last_signed_ms and latest.setting is None:
        yield Finding(
            "keys", True,
            f"the key {latest.key_id}, which signed last, is not set any more",
            "After a rotation this is correct as soon as the new key signs; until then add the old "
            "key to RETELL_WEBHOOK_KEYS.",
        )  # fmt: skip


def _api(context: CheckContext) -> Iterator[Finding]:
    """Whether the API answers and accepts the key, and whether the clocks agree."""
    settings = context.settings
    before = context.now_ms()
    try:
        with Client(total_seconds=_API_SECONDS, timeout=_API_SECONDS) as client:
            answer = client.request("GET", settings.base_url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding(
            "API", True, f"no answer from {settings.base_url}: {type(error).__name__}",
            "Check the network, the proxy and RETELL_BASE_URL.",
        )  # fmt: skip
        return
    yield _good("API", f"{settings.base_url} answers")
    try:
        date = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return
    theirs, after = int(date.timestamp() * 1000), context.now_ms()
    # The header has no fractions of seconds.
    skew = theirs - min(max(theirs, before - 1000), after)
    seconds = round(abs(skew) / 1000)
    what = f"this machine's clock is about {seconds} seconds {'behind' if skew > 0 else 'ahead'}"
    hint = "Set it by NTP: with five minutes, events are rejected."
    if abs(skew) < SKEW_NOTED_MS:
        what, hint = "this machine's clock is the API's", ""
    yield Finding("clock", abs(skew) >= SKEW_WRONG_MS, what, hint)


def _agents(context: CheckContext) -> Iterator[Finding]:
    """Agents whose own webhook URL bypasses this receiver."""
    settings = context.settings
    keys = [account.api_key for account in settings.accounts if account.api_key]
    if not keys:
        return
    public, webhooks = settings.file.public_url, []
    for key in keys:
        with Retell(
            settings.base_url, key, total_seconds=_API_SECONDS, sleep=_sleep_shortly
        ) as retell:
            webhooks += list(agent_webhooks(retell))
    own = [w for w in webhooks if w.webhook_url and w.webhook_url != public]
    if not own:
        yield _good("agents", f"none of {len(webhooks)} has another webhook URL")
        return
    names = ", ".join(w.agent_name or w.agent_id for w in own[:_AGENTS])
    more = f" and {len(own) - _AGENTS} more" if len(own) > _AGENTS else ""
    if public is None:
        what = f"{len(own)} of {len(webhooks)} agents have their own URL: {names}{more}"
        hint = "Set public_url in callhouse.toml: then this check compares the URLs with it."
        yield Finding("agents", False, what, hint)
        return
    what = f"{len(own)} of {len(webhooks)} agents report to another URL: {names}{more}"
    yield Finding(
        "agents", True, what, f"callhouse webhook set {public} --agent ID, or forward from there."
    )


def _sleep_shortly(seconds: float) -> None:
    """A person is waiting: failures are reported without retries."""
    time.sleep(min(seconds, 0.2))


def _public_url(context: CheckContext) -> Iterator[Finding]:
    url = context.settings.file.public_url
    if url is None:
        hint = "Set public_url in callhouse.toml to test it."
        yield Finding("public URL", False, "not tested", hint)
        return
    for account in context.settings.accounts:
        if account.api_key:
            for found in check_webhook_url(url, key=account.api_key, nonce=secrets.token_hex(8)):
                yield Finding("public URL", found.is_wrong, found.what, found.hint)


def _login(context: CheckContext) -> Iterator[Finding]:
    settings = context.settings
    if not isinstance(settings.database, Path):
        return
    users = access.load(access.path_beside(settings.database)).users
    if settings.browse_password_hash or settings.browse_password or users:
        yield _good("login", "browse has a password or users")
    else:
        yield Finding(
            "login", True, "browse has neither a password nor users",
            "Set CALLHOUSE_BROWSE_PASSWORD_HASH, or add a user: callhouse user add",
        )  # fmt: skip
    secret = settings.database.with_suffix(".secret")
    if settings.secret:
        yield _good("secret", "CALLHOUSE_SECRET is set")
    elif secret.exists() and not secret.read_text(encoding="utf-8").strip():
        yield Finding("secret", True, f"{secret} is empty", "Delete it: browse makes a new one.")
    else:
        yield _good("secret", f"in {secret}, or made there by browse")


def _inbound(context: CheckContext) -> Iterator[Finding]:
    """The queries of the rules for inbound calls and chats."""
    rules = context.settings.file.inbound
    if rules and context.status is not None:
        check_rules(context.settings)
        yield _good("inbound", f"{len(rules)} rules, and their queries run")


def _grading(context: CheckContext) -> Iterator[Finding]:
    """Whether the model of [grading] is installed and has a key. Sends no request."""
    grading = context.settings.file.grading
    if grading.questions:
        load_model(grading.model)
        yield _good("grading", f"{len(grading.questions)} questions for {grading.model}")


def _jobs(context: CheckContext) -> Iterator[Finding]:
    if context.status is None:
        return
    jobs = [job for job in context.status.jobs if job.state != "off"]
    wrong = [job for job in jobs if job.state in ("overdue", "failing")]
    for job in wrong:
        problem = job.problem or f"{job.row.name} failed: {job.row.problem}"
        yield Finding("jobs", True, problem, "Start `callhouse work`, and see its log.")
    incomplete = [job for job in jobs if job.row.result == "incomplete"]
    for job in incomplete:
        what = f"{job.row.name}: {job.row.problem}"
        yield Finding("jobs", True, what, "See the log of `callhouse work`.")
    if all(job.row.started_at is None for job in jobs):
        yield Finding(
            "jobs", True, "no job has ever run",
            f"Start `callhouse work`, or run jobs from cron. See {docs('how-to/worker.md')}",
        )  # fmt: skip
    elif not wrong and not incomplete:
        yield _good("jobs", f"{len(jobs)} jobs, none overdue or failing")


def _backups(context: CheckContext) -> Iterator[Finding]:
    settings, status = context.settings, context.status
    if status is None or not isinstance(settings.database, Path):
        return
    backup = settings.file.backup
    if backup.elsewhere:
        yield _good("backup", "made by another program, according to callhouse.toml")
        return
    every_ms = settings.file.intervals["backup"] * 1000 or 86_400_000
    last = status.last_backup_ms
    late = last is None or status.now_ms - last > every_ms + _LATE_MS
    hint = "Set [backup] in callhouse.toml, or run `callhouse backup DIRECTORY`."
    what = status.without_backup if last is None else f"the last is from {ago(last, status.now_ms)}"
    yield Finding("backup", late, what, hint if late else "")


def _coverage(context: CheckContext) -> Iterator[Finding]:
    if context.status is None:
        return
    day = context.status.coverage
    if day.checked_ms is None:
        yield Finding(
            "coverage", True, f"{day.day} was not compared with Retell",
            "Run `callhouse coverage`, or the worker, which does it every day.",
        )  # fmt: skip
        return
    lacks = day.missing + day.incomplete
    what = (
        f"{day.day}: {day.stored} of {day.listed} calls stored, {day.missing} missing, "
        f"{day.incomplete} incomplete, compared {ago(day.checked_ms, context.status.now_ms)}"
    )
    yield Finding("coverage", lacks > 0, what, "Run `callhouse coverage --fix`." if lacks else "")


CHECKS: tuple[Callable[[CheckContext], Iterator[Finding]], ...] = (
    _database, _sqlite, _files, _disk, _log, _traffic, _keys, _api, _agents, _public_url, _login,
    _inbound, _grading, _jobs, _backups, _coverage,
)  # fmt: skip
