"""Calls and chats from outside: the webhook is asked, and its answer is used."""

import json

import httpx
import pytest

from receiver.sandbox.server import Sandbox
from tests.support.inbox import Inbox
from tests.support.webhooks import KEY, NOW_MS

CALLER, DENTAL, NOBODYS = "+14155550123", "+14155550142", "+14155550999"
KINDS = ("call", "chat")
VARIABLES = "retell_llm_dynamic_variables"


class Asked(Inbox):
    """A webhook that answers each inbound question with `body`."""

    def __init__(self):
        self.status, self.body = 200, b""
        super().__init__(
            lambda mail, _: (self.status, self.body) if mail.event.endswith("inbound") else 204
        )

    def answer(self, kind, **fields):
        self.body = json.dumps({f"{kind}_inbound": fields}).encode()


@pytest.fixture
def inbox():
    with Asked() as inbox:
        yield inbox


@pytest.fixture
def sandbox(inbox):
    with Sandbox(api_key=KEY, webhook_url=inbox.url, now_ms=lambda: NOW_MS) as sandbox:
        yield sandbox


def arrive(sandbox, kind, number=DENTAL, **more):
    return httpx.post(
        f"{sandbox.url}/sandbox/inbound-{kind}",
        json={"from_number": CALLER, "to_number": number} | more,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=30,
    )


def arrived(sandbox, kind, **more):
    """The call or chat when all is over."""
    made = arrive(sandbox, kind, **more).raise_for_status().json()
    sandbox.settle(20)
    return {**sandbox.calls, **sandbox.chats}[made[f"{kind}_id"]]


def agent_of(entity):
    return entity["agent_id"], entity.get("agent_version", entity.get("version"))


def test_question_has_numbers_and_bound_agent(sandbox, inbox):
    call = arrived(sandbox, "call")
    question = json.loads(inbox.mails[0].body)
    assert question.pop("event_timestamp") == NOW_MS
    asked = {"from_number": CALLER, "to_number": DENTAL}
    asked |= {"agent_id": call["agent_id"], "agent_version": 4}
    assert question == {"event": "call_inbound", "call_inbound": asked}
    assert inbox.events == ["call_inbound", "call_started", "call_ended", "call_analyzed"]


@pytest.mark.parametrize("kind", KINDS)
def test_answer_chooses_agent_variables_and_metadata(sandbox, inbox, kind):
    plumber = sandbox.agents[2]
    inbox.answer(
        kind,
        override_agent_id=plumber,
        override_agent_version=0,
        agent_override={"agent": {"language": "de-DE"}},
        dynamic_variables={"customer_name": "Ada Byron"},
        metadata={"queue": "complaints"},
    )
    entity = arrived(sandbox, kind)
    assert agent_of(entity) == (plumber, 0)
    assert entity[VARIABLES]["customer_name"] == "Ada Byron"
    assert entity["metadata"] == {"queue": "complaints"}
    assert entity["direction"] == "inbound"


def test_version_alone_is_one_of_the_bound_agent(sandbox, inbox):
    inbox.answer("call", override_agent_version=3)
    assert agent_of(arrived(sandbox, "call")) == (sandbox.agents[0], 3)


BAD = {
    "not JSON": b"yes",
    "a list": b"[]",
    "another key": b'{"agent_id": "a"}',
    "no object": b'{"call_inbound": 1, "chat_inbound": 1}',
    "unknown agent": {"override_agent_id": "agent_x", "metadata": {"a": 1}},
    "unknown version": {"override_agent_version": 99},
    "variable that is no string": {"dynamic_variables": {"n": 1}, "metadata": {"a": 1}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_unusable_answer_counts_as_empty(sandbox, inbox, kind, body):
    inbox.body = body if isinstance(body, bytes) else json.dumps({f"{kind}_inbound": body}).encode()
    entity = arrived(sandbox, kind)
    assert agent_of(entity) == (sandbox.agents[0], 4)
    assert "metadata" not in entity


def test_failing_webhook_is_asked_three_times(sandbox, inbox):
    inbox.status = 503
    assert agent_of(arrived(sandbox, "call")) == (sandbox.agents[0], 4)
    assert inbox.events.count("call_inbound") == 3
    question = sandbox.deliveries[0]
    assert (question.event, question.attempts, question.arrived) == ("call_inbound", 3, False)


def test_without_a_webhook_the_bound_agent_answers(sandbox):
    sandbox.webhook_url = None
    assert agent_of(arrived(sandbox, "call")) == (sandbox.agents[0], 4)


@pytest.mark.parametrize("kind", KINDS)
def test_number_without_agent_needs_one_in_the_answer(sandbox, inbox, kind):
    inbox.answer(kind)
    rejected = arrive(sandbox, kind, number=NOBODYS)
    assert (rejected.status_code, sandbox.calls, sandbox.chats) == (403, {}, {})
    assert json.loads(inbox.mails[0].body)[f"{kind}_inbound"].keys() == {"from_number", "to_number"}
    inbox.answer(kind, override_agent_id=sandbox.agents[1])
    assert arrived(sandbox, kind, number=NOBODYS)["agent_id"] == sandbox.agents[1]


def test_inbound_call_is_like_one_from_outside(sandbox):
    call = arrived(sandbox, "call")
    assert (call["from_number"], call["to_number"]) == (CALLER, DENTAL)
    sid = call["telephony_identifier"]["twilio_call_sid"]
    assert call["custom_sip_headers"]["x-twilio-callsid"] == sid
    assert call[VARIABLES]["twilio-callsid"] == sid
    assert call["disconnection_reason"] not in ("voicemail_reached", "dial_no_answer")


def test_inbound_chat_begins_with_the_message(sandbox, inbox):
    chat = arrived(sandbox, "chat", content="Is the lamp in stock?")
    assert [m["content"] for m in chat["message_with_tool_calls"] if m["role"] == "user"] == [
        "Is the lamp in stock?"
    ]
    assert "Agent: " in chat["transcript"]
    assert (chat["user_number"], chat["agent_number"]) == (CALLER, DENTAL)
    assert inbox.events == ["chat_inbound", "chat_started"]
