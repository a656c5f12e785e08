"""The client of Retell's API, against a server that answers what the test wants."""

import json

import pytest

from receiver import errors
from receiver.retell.client import MAX_WAIT_SECONDS, READ_ATTEMPTS, Retell
from tests.support.scripted import Scripted
from tests.support.webhooks import KEY, NOW_MS

DONE = (200, {}, b'{"call_id": "call_a",  "x": 1.50}')


def error(status, message="it is so", **headers):
    body = json.dumps({"status": "error", "message": message}).encode()
    return (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.fixture
def ask():
    """Serve these answers and do something with a client; return what came and the waits."""

    def ask(answers, do, *, chance=0.0):
        waits = []
        with (
            Scripted(list(answers)) as server,
            Retell(
                server.url,
                KEY,
                sleep=waits.append,
                now_ms=lambda: NOW_MS,
                chance=lambda: chance,
            ) as client,
        ):
            try:
                result = do(client)
            except errors.RetellError as error:
                result = error
        return result, waits, server.requests

    return ask


def get(client):
    return client.get_call("call_a")


def create(client):
    return client.create_phone_call({"to_number": "+14155550123", "metadata": {"who": "Ann Lee"}})


def test_an_answer_keeps_the_bytes_as_they_came(ask):
    answer, _, _ = ask([DONE], get)
    assert (answer.body, answer.value["x"], answer.started_at_ms) == (DONE[2], 1.5, NOW_MS)


def test_requests_have_the_key_and_compact_json(ask):
    _, _, [request] = ask([DONE], create)
    assert (request.method, request.path) == ("POST", "/v2/create-phone-call")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == b'{"to_number":"+14155550123","metadata":{"who":"Ann Lee"}}'


@pytest.mark.parametrize(
    ("do", "method", "path"),
    [
        (get, "GET", "/v2/get-call/call_a"),
        (lambda c: c.get_call("../a?b+"), "GET", "/v2/get-call/..%2Fa%3Fb%2B"),
        (lambda c: c.list_calls({"limit": 1}), "POST", "/v3/list-calls"),
        (lambda c: c.list_agents(), "POST", "/v2/list-agents?limit=1000"),
        (
            lambda c: c.list_agents(pagination_key="a/b"),
            "POST",
            "/v2/list-agents?limit=1000&pagination_key=a%2Fb",
        ),
        (lambda c: c.get_agent("agent_a"), "GET", "/get-agent/agent_a"),
        (lambda c: c.get_agent("agent_a", channel="chat"), "GET", "/get-chat-agent/agent_a"),
        (lambda c: c.update_agent("agent_a", {}), "PATCH", "/update-agent/agent_a"),
    ],
)
def test_each_call_goes_to_its_documented_path(ask, do, method, path):
    _, _, [request] = ask([DONE], do)
    assert (request.method, request.path) == (method, path)


def test_agents_come_from_every_page(ask):
    def page(key, ids):
        more = {"pagination_key": key, "has_more": True} if key else {"has_more": False}
        return (200, {}, json.dumps({"items": [{"agent_id": i} for i in ids]} | more).encode())

    agents, _, requests = ask([page("k", "ab"), page(None, "c")], lambda c: list(c.agents()))
    assert [a["agent_id"] for a in agents] == ["a", "b", "c"]
    assert requests[1].path.endswith("&pagination_key=k")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.KeyRefused),
        (402, errors.PaymentRequired),
        (404, errors.NotAtRetell),
        (422, errors.UnusableReference),
        (429, errors.RateLimited),
        (500, errors.RetellFailed),
        (503, errors.RetellFailed),
        (302, errors.UnexpectedAnswer),
        (403, errors.KeyRefused),
        (418, errors.UnexpectedAnswer),
    ],
)
def test_each_status_has_an_error_and_hint(ask, status, kind):
    found, waits, requests = ask([error(status)], create)
    assert type(found) is kind
    assert (found.answered, len(requests), waits) == (status, 1, [])
    assert str(status) in str(found)
    assert "it is so" in str(found)
    assert found.hint


def test_response_that_is_not_json_is_unexpected(ask):
    found, _, _ = ask([(200, {}, b"<html>Sign in</html>")], create)
    assert isinstance(found, errors.UnexpectedAnswer)
    assert "Sign in" not in str(found)


def test_a_create_is_sent_once_whatever_happens(ask):
    for answer in [None, error(429, Retry_After="1"), error(500), error(503)]:
        found, waits, requests = ask([answer, DONE], create)
        assert isinstance(found, errors.RetellError)
        assert (len(requests), waits) == (1, [])


def test_an_update_is_sent_once(ask):
    found, _, requests = ask([error(500), DONE], lambda c: c.update_agent("a", {}))
    assert isinstance(found, errors.RetellFailed)
    assert len(requests) == 1


def test_read_backs_off_exponentially(ask):
    answer, waits, _ = ask([error(500), None, error(502), DONE], get, chance=1.0)
    assert answer.value["call_id"] == "call_a"
    assert waits == [0.5, 1.0, 2.0]


def test_chance_takes_at_most_half_of_a_wait(ask):
    _, waits, _ = ask([error(500), DONE], get, chance=0.0)
    assert waits == [0.25]


def test_a_read_gives_up_in_the_end(ask):
    found, waits, requests = ask([error(500)], get)
    assert isinstance(found, errors.RetellFailed)
    assert (len(requests), len(waits)) == (READ_ATTEMPTS, READ_ATTEMPTS - 1)


def test_rejected_read_is_not_retried(ask):
    for status in (400, 401, 402, 404, 422):
        _, waits, requests = ask([error(status), DONE], get)
        assert (len(requests), waits) == (1, [])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"RateLimit_Reset": "4"}, 4.0),
        ({"Retry_After": "7", "RateLimit_Reset": "4"}, 7.0),
        ({"RateLimit_Reset": str(NOW_MS // 1000 + 5)}, 5.0 - NOW_MS % 1000 / 1000),
        ({"RateLimit_Reset": str(NOW_MS // 1000 - 5)}, 0.0),
        ({"Retry_After": "100000"}, MAX_WAIT_SECONDS),
        ({"Retry_After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.25),
        ({}, 0.25),
    ],
)
def test_rate_limited_read_waits_as_asked(ask, headers, seconds):
    answer, waits, _ = ask([error(429, **headers), DONE], get)
    assert answer.status == 200
    assert waits == [pytest.approx(seconds)]


def test_an_error_repeats_nothing_that_was_sent(ask):
    text = f"Ann Lee at +1 (415) 555-0123 has to_number +14155550123, a@b.example, {KEY}: no"
    found, _, _ = ask([error(400, text)], create)
    assert str(found).endswith("(400): … at … has to_number …, … …: no")


def test_an_error_is_one_short_line(ask):
    found, _, _ = ask([error(500, "line\n\x1b[31m" + "long " * 1000)], create)
    assert "\n" not in str(found)
    assert "\x1b" not in str(found)
    assert len(str(found)) < 300


@pytest.mark.parametrize(("url", "key"), [("http://x:port", KEY), ("http://x", "k\u00e9y")])
def test_invalid_url_or_key_is_a_settings_error(url, key):
    with pytest.raises(errors.SettingsError) as caught:
        Retell(url, key)
    assert key not in str(caught.value)


def test_unreachable_api_is_a_named_error():
    nobody = Retell("http://127.0.0.1:9", KEY)
    with nobody as client, pytest.raises(errors.RetellUnreachable) as caught:
        create(client)
    assert "127.0.0.1" not in str(caught.value)
