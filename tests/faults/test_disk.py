"""No room, no right to write: refused with 503, nothing half, and well again without a restart."""

import resource
import shutil
import time
from contextlib import suppress

import pytest

from receiver.store.connection import connect
from tests.faults.checking import check
from tests.faults.harness import pair
from tests.faults.load import Load
from tests.support.running import wait_until

MIB = 1024 * 1024


def fill(server, *, name, padding=100_000):
    """Post until nothing fits any more."""
    load = Load(server, clients=4, pairs=12, padding=padding, name=name).run()
    assert load.statuses[204] > 10, load.statuses
    assert load.statuses[503] > 10, load.statuses
    assert set(load.statuses) == {204, 503}, load.statuses
    return load


def fill_up(file):
    """Write until the disk is full; bounded, should it not be."""
    with suppress(OSError):
        for _ in range(10_000):
            file.write(b"x" * 4096)


def check_recovered(server, db_path, full, workers):
    time.sleep(0.1)
    after = Load(server, clients=4, pairs=5, name="after").run()
    assert after.statuses == {204: 40}, after.statuses
    assert server.workers() == workers, "a worker was restarted"
    check(db_path, full.acked | after.acked, full.sent | after.sent)


def test_full_disk_is_503_until_there_is_room(serve, mounted, remount, new_database):
    folder = mounted("size=3m")
    db_path = shutil.copy(new_database, folder / "retell.db")
    server = serve(db_path).start()
    workers = server.workers()
    load = fill(server, name="full")
    status, health = server.health()
    assert status == 503
    assert "the disk is nearly full" in health["problems"]
    reader = connect(db_path, busy_timeout_ms=0)
    assert reader.execute("SELECT count(*) FROM observations").fetchone()[0] >= len(load.acked)
    reader.close()
    remount(folder, "size=200m")
    check_recovered(server, db_path, load, workers)
    wait_until(lambda: server.health()[0] == 200)


@pytest.mark.slow
def test_file_size_limit_is_503_until_lifted(serve, db_path):
    limit = 2 * MIB

    def preexec():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    server = serve(preexec=preexec).start()
    workers = server.workers()
    load = fill(server, name="limited")
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    check_recovered(server, db_path, load, workers)


@pytest.mark.slow
def test_start_on_a_read_only_file_system_fails(serve, mounted, remount, new_database):
    folder = mounted("size=100m")
    db_path = shutil.copy(new_database, folder / "retell.db")
    remount(folder, "ro")
    server = serve(db_path).launch()
    assert server.process.wait(20) != 0
    assert "cannot be written: Read-only file system" in server.text()
    assert "Traceback" not in server.text()
    remount(folder, "rw")
    assert server.start().post(pair("call")[0]).status_code == 204


@pytest.mark.slow
def test_start_on_a_full_disk_fails_until_freed(serve, mounted, remount, new_database):
    folder = mounted("size=3m")
    db_path = shutil.copy(new_database, folder / "retell.db")
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        fill_up(file)
    server = serve(db_path).launch()
    assert server.process.wait(20) != 0, server.text()
    ballast.unlink()
    assert server.start().post(pair("call")[0]).status_code == 204


@pytest.mark.slow
def test_full_disk_under_the_log_fails_no_event(serve, mounted, db_path):
    server = serve()
    server.output = mounted("size=64k") / "server.log"
    server.start()
    with server.output.with_name("ballast").open("wb", buffering=0) as file:
        fill_up(file)
    load = Load(server, clients=1, pairs=40).run()
    assert load.statuses == {204: 80}
    check(db_path, load.acked, load.sent)


@pytest.mark.slow
def test_disk_full_before_any_event_kills_no_worker(serve, mounted, new_database):
    folder = mounted("size=3m")
    server = serve(shutil.copy(new_database, folder / "retell.db")).start()
    workers = server.workers()
    with (folder / "ballast").open("wb", buffering=0) as file:
        fill_up(file)
    load = Load(server, clients=1, pairs=5).run()
    assert load.statuses == {503: 10}, load.statuses
    assert server.workers() == workers
