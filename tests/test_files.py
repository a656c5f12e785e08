"""Files of secrets and users are written in full or not at all, by one process at a time."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from receiver import config
from receiver.browse import access
from receiver.browse.server import signing_secret
from receiver.errors import SettingsError
from receiver.files import atomic_write
from tests.support.running import environment


@pytest.fixture
def settings(tmp_path):
    return config.load({"CALLHOUSE_DATABASE_URL": f"sqlite:///{tmp_path}/retell.db"})


def test_failed_write_leaves_the_file_that_was_there(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    def write():
        with atomic_write(target) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "before"


def test_atomic_file_is_its_owners_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with atomic_write(tmp_path / "file") as part:
            part.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_killed_while_making_the_secret_leaves_none(tmp_path, settings):
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from receiver import config\nfrom receiver.browse.server import signing_secret\n"
        "write = Path.write_text\n"
        "Path.write_text = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "signing_secret(config.load())\n"
    )
    environ = environment(CALLHOUSE_DATABASE_URL=f"sqlite:///{tmp_path}/retell.db")
    killed = subprocess.run([sys.executable, "-c", script], env=environ, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "retell.secret").exists()
    secret = signing_secret(settings)
    assert len(secret) == 64
    assert signing_secret(settings) == secret


def test_empty_secret_is_refused(tmp_path, settings):
    (tmp_path / "retell.secret").touch()
    with pytest.raises(SettingsError, match=r"retell\.secret is empty"):
        signing_secret(settings)


def test_users_added_at_once_are_all_there(tmp_path):
    environ = environment(CALLHOUSE_DATABASE_URL=f"sqlite:///{tmp_path}/retell.db")
    script = (
        "import sys\nfrom receiver.browse import access\nfrom pathlib import Path\n"
        "for n in range(10):\n"
        "    with access.edit(Path(sys.argv[1])) as known:\n"
        "        known.users[f'{sys.argv[2]}-{n}'] = access.User('reader', 'hash')\n"
    )
    path = tmp_path / "retell.access"
    adding = [
        subprocess.Popen([sys.executable, "-c", script, str(path), f"u{n}"], env=environ)
        for n in range(4)
    ]
    assert [process.wait(60) for process in adding] == [0] * 4
    assert len(access.load(path).users) == 40


def test_two_browse_processes_share_thesigning_secret(tmp_path):
    environ = environment(CALLHOUSE_DATABASE_URL=f"sqlite:///{tmp_path}/retell.db")
    script = (
        "from receiver import config\nfrom receiver.browse.server import signing_secret\n"
        "print(signing_secret(config.load()))"
    )
    starting = [
        subprocess.Popen([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in starting}) == 1
