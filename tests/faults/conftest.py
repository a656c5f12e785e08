"""Servers that end with their test, and folders on file systems of their own."""

import os
import subprocess
import sys

import pytest

from tests.faults.checking import CHECKED
from tests.faults.harness import Server


def pytest_terminal_summary(terminalreporter, config):
    if config.option.verbose > 0:
        for name, count in CHECKED.items():
            terminalreporter.line(f"{count:7,} acknowledged  {name}")
    terminalreporter.line(f"{CHECKED.total():,} acknowledged events looked for after a fault")


@pytest.fixture
def serve(db_path):
    """Make servers on the test's file; they are stopped, and what they said is searched."""
    if sys.platform != "linux":
        pytest.skip("waits for Linux: the workers are found in /proc")
    servers = []

    def make(database=db_path, **options):
        servers.append(Server(database, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(serve):
    return serve().start()


@pytest.fixture
def mounted(tmp_path):
    """Mount a tmpfs with options and return its folder; unmounted after the test."""
    folders = []

    def mount(options):
        folder = tmp_path / "mounted"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("waits for the right to mount a tmpfs (root)")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def remount(mounted):
    """Change the options of what `mounted` has mounted."""

    def change(folder, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    return change
