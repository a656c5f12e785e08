"""The vendor's own Python client, unmodified and strict, against the sandbox: every route."""

import asyncio
from typing import get_args

import httpx
import pytest
import retell
from retell import AsyncRetell, Retell
from retell.types import PhoneCallResponse

from receiver.sandbox.plans import BY_NAME, SCENARIOS
from receiver.sandbox.server import Sandbox
from schema.disconnection_reasons import REASONS
from tests.support.webhooks import KEY

SOLAR = "+12065550117"
DAY_MS = 1_778_544_000_000


@pytest.fixture
def sandbox():
    with Sandbox(api_key=KEY, limits=None) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox):
    with Retell(api_key=KEY, base_url=sandbox.url, _strict_response_validation=True) as client:
        yield client


def place(client, scenario="answered", **more):
    number = BY_NAME[scenario].number
    return client.call.create_phone_call(from_number=SOLAR, to_number=number, **more)


# Its list of disconnection reasons has these no more.
REMOVED = {"machine_detected", "error_inbound_webhook", "error_frontend_corrupted_payload",
           "error_twilio"}  # fmt: skip


def test_every_disconnection_reason_can_be_produced():
    literal = PhoneCallResponse.model_fields["disconnection_reason"].annotation
    today = {reason for part in get_args(literal) for reason in get_args(part)}
    numbered = {s.reason for s in SCENARIOS if s.reason == s.name}
    named = {s.reason for s in SCENARIOS if s.reason} - numbered
    # Dialogues end so.
    assert today - numbered - named == {"user_hangup", "agent_hangup", "voicemail_reached"}
    assert numbered - today == REMOVED
    assert {*REASONS} <= today | REMOVED
    with Sandbox(api_key=KEY, limits=None, concurrency=100) as box:
        for reason in numbered:
            httpx.post(
                f"{box.url}/v2/create-phone-call",
                json={"from_number": SOLAR, "to_number": BY_NAME[reason].number},
                headers={"Authorization": f"Bearer {KEY}"},
            )
        assert {call["disconnection_reason"] for call in box.calls.values()} == numbered
        with Retell(api_key=KEY, base_url=box.url, _strict_response_validation=True) as client:
            for call_id, call in box.calls.items():
                if call["disconnection_reason"] not in REMOVED:
                    client.call.retrieve(call_id)


@pytest.mark.parametrize(
    "scenario", [s.name for s in SCENARIOS if not s.error and s.name != s.reason]
)
def test_call_of_each_scenario_is_read(sandbox, client, scenario):
    created = place(client, scenario, metadata={"lead": 1}, custom_sip_headers={"X-Lead": "1"})
    assert (created.call_status, created.direction) == ("registered", "outbound")
    assert created.call_cost.combined_cost == 0
    sandbox.settle(20)
    call = client.call.retrieve(created.call_id)
    assert call.metadata == {"lead": 1}
    assert call.custom_sip_headers["X-Lead"] == "1"
    wanted = BY_NAME[scenario].reason
    if wanted and wanted != "cut_short":
        assert call.disconnection_reason == wanted


def test_answered_call_has_tools_cost_and_analysis(sandbox, client):
    created = place(client, retell_llm_dynamic_variables={"customer_name": "Ada Lovelace"})
    sandbox.settle(20)
    call = client.call.retrieve(created.call_id)
    roles = {entry.role for entry in call.transcript_with_tool_calls}
    assert {"agent", "user", "tool_call_invocation", "tool_call_result"} <= roles
    assert call.call_cost.combined_cost > 0
    assert call.call_analysis.call_successful is True
    assert "Ada Lovelace" in call.call_analysis.call_summary
    assert call.latency.e2e.p50 > 0


def test_key_names_its_workspace(client):
    found = client.identity.retrieve()
    assert (found.org_name, found.api_key_name) == ("Sandbox workspace", "Sandbox key")
    assert found.org_id.startswith("org_")


def test_an_agent_and_a_version_can_be_chosen(sandbox, client):
    agent_id = client.agent.list().items[0].agent_id
    first = client.agent.list_versions(agent_id).items[-1].version
    created = place(client, override_agent_id=agent_id, override_agent_version=first)
    assert (created.agent_id, created.agent_version) == (agent_id, first)


def test_a_web_call_is_created_and_read(sandbox, client):
    agent_id = client.agent.list().items[0].agent_id
    created = client.call.create_web_call(agent_id=agent_id, metadata={"page": "/"})
    sandbox.settle(20)
    call = client.call.retrieve(created.call_id)
    assert (call.call_type, call.access_token) == ("web_call", created.access_token)
    assert call.metadata == {"page": "/"}


def test_past_calls_are_listed_and_read(sandbox, client):
    sandbox.populate(calls=60, day_start_ms=DAY_MS, odd=True)
    seen, key = [], retell.omit
    while True:
        page = client.call.list(limit=25, pagination_key=key, include_total=True)
        assert page.total == 60
        seen += [item.call_id for item in page.items]
        if not page.has_more:
            break
        key = page.pagination_key
    assert sorted(seen) == sorted(sandbox.calls)
    for call_id in seen:
        assert client.call.retrieve(call_id).call_id == call_id


def test_a_call_is_updated(sandbox, client):
    call_id = place(client).call_id
    sandbox.settle(20)
    attributes = {"customer_tier": "gold", "nobody defined this": 1}
    call = client.call.update(call_id, metadata={"new": [1]}, custom_attributes=attributes)
    assert call.metadata == {"new": [1]}
    assert call.custom_attributes == {"customer_tier": "gold"}
    tighter = client.call.update(call_id, data_storage_setting="basic_attributes_only")
    assert (tighter.transcript, tighter.recording_url) == (None, None)
    assert tighter.opt_in_signed_url is False
    with pytest.raises(retell.BadRequestError):
        client.call.update(call_id, data_storage_setting="everything")


def test_a_call_is_deleted(sandbox, client):
    call_id = place(client).call_id
    sandbox.settle(20)
    assert client.call.delete(call_id) is None
    for gone in (client.call.retrieve, client.call.delete, client.call.rerun_analysis):
        with pytest.raises(retell.NotFoundError):
            gone(call_id)
    assert client.call.list().items == []


def test_an_analysis_is_run_again(sandbox, client):
    call_id = place(client).call_id
    sandbox.settle(20)
    before = client.call.retrieve(call_id).call_analysis
    after = client.call.rerun_analysis(call_id).call_analysis
    assert after.call_summary != before.call_summary
    sandbox.settle(20)
    assert client.call.retrieve(call_id).call_analysis == after


def test_ongoing_call_is_stopped(sandbox, client):
    call_id = place(client, "endless").call_id
    sandbox.settle(20)
    assert client.call.retrieve(call_id).call_status == "ongoing"
    assert client.call.stop(call_id) is None
    sandbox.settle(20)
    call = client.call.retrieve(call_id)
    assert (call.call_status, call.disconnection_reason) == ("ended", "manual_stopped")
    assert call.duration_ms == call.end_timestamp - call.start_timestamp > 0
    assert call.call_cost.combined_cost > 0
    with pytest.raises(retell.BadRequestError):
        client.call.stop(call_id)


def test_agents_are_listed_read_and_given_a_webhook(sandbox, client):
    first = client.agent.list(limit=3)
    rest = client.agent.list(pagination_key=first.pagination_key)
    ids = [item.agent_id for item in (*first.items, *rest.items)]
    assert sorted(ids) == sorted(sandbox.agents)
    found = client.agent.list(filter_criteria={"query": "SPRING roofs"}).items
    assert [item.agent_name for item in found] == ["Sam | Spring Roofs v6 (shorter intro)"]

    url = "https://calls.example.com/webhook"
    assert client.agent.retrieve(ids[0]).webhook_url is None
    updated = client.agent.update(ids[0], webhook_url=url, webhook_timeout_ms=5000)
    assert (updated.webhook_url, updated.webhook_timeout_ms) == (url, 5000)
    assert client.agent.retrieve(ids[0]).webhook_url == url
    assert client.agent.update(ids[0], webhook_url=None).webhook_url is None
    for version in client.agent.list_versions(ids[0]).items:
        assert client.agent.retrieve(ids[0], version=version.version).version == version.version


def test_asynchronous_client_works_too(sandbox):
    async def everything():
        async with AsyncRetell(
            api_key=KEY, base_url=sandbox.url, _strict_response_validation=True
        ) as client:
            number = BY_NAME["answered"].number
            call = await client.call.create_phone_call(from_number=SOLAR, to_number=number)
            agent_id = (await client.agent.list()).items[0].agent_id
            web = await client.call.create_web_call(agent_id=agent_id)
            await asyncio.to_thread(sandbox.settle, 20)
            assert (await client.call.retrieve(call.call_id)).call_status == "ended"
            listed = await client.call.list(
                filter_criteria={"call_type": {"type": "enum", "op": "in", "value": ["web_call"]}}
            )
            assert [item.call_id for item in listed.items] == [web.call_id]
            assert (await client.call.update(call.call_id, metadata={})).metadata == {}
            assert (await client.call.rerun_analysis(call.call_id)).call_analysis
            endless = BY_NAME["endless"].number
            call = await client.call.create_phone_call(from_number=SOLAR, to_number=endless)
            await asyncio.to_thread(sandbox.settle, 20)
            assert await client.call.stop(call.call_id) is None
            await client.call.delete(call.call_id)
            assert (await client.agent.list_versions(agent_id)).items
            assert (await client.agent.retrieve(agent_id)).agent_id == agent_id
            url = "https://calls.example.com/webhook"
            assert (await client.agent.update(agent_id, webhook_url=url)).webhook_url == url

    asyncio.run(everything())


def test_the_older_web_call_answers_the_whole_call(sandbox, client):
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"agent_id": sandbox.agents[0], "agent_version": "latest"}
    answer = httpx.post(f"{sandbox.url}/v2/create-web-call", json=body, headers=headers)
    assert answer.status_code == 201
    assert (answer.json()["call_type"], answer.json()["call_status"]) == ("web_call", "registered")
    assert answer.json()["access_token"]


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("refused-400", retell.BadRequestError),
        ("refused-402", retell.APIStatusError),
        ("refused-422", retell.UnprocessableEntityError),
        ("refused-429", retell.RateLimitError),
        ("refused-500", retell.InternalServerError),
    ],
)
def test_error_response_is_the_clients_error(sandbox, client, scenario, error):
    with pytest.raises(error) as raised:
        place(client, scenario)
    assert raised.value.status_code == int(scenario[-3:])
    assert raised.value.body["status"] == "error"
    assert sandbox.calls == {}


def test_wrong_key_is_the_clients_error(sandbox):
    with (
        Retell(api_key="key_other", base_url=sandbox.url) as client,
        pytest.raises(retell.AuthenticationError),
    ):
        client.call.list()
