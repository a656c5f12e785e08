"""The demo: a local Retell, the receiver and Datasette on this machine, with a month of calls.

In: settings, a seed and a date. Out: a database in callhouse-demo/, and Datasette to browse it.
"""

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from receiver import config
from receiver.addresses import Bind, require_free
from receiver.browse.access import hash_password
from receiver.clock import midnight_ms
from receiver.config import Settings
from receiver.errors import DemoFailed, SettingsError, StoreUnavailable
from receiver.jobs.recordings import keep_pass
from receiver.jobs.storage import storage_of
from receiver.jobs.worker import Run, Stopped
from receiver.sandbox.days import DAY_MS, Story
from receiver.sandbox.deliveries import Delivery
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import Sandbox
from receiver.sandbox.templates import read_data
from receiver.store import open_store
from receiver.store.connection import connect_readonly

# In the current folder; replaced by each run.
FOLDER = Path("callhouse-demo")
# Scenarios of the calls at the end, their speed and the pause between them.
LIVE_CALLS = ("answered", "voicemail", "transfer", "busy", "hang-up", "answered")
LIVE_NUMBER = "+12065550117"
LIVE_SPEED = 10.0
LIVE_PAUSE_SECONDS = 5.0
# Files of the past day that are kept, three or more for each call: most of its calls.
KEPT_RECORDINGS = 150
# With so many calls, a day has every kind of call and of delivery.
EVERY_KIND_CALLS = 40
START_SECONDS, STOP_SECONDS = 30.0, 20.0
# How often the demo looks for new recordings.
_KEEP_SECONDS = 2.0

_out = Console(highlight=False, soft_wrap=True)


_TRAFFIC = read_data("data/traffic.yaml")
# The first deep link: of the newest calls with a stored recording, one with failed tools, without a
# quarantined delivery, for which its page has a warning.
_WORTH_HEARING = """
SELECT c.call_id FROM calls c
JOIN call_metrics m ON m.call_id = c.call_id
JOIN media_files f ON f.call_id = c.call_id AND f.kind = 'recording' AND f.state = 'kept'
WHERE NOT EXISTS (
    SELECT 1 FROM observations o WHERE o.entity_id = c.call_id AND o.problem IS NOT NULL
)
ORDER BY m.failed_tool_calls > 0 DESC, m.tool_calls > 1 DESC, m.turns DESC LIMIT 1
"""
# The agent whose newer version succeeds less often, made up in receiver/sandbox/data/agents.yaml.
_GOT_WORSE = "SELECT agent_id FROM calls WHERE agent_name LIKE 'Nora - Front Desk%' LIMIT 1"
_SEARCH = "refund OR accident"
_LINK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The generated data: calls of a day, by default yesterday, after `history` days. Without
    `calls`, the day has as many as the days before it."""

    seed: int
    calls: int | None
    day: date | None
    history: int


def usual_calls(seed: int, day_start_ms: int, days_before: int) -> int:
    """Return how many calls a day has, which is `days_before` the demo's last day."""
    weekday = datetime.fromtimestamp(day_start_ms / 1000, UTC).weekday()
    usual: float = _TRAFFIC["weekdays"][weekday] * _TRAFFIC["unusual_days"].get(days_before, 1)
    return round(usual * Random(f"calls {seed} {day_start_ms}").uniform(*_TRAFFIC["noise"]))


def browse_again() -> str:
    """How to browse the calls of the last run: one line, to be copied."""
    script = Path(sys.executable).with_name("callhouse")
    found = shutil.which("callhouse")
    # `make demo` installs it where no shell finds it.
    is_found = found is not None and Path(found).resolve() == script.resolve()
    command = "callhouse" if is_found else shlex.quote(os.path.relpath(script))
    return (
        f"Browse the calls again: CALLHOUSE_DATABASE_URL=sqlite:///{FOLDER}/retell.db "
        f"CALLHOUSE_MEDIA_URL=file:{FOLDER}/media {command} browse"
    )


def run(settings: Settings, plan: Plan, *, stay: bool, progress: Callable[[], Progress]) -> int:
    """Run the demo; return 0 once every event is stored, 1 if one is not.

    With `stay`, keep serving until KeyboardInterrupt. Raises SettingsError, DemoFailed.
    """
    _require_addresses(settings)
    day_start_ms = _start_of(plan.day)
    database = _fresh_database(settings)
    key, password = f"key_{secrets.token_hex(14)}", secrets.token_urlsafe(9)
    environ = os.environ | environment(settings, database, key=key, password=password)
    watched = threading.Event()
    sandbox = Sandbox(
        api_key=key,
        seed=plan.seed,
        speed=LIVE_SPEED if stay else 0,
        webhook_url=f"http://{settings.bind}/webhook",
        on_delivery=lambda delivery: _arrival(delivery) if watched.is_set() else None,
        # With Retell's limits, a month of calls would take a minute to fetch.
        limits=None,
    )
    with _interruptible(), _process("serve", environ, settings.bind), sandbox:
        if plan.history:
            _fetch_history(sandbox, day_start_ms, plan, environ)
        calls = plan.calls or max(EVERY_KIND_CALLS, usual_calls(plan.seed, day_start_ms, 0))
        _live_a_day(sandbox, day_start_ms, calls, progress)
        if not stay:
            _place_calls(sandbox)
            sandbox.settle()
        missing = _missing(database, sandbox.deliveries)
        _summary(database, sandbox.deliveries, missing)
        if stay and not missing:
            # Recordings that are not kept are played from the sandbox.
            environ |= {"RETELL_BASE_URL": sandbox.url}
            keeping = _keeping_recordings(environ)
            with _process("browse", environ, settings.browse_bind), keeping:
                _where(settings, database, password, sandbox)
                watched.set()
                _place_calls(sandbox, say=_out.print, pause_seconds=LIVE_PAUSE_SECONDS)
                signal.pause()
    return 1 if missing else 0


def environment(settings: Settings, database: Path, *, key: str, password: str) -> dict[str, str]:
    """The variables of the demo's processes. The sandbox is their only account."""
    others = [a.name.upper() for a in settings.accounts if a.name != config.DEFAULT_ACCOUNT]
    return {f"RETELL_{kind}_{a}": "" for a in others for kind in ("API_KEY", "WEBHOOK_KEYS")} | {
        "RETELL_API_KEY": key,
        "RETELL_WEBHOOK_KEYS": "",
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{database}",
        "CALLHOUSE_BIND": str(settings.bind),
        "CALLHOUSE_BROWSE_BIND": str(settings.browse_bind),
        # Events are signed when they happened, long ago for the receiver.
        "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS": str(10 * 365 * 86_400),
        "CALLHOUSE_BROWSE_PASSWORD_HASH": hash_password(password),
        "CALLHOUSE_MEDIA_URL": f"file:{database.parent / 'media'}",
        "CALLHOUSE_MEDIA_ALLOW_PRIVATE": "1",
        "PORT": "",
    }


def _require_addresses(settings: Settings) -> None:
    if settings.bind == settings.browse_bind:
        raise SettingsError(
            f"the receiver and Datasette cannot both listen on {settings.bind}",
            hint="Set CALLHOUSE_BIND and CALLHOUSE_BROWSE_BIND to two ports, and unset PORT.",
        )
    require_free(settings.bind, "CALLHOUSE_BIND")
    require_free(settings.browse_bind, "CALLHOUSE_BROWSE_BIND")


def _start_of(day: date | None) -> int:
    """The UTC midnight of a day in milliseconds; yesterday's by default."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    return midnight_ms(day or yesterday, ZoneInfo("UTC"))


def _fresh_database(settings: Settings) -> Path:
    folder = FOLDER.resolve()
    if settings.counters_path.resolve().is_relative_to(folder):
        raise SettingsError(
            f"the configured database is in {FOLDER}, which the demo replaces",
            hint="Set CALLHOUSE_DATABASE_URL to another folder.",
        )
    folder.mkdir(exist_ok=True)
    for old in folder.glob("retell.*"):
        old.unlink()
    shutil.rmtree(folder / "media", ignore_errors=True)
    return folder / "retell.db"


@contextmanager
def _process(command: str, environ: dict[str, str], bind: Bind) -> Iterator[None]:
    """Run `callhouse COMMAND` until the block ends; enter the block once it listens."""
    log = FOLDER / f"{command}.log"
    # A log of an older version may be readable by others.
    log.unlink(missing_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", command],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            # The demo handles Ctrl-C and stops its processes in order.
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(process, bind, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _keeping_recordings(environ: Mapping[str, str]) -> Iterator[None]:
    """Keep recordings in the background until the block ends: of the newest calls of the past day,
    and of every call from now on. Enter the block once the first are kept, or after some seconds.
    """
    settings = config.load(environ)
    stop, is_begun = threading.Event(), threading.Event()
    storage = storage_of(settings)

    def keep() -> None:
        assert storage is not None
        with suppress(Stopped), closing(open_store(settings.database, busy_seconds=60)) as store:
            run = Run(settings, store, stop=stop)
            began_at = run.now_ms()
            keep_pass(run, storage, limit=KEPT_RECORDINGS)
            is_begun.set()
            while True:
                # Retried with the next pass.
                with suppress(StoreUnavailable):
                    keep_pass(run, storage, limit=KEPT_RECORDINGS, since=began_at)
                run.sleep(_KEEP_SECONDS)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    is_begun.wait(_LINK_SECONDS)
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)


def _wait_until_it_answers(process: subprocess.Popen[bytes], bind: Bind, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((bind.host, bind.port), timeout=1):
            return
        time.sleep(0.05)
    raise DemoFailed(f"no process listens on {bind}", hint=f"See {log}.")


def _fetch_history(
    sandbox: Sandbox, day_start_ms: int, plan: Plan, environ: Mapping[str, str]
) -> None:
    """Make up the days before, and sync. Raises DemoFailed.

    Webhooks report only calls that never started: Retell's API has no time of them, so they would
    all be calls of today.
    """
    days = range(plan.history, 0, -1)
    sandbox.populate(
        calls=[usual_calls(plan.seed, day_start_ms - n * DAY_MS, n) for n in days],
        day_start_ms=day_start_ms - plan.history * DAY_MS,
        deliver=_never_started,
        chats=True,
        backdated=True,
    )
    sandbox.settle()
    _out.print(f"Fetching {plan.history} days from Retell's API: callhouse sync")
    command = [sys.executable, "-m", "receiver", "sync"]
    if subprocess.run(command, env={**environ, "RETELL_BASE_URL": sandbox.url}).returncode:
        raise DemoFailed("the history could not be fetched", hint="Try --history 0.")


def _never_started(story: Story) -> bool:
    return story.entity is not None and "start_timestamp" not in story.entity


def _live_a_day(
    sandbox: Sandbox, day_start_ms: int, calls: int, progress: Callable[[], Progress]
) -> None:
    """Have the events of a past day sent, and wait until all are."""
    with progress() as bar:
        planned = sandbox.populate(
            calls=calls, day_start_ms=day_start_ms, deliver=True, odd=True, backdated=True
        )
        task = bar.add_task("A day of calls", total=planned)
        while not bar.finished:
            bar.update(task, completed=min(len(sandbox.deliveries), planned))
            time.sleep(0.1)
        # Events that were not accepted are counted afterwards.
        sandbox.settle()


def _place_calls(
    sandbox: Sandbox,
    *,
    say: Callable[[str], None] = lambda _: None,
    pause_seconds: float = 0,
) -> None:
    """Place a few calls through the API, as an application would."""
    say("\nPlacing calls through the API, ten times faster than life:")
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(base_url=sandbox.url, headers=headers, timeout=30) as client:
        for scenario in (BY_NAME[name] for name in LIVE_CALLS):
            order = {"from_number": LIVE_NUMBER, "to_number": scenario.number}
            call = client.post("/v2/create-phone-call", json=order).raise_for_status().json()
            say(f"  {call['call_id']}  placed: {scenario.meaning}")
            time.sleep(pause_seconds)


def _arrival(delivery: Delivery) -> None:
    _out.print(f"  {delivery.call_id}  {delivery.event}")


def _missing(database: Path, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries whose bodies are not in the database."""
    connection = connect_readonly(database)
    stored = {row[0] for row in connection.execute("SELECT body_sha256 FROM observations")}
    connection.close()
    return [delivery for delivery in deliveries if delivery.body_sha256 not in stored]


def _summary(database: Path, deliveries: Sequence[Delivery], missing: Sequence[Delivery]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    table.add_row(f"{len(deliveries):,}", "signed events posted")
    connection = connect_readonly(database)
    for what, query in {
        "calls": "SELECT count(*) FROM calls",
        "chats": "SELECT count(*) FROM chats",
        "turns of conversation": "SELECT count(*) FROM utterances WHERE track = 'session'",
        "tool calls": "SELECT count(*) FROM tool_calls WHERE track = 'session'",
        "quarantined: signed, but not an event": "SELECT count(*) FROM observations "
        "WHERE problem IS NOT NULL",
    }.items():
        table.add_row(f"{connection.execute(query).fetchone()[0]:,}", what)
    connection.close()
    if missing:
        table.add_row(f"{len(missing):,}", "events not stored", style="bold red")
    _out.print(table)
    _out.print(f"Stored in {FOLDER / database.name}")


def _where(settings: Settings, database: Path, password: str, sandbox: Sandbox) -> None:
    base = f"http://{settings.browse_bind}"
    _out.print(f"\nLook at   [bold]{base}/[/bold]")
    _out.print(f"Log in as [bold]admin[/bold] with [bold]{password}[/bold]")
    for what, path in deep_links(database).items():
        _out.print(f"  {what}:\n  {base}{path}")
    _out.print(f"Retell's API, local: {sandbox.url}")
    _out.print(f"  with the key {sandbox.api_key}")
    _out.print("Ctrl-C stops everything.")


def deep_links(database: Path) -> dict[str, str]:
    """Pages to begin with, as far as there are calls for them."""
    with closing(connect_readonly(database)) as connection:
        call = connection.execute(_WORTH_HEARING).fetchone()
        agent = connection.execute(_GOT_WORSE).fetchone()
    links = {"A call worth hearing": f"/-/call/{call[0]}"} if call else {}
    if agent:
        links["A version that got worse"] = f"/-/dashboards/versions?agent={agent[0]}"
    return links | {"A search": f"/-/calls?{urlencode({'q': _SEARCH})}"}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C stop the demo even if the shell ignores it for background commands."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
