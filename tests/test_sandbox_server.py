"""The sandbox as a server: calls placed on it live, are found again and are reported."""

import httpx
import pytest

from receiver.sandbox.server import Sandbox
from tests.conftest import KEY

SOLAR = "+12065550117"
ANSWERED = "+15005550001"


@pytest.fixture
def sandbox():
    with Sandbox(api_key=KEY, limits=None) as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox):
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=sandbox.url, headers=headers) as client:
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


def test_a_past_is_listed_without_being_lived(sandbox, api):
    sandbox.populate(calls=60, day_start_ms=1_778_544_000_000)
    listed = api.post("/v3/list-calls", json={"include_total": True, "limit": 10}).json()
    assert (listed["total"], len(listed["items"]), listed["has_more"]) == (60, 10, True)
    assert sandbox.deliveries == []
