"""Log lines: one per webhook, ids and figures only."""

import io
import json

from receiver.webhook.health import log
from tests.support.webhooks import KEY, NOW_MS, post


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_without_what_is_unknown():
    stream = io.StringIO()
    log(now_ms=1_778_699_295_274, stream=stream, outcome="stored", event=None, level=2)
    assert json.loads(stream.getvalue()) == {
        "at": "2026-05-13T19:08:15.274+00:00",
        "outcome": "stored",
        "level": 2,
    }


def test_terminal_log_is_aligned_without_control_characters():
    stream = Terminal()
    log(now_ms=NOW_MS, stream=stream, outcome="stored", event="call_ended", entity_id="c\x1b[31m")
    log(now_ms=NOW_MS, stream=stream, outcome="duplicate", event="call_analyzed", entity_id="d")
    first, second = stream.getvalue().splitlines()
    assert "\x1b" not in first
    assert first.index("call_ended") == second.index("call_analyzed")
    assert first.index("c?[31m") == second.rindex("d")


def test_each_webhook_leaves_one_line(client, capsys):
    body = {"event": "call_ended", "call": {"call_id": "call_1", "transcript": "User: opal"}}
    post(client, body)
    post(client, body)
    post(client, {"name": "tool", "args": {}})
    post(client, body, key="key_of_somebody_else")
    post(client, body, at_ms=NOW_MS - 600_000)
    outcomes = [(line["outcome"], line.get("entity_id", "")[:6]) for line in lines(capsys)]
    assert outcomes == [
        ("stored", "call_1"),
        ("duplicate", "call_1"),
        ("quarantined", "sha:" + outcomes[2][1][4:]),
        ("forged", ""),
        ("stale", ""),
    ]


def test_lines_carry_no_transcript_number_or_key(client, capsys):
    call = {"call_id": "c", "transcript": "User: opal", "from_number": "+14155550123"}
    post(client, {"event": "call_ended", "call": call})
    post(client, {"event": "call_ended", "call": call}, key="key_wrong")
    output = capsys.readouterr()
    for secret in ("opal", "+14155550123", KEY, "key_wrong"):
        assert secret not in output.err + output.out


def test_a_line_says_how_large_and_how_long(client, capsys):
    post(client, b'{"event":"call_ended","call":{"call_id":"c"}}')
    [line] = lines(capsys)
    assert (line["bytes"], line["level"]) == (45, 2)
    assert 0 < line["ms"] < 60_000


def test_long_event_name_is_cut_to_200_characters(client, capsys):
    post(client, {"event": "x" * 1_000_000, "call": {"call_id": "y" * 1_000_000}})
    [line] = lines(capsys)
    assert (len(line["event"]), len(line["entity_id"])) == (200, 200)
