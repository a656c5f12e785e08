"""The sandbox as a server: calls placed on it live, are found again and are reported."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from receiver.sandbox.server import Sandbox
from tests.support.webhooks import KEY

SOLAR = "+12065550117"
ANSWERED = "+15005550001"


@pytest.fixture
def sandbox():
    with Sandbox(api_key=KEY, limits=None) as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=sandbox.url, headers=headers, timeout=30) as client:
        yield client


def place(api, **body):
    return api.post(
        "/v2/create-phone-call", json={"from_number": SOLAR, "to_number": ANSWERED} | body
    )


def test_a_placed_call_is_registered_and_later_analysed(sandbox, api):
    created = place(api, metadata={"lead": 7})
    assert (created.status_code, created.json()["call_status"]) == (201, "registered")
    sandbox.settle(20)
    call = api.get(f"/v2/get-call/{created.json()['call_id']}").json()
    assert call["call_status"] == "ended"
    assert call["metadata"] == {"lead": 7}
    assert call["call_analysis"]["call_summary"]
    assert call["duration_ms"] == call["end_timestamp"] - call["start_timestamp"] > 20_000


def test_a_listed_call_has_no_transcript(sandbox, api):
    call_id = place(api).json()["call_id"]
    sandbox.settle(20)
    listed = api.post("/v3/list-calls", json={}).json()
    assert [item["call_id"] for item in listed["items"]] == [call_id]
    assert not [name for name in listed["items"][0] if "transcript" in name]
    assert listed["has_more"] is False


def test_another_key_is_refused_everywhere(sandbox):
    for path in ("/v2/get-call/x", "/get-agent/x"):
        answer = httpx.get(sandbox.url + path, headers={"Authorization": "Bearer key_other"})
        assert answer.status_code == 401
        assert answer.json() == {"status": "error", "message": "API key is missing or invalid."}


def test_past_calls_are_listed_and_not_delivered(sandbox, api):
    sandbox.populate(calls=60, day_start_ms=1_778_544_000_000)
    listed = api.post("/v3/list-calls", json={"include_total": True, "limit": 10}).json()
    assert (listed["total"], len(listed["items"]), listed["has_more"]) == (60, 10, True)
    assert sandbox.deliveries == []


@contextmanager
def command(*options, **settings):
    """The command as it runs; it ends by Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "sandbox", "--bind", "127.0.0.1:0", *options],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(30) == 130
        finally:
            process.kill()


def lines_until(process, *patterns):
    """The output until each of the patterns is in it, in any order: threads print at once."""
    output = ""
    for line in process.stdout:
        output += line
        if all(re.search(pattern, output) for pattern in patterns):
            return output
    raise AssertionError(output)


def test_command_prints_address_and_deliveries():
    options = "--speed", "0", "--history", "3", "--webhook-url", "http://127.0.0.1:9/"
    with command(*options, COLUMNS="200") as process:
        output = lines_until(process, "Ctrl-C")
        key, url = re.search(r"key_\w+", output)[0], re.search(r"at (http\S+),", output)[1]
        assert f"export RETELL_API_KEY={key}" in output
        assert f"export RETELL_BASE_URL={url}" in output
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as api:
            assert api.post("/v3/list-calls", json={"include_total": True}).json()["total"] == 3
            call_id = place(api).json()["call_id"]
        lines_until(
            process,
            "attempt 4",
            r"request  POST   /v2/create-phone-call +201",
            rf"webhook  call_started +{call_id} +no answer\n",
        )


def test_command_does_not_print_the_configured_key():
    with command(RETELL_API_KEY=KEY) as process:
        output = lines_until(process, "Ctrl-C")
        url = re.search(r"at (http\S+),", output)[1]
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{url}/v3/list-calls", headers=headers, timeout=30)
        assert (answer.status_code, KEY in output) == (200, False)
