"""Bytes -> event: nothing refuses, and nothing that cannot be stored gets through."""

import hashlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schema.events import EVENTS, MAX_DEPTH, parse, values
from schema.events import value as value_of

# The same examples on every run.
fuzz = settings(deadline=None, derandomize=True, database=None)


def body_with(value: bytes) -> bytes:
    """A call_ended whose call carries `value`, given as JSON, under the key x."""
    return b'{"event":"call_ended","call":{"call_id":"call_a","x":' + value + b"}}"


def sha_id(body: bytes) -> str:
    return "sha:" + hashlib.sha256(body).hexdigest()


def test_body_is_understood_as_event_call_and_envelope():
    body = b'{"event":"call_ended","call":{"call_id":"call_a","duration_ms":1},"z":[2]}'
    event = parse(body)
    assert (event.entity_type, event.entity_id, event.event) == ("call", "call_a", "call_ended")
    assert values(event.fields) == {"call_id": "call_a", "duration_ms": 1}
    assert values(event.envelope) == {"z": [2]}
    assert event.problem is None


def test_hash_depends_on_the_bytes():
    # printf '{}' | sha256sum
    empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert parse(b"{}").body_sha256 == empty
    assert parse(b"{ }").body_sha256 != empty


def test_null_is_absent_and_empty_is_a_value():
    body = b'{"event":"e","call":{"call_id":"c","a":null,"b":"","c":0,"d":false,"e":[],"f":{}}}'
    assert values(parse(body).fields) == {
        "call_id": "c", "b": "", "c": 0, "d": False, "e": [], "f": {},
    }  # fmt: skip


# Values: what each kind of poison becomes.


def test_lone_surrogate_becomes_a_replacement_character():
    event = parse(body_with(rb'"cut \ud83d"'))
    assert (event.problem, values(event.fields)["x"]) == (None, "cut \ufffd")


def test_lone_surrogate_stays_when_read_verbatim():
    assert values(parse(body_with(rb'"cut \ud83d"'), verbatim=True).fields)["x"] == "cut \ud83d"


def test_surrogate_pair_is_one_character():
    assert values(parse(body_with(rb'"\ud83d\ude00\uD83D\uDE00"')).fields)["x"] == "😀😀"


def test_nul_becomes_a_replacement_character():
    event = parse(body_with(rb'"a\u0000b"'))
    assert (event.problem, values(event.fields)["x"]) == (None, "a\ufffdb")


def test_nul_stays_when_read_verbatim():
    assert values(parse(body_with(rb'"a\u0000b"'), verbatim=True).fields)["x"] == "a\0b"


def test_escaped_backslash_before_u_is_not_an_escape():
    assert values(parse(body_with(rb'"\\u0000 \\ud800"')).fields)["x"] == r"\u0000 \ud800"


def test_unstorable_text_is_replaced_at_any_depth():
    event = parse(body_with(rb'[{"\u0000n":["\udfff",{"k":"\u0000"}]}]'))
    assert values(event.fields)["x"] == [{"\ufffdn": ["\ufffd", {"k": "\ufffd"}]}]


def test_unstorable_text_outside_the_call_is_replaced():
    event = parse(rb'{"event":"call_e\u0000","call":{"call_id":"c\ud800"},"z\u0000":"\ud800"}')
    assert (event.event, event.entity_id) == ("call_e\ufffd", "c\ufffd")
    assert values(event.envelope) == {"z\ufffd": "\ufffd"}


def test_id_and_event_read_verbatim_can_be_stored():
    event = parse(rb'{"event":"call_e\u0000","call":{"call_id":"c\ud800"}}', verbatim=True)
    assert (event.event, event.entity_id) == ("call_e\ufffd", "c\ufffd")
    assert values(event.fields)["call_id"] == "c\ud800"


@pytest.mark.parametrize(
    "value", [b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"', b'"cut \xc3']
)
def test_invalid_utf_8_is_quarantined(value):
    event = parse(body_with(value))
    assert event.problem == "not usable JSON: not UTF-8"
    assert event.entity_id == sha_id(body_with(value))


def test_integer_beyond_64_bits_is_kept_exactly():
    event = parse(body_with(b"[9223372036854775807,9223372036854775808,-9223372036854775809]"))
    assert values(event.fields)["x"] == [2**63 - 1, 2**63, -(2**63) - 1]


@pytest.mark.parametrize("beside", [b"", rb',"y":"\ud83d\ude00"'], ids=["plain", "with_a_pair"])
@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"[1,NaN]"])
def test_number_that_is_not_json_is_quarantined(number, beside):
    event = parse(body_with(number + beside))
    assert event.problem.startswith("not usable JSON: ")
    assert values(event.fields) == {}


@pytest.mark.parametrize("beside", [b"", rb',"y":"\ud800"'], ids=["fast", "slow"])
def test_number_too_large_for_a_float_is_infinite(beside):
    # Valid JSON, so the event is stored; the column that would hold it stays null.
    event = parse(body_with(b"[1e999,-1e999]" + beside))
    assert (event.problem, values(event.fields)["x"]) == (None, [math.inf, -math.inf])


@pytest.mark.parametrize("beside", [b"", rb',"y":"\ud800"'], ids=["fast", "slow"])
@pytest.mark.parametrize("sign", [b"", b"-"], ids=["plus", "minus"])
def test_integer_of_5000_digits_reads_as_nothing(sign, beside):
    event = parse(body_with(sign + b"1" * 5000 + beside))
    assert (event.problem, values(event.fields)["x"]) == (None, None)


@pytest.mark.parametrize("value", [b"1" * 5000, b"1e999", b"[" * 300 + b"]" * 300, b'"\\u0000"'])
def test_text_beside_a_cut_emoji_is_unchanged(value):
    event = parse(body_with(value + rb',"cut":"\ud83d","\ud83d":[]'), verbatim=True)
    expected = values(parse(body_with(value), verbatim=True).fields)
    assert values(event.fields) == expected | {"cut": "\ud83d", "\ud83d": []}


def test_fraction_of_5000_digits_is_a_number():
    assert values(parse(body_with(b"0." + b"3" * 5000)).fields)["x"] == 1 / 3


@pytest.mark.parametrize("beside", [b"", rb',"y":"\ud800"'], ids=["fast", "slow"])
def test_last_of_duplicate_keys_wins(beside):
    event = parse(body_with(b'1,"x":2,"call_id":"call_b"' + beside))
    assert (values(event.fields)["x"], event.entity_id) == (2, "call_b")


def test_last_of_duplicate_payloads_and_events_wins():
    body = b'{"event":"a","event":"b","call":{"call_id":"c1"},"call":{"call_id":"c2"}}'
    assert (parse(body).event, parse(body).entity_id) == ("b", "c2")


@pytest.mark.parametrize("beside", [b"", rb',"y":"\ud800"'], ids=["fast", "slow"])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"k":', b"}")])
def test_depth_is_limited(opening, closing, beside):
    def nested(levels: int) -> bytes:
        # Two levels are the body and its call.
        inner = levels - 2
        return body_with(opening * inner + (b"" if closing == b"]" else b"1") + closing * inner)

    deep = nested(MAX_DEPTH)
    event = parse(deep[:-2] + beside + deep[-2:])
    assert (event.problem, values(event.fields)["x"] is None) == (None, False)
    event = parse(nested(MAX_DEPTH + 4))
    assert (event.problem, values(event.fields)["x"]) == (None, None)
    # How deep the scanner goes depends on Python: from 3.13 on, 2,000 levels are stored unread.
    event = parse(nested(2000))
    assert event.problem == "not usable JSON: nested too deep" or values(event.fields)["x"] is None
    assert parse(nested(100_000)).problem == "not usable JSON: nested too deep"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_encoding_other_than_utf_8_is_quarantined(encoding):
    body = r'{"event":"call_ended","call":{"call_id":"ü","x":"\ud83d\ude00"}}'.encode(encoding)
    event = parse(body)
    assert event.problem.startswith("not usable JSON: ")
    assert event.entity_id == sha_id(body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"}", b'{"event"}', b"{'event':'a'}", b'{"event":"a",}', b"{}{}",
        b'{"event":"a"}x', body_with(b"01"), body_with(b"+1"), body_with(b".5"), body_with(b"1."),
        body_with(b'"\x00"'), body_with(b'"\n"'), body_with(rb'"\x41"'), body_with(rb'"\u12"'),
        body_with(b"undefined"), body_with(b"True"), b"\x1f\x8b\x08\x00gzip", b"event=call_ended",
    ],
)  # fmt: skip
def test_invalid_json_is_quarantined(body):
    event = parse(body)
    assert event.problem.startswith("not usable JSON: ")
    assert (event.entity_type, event.entity_id) == ("unknown", sha_id(body))
    assert (event.event, values(event.fields), values(event.envelope)) == (None, {}, {})


@pytest.mark.parametrize("body", [b"null", b"[]", b'[{"event":"a"}]', b'"event"', b"1", b"true"])
def test_json_that_is_no_object_is_quarantined(body):
    event = parse(body)
    assert (event.problem, event.entity_id) == ("not a JSON object", sha_id(body))


def test_problem_does_not_repeat_what_the_body_says():
    for poison in (b'"Jane Roe, card 4111', b"Jane", b'{"Jane":NaN}', b'"Jane\xff"', b'"\x00Jane"'):
        problem = parse(body_with(poison)).problem
        assert problem is not None
        assert "Jane" not in problem


def test_whitespace_around_the_body_is_fine():
    assert parse(b"\r\n\t " + body_with(b"1") + b"\n").problem is None


# Payloads: which object an event is about.


@pytest.mark.parametrize(
    ("key", "entity_type", "id_key"),
    [
        ("call", "call", "call_id"),
        ("data", "call", "call_id"),
        ("chat", "chat", "chat_id"),
        ("call_inbound", "call_inbound", "call_id"),
        ("chat_inbound", "chat_inbound", "chat_id"),
    ],
)
def test_payload_is_recognised_by_its_key(key, entity_type, id_key):
    event = parse(json.dumps({"event": "e", key: {id_key: "id1", "a": 1}}).encode())
    assert (event.entity_type, event.entity_id, event.problem) == (entity_type, "id1", None)
    assert values(event.fields) == {id_key: "id1", "a": 1}


@pytest.mark.parametrize("event", ["alert_triggered", "call_inbound", "chat_inbound"])
def test_payload_without_an_id_has_its_hash(event):
    key = event.removesuffix("_triggered")
    body = json.dumps({"event": event, key: {"agent_id": "a", "": "not an id"}}).encode()
    understood = parse(body)
    assert (understood.entity_type, understood.entity_id) == (key, sha_id(body))
    assert understood.problem is None


def test_call_wins_over_its_older_twin_data():
    event = parse(b'{"event":"e","data":{"call_id":"old"},"call":{"call_id":"new"}}')
    assert (event.entity_id, values(event.envelope)) == ("new", {"data": {"call_id": "old"}})


@pytest.mark.parametrize("call", ["null", "[]", '""', "1"])
def test_data_replaces_a_call_that_is_no_object(call):
    event = parse(f'{{"event":"e","call":{call},"data":{{"call_id":"c"}}}}'.encode())
    assert (event.entity_type, event.entity_id, event.problem) == ("call", "c", None)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("payload", ["", ',"call":null', ',"call":[]', ',"chat":"x"'])
def test_known_event_without_its_object_is_quarantined(event, payload):
    body = f'{{"event":"{event}"{payload}}}'.encode()
    understood = parse(body)
    assert understood.problem == f"no {EVENTS[event]} object"
    assert (understood.event, understood.entity_type) == (event, "unknown")
    assert understood.entity_id == sha_id(body)


@pytest.mark.parametrize("value", ["null", '""', "0", "17", "true", "[]", "{}", '["call_a"]'])
@pytest.mark.parametrize("kind", ["call", "chat"])
def test_call_or_chat_without_id_is_quarantined(kind, value):
    body = f'{{"event":"{kind}_ended","{kind}":{{"{kind}_id":{value}}}}}'.encode()
    event = parse(body)
    assert (event.problem, event.entity_id) == (f"no {kind}_id", sha_id(body))
    assert event.entity_type == kind


def test_unknown_event_with_a_call_updates_it():
    event = parse(b'{"event":"call_teleported","call":{"call_id":"c","duration_ms":2}}')
    assert (event.event, event.entity_type, event.entity_id) == ("call_teleported", "call", "c")
    assert event.problem is None


def test_unknown_event_without_payload_keeps_its_name():
    body = b'{"event":"quota_changed","quota":{"limit":40}}'
    event = parse(body)
    assert (event.entity_type, event.entity_id) == ("quota_changed", sha_id(body))
    assert (event.problem, values(event.envelope)) == (None, {"quota": {"limit": 40}})


@pytest.mark.parametrize("name", ["call", "chat", "call_inbound", "alert"])
def test_event_named_like_an_object_has_no_object(name):
    # Else an event of tomorrow without a call would make a call.
    assert parse(f'{{"event":"{name}"}}'.encode()).entity_type == "unknown"


@pytest.mark.parametrize("event", ["null", '""', "1", "[]", "{}", "true"])
def test_event_without_a_usable_name_is_quarantined(event):
    understood = parse(f'{{"event":{event},"call":{{"call_id":"c"}}}}'.encode())
    assert (understood.problem, understood.event) == ("no event name", None)
    assert (understood.entity_type, understood.entity_id) == ("call", "c")


def test_custom_function_request_is_quarantined():
    event = parse(b'{"name":"find_seat","args":{"row":1},"call":{"call_id":"c"}}')
    assert (event.problem, event.entity_id) == ("no event name", "c")


def test_envelope_holds_what_stands_beside_the_payload():
    body = (
        b'{"event":"transfer_started","call":{"call_id":"c"},"event_timestamp":1,'
        b'"transfer_destination":{"number":"+1"},"transfer_option":{"type":"cold_transfer"}}'
    )
    assert values(parse(body).envelope) == {
        "transfer_destination": {"number": "+1"},
        "transfer_option": {"type": "cold_transfer"},
    }


# Whatever comes.


# Lone surrogates included, which Hypothesis leaves out unless told.
def test_bare_api_object_is_an_event_without_name():
    event = parse(b'{"call_id":"call_a","call":{"x":1},"agent_tag":null}', source="api")
    assert (event.entity_type, event.entity_id, event.event) == ("call", "call_a", None)
    assert event.fields == {"call_id": b'"call_a"', "call": b'{"x":1}'}
    assert (event.envelope, event.problem) == ({}, None)
    chat = parse(b'{"chat_id":"c\\u0000","x":"\\ud800"}', source="api")
    assert (chat.entity_type, chat.entity_id, chat.problem) == ("chat", "c\ufffd", None)
    assert value_of(chat.fields["x"]) == "\ufffd"


def test_a_bare_object_by_webhook_is_no_event():
    assert parse(b'{"call_id":"call_a","call_status":"ended"}').problem == "no event name"


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"call_id":7}', b'{"call_id":""}', b"<html>"])
def test_api_object_without_id_is_quarantined(body):
    event = parse(body, source="api")
    assert event.problem
    assert event.entity_id == sha_id(body)


TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
ENVELOPES = st.dictionaries(
    st.sampled_from(["event", "call", "data", "chat", "call_inbound", "alert", "other"]),
    JSON | st.sampled_from(list(EVENTS)) | st.fixed_dictionaries({}, optional={"call_id": JSON}),
)


def assert_storable(event) -> None:
    """Columns can hold the event: text encodes, and what is no text is no id."""
    texts = (event.entity_type, event.entity_id, event.event or "", event.problem or "")
    for text in texts:
        assert "\0" not in text
        text.encode()
    assert event.entity_id


@fuzz
@given(st.binary() | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_parse_never_raises_for_any_bytes(body):
    assert_storable(parse(body))


@fuzz
@given(value=JSON | ENVELOPES, ensure_ascii=st.booleans())
def test_parse_never_raises_for_any_json(value, ensure_ascii):
    body = json.dumps(value, ensure_ascii=ensure_ascii).encode("utf-8", "surrogatepass")
    assert_storable(parse(body))
    assert_storable(parse(body, verbatim=True))
    assert_storable(parse(body, source="api"))


@fuzz
@given(ENVELOPES)
def test_what_is_understood_can_be_stored(value):
    event = parse(json.dumps(value).encode())
    stored = json.dumps([values(event.fields), values(event.envelope)], ensure_ascii=False)
    assert "\\u0000" not in stored.replace("\\\\", "")
    assert stored.encode("utf-8")
