"""HTTP: which request gets which answer, and what it leaves in the database."""

import gc
import io
import json
import os
from contextlib import ExitStack
from dataclasses import replace
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client

from receiver import config
from receiver.config import Account
from receiver.errors import ForgedSignature, Overloaded, SettingsError, StoreBusy
from receiver.store import migrate, open_store, receive
from receiver.store.connection import connect
from receiver.webhook.app import Bodies, create_app
from receiver.webhook.health import STATE
from receiver.webhook.signature import sign
from tests.support.storing import count, held
from tests.support.tables import dump
from tests.support.webhooks import KEY, NOW_MS, post
from tests.webhook.requesting import (
    CANARY,
    ENDED,
    LIMIT,
    REFUSED,
    assert_refused,
    body_of_bytes,
    post_as_is,
)

MIB = 1024 * 1024


def post_chunked(client, body: bytes, *, signed: bytes | None = None):
    """Post without a Content-Length, as a server hands over a chunked request."""
    return client.post(
        "/webhook",
        input_stream=io.BytesIO(body),
        headers={"X-Retell-Signature": sign(signed or body, key=KEY, now_ms=NOW_MS)},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )


# What is stored.


@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
def test_repeated_event_is_a_duplicate_and_204(client, db, path):
    for times in (1, 2):
        response = post(client, ENDED, path=path)
        assert (response.status_code, response.data) == (204, b"")
        assert db.execute("SELECT times_received FROM observations").fetchone()[0] == times
    (call,) = db.execute("SELECT call_id, call_status FROM calls").fetchall()
    assert tuple(call) == ("call_a", "ended")


@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"\xff", b"\x1f\x8b\x08", b"[]", b'{"event":NaN}', b"[" * 100_000]
)
def test_signed_poison_is_kept_and_204(client, db, body, path):
    assert post(client, body, path=path).status_code == 204
    row = db.execute("SELECT problem, body_bytes FROM observations").fetchone()
    assert row["problem"]
    assert row["body_bytes"] == len(body)


def test_observation_has_signature_time_arrival_and_key(client, db):
    post(client, ENDED, at_ms=NOW_MS - 1500)
    row = db.execute("SELECT * FROM observations").fetchone()
    assert (row["source"], row["event"], row["level"]) == ("webhook", "call_ended", 2)
    assert row["observed_at"] == 1_778_699_293_774
    assert row["first_received_at"] == row["last_received_at"] == 1_778_699_295_274
    assert row["key_id"] == "8534a56c"


def test_event_signed_with_a_further_key_is_stored(serve, db):
    client = serve(accounts=(Account("default", KEY, (KEY, "key_next")),))
    assert post(client, ENDED, key="key_next").status_code == 204
    assert db.execute("SELECT key_id FROM observations").fetchone()[0] == "d5002bc5"


def test_calls_have_the_account_of_their_key(serve, database, db):
    keys = {"RETELL_API_KEY": KEY, "RETELL_API_KEY_ACME": "key_acme"}
    settings = config.load(keys)
    migrate(database, timezone="UTC", account_keys=settings.account_keys)
    client = serve(accounts=settings.accounts)
    for name, key in (("ours", KEY), ("acmes", "key_acme")):
        call = {"call_id": name, "agent_id": f"agent_{name}"}
        assert post(client, {"event": "call_ended", "call": call}, key=key).status_code == 204
        chat = {"chat_id": f"chat_{name}"}
        assert post(client, {"event": "chat_ended", "chat": chat}, key=key).status_code == 204
    found = [tuple(row) for row in db.execute("SELECT call_id, account FROM call_log ORDER BY 1")]
    assert found == [("acmes", "acme"), ("ours", "default")]
    found = [tuple(row) for row in db.execute("SELECT chat_id, account FROM chats ORDER BY 1")]
    assert found == [("chat_acmes", "acme"), ("chat_ours", "default")]


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_content_type_does_not_matter(client, db, content_type):
    body = json.dumps(ENDED).encode()
    header = sign(body, key=KEY, now_ms=NOW_MS)
    assert post_as_is(client, body, header, content_type=content_type).status_code == 204
    assert count(db, "calls") == 1


@pytest.mark.parametrize("event", ["call_inbound", "chat_inbound"])
@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
def test_inbound_question_is_answered_with_no_override(client, db, event, path):
    body = {"event": event, event: {"agent_id": "agent_7", "from_number": "+12065550100"}}
    for _ in range(2):
        response = post(client, body, path=path)
        assert (response.status_code, response.json) == (200, {event: {}})
        assert response.content_type == "application/json"
    (kept,) = db.execute("SELECT entity_type, problem FROM observations").fetchall()
    assert tuple(kept) == (event, None)
    assert count(db, "calls") == count(db, "chats") == 0


def test_inbound_question_without_its_object_is_answered(client, db):
    answer = post(client, {"event": "call_inbound"})
    assert (answer.status_code, answer.json) == (200, {"call_inbound": {}})
    assert db.execute("SELECT problem FROM observations").fetchone()[0]


# Who is refused.


@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
@pytest.mark.parametrize("name", REFUSED)
def test_unauthentic_event_is_401_and_counted_not_stored(app, client, db, name, path):
    header, counted = REFUSED[name]
    post(client, ENDED)
    before = dump(db)
    assert_refused(post_as_is(client, CANARY, header, path=path), 401)
    assert dump(db) == before
    counts = app.extensions["callhouse"]["counters"].read()
    assert {n: c for n, c in counts.items() if c and n not in STATE} == {
        "stored": 1,
        counted: 1,
    }


def test_tolerance_is_the_settings(serve):
    client = serve(signature_tolerance_ms=1000)
    assert post(client, ENDED, at_ms=NOW_MS - 1000).status_code == 204
    assert post(client, ENDED, at_ms=NOW_MS - 1001).status_code == 401


def test_app_without_a_key_is_not_made(settings):
    with pytest.raises(SettingsError, match="RETELL_API_KEY"):
        create_app(replace(settings, accounts=()))


# How much is taken.


@pytest.mark.parametrize("send", [post, post_chunked], ids=["length", "chunked"])
def test_body_of_exactly_the_limit_is_stored(small, db, send):
    assert send(small, body_of_bytes(LIMIT)).status_code == 204
    assert db.execute("SELECT body_bytes FROM observations").fetchone()[0] == 1000


@pytest.mark.parametrize("send", [post, post_chunked], ids=["length", "chunked"])
@pytest.mark.parametrize("length", [LIMIT + 1, LIMIT + 2, 100 * LIMIT])
def test_longer_body_is_413_and_not_stored(small, db, send, length):
    refused = assert_refused(send(small, body_of_bytes(length)), 413)
    assert refused["error"] == "the body is longer than 1000 bytes"
    assert count(db, "observations") == 0


@pytest.mark.parametrize("extra", [1, 2, 5000])
def test_chunked_body_whose_beginning_is_signed_is_413(small, db, extra):
    # A body cut at the limit in silence would verify.
    authentic = body_of_bytes(LIMIT)
    assert_refused(post_chunked(small, authentic + b"x" * extra, signed=authentic), 413)
    assert count(db, "observations") == 0


def test_body_declared_too_long_is_413_unread(small):
    response = small.post(
        "/webhook", input_stream=Unreadable(), environ_overrides={"CONTENT_LENGTH": "1000000000000"}
    )
    assert_refused(response, 413)


class Unreadable(io.BytesIO):
    def read(self, *_):
        raise AssertionError("it was read")

    readinto = read


@pytest.mark.parametrize(("header", "outcome"), [(None, "missing"), ("v=1,d=canary", "malformed")])
def test_body_without_a_usable_header_is_401_unread(app, client, header, outcome):
    response = post_as_is(
        client, b"", header, input_stream=Unreadable(), environ_overrides={"CONTENT_LENGTH": "9000"}
    )
    assert_refused(response, 401)
    assert app.extensions["callhouse"]["counters"].read()[outcome] == 1


def test_refused_request_leaves_no_error_in_memory(client):
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            post_as_is(client, CANARY, REFUSED["wrong key"][0])
        assert not [each for each in gc.get_objects() if isinstance(each, ForgedSignature)]
    finally:
        gc.enable()


def test_body_that_cannot_be_read_is_400(app, client, db):
    class Malformed(io.BytesIO):
        def readinto(self, *_):
            raise OSError("Invalid chunk size: canary")

        read = readinto

    response = client.post(
        "/webhook",
        input_stream=Malformed(),
        headers={"X-Retell-Signature": sign(CANARY, key=KEY, now_ms=NOW_MS)},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert_refused(response, 400)
    assert app.extensions["callhouse"]["counters"].read()["unreadable"] == 1
    assert count(db, "observations") == 0


def test_bodies_beyond_the_memory_budget_are_503():
    bodies = Bodies(max_body_bytes=MIB, budget_bytes=8 * MIB)
    large, small = b"x" * (2 * MIB), b"x" * MIB
    with ExitStack() as stack:
        for _ in range(3):
            assert stack.enter_context(bodies.read(io.BytesIO(large), is_timed=False)) == large
        with pytest.raises(Overloaded), bodies.read(io.BytesIO(large), is_timed=False):
            pass
        for _ in range(2):
            assert stack.enter_context(bodies.read(io.BytesIO(small), is_timed=False)) == small
        with pytest.raises(Overloaded), bodies.read(io.BytesIO(small), is_timed=False):
            pass
    with bodies.read(io.BytesIO(large), is_timed=False) as body:
        assert body == large


def test_body_shorter_than_its_length_is_refused(client, db):
    body = json.dumps(ENDED).encode()
    response = client.post(
        "/webhook",
        input_stream=io.BytesIO(body),
        headers={"X-Retell-Signature": sign(body, key=KEY, now_ms=NOW_MS)},
        environ_overrides={"CONTENT_LENGTH": str(len(body) + 1)},
    )
    assert_refused(response, 400)
    assert count(db, "observations") == 0


# When it cannot be stored.


def test_held_write_lock_is_busy_until_release(engine, database):
    received = receive(CANARY, source="webhook", observed_at=1, received_at=1)
    store = open_store(database, busy_seconds=0.05)
    with held(engine, database), pytest.raises(StoreBusy) as caught:
        store.add(received)
    assert (caught.value.status, caught.value.retry) == (503, True)
    assert store.add(received).value == "stored"
    store.close()


def test_moved_database_is_503_until_it_is_back(app, client, db_path, tmp_path):
    post(client, ENDED)
    os.rename(db_path, tmp_path / "elsewhere")
    for _ in range(2):
        response = post(client, CANARY)
        assert_refused(response, 503)
        assert response.headers["Retry-After"] == "5"
    os.rename(tmp_path / "elsewhere", db_path)
    assert post(client, CANARY).status_code == 204
    counts = app.extensions["callhouse"]["counters"].read()
    assert (counts["stored"], counts["unavailable"]) == (2, 2)


def test_replaced_database_is_503_once_and_then_used(client, db_path, tmp_path):
    post(client, ENDED)
    migrate(tmp_path / "restored.db", timezone="UTC")
    os.replace(tmp_path / "restored.db", db_path)
    # The old file's log would be replayed into the new one.
    for log in ("retell.db-wal", "retell.db-shm"):
        (tmp_path / log).unlink()
    assert_refused(post(client, CANARY), 503)
    assert post(client, CANARY).status_code == 204
    connection = connect(db_path, busy_timeout_ms=0)
    assert connection.execute("SELECT call_id FROM calls").fetchall() == [("canary-7f3a",)]
    connection.close()


def test_database_of_another_version_is_503(engine, client, db):
    engine.forget_migrations(db)
    refused = assert_refused(post(client, CANARY), 503)
    assert "schema" in refused["error"]
    assert refused["hint"] == "Run `callhouse migrate`."


def test_unexpected_failure_is_a_json_500_without_details(app, client):
    app.extensions["callhouse"]["counters"].close()
    refused = assert_refused(post(client, CANARY), 500)
    assert refused["error"] == "internal error"


# Other requests.


@pytest.mark.parametrize("path", ["/webhook", "/webhook/"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_webhook_takes_post_alone(client, db, method, path):
    response = client.open(path, method=method, data=CANARY)
    assert_refused(response, 405)
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert count(db, "observations") == 0


@pytest.mark.parametrize("path", ["/", "/nope", "/canary", "/webhook/canary"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path_is_404(client, method, path):
    assert_refused(client.open(path, method=method, data=CANARY), 404)


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_health_and_metrics_cannot_be_posted_to(client, path):
    assert_refused(client.post(path, data=CANARY), 405)


# The standard.


def test_app_keeps_to_wsgi(app):
    client = Client(validator(app))
    body = json.dumps(ENDED).encode()
    headers = {"X-Retell-Signature": sign(body, key=KEY, now_ms=NOW_MS)}
    answers = [
        client.post("/webhook", data=body, headers=headers),
        client.post("/webhook", data=body),
        client.get("/healthz"),
        client.get("/metrics"),
        client.get("/nope"),
    ]
    assert [answer.status_code for answer in answers] == [204, 401, 200, 200, 404]
    for answer in answers:
        answer.close()
