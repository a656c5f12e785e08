"""The units: systemd accepts them, and what they start exists and says when it is ready."""

import configparser
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values

from receiver import config
from receiver.cli import main
from tests.support import ROOT, running
from tests.support.engines import url_of
from tests.support.webhooks import KEY

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    SYSTEMD_ANALYZE is None, reason="waits for systemd-analyze, of the package systemd"
)
INSTALLED = "/opt/callhouse/bin/callhouse"
# In tenths: systemd calls a service below 2.0 OK, and one without protection 9.6 UNSAFE.
MOST_EXPOSURE = 20


def command_of(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(unit)
    return parser["Service"]["ExecStart"].split()


def test_each_process_has_a_unit():
    procfile = (ROOT / "Procfile").read_text(encoding="utf-8").splitlines()
    commands = {line.split()[-1] for line in procfile}
    assert {command_of(unit)[1] for unit in UNITS} == commands
    assert commands <= main.commands.keys()
    assert {command_of(unit)[0] for unit in UNITS} == {INSTALLED}


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit, tmp_path):
    text = unit.read_text(encoding="utf-8")
    # systemd checks that the program exists.
    here = str(Path(sys.executable).with_name("callhouse"))
    copy = tmp_path / unit.name
    copy.write_text(text.replace(INSTALLED, here), encoding="utf-8")
    # Units of other programs on this machine may be wrong.
    verify = [SYSTEMD_ANALYZE, "verify", "--recursive-errors=no", "--man=no", str(copy)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_has_few_rights(unit):
    command = [SYSTEMD_ANALYZE, "security", "--offline=yes", f"--threshold={MOST_EXPOSURE}"]
    done = subprocess.run([*command, str(unit)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-200:]


def test_example_of_settings_is_valid():
    example = ROOT / "deploy/systemd/callhouse.env.example"
    values = dotenv_values(example) | {"RETELL_API_KEY": KEY}
    settings = config.load(values, dotenv=Path("/nonexistent"))
    assert settings.health_bind is not None


def test_receiver_tells_systemd_when_it_is_ready(database, tmp_path):
    address = running.free_address()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        environ = running.environment(
            RETELL_API_KEY=KEY,
            CALLHOUSE_DATABASE_URL=url_of(database),
            CALLHOUSE_BIND=address,
            CALLHOUSE_WORKERS="1",
            NOTIFY_SOCKET=str(tmp_path / "notify"),
        )
        with running.serve(environ, tmp_path):
            assert told.recv(1000).startswith(b"READY=1")
