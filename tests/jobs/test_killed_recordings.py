"""kill -9 while recordings are fetched: no half file under a final name, and nothing is lost."""

import random
import subprocess
import sys

import httpx
import pytest

from tests.support import running
from tests.support.recording import KEY, Recordings

CALLS = 12


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr("receiver.sandbox.recordings.RATE", 400)


@pytest.fixture
def job(store, database, tmp_path):
    slowly = {"CALLHOUSE_MEDIA_BYTES_PER_SECOND": "300000", "CALLHOUSE_MEDIA_DOWNLOADS": "2"}
    with Recordings(store, database, tmp_path, **slowly) as job:
        yield job


def contents(job, calls) -> dict[str, bytes]:
    """What the sandbox serves, by call and kind."""
    headers = {"Authorization": f"Bearer {KEY}"}
    found = {}
    for told in calls:
        call_id = told["call_id"]
        call = httpx.get(f"{job.box.url}/v2/get-call/{call_id}", headers=headers).json()
        for name, url in call.items():
            if name.endswith("_url") and name in told and isinstance(url, str):
                found[f"{call_id}/{name.removesuffix('_url')}"] = httpx.get(url).content
    return found


def kept(job) -> dict[str, bytes]:
    """Files that have their names, without the extension."""
    return {
        name.partition(".")[0]: content
        for name, content in job.files().items()
        if not name.startswith(".partial")
    }


def command(job):
    with log(job).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "receiver", "recordings"],
            env=running.environment(**job.environ),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=job.folder.parent,
        )


def log(job):
    return job.folder.parent / "recordings.log"


def survives_kills(job, kills):
    calls = job.populate(CALLS)
    expected = contents(job, calls)
    chance = random.Random(1)
    seen = set()
    for _ in range(kills):
        asked = len(job.seen)
        process = command(job)
        # At a random moment after the first requests.
        after = asked + chance.randrange(1, 6)
        running.wait_until(lambda n=after, p=process: len(job.seen) >= n or p.poll() is not None)
        try:
            process.wait(timeout=chance.uniform(0, 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        found = kept(job)
        seen.add(len(found))
        assert {name: expected[name] for name in found} == found
    assert command(job).wait(timeout=120) == 0, log(job).read_text()
    assert kept(job) == expected
    assert not [name for name in job.files() if name.startswith(".partial")]
    return seen


@pytest.mark.slow
def test_killed_command_leaves_no_half_file(job):
    assert len(survives_kills(job, 4)) > 1


@pytest.mark.slow
def test_30_kills_lose_no_recording(job):
    assert len(survives_kills(job, 30)) > 5
