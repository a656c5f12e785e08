"""Answers that Retell does not give: each is an error of ours, in bounded time and memory."""

import csv
import gzip
import io
import json
import time

import duckdb
import pytest
from loopback import Handler, Loopback
from scripted import Scripted

from receiver import errors
from receiver.export.formats import csv_writer
from receiver.retell import MAX_ANSWER_BYTES, Retell
from receiver.sending import body_of
from receiver.store import Result
from receiver.webhooks import agent_webhooks
from tests.conftest import KEY

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


def test_odd_answers_about_agents_are_errors_of_ours():
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


def test_pages_that_go_in_a_circle_end():
    pages = [{"items": [ITEM], "has_more": True, "pagination_key": k} for k in "abab"]
    with pytest.raises(errors.UnexpectedAnswer, match="had before"):
        ask(answers(*pages), lambda retell: list(retell.agents()))


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_a_bomb_is_refused_before_it_is_whole(encoding):
    bomb = gzip.compress(b" " * (2 * MAX_ANSWER_BYTES))
    bomb = gzip.compress(bomb) if "," in encoding else bomb
    with pytest.raises(errors.UnexpectedAnswer, match=r"longer than|packed"):
        ask([(200, {"Content-Encoding": encoding}, bomb)], lambda r: r.get_call("a"))


def test_a_dripped_answer_has_a_deadline():
    class Dripping(Handler):
        def do_POST(self):
            self.send_response_only(200)
            self.end_headers()
            for _ in range(200):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.02)

    class Server(Loopback):
        def __init__(self):
            super().__init__(Dripping, waits=False)

    began = time.monotonic()
    with Server() as server, Retell(server.url, KEY, total_seconds=0.2) as retell:
        with pytest.raises(errors.RetellSilent) as caught:
            retell.create_phone_call({})
        assert time.monotonic() - began < 3
    assert caught.value.may_have_happened


def test_deep_json_after_a_placed_call_may_have_happened():
    with pytest.raises(errors.UnexpectedAnswer) as caught:
        ask(answers(DEEP), lambda retell: retell.create_phone_call({}))
    assert caught.value.may_have_happened


@pytest.mark.parametrize(
    ("content", "why"), [(DEEP, "is not JSON"), (b" " * 1_000_000 + b"{}", "is longer than")]
)
def test_a_file_that_is_too_long_or_deep_is_not_sent(tmp_path, content, why):
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
def test_no_line_end_in_a_cell_begins_a_formula(end, tmp_path):
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
