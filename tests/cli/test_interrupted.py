"""Ctrl-C ends every command with one line and status 130, wherever it is met."""

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from receiver.cli.group import print_interrupted
from receiver.store import migrate, open_store
from tests.support.running import environment, free_address, wait_until
from tests.support.storing import add
from tests.support.webhooks import KEY, PAYLOADS

DAY_MS = 86_400_000
WAITING = {
    "sync": (["sync"], "run the same command again to continue"),
    "coverage": (["coverage"], "Interrupted."),
    "coverage of a day": (["coverage", "--since", "2026-05-01"], "are in the table coverage"),
    "webhook show": (["webhook", "show"], "Interrupted."),
    "webhook set": (["webhook", "set", "https://x.example/webhook", "--all"], "Interrupted."),
    "call": (["call", "+14155550123", "--from", "+14155550100"], "--idempotency-key"),
    "call --csv": (
        ["call", "--from", "+14155550100", "--csv", "list.csv"],
        "nobody is called twice",
    ),
    "send": (["send", str(PAYLOADS / "event-call_ended.json")], "Interrupted."),
    "webhook test": (["webhook", "test", "http://{}/webhook"], "Interrupted."),
}


@pytest.fixture
def silent():
    """A server that takes requests and never answers."""
    taken = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept():
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", taken
        server.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


@pytest.fixture
def environ(db_path):
    return environment(
        RETELL_API_KEY=KEY,
        CALLHOUSE_DATABASE_URL=f"sqlite:///{db_path}",
        CALLHOUSE_BIND=free_address(),
        CALLHOUSE_BROWSE_BIND=free_address(),
    )


def interrupted(
    arguments, environ, when, *, stderr=subprocess.PIPE, sent=signal.SIGINT, pause=0.3, cwd=None
):
    """Run a command, interrupt it `when` is true; return its status and what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", *arguments],
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        cwd=cwd,
    ) as process:
        try:
            wait_until(when)
            time.sleep(pause)
            process.send_signal(sent)
            output = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    return process.returncode, (output or b"").decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", WAITING)
def test_a_command_that_waits_is_interrupted(name, environ, silent, tmp_path):
    address, taken = silent
    (tmp_path / "list.csv").write_text("to_number\n+14155550101\n")
    environ |= {"RETELL_BASE_URL": f"http://{address}", "CALLHOUSE_BIND": address}
    arguments, words = WAITING[name]
    status, output = interrupted([a.format(address) for a in arguments], environ, lambda: taken)
    assert status == 130, output
    assert words in output
    assert "Traceback" not in output
    assert "Interrupted." in output


@pytest.mark.slow
def test_a_progress_bar_is_interrupted(environ, silent):
    address, taken = silent
    ours, theirs = pty.openpty()
    environ |= {"RETELL_BASE_URL": f"http://{address}", "TERM": "xterm"}
    arguments = ["coverage", "--since", "2026-05-01"]
    status, _ = interrupted(arguments, environ, lambda: taken, stderr=theirs)
    os.close(theirs)
    output = os.read(ours, 65536).decode()
    os.close(ours)
    assert status == 130
    assert output.rstrip().splitlines()[-1].endswith("are in the table coverage.")
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["browse", "sandbox", "demo", "demo --exit"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_long_running_command_is_interrupted(name, environ, sent):
    address = environ["CALLHOUSE_BROWSE_BIND" if name == "browse" else "CALLHOUSE_BIND"]
    arguments = name.split()
    if name == "sandbox":
        arguments += ["--bind", address]

    def listens():
        host, port = address.split(":")
        with closing(socket.socket()) as probe:
            return probe.connect_ex((host, int(port))) == 0

    status, output = interrupted(arguments, environ, listens, sent=sent)
    assert "Traceback" not in output
    if sent == signal.SIGINT:
        assert status == 130, output
        assert output.splitlines()[-1].startswith("Interrupted.")
    else:
        assert status in (0, 143, -signal.SIGTERM), output


@pytest.fixture(scope="module")
def many_calls(tmp_path_factory):
    """A database that takes a command some seconds to go through."""
    path = tmp_path_factory.mktemp("many") / "retell.db"
    migrate(path, timezone="UTC")
    store = open_store(path)
    for n in range(1500):
        add(store, "call_ended", f"call_{n:04}", at=DAY_MS * n, received=DAY_MS * n,
            start_timestamp=DAY_MS * n, transcript="Agent: Hello.")  # fmt: skip
    store.close()
    return path


def size(path):
    return path.stat().st_size if path.exists() else 0


# The command -> whether it is at work in a folder, and how to continue.
WORKING = {
    "rebuild": (lambda f: size(f / "retell.db-wal") > 50_000, "Run it again"),
    "copy --to sqlite:///other.db": (lambda f: size(f / "other.db-wal") > 0, "continue from here"),
    "export --parquet lake --partition day": (
        lambda f: any(path.is_file() for path in f.glob("lake/**/*")),
        "export again",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", WORKING)
def test_working_command_is_interrupted(command, many_calls, environ, tmp_path):
    shutil.copy(many_calls, tmp_path / "retell.db")
    environ |= {"CALLHOUSE_DATABASE_URL": "sqlite:///retell.db"}
    is_at_work, advice = WORKING[command]
    status, output = interrupted(
        command.split(), environ, lambda: is_at_work(tmp_path), pause=0, cwd=tmp_path
    )
    assert status == 130, output
    [line] = output.splitlines()
    assert line.startswith("Interrupted. ")
    assert advice in line
    # Nothing half-done is in the way of the next run.
    again = [sys.executable, "-m", "receiver", *command.split()]
    done = subprocess.run(again, env=environ, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_mirror_is_interrupted(pg, environ, tmp_path):
    environ |= {"CALLHOUSE_DATABASE_URL": pg.url}
    status, output = interrupted(
        ["mirror"], environ, lambda: size(tmp_path / "data/mirror.db-wal"), cwd=tmp_path
    )
    assert status == 130, output
    assert output.splitlines() == ["Interrupted. The next run continues from here."]


def test_brackets_in_a_note_are_printed(capsys):
    stopped = KeyboardInterrupt()
    stopped.add_note("To print it: callhouse show [/a]")
    assert print_interrupted(stopped) == 130
    assert capsys.readouterr().err == "Interrupted. To print it: callhouse show [/a]\n"
