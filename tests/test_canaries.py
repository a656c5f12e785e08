"""The search for what must never be said finds it in each place, and fails the run."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import ROOT

LEAKS = {
    "a log line": """
    from receiver.webhook.health import log
    log(now_ms=0, stream=io.StringIO(), outcome="stored", error="to +13125550187")
""",
    "an error's text": """
    from receiver.errors import StoreUnavailable
    StoreUnavailable("no room", hint="Sign with key_0123456789abcdef.")
""",
    "/healthz, /metrics": """
    from receiver.webhook.health import NAMES, DatabaseState, prometheus
    class Counters:
        path = tmp_path / "retell.counters"
        def read(self):
            return dict.fromkeys(NAMES, 0) | {"lighthouses": 1}
    prometheus(DatabaseState([], {}, {}, 0, 0, 0), Counters(), now_ms=1)
""",
    "the log of gunicorn.error": """
    logging.getLogger("gunicorn.error").error("body: %r", "the Lighthouses")
""",
    "server.log": """
    (tmp_path / "server.log").write_text("User: Lighthouses.")
""",
    "printed": """
    from click.testing import CliRunner
    import click
    CliRunner().invoke(click.Command("send", callback=lambda: click.echo("lighthouses")), [])
""",
}


def run(body: str) -> tuple[int, str]:
    """Run one passing test under the plugin; its exit status and output."""
    # Not among the files of this run, which are searched too.
    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder, "test_planted.py")
        test.write_text(f"import io, logging\ndef test_passes(tmp_path):{body}")
        ran = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "-p",
                    "tests.support.canaries",
                    "-p",
                    "no:cacheprovider",
                ),
                *(f"--rootdir={folder}", f"--basetemp={folder}/files", str(test)),
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=folder,
            capture_output=True,
            text=True,
        )
    return ran.returncode, ran.stdout


# Each is a test run of its own.
@pytest.mark.parametrize(
    "where", ["a log line", *(pytest.param(w, marks=pytest.mark.slow) for w in [*LEAKS][1:])]
)
def test_leak_fails_a_run_whose_tests_pass(where):
    status, printed = run(LEAKS[where])
    assert "1 passed" in printed, printed
    assert status == pytest.ExitCode.TESTS_FAILED
    assert where in printed.partition("must never be said")[2]


def test_run_without_a_leak_passes():
    module = """
    from receiver.errors import StoreBusy
    from receiver.webhook.health import log
    log(now_ms=0, stream=io.StringIO(), outcome="stored", event="call_ended", entity_id="call_1")
    logging.getLogger("gunicorn.error").error("Worker exiting (pid: 14155550123)")
    StoreBusy("another process held the write lock too long")
"""
    assert run(module)[0] == 0
