"""What stands between Retell and the receiver, and that the test of it leaves no trace."""

import dataclasses
import json
import ssl
import threading
import time

import pytest
import trustme

from receiver.retell.webhooks import LARGE_BYTES, check_webhook_url, probe_body
from receiver.webhook.health import Counters
from receiver.webhook.signature import OUTCOME_HEADER, PROBE_EVENT, is_probe
from schema.events import EVENTS, parse
from tests.support.proxies import Proxy
from tests.support.scripted import Scripted
from tests.support.serving import serving
from tests.support.tables import dump
from tests.support.webhooks import KEY, NOW_MS, post

pytestmark = pytest.mark.slow_on_postgres

HERE = "a private address: Retell cannot reach it"


def look(url, *, key=KEY, ahead_ms=0, timeout_seconds=10.0):
    """Everything that `check_webhook_url` finds beside the address being a local one."""
    found = check_webhook_url(
        url,
        key=key,
        nonce="n",
        now_ms=lambda: time.time_ns() // 1_000_000 + ahead_ms,
        timeout_seconds=timeout_seconds,
    )
    assert found[0].what == HERE
    return found[1:]


def wrong(findings):
    """The one thing that is wrong."""
    [finding] = [f for f in findings if f.is_wrong]
    assert finding.hint
    return finding.what


@pytest.fixture
def receiver(settings):
    with serving(settings) as url:
        yield url


@pytest.fixture
def through(receiver):
    """What is found through a proxy that changes requests so."""

    def through(before):
        with Proxy(receiver.removesuffix("/webhook"), before=before) as proxy:
            return look(proxy.url + "/webhook")

    return through


# -- without a trace -------------------------------------------------------------------------------


def test_the_probe_is_verified_and_stores_nothing(client, db, settings):
    before, counted = dump(db), Counters(settings.counters_path)
    try:
        response = post(client, probe_body("n"))
        assert response.status_code == 200
        assert response.json["callhouse"]["received_at_ms"] == NOW_MS
        assert dump(db) == before
        assert not any(counted.read().values())
        assert post(client, probe_body("n"), key="key_other").status_code == 401
    finally:
        counted.close()


@pytest.mark.parametrize("name", [*EVENTS, "an_event_of_tomorrow"])
def test_no_retell_event_is_the_probe(name):
    assert not is_probe(parse(json.dumps({"event": name, "nonce": "n", "text": "t"}).encode()))


@pytest.mark.parametrize("payload", ["call", "data", "chat", "call_inbound", "alert", "more"])
def test_calls_under_the_probes_name_are_stored(client, db, payload):
    value = json.loads(probe_body("n")) | {payload: {"call_id": "c", "chat_id": "c"}}
    assert not is_probe(parse(json.dumps(value).encode()))
    assert post(client, value).status_code == 204
    assert db.execute("SELECT count(*) FROM observations").fetchone()[0] == 1
    assert value["event"] == PROBE_EVENT


# -- what is found ---------------------------------------------------------------------------------


def test_working_url_passes_with_both_bodies(receiver):
    small, large = look(receiver)
    assert (small.is_wrong, large.is_wrong) == (False, False)
    assert "arrived unchanged and verified" in small.what
    assert large.what.startswith("2.5 MB arrived")


def test_transparent_proxy_passes_the_check(through):
    assert not any(f.is_wrong for f in through(lambda *request: request[2:]))


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda body: json.dumps(json.loads(body)).encode(),
        lambda body: json.dumps(json.loads(body), ensure_ascii=False).encode(),
        lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode(),
        lambda body: json.dumps(dict(sorted(json.loads(body).items(), reverse=True))).encode(),
        lambda body: body + b"\n",
        lambda body: json.dumps({"body": json.loads(body)}).encode(),
        lambda body: body.decode().encode("latin-1", "replace"),
    ],
)
def test_reencoded_body_is_reported(through, rewrite):
    found = through(lambda *request: (request[2], rewrite(request[3])))
    assert wrong(found) == "the body is changed on the way"


def test_wrong_key_differs_from_changed_body(receiver):
    assert wrong(look(receiver, key="key_other")) == ("the receiver has another key")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda h: {n: v for n, v in h.items() if n != "X-Retell-Signature"}, "missing"),
        (lambda h: h | {"X-Retell-Signature": h["X-Retell-Signature"].upper()}, "malformed"),
    ],
)
def test_lost_or_changed_header_is_reported(through, change, what):
    found = through(lambda *request: (change(request[2]), request[3]))
    assert wrong(found) == f"the X-Retell-Signature header arrives {what}"


@pytest.mark.parametrize(("ahead", "which"), [(400, "behind"), (-400, "ahead")])
def test_large_clock_skew_is_reported_in_seconds(receiver, ahead, which):
    what = wrong(look(receiver, ahead_ms=ahead * 1000))
    assert what.startswith("the clocks differ too much: the receiver's is ")
    assert what.endswith(f" seconds {which}")
    assert abs(int(what.split(" is ")[1].split()[0]) - 400) <= 2


def test_small_clock_skew_is_reported_early(receiver):
    found = look(receiver, ahead_ms=120_000)
    assert wrong(found).startswith("the clocks differ: the receiver's is ")
    found = look(receiver, ahead_ms=-20_000)
    assert not any(f.is_wrong for f in found)
    assert any(f.what.startswith("the clocks differ: the receiver's is ") for f in found)


def test_proxy_that_rejects_long_bodies_is_reported():
    answers = [(200, {}, b'{"callhouse":{}}'), (413, {}, b"<h1>Request Entity Too Large</h1>")]
    with Scripted(answers) as server:
        found = look(server.url)
    assert wrong(found) == "a body of this length is rejected (413)"
    assert "client_max_body_size" in found[-1].hint
    assert len(server.requests[1].body) > LARGE_BYTES


def test_receiver_that_rejects_long_bodies_is_reported(settings):
    with serving(dataclasses.replace(settings, max_body_bytes=1_000_000)) as url:
        found = look(url)
    assert wrong(found) == "a body of this length is rejected (413)"
    assert "CALLHOUSE_MAX_BODY_BYTES" in found[-1].hint


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (
            (301, {"Location": "https://x.example/webhook/"}, b""),
            "a redirect (301) to https://x.example/webhook/",
        ),
        ((308, {"Location": "/webhook/"}, b""), "a redirect (308) to /webhook/"),
        ((401, {}, b"Authorization Required"), "a proxy rejects the request (401)"),
        ((403, {}, b""), "a proxy rejects the request (403)"),
        ((404, {}, b"{}"), "no webhook at this path (404)"),
        ((405, {}, b""), "no webhook at this path (405)"),
        ((502, {}, b""), "the server fails (502)"),
        ((503, {OUTCOME_HEADER: "busy"}, b"{}"), "the server fails (503)"),
        ((200, {}, b"ok"), "the response is 200, but not callhouse's"),
        ((200, {}, b'{"callhouse":true}'), "the response is 200, but not callhouse's"),
        ((204, {}, b""), "the response is 204, but not callhouse's"),
        ((418, {}, b"[]"), "the response is 418, but not callhouse's"),
        (
            (401, {OUTCOME_HEADER: "stale", "Date": "yesterday"}, b"{}"),
            "the clocks differ too much: by an unknown amount",
        ),
        (None, "no connection: RemoteProtocolError"),
    ],
)
def test_unexpected_answer_is_named(answer, what):
    with Scripted([answer]) as server:
        assert wrong(look(server.url)) == what
        assert len(server.requests) == 1


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/healthz", 405)])
def test_wrong_path_is_reported(receiver, path, status):
    what = wrong(look(receiver.replace("/webhook", path)))
    assert what == f"no webhook at this path ({status})"


def test_unreachable_url_is_reported():
    assert wrong(look("http://127.0.0.1:9/webhook")) == "no connection: ConnectError"


def test_slow_answer_is_reported():
    waiting = threading.Event()

    def wait(method, path, headers, body):
        waiting.wait(20)
        return headers, body

    with Scripted([(200, {}, b"")]) as server, Proxy(server.url, before=wait) as proxy:
        found = look(proxy.url, timeout_seconds=0.2)
        waiting.set()
    assert wrong(found) == "no response within 0.2 seconds"


def test_untrusted_certificate_is_reported():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Scripted([(200, {}, b"")], tls=context) as server:
        what = wrong(look(server.url.replace("http://", "https://")))
    assert what.startswith("the TLS connection fails: ")
    assert "certificate" in what


def test_tls_to_a_plain_port_is_reported(receiver):
    what = wrong(look(receiver.replace("http://", "https://")))
    assert what.startswith("the TLS connection fails: ")


@pytest.mark.parametrize(
    "url",
    [
        "calls.example.com/webhook",
        "https://",
        "ftp://x.example/",
        "x",
        "http://[x",
        "http://h:99999/",
    ],
)
def test_invalid_url_is_reported(url):
    found = check_webhook_url(url, key=KEY, nonce="n")
    assert [f.what for f in found if f.is_wrong] == ["not a valid URL"]
