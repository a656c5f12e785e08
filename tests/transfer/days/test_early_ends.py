"""Runs that end early, or meet: the next one goes on, and nothing is half."""

import json
import os
import signal
import subprocess
import sys

import pytest

from receiver.errors import ExportFailed
from receiver.store import snapshot
from schema.tables import TABLES
from tests.support.engines import url_of
from tests.support.exporting import DAY_MS
from tests.transfer.days.lake import DAY, MANIFEST, UNKNOWN, add, changed, files

pytestmark = pytest.mark.slow_on_postgres


KILLED = """
import os, signal, sys
from receiver import config
from receiver.transfer import export_partitions, partitions

def dies(done, of):
    if of and done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

partitions._SAVED_ROWS = 0
export_partitions(config.load(), sys.argv[1], private=False, progress=dies)
"""


def test_run_after_kill_continues_without_partial_files(store, update, settings, lake):
    for n in range(3):
        add(store, f"call{n}", at=DAY_MS + n * 86_400_000)
    update(lake.parent / "whole")
    whole = files(lake.parent / "whole")
    environ = os.environ | {"CALLHOUSE_DATABASE_URL": url_of(settings.database)}
    command = [sys.executable, "-c", KILLED, lake, "7"]
    assert subprocess.run(command, env=environ, check=False).returncode == -signal.SIGKILL
    left = files(lake)
    assert 7 < len(left) < len(whole)
    assert changed(left, {name: whole[name] for name in left}) == set()
    # Where a kill can hit while a file is written.
    (lake / "calls" / UNKNOWN / ".calls.parquet.0123abcd.part").write_bytes(b"PAR1")
    assert update().current == 7
    assert files(lake) == whole


def test_interrupted_day_is_replaced_again(store, update, lake):
    add(store, "call", at=DAY_MS, event="call_ended")
    update()
    before = files(lake)

    def stops(done, of):
        if of and done == 1:
            raise KeyboardInterrupt

    add(store, "call", at=DAY_MS, received=DAY_MS + 1, transcript="hello")
    with pytest.raises(KeyboardInterrupt):
        update(progress=stops)
    assert changed(before, files(lake)) != set()
    # What a restored backup would look like: again what the first manifest said.
    parts = json.loads((lake / MANIFEST).read_bytes())["parts"]
    assert DAY.removeprefix("day=") not in parts.get("observations", {})
    update()
    update(lake.parent / "anew")
    assert files(lake) == files(lake.parent / "anew")


def test_unwritable_directory_is_an_error(update, lake):
    lake.mkdir()
    (lake / "chats").write_text("in the way")
    with pytest.raises(ExportFailed, match="cannot write") as error:
        update()
    assert "Run it again" in error.value.hint
    (lake / "chats").unlink()
    assert update().files == len(TABLES)


def test_two_runs_do_not_write_over_each_other(settings, run_on_store, update, lake):
    with snapshot(settings.database, timezone=None, private=False) as other, other.exclusive():
        result = run_on_store("--parquet", lake, "--partition", "day")
    assert (result.exit_code, "is running" in result.output) == (1, True)
    assert update().files > 0
