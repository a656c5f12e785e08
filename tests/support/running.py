"""Long-running commands, started like a user starts them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


def is_setting(name: str) -> bool:
    """Whether callhouse reads this variable of the environment."""
    return name.startswith(("CALLHOUSE_", "RETELL_")) or name == "PORT"


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with these settings, without those of the user who runs the
    tests."""
    return {k: v for k, v in os.environ.items() if not is_setting(k)} | settings


def free_address() -> str:
    """An address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass(frozen=True)
class Running:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text("utf-8")


@contextmanager
def command(
    name: str,
    *options: str,
    environ: dict[str, str],
    folder: Path,
    until: Callable[[Running], Any],
    leads_session: bool = False,
) -> Iterator[Running]:
    """Run a command; yield it once `until` is true of it, and stop it at the end.

    A browse that leads a session, as a service does, lets all other sessions of the machine go
    first, so that a busy machine would fail the test.
    """
    # A file, because a full pipe that nobody reads would stop the command. It is searched for
    # private data at the end of the run.
    log = folder / f"{name}.log"
    with log.open("ab") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", name, *options],
            env=environ | {"PYTHONUNBUFFERED": "1"},
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=folder,
            process_group=None if leads_session else 0,
            start_new_session=leads_session,
        )
    started = Running(process, log)

    def is_there() -> Any:
        assert process.poll() is None, started.output()
        return until(started)

    try:
        wait_until(is_there)
        yield started
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


def answering(address: str) -> Callable[[Running], bool]:
    """Whether there is an answer of HTTP at an address."""

    def answers(_: Running) -> bool:
        try:
            return bool(httpx.get(f"http://{address}/healthz").status_code)
        except httpx.TransportError:
            return False

    return answers


def serve(environ: dict[str, str], folder: Path) -> Any:
    """Run `callhouse serve`."""
    until = answering(environ["CALLHOUSE_BIND"])
    return command("serve", environ=environ, folder=folder, until=until)


def browse(environ: dict[str, str], folder: Path, *, leads_session: bool = False) -> Any:
    """Run `callhouse browse`."""
    until = answering(environ["CALLHOUSE_BROWSE_BIND"])
    return command(
        "browse", environ=environ, folder=folder, until=until, leads_session=leads_session
    )


@contextmanager
def site(path: Path, password: str) -> Iterator[str]:
    """Run `callhouse browse` on a file, with a password of admin; yield its URL."""
    address = free_address()
    environ = environment(
        CALLHOUSE_DATABASE_URL=f"sqlite:///{path}",
        CALLHOUSE_BROWSE_BIND=address,
        CALLHOUSE_BROWSE_PASSWORD=password,
    )
    with browse(environ, path.parent):
        yield f"http://{address}"


def mirror(environ: dict[str, str], folder: Path) -> Any:
    """Run `callhouse mirror`; its file is `mirror.db` in the folder."""
    return command(
        *("mirror", "--to", "mirror.db", "--every", "0.1"),
        environ=environ,
        folder=folder,
        until=lambda started: "mirroring continues" in started.output(),
    )


def wait_until(condition, *, seconds=20.0):
    """Wait for a condition of another process; fail after a bounded time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")
