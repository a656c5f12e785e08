"""The sandbox's webhooks: signed, retried, to the right URL; and the mischief it can do."""

import json
import re
import threading
from collections import Counter

import httpx
import pytest

from receiver.errors import StaleSignature
from receiver.sandbox.deliveries import Mischief
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import Sandbox
from receiver.sandbox.wire import Event
from receiver.webhook.signature import verify
from tests.support.inbox import Inbox
from tests.support.webhooks import KEY, NOW_MS

SOLAR = "+12065550117"
LIFE = ["call_started", "call_ended", "call_analyzed"]


def place(sandbox, scenario="answered", **more):
    order = {"from_number": SOLAR, "to_number": BY_NAME[scenario].number} | more
    return request(sandbox, "POST", "/v2/create-phone-call", order)["call_id"]


def request(sandbox, method, path, body=None):
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.request(method, sandbox.url + path, json=body, headers=headers, timeout=30)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def running(inbox, **options):
    url = f"{inbox.url}/webhook"
    return Sandbox(api_key=KEY, webhook_url=url, now_ms=lambda: NOW_MS, **options)


@pytest.fixture
def inbox():
    with Inbox() as inbox:
        yield inbox


@pytest.fixture
def sandbox(inbox):
    with running(inbox) as sandbox:
        yield sandbox


def test_call_is_reported_at_each_stage(sandbox, inbox):
    call_id = place(sandbox)
    sandbox.settle(20)
    assert inbox.events == LIFE
    assert [mail.call["call_status"] for mail in inbox.mails] == ["ongoing", "ended", "ended"]
    assert ["call_analysis" in mail.call for mail in inbox.mails] == [False, False, True]
    assert inbox.mails[-1].call == sandbox.calls[call_id]
    assert {mail.path for mail in inbox.mails} == {"/webhook"}


@pytest.mark.parametrize("scenario", ["busy", "no-answer", "failed", "declined"])
def test_unconnected_call_has_no_call_started(sandbox, inbox, scenario):
    place(sandbox, scenario)
    sandbox.settle(20)
    assert inbox.events == ["call_ended", "call_analyzed"]
    assert "start_timestamp" not in inbox.mails[0].call


def test_transfer_is_reported_with_final_cost_last(sandbox, inbox):
    place(sandbox, "transfer")
    sandbox.settle(20)
    assert inbox.events == [
        "call_started", "transfer_started", "transfer_bridged", "call_ended", "call_analyzed",
        "transfer_ended",
    ]  # fmt: skip
    ended, final = inbox.mails[3].call["call_cost"], inbox.mails[5].call["call_cost"]
    assert final["combined_cost"] > ended["combined_cost"]


def test_webhooks_verify_with_their_time(sandbox, inbox):
    place(sandbox)
    sandbox.settle(20)
    for mail in inbox.mails:
        verify(mail.body, mail.signature, keys=[KEY], now_ms=NOW_MS)
    assert [mail.signed_ms for mail in inbox.mails] == [NOW_MS, NOW_MS + 1, NOW_MS + 2]


def test_body_is_compact_json_without_escapes(sandbox, inbox):
    place(sandbox, retell_llm_dynamic_variables={"customer_name": "Zoë"})
    sandbox.settle(20)
    body = inbox.mails[0].body
    assert "Zoë".encode() in body
    text = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":"))
    assert text.encode() == body


def test_failed_delivery_is_retried_three_times():
    with Inbox(lambda *_: 500) as inbox, running(inbox) as sandbox:
        place(sandbox, "busy")
        sandbox.settle(20)
        assert Counter(inbox.events) == {"call_ended": 4, "call_analyzed": 4}
        assert [(d.status, d.attempts, d.arrived) for d in sandbox.deliveries] == [
            (500, 4, False),
            (500, 4, False),
        ]
        signed = [mail.signed_ms for mail in inbox.mails]
        assert len(set(signed)) == 8, "each attempt is signed anew"


def test_a_retry_that_is_answered_ends_it():
    with Inbox(lambda _, number: 503 if number == 0 else 200) as inbox:
        with running(inbox) as sandbox:
            place(sandbox, "busy")
            sandbox.settle(20)
            log = [(d.event, d.status, d.attempts) for d in sandbox.deliveries]
        assert log == [("call_ended", 200, 2), ("call_analyzed", 200, 1)]
        assert Counter(inbox.events) == {"call_ended": 2, "call_analyzed": 1}
        assert len({mail.body for mail in inbox.mails}) == 2


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404])
def test_redirects_are_failures_and_not_followed(status):
    with Inbox(lambda *_: status) as inbox, running(inbox) as sandbox:
        place(sandbox, "busy")
        sandbox.settle(20)
        assert {(d.status, d.attempts) for d in sandbox.deliveries} == {(status, 4)}


def test_unreachable_url_counts_as_unanswered():
    with Sandbox(api_key=KEY, webhook_url="http://127.0.0.1:9/webhook") as sandbox:
        place(sandbox, "busy")
        sandbox.settle(20)
        assert {(d.status, d.attempts) for d in sandbox.deliveries} == {(None, 4)}


def test_answer_after_the_agents_timeout_is_ignored():
    enough = threading.Event()

    def slow(*_):
        enough.wait(20)
        return 204

    with Inbox(slow) as inbox, running(inbox) as sandbox:
        for agent_id in sandbox.agents:
            request(sandbox, "PATCH", f"/update-agent/{agent_id}", {"webhook_timeout_ms": 50})
        place(sandbox, "busy")
        sandbox.settle(20)
        enough.set()
        assert {(d.status, d.attempts) for d in sandbox.deliveries} == {(None, 4)}


def test_an_agents_url_replaces_the_accounts(sandbox, inbox):
    call_id = place(sandbox)
    sandbox.settle(20)
    agent_id = sandbox.calls[call_id]["agent_id"]
    url = f"{inbox.url}/of-the-agent"
    request(sandbox, "PATCH", f"/update-agent/{agent_id}", {"webhook_url": url})
    place(sandbox)
    sandbox.settle(20)
    request(sandbox, "PATCH", f"/update-agent/{agent_id}", {"webhook_url": None})
    place(sandbox)
    sandbox.settle(20)
    assert [m.path for m in inbox.mails] == ["/webhook"] * 3 + ["/of-the-agent"] * 3 + [
        "/webhook"
    ] * 3


def test_an_agents_events_are_all_that_is_reported(sandbox, inbox):
    for agent_id in sandbox.agents:
        wanted = {"webhook_events": ["transcript_updated", "call_ended"]}
        request(sandbox, "PATCH", f"/update-agent/{agent_id}", wanted)
    place(sandbox)
    sandbox.settle(20)
    assert set(inbox.events) == {"transcript_updated", "call_ended"}
    updates = [m.call["transcript"] for m in inbox.mails if m.event == "transcript_updated"]
    assert updates == sorted(updates, key=len)
    assert len(updates) > 2


def test_a_url_may_name_a_dynamic_variable(sandbox, inbox):
    sandbox.webhook_url = f"{inbox.url}/{{{{tenant}}}}/{{{{unknown}}}}"
    place(sandbox, "busy", retell_llm_dynamic_variables={"tenant": "acme"})
    sandbox.settle(20)
    assert inbox.mails[0].path == "/acme/%7B%7Bunknown%7D%7D"


def test_without_a_url_nothing_is_sent(inbox):
    with Sandbox(api_key=KEY) as sandbox:
        place(sandbox)
        sandbox.settle(20)
        assert sandbox.deliveries == []


def test_rerun_analysis_of_a_chat_differs(sandbox, inbox):
    chat_id = request(sandbox, "POST", "/create-chat", {"agent_id": sandbox.agents[0]})["chat_id"]
    request(sandbox, "PATCH", f"/end-chat/{chat_id}")
    sandbox.settle(20)
    before = sandbox.chats[chat_id]["chat_analysis"]
    again = request(sandbox, "PUT", f"/rerun-chat-analysis/{chat_id}")["chat_analysis"]
    sandbox.settle(20)
    assert again["chat_successful"] != before["chat_successful"]
    assert again["chat_summary"].startswith(before["chat_summary"])
    assert inbox.events == ["chat_started", "chat_ended", "chat_analyzed", "chat_analyzed"]
    assert json.loads(inbox.mails[-1].body)["chat"]["chat_analysis"] == again


def test_rerun_analysis_is_reported_again(sandbox, inbox):
    call_id = place(sandbox)
    sandbox.settle(20)
    again = request(sandbox, "PUT", f"/rerun-call-analysis/{call_id}")
    sandbox.settle(20)
    assert inbox.events == [*LIFE, "call_analyzed"]
    assert inbox.mails[-1].call["call_analysis"] == again["call_analysis"]
    assert inbox.mails[-1].signed_ms > inbox.mails[-2].signed_ms


def test_past_calls_are_reported_once_in_order(sandbox, inbox):
    planned = sandbox.populate(calls=40, deliver=True)
    sandbox.settle(30)
    assert len(inbox.mails) == len(sandbox.deliveries) == planned
    states = {mail.call["call_id"]: mail.call for mail in inbox.mails}
    assert states == sandbox.calls, "the last event of each call holds what get-call answers"


def test_odd_past_has_every_kind_of_event(sandbox, inbox):
    planned = sandbox.populate(calls=40, deliver=True, odd=True, backdated=True)
    sandbox.settle(30)
    assert len(inbox.mails) == planned
    assert {"chat_ended", "alert_triggered", "call_inbound", ""} <= set(inbox.events)
    assert max(mail.signed_ms for mail in inbox.mails) < NOW_MS


def sent_with(seed=1, **mischief):
    """What ten calls make the inbox hold: (events by call, mails, log)."""
    with Inbox() as inbox, running(inbox, seed=seed, **mischief) as sandbox:
        order = [place(sandbox, name) for name in ("answered", "busy") * 5]
        sandbox.settle(30)
        by_call = {call_id: [] for call_id in order}
        for mail in inbox.mails:
            by_call[mail.call["call_id"]].append(mail)
        return by_call, inbox.mails, sandbox.deliveries


def test_without_mischief_events_come_once_in_order():
    by_call, _, log = sent_with()
    for mails in by_call.values():
        assert [mail.event for mail in mails] in (LIFE, LIFE[1:])
    assert all(delivery.arrived and delivery.attempts == 1 for delivery in log)


@pytest.mark.slow
def test_dropped_webhooks_never_come_and_are_noted():
    _, mails, log = sent_with(drop=1.0)
    assert mails == []
    assert {(d.status, d.attempts) for d in log} == {(None, 0)}
    _, mails, log = sent_with(drop=0.5)
    assert 0 < len(mails) < len(log)


def test_duplicates_have_equal_bytes_and_signature():
    by_call, _, _ = sent_with(duplicate=1.0)
    for mails in by_call.values():
        pairs = Counter((mail.body, mail.signature) for mail in mails)
        assert set(pairs.values()) == {2}


def test_delayed_webhooks_come_after_newer_ones():
    by_call, _, _ = sent_with(delay=0.5)
    orders = [[mail.event for mail in mails] for mails in by_call.values()]
    assert any(order not in (LIFE, LIFE[1:]) for order in orders)
    assert all(sorted(order) in (sorted(LIFE), sorted(LIFE[1:])) for order in orders)


def test_reordered_webhooks_change_places():
    by_call, _, _ = sent_with(reorder=1.0)
    busy = [[m.event for m in mails] for mails in by_call.values() if len(mails) == 2]
    assert busy == [["call_analyzed", "call_ended"]] * 5


def test_resigned_webhooks_come_last():
    by_call, _, _ = sent_with(resign_late=1.0)
    for mails in by_call.values():
        half = len(mails) // 2
        assert {m.body for m in mails[:half]} == {m.body for m in mails[half:]}
        assert min(m.signed_ms for m in mails[half:]) > max(m.signed_ms for m in mails[:half])


def test_future_webhooks_are_authentic_but_early():
    _, mails, _ = sent_with(future=1.0)
    for mail in mails:
        with pytest.raises(StaleSignature):
            verify(mail.body, mail.signature, keys=[KEY], now_ms=NOW_MS)
        verify(mail.body, mail.signature, keys=[KEY], now_ms=NOW_MS + 600_000)


@pytest.mark.slow
def test_same_seed_gives_the_same_mischief():
    everything = dict.fromkeys(("drop", "duplicate", "delay", "reorder", "resign_late"), 0.4)

    def shape(seed):
        by_call, _, _ = sent_with(seed=seed, **everything)
        # The links to recordings have the sandbox's port.
        return {
            call_id: [re.sub(rb"127\.0\.0\.1:\d+", b"", m.body) for m in mails]
            for call_id, mails in by_call.items()
        }

    assert shape(1) == shape(1)
    assert shape(1) != shape(2)


def test_mischief_is_independent_between_calls():
    def events(call_id):
        return [Event(at, name, call_id, {}) for at, name in enumerate(LIFE)]

    mischief = Mischief(drop=0.5, delay=0.5)
    alone = mischief.sendings(1, events("a"))
    mischief.sendings(1, events("b"))
    assert mischief.sendings(1, events("a")) == alone
