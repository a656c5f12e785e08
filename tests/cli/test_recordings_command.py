"""`callhouse recordings` as a person or a script runs it."""

import json

import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.support.recording import Recordings


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr("receiver.sandbox.recordings.RATE", 400)


@pytest.fixture
def job(store, database, tmp_path):
    with Recordings(store, database, tmp_path) as job:
        yield job


def invoke(job, *options, **environ):
    return CliRunner(env=job.environ | environ).invoke(main, ["recordings", *options])


def test_command_keeps_and_prints_states(job):
    job.populate(3, kinds=["recording"])
    result = invoke(job)
    assert result.exit_code == 0
    [line] = [line for line in result.output.splitlines() if line.startswith("kept")]
    assert line.split()[:2] == ["kept", "3"]
    assert len(job.files()) == 3


def test_json_has_counts_and_place(job):
    job.populate(2, kinds=["recording"])
    found = json.loads(invoke(job, "--json").stdout)
    size = sum(map(len, job.files().values()))
    assert found == {
        "kept_in": str(job.folder),
        "states": {"kept": {"files": 2, "bytes": size}},
        "problems": [],
        "stopped": None,
    }


def test_failures_are_named_with_status_1(job):
    job.populate(2, kinds=["recording"])
    refused = invoke(job, CALLHOUSE_MEDIA_ALLOW_PRIVATE="0")
    assert refused.exit_code == 1
    assert "2 failed: the link is to an address that is not public" in refused.stderr
    assert "http" not in refused.stderr
    assert invoke(job).exit_code == 1
    retried = invoke(job, "--retry")
    assert retried.exit_code == 0
    assert len(job.files()) == 2


def test_status_fetches_nothing(job):
    job.populate(1, kinds=["recording"])
    assert invoke(job, "--status").output == "No call that is over has a recording.\n"
    assert job.seen == []


def test_full_disk_stops_with_status_1(job):
    job.populate(1, kinds=["recording"])
    result = invoke(job, CALLHOUSE_MEDIA_RESERVE_BYTES="999999999999")
    assert result.exit_code == 1
    assert "CALLHOUSE_MEDIA_RESERVE_BYTES" in result.stderr


def test_without_media_url_there_is_nothing_to_do(job):
    result = invoke(job, CALLHOUSE_MEDIA_URL="")
    assert result.exit_code == 2
    assert "CALLHOUSE_MEDIA_URL is empty" in result.stderr
