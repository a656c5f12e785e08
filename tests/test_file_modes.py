"""Only their owner can read the files and folders that callhouse makes, whatever the umask is."""

import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from receiver.addresses import files_beside
from receiver.sandbox.server import Sandbox
from receiver.store import migrate
from receiver.store.connection import connect
from tests.support import ROOT, running
from tests.support.running import environment, free_address, wait_until
from tests.support.webhooks import KEY, PAYLOADS

EVENT = PAYLOADS / "event-call_ended.json"
WRITING = {
    "migrate": ["migrate"],
    "rebuild": ["rebuild"],
    "user": ["user", "add", "ann", "--role", "masked"],
    "token": ["token", "add", "t", "--role", "masked"],
    "export csv": ["export", "calls", "--to", "x.csv"],
    "export ndjson": ["export", "calls", "--to", "x.ndjson"],
    "export parquet": ["export", "calls", "--to", "x.parquet"],
    "export sqlite": ["export", "calls", "--to", "x.db"],
    "export all": ["export", "--to", "copy.db"],
    "export private": ["export", "--private", "--to", "copy.db"],
    "export days": ["export", "--parquet", "lake", "--partition", "day"],
    "copy": ["copy", "--to", "sqlite:///new/other.db"],
    "sync": ["sync"],
    "coverage": ["coverage"],
    "call": ["call", "+15005550001", "--from", "+14155550100"],
    "call --csv": ["call", "--from", "+14155550100", "--csv", "list.csv"],
}


@pytest.fixture
def environ(tmp_path):
    return environment(
        RETELL_API_KEY=KEY,
        CALLHOUSE_DATABASE_URL=f"sqlite:///{tmp_path}/data/retell.db",
        CALLHOUSE_BIND=free_address(),
        CALLHOUSE_BROWSE_BIND=free_address(),
    )


@pytest.fixture(autouse=True)
def open_umask():
    """What commands inherit: files for everybody to read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


def run(arguments, environ, folder, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "receiver", *arguments],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def readable_by_others(folder: Path, *, besides=()) -> dict[str, str]:
    """What is there that somebody else than the owner may open, and its mode."""
    found = {str(path.relative_to(folder)): mode(path) for path in folder.rglob("*")}
    return {name: oct(m) for name, m in found.items() if m & 0o077 and name not in besides}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITING)
def test_what_a_command_writes_is_private(name, environ, tmp_path):
    (tmp_path / "list.csv").write_text("to_number\n+15005550001\n")
    with Sandbox(api_key=KEY, seed=1, speed=0) as sandbox:
        sandbox.populate(calls=3, deliver=False)
        environ |= {"RETELL_BASE_URL": sandbox.url}
        run(["sync"], environ, tmp_path)
        run(WRITING[name], environ, tmp_path)
    assert readable_by_others(tmp_path, besides=["list.csv"]) == {}


@pytest.mark.slow
def test_what_serve_and_browse_write_is_private(environ, tmp_path):
    with running.serve(environ, tmp_path), running.browse(environ, tmp_path):
        run(["send", str(EVENT)], environ, tmp_path)
        wait_until(lambda: (tmp_path / "data/retell.secret").exists())
        found = {path.name for path in (tmp_path / "data").iterdir()}
        assert {"retell.db", "retell.db-wal", "retell.db-shm", "retell.db.lock"} <= found
        assert {"retell.db.turn", "retell.counters", "retell.secret"} <= found
        assert readable_by_others(tmp_path, besides=["serve.log", "browse.log"]) == {}


@pytest.mark.slow
def test_what_gunicorn_writes_is_private(environ, tmp_path):
    conf = ROOT / "gunicorn.conf.py"
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(conf)], env=environ, cwd=tmp_path
    ) as server:
        try:
            wait_until(lambda: (tmp_path / "data/retell.counters").exists())
        finally:
            server.terminate()
    assert readable_by_others(tmp_path) == {}


@pytest.mark.slow
def test_what_the_demo_writes_is_private(environ, tmp_path):
    (tmp_path / "callhouse-demo").mkdir(mode=0o755)
    (tmp_path / "callhouse-demo/serve.log").write_text("of an older version")
    run(["demo", "--exit", "--calls", "5", "--history", "1"], environ, tmp_path)
    # A folder that was there keeps its mode.
    found = readable_by_others(tmp_path)
    assert found == {"callhouse-demo": "0o755"}


@pytest.mark.slow
def test_what_the_sandbox_writes_is_private(environ, tmp_path):
    address = free_address()
    with running.command(
        *("sandbox", "--bind", address, "--history", "3"),
        environ=environ,
        folder=tmp_path,
        until=running.answering(address),
    ):
        assert readable_by_others(tmp_path, besides=["sandbox.log"]) == {}


@pytest.mark.slow
def test_what_a_mirror_writes_is_private(environ, tmp_path, pg):
    environ |= {"CALLHOUSE_DATABASE_URL": pg.url}
    run(["mirror", "--once", "--to", "new/mirror.db"], environ, tmp_path)
    assert (tmp_path / "new/mirror.db").exists()
    assert readable_by_others(tmp_path) == {}


def test_files_of_an_older_version_become_private(tmp_path):
    path = tmp_path / "retell.db"
    migrate(path, timezone="UTC")
    with closing(connect(path, busy_timeout_ms=0)) as connection:
        connection.execute("CREATE TABLE more (id)")
        for each in files_beside(path):
            each.touch()
            each.chmod(0o644)
        path.chmod(0o644)
        migrate(path, timezone="UTC")
        assert readable_by_others(tmp_path) == {}
