"""The whole thing on this machine: receiver, Datasette and a believable day of calls."""

import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from datasette_auth_passwords.utils import hash_password
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from receiver.config import Bind, Settings, require_free
from receiver.errors import DemoFailed, SettingsError
from receiver.sandbox.day import Delivery, day
from receiver.sending import post
from receiver.store.reading import connect_readonly

# Under the current folder; made anew by each run.
FOLDER = Path("callhouse-demo")
START_SECONDS = 30.0
STOP_SECONDS = 20.0

_out = Console(highlight=False)


def run(
    settings: Settings,
    *,
    seed: int,
    calls: int,
    date: str | None,
    stay: bool,
    progress: Callable[[], Progress],
) -> int:
    """Run the demo; return 0 once every event is stored, 1 if one is not.

    With `stay`, keep serving until SIGINT or SIGTERM. Raises SettingsError, DemoFailed.
    """
    _require_addresses(settings)
    deliveries = day(seed, day_start_ms=_start_of(date), calls=calls)
    database = _fresh_database(settings)
    key, password = f"key_{secrets.token_hex(14)}", secrets.token_urlsafe(9)
    environ = os.environ | {
        "RETELL_API_KEY": key,
        "RETELL_WEBHOOK_KEYS": "",
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{database}",
        "CALLHOUSE_BIND": str(settings.bind),
        "CALLHOUSE_BROWSE_BIND": str(settings.browse_bind),
        # The day is over: its events are signed when they happened, so that it reads as one.
        "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS": str(10 * 365 * 86_400),
        "CALLHOUSE_BROWSE_PASSWORD_HASH": hash_password(password),
        "PORT": "",
    }
    with _interruptible(), _process("serve", environ, settings.bind):
        _post_all(deliveries, f"http://{settings.bind}/webhook", key, progress)
        missing = _missing(database, deliveries)
        _summary(database, deliveries, missing)
        if stay and not missing:
            with _process("browse", environ, settings.browse_bind):
                _where(settings, password)
                with suppress(KeyboardInterrupt):
                    signal.pause()
    return 1 if missing else 0


def _require_addresses(settings: Settings) -> None:
    if settings.bind == settings.browse_bind:
        raise SettingsError(
            f"the receiver and Datasette cannot both listen on {settings.bind}",
            hint="Set CALLHOUSE_BIND and CALLHOUSE_BROWSE_BIND to two ports, and unset PORT.",
        )
    require_free(settings.bind, "CALLHOUSE_BIND")
    require_free(settings.browse_bind, "CALLHOUSE_BROWSE_BIND")


def _start_of(date: str | None) -> int:
    """The UTC midnight a day starts with, in milliseconds; yesterday's without a date."""
    try:
        start = (
            datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
            if date
            else datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            - timedelta(days=1)
        )
    except ValueError:
        raise SettingsError("--day is not a date", hint="Write it as 2026-05-12.") from None
    return int(start.timestamp()) * 1000


def _fresh_database(settings: Settings) -> Path:
    folder = FOLDER.resolve()
    if settings.database_path.resolve().is_relative_to(folder):
        raise SettingsError(
            f"the configured database lies in {FOLDER}, which the demo makes anew",
            hint="Set CALLHOUSE_DATABASE_URL to another place.",
        )
    folder.mkdir(exist_ok=True)
    for old in folder.glob("retell.*"):
        old.unlink()
    return folder / "retell.db"


@contextmanager
def _process(command: str, environ: dict[str, str], bind: Bind) -> Iterator[None]:
    """Run `callhouse COMMAND` until the block ends; enter the block once it listens."""
    log = FOLDER / f"{command}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver.cli", command],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is the demo's to handle: it stops its processes in order.
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


def _wait_until_it_answers(process: subprocess.Popen[bytes], bind: Bind, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((bind.host, bind.port), timeout=1):
            return
        time.sleep(0.05)
    raise DemoFailed(f"nothing answers on {bind}", hint=f"{log} says why.")


def _post_all(
    deliveries: Sequence[Delivery], url: str, key: str, progress: Callable[[], Progress]
) -> None:
    with httpx.Client(timeout=30) as client, progress() as bar:
        for delivery in bar.track(deliveries, description="A day of calls"):
            # What is not answered is found missing afterwards, and counted.
            with suppress(httpx.HTTPError):
                post(client, url, delivery.body, key=key, at_ms=delivery.at_ms)


def _missing(database: Path, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries whose bodies are not in the database."""
    connection = connect_readonly(database)
    stored = {row[0] for row in connection.execute("SELECT body_sha256 FROM observations")}
    connection.close()
    return [d for d in deliveries if hashlib.sha256(d.body).hexdigest() not in stored]


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


def _where(settings: Settings, password: str) -> None:
    _out.print(f"\nLook at   [bold]http://{settings.browse_bind}/[/bold]")
    _out.print(f"Log in as [bold]admin[/bold] with [bold]{password}[/bold]")
    _out.print("Ctrl-C stops everything.")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM stop the demo as Ctrl-C does, and both of them even where a shell has switched
    interrupts off for a command in the background."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
