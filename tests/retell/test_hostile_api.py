"""Answers that Retell does not give: each is an error of ours, in bounded time and memory."""

import csv
import gzip
import io
import json
import time
from contextlib import suppress
from zoneinfo import ZoneInfo

import duckdb
import httpx
import pytest

from receiver import errors
from receiver.retell.client import Retell
from receiver.retell.http import MAX_ANSWER_BYTES, Client, body_of, send
from receiver.retell.listing import Listing
from receiver.retell.placing import place
from receiver.retell.webhooks import agent_webhooks, check_webhook_url
from receiver.store import Result
from receiver.transfer.formats import csv_writer
from tests.support.loopback import Handler, Loopback
from tests.support.scripted import Scripted
from tests.support.upstream import FIRST, Account
from tests.support.webhooks import KEY, PAYLOADS

DEEP = b"[" * 100_000 + b"]" * 100_000
ITEM = {"agent_id": "agent_a", "channel": "voice"}
AGENT = ITEM | {"agent_name": "A", "version": 1, "is_published": True, "webhook_url": "https://x",
                "webhook_events": ["call_ended"]}  # fmt: skip
ODD = (None, [], {}, "", "x", 7, True, [1], [[]], {"items": None}, {"items": [None]}, [None])


def answers(*values):
    return [(200, {}, v if isinstance(v, bytes) else json.dumps(v).encode()) for v in values]


def ask(given, do, **options):
    with (
        Scripted(given) as server,
        Retell(server.url, KEY, sleep=lambda _: None, **options) as retell,
    ):
        return do(retell)


def show(retell):
    return list(agent_webhooks(retell))


def mutated():
    """A page of agents and an agent, each whole, null, of another type, or lacking a field."""
    page = {"items": [ITEM], "has_more": False}
    for odd in (*ODD, b"", b"<html>", DEEP):
        yield odd, AGENT
        yield page, odd
    for name in AGENT:
        yield page, {k: v for k, v in AGENT.items() if k != name}
        for odd in ODD:
            yield page, AGENT | {name: odd}
            yield {"items": [AGENT | {name: odd}], "has_more": False}, AGENT
    for odd in ODD:
        yield {"items": [ITEM], "has_more": True, "pagination_key": odd}, AGENT


@pytest.mark.slow
def test_malformed_agents_are_named_errors():
    refused = 0
    for page, agent in mutated():
        try:
            ask(answers(page, agent), show)
        except errors.RetellError as error:
            refused += isinstance(error, errors.UnexpectedAnswer)
    assert refused > 40


def test_an_answer_without_fields_names_the_field():
    with pytest.raises(errors.UnexpectedAnswer, match="agent_id"):
        ask(answers({"items": [ITEM], "has_more": False}, {}), show)


def test_repeated_page_key_ends_the_list():
    pages = [{"items": [ITEM], "has_more": True, "pagination_key": k} for k in "abab"]
    with pytest.raises(errors.UnexpectedAnswer, match="repeated a pagination_key"):
        ask(answers(*pages), lambda retell: list(retell.agents()))


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_huge_decompressed_response_is_refused_early(encoding):
    bomb = gzip.compress(b" " * (2 * MAX_ANSWER_BYTES))
    bomb = gzip.compress(bomb) if "," in encoding else bomb
    with pytest.raises(errors.UnexpectedAnswer, match=r"longer than|compressed"):
        ask([(200, {"Content-Encoding": encoding}, bomb)], lambda r: r.get_call("a"))


class Dripping(Handler):
    """Sends a byte at a time, for four seconds: of its headers, or of its body."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if self.path.startswith("/body") else b"X: ")
        )
        try:
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            self.close_connection = True


@pytest.fixture
def dripping():
    with Loopback(Dripping, waits=False) as server:
        yield server.url


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_dripped_answer_has_a_deadline(part, dripping):
    began = time.monotonic()
    with Retell(f"{dripping}/{part}", KEY, total_seconds=0.2) as retell:
        with pytest.raises(errors.RetellSilent) as caught:
            retell.create_phone_call({})
        assert time.monotonic() - began < 3
    assert caught.value.may_have_happened


@pytest.mark.parametrize("part", ["headers", "body"])
def test_dripping_receiver_has_a_deadline(part, dripping):
    began = time.monotonic()
    found = check_webhook_url(f"{dripping}/{part}", key=KEY, nonce="n", timeout_seconds=0.1)
    assert found[-1].what == "no response within 0.1 seconds"
    with Client(total_seconds=0.2) as client, pytest.raises(httpx.ReadTimeout):
        send_one(client, f"{dripping}/{part}")
    assert time.monotonic() - began < 3


def send_one(client, url):
    path = PAYLOADS / "event-call_ended.json"
    return send(client, url, path, key=KEY, event=None, max_bytes=1_000_000)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_huge_response_of_a_receiver_is_refused(encoding):
    bomb = gzip.compress(b" " * (2 * MAX_ANSWER_BYTES))
    with Scripted([(200, {"Content-Encoding": encoding}, bomb)]) as server:
        found = check_webhook_url(server.url, key=KEY, nonce="n")[-1]
        assert found.is_wrong
        assert "the response is " in found.what
        with Client(total_seconds=9) as client, pytest.raises(httpx.DecodingError):
            send_one(client, server.url)


def test_what_a_receiver_answers_is_one_short_line():
    response = json.dumps({"error": "\x1b[2Jx\n" * 10_000, "hint": "y"}).encode()
    with Scripted([(400, {}, response)]) as server, Client(total_seconds=9) as client:
        error = send_one(client, server.url).error
    assert len(error) <= 300
    assert error.isprintable()


@pytest.mark.parametrize("content", [DEEP, b"[]", b"null", b"<html>", b'{"error": 1}'])
def test_malformed_answers_of_a_receiver_are_findings(content):
    with Scripted([(400, {}, content)]) as server, Client(total_seconds=9) as client:
        assert check_webhook_url(server.url, key=KEY, nonce="n")[-1].is_wrong
        assert send_one(client, server.url).error


CALL = {"call_id": "call_a", "call_status": "ended", "agent_id": "agent_a", "agent_name": "A",
        "start_timestamp": 1_778_284_900_000, "end_timestamp": 1_778_284_960_000,
        "transcript": "Agent: Hi.", "call_analysis": {"call_summary": "x"}}  # fmt: skip
NUMBERS = (-1, 10**18, 10**30, 1e400)
FEW = (None, [], {}, "x", True, [1], *NUMBERS)


def mutated_calls():
    """A page of calls and a call, each whole, null, of another type, or lacking a field."""
    page = {"items": [CALL], "has_more": False}
    for odd in (*ODD, b"", b"<html>", DEEP):
        yield odd, CALL
        yield page, odd
    for name in CALL:
        lacking = {k: v for k, v in CALL.items() if k != name}
        for odd in (lacking, *({**CALL, name: value} for value in FEW)):
            yield page | {"items": [odd]}, CALL
            yield page, odd
    for odd in ODD:
        yield page | {"has_more": True, "pagination_key": odd}, CALL
        yield page | {"has_more": odd}, CALL


@pytest.mark.slow
@pytest.mark.parametrize("ask_for", [Account.sync, Account.coverage])
def test_malformed_calls_are_named_errors(ask_for, database):
    refused, given = 0, [None, None]
    with Account(database) as account:

        def meddle(_method, path, _body):
            value = given[0 if path.startswith("/v3/list-calls") else 1]
            return 200, value if isinstance(value, bytes) else json.dumps(value).encode()

        account.between.meddle = meddle
        for given[:] in mutated_calls():
            try:
                ask_for(account, FIRST, FIRST)
            except errors.RetellError as error:
                refused += isinstance(error, errors.UnexpectedAnswer)
    assert refused > 20


@pytest.mark.parametrize("start", [*ODD, *NUMBERS], ids=str)
def test_invalid_first_day_is_a_retell_error(start):
    page = {"items": [{"call_id": "call_a", "start_timestamp": start}], "has_more": False}
    with suppress(errors.RetellError):
        ask(answers(page), lambda retell: Listing(retell, ZoneInfo("UTC")).first_day())


def test_malformed_responses_to_a_placement_are_errors(store):
    placed = unknown = 0
    whole = {"call_id": "call_a", "call_status": "registered", "agent_id": "agent_a"}
    odd = [*ODD, b"", b"<html>", DEEP]
    odd += [{k: v for k, v in whole.items() if k != name} for name in whole]
    odd += [whole | {name: value} for name in whole for value in (*ODD, *NUMBERS)]
    for value in odd:
        try:
            ask(answers(value), lambda retell: place(retell, store, {"to_number": "+1"}))
            placed += 1
        except errors.PlacementUnknown:
            unknown += 1
    assert placed + unknown == len(odd)
    # Only an id that is text, and not empty, is one.
    assert placed == 2 + 1 + 2 * len((*ODD, *NUMBERS))


def test_deep_json_leaves_the_placement_unknown():
    with pytest.raises(errors.UnexpectedAnswer) as caught:
        ask(answers(DEEP), lambda retell: retell.create_phone_call({}))
    assert caught.value.may_have_happened


@pytest.mark.parametrize(
    ("content", "why"), [(DEEP, "is not JSON"), (b" " * 1_000_000 + b"{}", "is longer than")]
)
def test_too_long_or_deep_file_is_not_sent(tmp_path, content, why):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(errors.NotAnEvent, match=why):
        body_of(tmp_path / "f", max_bytes=1_000_000)


def split(text):
    """Rows as a spreadsheet sees them: any line end outside quotation marks ends one."""
    rows, cell, quoted = [[]], "", False
    for c in text:
        if c == '"':
            quoted = not quoted
        elif not quoted and c in ",\r\n":
            rows[-1].append(cell)
            cell = ""
            rows += [[]] if c != "," else []
        else:
            cell += c
    return [row for row in rows if row]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_line_end_in_cell_begins_no_formula(end, tmp_path):
    out = io.BytesIO()
    cell = f"hello{end}=1+1"
    csv_writer(out, Result(["a", "b"], ["TEXT", "TEXT"], iter([(cell, "x"), (None, "y")])))
    text = out.getvalue().decode()
    assert split(text)[1] == [cell, "x"]
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [cell, "x"]
    (tmp_path / "t.csv").write_bytes(out.getvalue())
    with duckdb.connect() as connection:
        read = connection.execute(
            "SELECT * FROM read_csv(?, header=true)", [str(tmp_path / "t.csv")]
        )
        assert len(read.fetchall()) == 2
