"""A power cut right after any acknowledgement loses none of the events acknowledged by then."""

import random
import shutil
import subprocess

import pytest

from receiver.store.connection import connect, sqlite3
from tests.faults import powercut
from tests.faults.checking import check
from tests.faults.load import Load


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    )


needs_strace = pytest.mark.skipif(
    not can_trace(), reason="waits for strace and the right to trace a process"
)


def traced_load(serve, db_path, *, pairs=40, patch=""):
    """Post under strace; return the load, the trace and the files as they were before."""
    begin = {str(db_path): powercut.File(bytearray(db_path.read_bytes()))}
    begin[f"{db_path}-wal"] = powercut.File()
    trace = db_path.with_name("trace")
    server = serve(prefix=(*powercut.PREFIX, str(trace)), patch=patch).start()
    load = Load(server, clients=4, pairs=pairs).run()
    server.stop()
    return load, trace, begin


def check_images(db_path, load, trace, files):
    """Look for each acknowledged event in the images of the moment of its answer."""
    chance = random.Random(1)
    folder = db_path.with_name("image")
    acked, images, lost = set(), 0, 0
    for sha in powercut.acknowledged(trace, files):
        acked.add(sha)
        for some in (None, chance):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for path, file in files.items():
                image = file.image(some)
                if image:
                    (folder / path.rpartition("/")[2]).write_bytes(image)
            lost += not is_in(folder / db_path.name, sha)
            images += 1
    assert acked == load.acked, "the trace and the clients disagree"
    assert not lost, f"{lost} of {images} images lack the acknowledged event"
    # The whole of the last one.
    check(folder / db_path.name, acked, load.sent)


def is_in(path, sha) -> bool:
    connection = connect(path, busy_timeout_ms=0)
    try:
        found = connection.execute(
            "SELECT 1 FROM observations WHERE body_sha256 = ?", (sha,)
        ).fetchone()
        return found is not None and connection.execute("PRAGMA quick_check").fetchall() == [
            ("ok",)
        ]
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


@needs_strace
@pytest.mark.slow
def test_every_acknowledged_event_survives_a_power_cut(serve, db_path):
    load, trace, files = traced_load(serve, db_path)
    assert load.statuses == {204: 320}
    before = len(files[str(db_path)].certain)
    check_images(db_path, load, trace, files)
    assert len(files[str(db_path)].certain) > before, "the log was never written back"
