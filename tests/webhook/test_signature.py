"""Who signed these bytes, and when: every way to fail raises our own error."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retell.lib import webhook_auth

from receiver import errors
from receiver.errors import (
    ForgedSignature,
    MalformedSignature,
    MissingSignature,
    SignatureError,
    StaleSignature,
)
from receiver.webhook.signature import authenticate, key_id, sign, verify

KEY = "key_c4f1e07ab2938d5566e01f7a9b3c2d8e"
OLD_KEY = "key_90817263544536271809fedcba012345"
BODY = (
    b'{"event":"call_ended","call":{"call_id":"call_7b3e9d21c05f48a6b1e2d3c4f5a",'
    b'"duration_ms":61250}}'
)
AT_MS = 1_790_000_000_000
# Made with: openssl dgst -sha256 -hmac "$KEY" over the body followed by the time.
DIGEST = "ac20c552a61ddf242a3f27f6ba9b21202a2fa074f5055d0d9bdcd4fe941b4651"
OLD_KEY_DIGEST = "0d67b71cc3690193bf634606892ca38831ecc5035b9e81366702511823827d4c"
HEADER = f"v={AT_MS},d={DIGEST}"
# The same examples on every run.
fuzz = settings(deadline=None, derandomize=True, database=None)

VECTORS = json.loads((Path(__file__).parent / "signature_vectors.json").read_text("utf-8"))


def test_sign_makes_the_known_answer():
    assert sign(BODY, key=KEY, now_ms=AT_MS) == HEADER


def test_known_answer_tells_time_and_key():
    signed = authenticate(BODY, HEADER, keys=[KEY], now_ms=AT_MS)
    assert (signed.at_ms, signed.key_id) == (1_790_000_000_000, "f0fc0494")


def test_there_are_fifteen_vectors():
    assert len({vector["name"] for vector in VECTORS}) == 15


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector_is_answered_as_written(vector):
    def answer() -> None:
        body = vector["body"].encode()
        verify(body, vector["header"], keys=[vector["key"]], now_ms=vector["now_ms"])

    if vector["expected"] == "verifies":
        answer()
    else:
        with pytest.raises(SignatureError) as caught:
            answer()
        assert type(caught.value) is getattr(errors, vector["expected"])


HEADERS = {
    "none": (None, MissingSignature),
    "empty": ("", MissingSignature),
    "empty bytes": (b"", MissingSignature),
    "a space": (" ", MalformedSignature),
    "no comma": (f"v={AT_MS}d={DIGEST}", MalformedSignature),
    "no time": (f"v=,d={DIGEST}", MalformedSignature),
    "no digest": (f"v={AT_MS},d=", MalformedSignature),
    "digest first": (f"d={DIGEST},v={AT_MS}", MalformedSignature),
    "63 hex digits": (HEADER[:-1], MalformedSignature),
    "65 hex digits": (HEADER + "0", MalformedSignature),
    "not hex": (HEADER[:-1] + "g", MalformedSignature),
    "upper case": (HEADER.upper(), MalformedSignature),
    "upper-case hex": (f"v={AT_MS},d={DIGEST.upper()}", MalformedSignature),
    "Stripe's": (f"t={AT_MS},v1={DIGEST}", MalformedSignature),
    "GitHub's": (f"sha256={DIGEST}", MalformedSignature),
    "negative time": (f"v=-{AT_MS},d={DIGEST}", MalformedSignature),
    "fractional time": (f"v={AT_MS}.0,d={DIGEST}", MalformedSignature),
    "underscored time": (f"v=1_790_000_000_000,d={DIGEST}", MalformedSignature),
    "17 digits": (f"v=0000{AT_MS},d={DIGEST}", MalformedSignature),
    "5,000 digits": (f"v={'1' * 5000},d={DIGEST}", MalformedSignature),
    "Latin-1": ("v=é", MalformedSignature),
    "not Latin-1": ("v=☕", MalformedSignature),
    "lone surrogate": ("v=\ud800", MalformedSignature),
    "Arabic digits": (f"v=١٧٩٠٠٠٠٠٠٠٠٠٠,d={DIGEST}", MalformedSignature),
    "superscript digit": (f"v={AT_MS}²,d={DIGEST}", MalformedSignature),
    "bytes of Arabic digits": (f"v=١٧٩,d={DIGEST}".encode(), MalformedSignature),
    "NUL": (HEADER + "\0", MalformedSignature),
    "two joined by a comma": (f"{HEADER},{HEADER}", MalformedSignature),
    "two joined by comma and space": (f"{HEADER}, {HEADER}", MalformedSignature),
    "space in front": (" " + HEADER, MalformedSignature),
    "space behind": (HEADER + " ", MalformedSignature),
    "space between": (f"v={AT_MS}, d={DIGEST}", MalformedSignature),
    "newline behind": (HEADER + "\n", MalformedSignature),
    "carriage return behind": (HEADER + "\r\n", MalformedSignature),
    "another digest": (f"v={AT_MS},d={'0' * 64}", ForgedSignature),
    "another time": (f"v={AT_MS + 1},d={DIGEST}", ForgedSignature),
}


@pytest.mark.parametrize("name", HEADERS)
def test_header_that_is_no_signature_raises(name):
    header, error = HEADERS[name]
    with pytest.raises(SignatureError) as caught:
        verify(BODY, header, keys=[KEY], now_ms=AT_MS)
    assert type(caught.value) is error


BODIES = {
    "one byte changed": BODY.replace(b"61250", b"61251"),
    "one bit changed": bytes([BODY[0] ^ 1]) + BODY[1:],
    "one byte more": BODY + b"\n",
    "one byte less": BODY[:-1],
    "spaces after separators": json.dumps(json.loads(BODY)).encode(),
    "keys in another order": json.dumps(json.loads(BODY), separators=(",", ":"), sort_keys=True)
    .encode(),
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "not UTF-8": b"\xff" + BODY,
    "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_changed_body_is_forged(name):
    with pytest.raises(ForgedSignature):
        verify(BODIES[name], HEADER, keys=[KEY], now_ms=AT_MS)


def test_time_digits_moved_into_the_body_are_refused():
    # Body and time are signed without a separator, so the digest still fits; the time does not.
    with pytest.raises(StaleSignature):
        verify(BODY + b"1", f"v={str(AT_MS)[1:]},d={DIGEST}", keys=[KEY], now_ms=AT_MS)


def test_body_zeros_moved_into_the_time_are_forged():
    header = sign(b"10", key=KEY, now_ms=AT_MS)
    with pytest.raises(ForgedSignature):
        verify(b"1", header.replace("v=", "v=0"), keys=[KEY], now_ms=AT_MS)


def test_body_in_another_encoding_verifies_by_bytes():
    header = f"v={AT_MS},d=4da4cdb75290c4a1588767d4768a1a5d3863e750ca96e4a875ebca9d63ac60c4"
    verify(b"\xff\xfe", header, keys=[KEY], now_ms=AT_MS)


def test_header_as_bytes_verifies():
    verify(BODY, HEADER.encode(), keys=[KEY], now_ms=AT_MS)


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [""],
        ["", ""],
        [OLD_KEY],
        [KEY + " "],
        [KEY[:-1]],
        [KEY.removeprefix("key_")],
        [KEY.upper()],
        [f"{KEY},{OLD_KEY}"],
    ],
    ids=["none", "empty", "two empty", "another", "space", "shorter", "prefix", "case", "joined"],
)
def test_other_keys_never_verify(keys):
    with pytest.raises(ForgedSignature):
        verify(BODY, HEADER, keys=keys, now_ms=AT_MS)


def test_empty_key_never_verifies_what_it_signed():
    header = sign(BODY, key="", now_ms=AT_MS)
    with pytest.raises(ForgedSignature):
        verify(BODY, header, keys=["", KEY], now_ms=AT_MS)


@pytest.mark.parametrize(
    ("digest", "signer"), [(DIGEST, "f0fc0494"), (OLD_KEY_DIGEST, "a3743208")], ids=["new", "old"]
)
@pytest.mark.parametrize("keys", [(KEY, OLD_KEY), (OLD_KEY, "", KEY)], ids=["first", "last"])
def test_each_of_several_keys_verifies_and_is_named(keys, digest, signer):
    signed = authenticate(BODY, f"v={AT_MS},d={digest}", keys=iter(keys), now_ms=AT_MS)
    assert signed.key_id == signer


def test_key_id_does_not_hold_the_key():
    assert key_id(KEY) == "f0fc0494"


@pytest.mark.parametrize("tolerance_ms", [300_000, 1000, 1])
@pytest.mark.parametrize("sign_of_age", [1, -1], ids=["old", "ahead"])
def test_tolerance_is_inclusive_both_ways(tolerance_ms, sign_of_age):
    edge = AT_MS + sign_of_age * tolerance_ms
    verify(BODY, HEADER, keys=[KEY], now_ms=edge, tolerance_ms=tolerance_ms)
    with pytest.raises(StaleSignature):
        verify(BODY, HEADER, keys=[KEY], now_ms=edge + sign_of_age, tolerance_ms=tolerance_ms)


def test_default_tolerance_is_five_minutes():
    verify(BODY, HEADER, keys=[KEY], now_ms=AT_MS + 5 * 60 * 1000)
    with pytest.raises(StaleSignature):
        verify(BODY, HEADER, keys=[KEY], now_ms=AT_MS + 5 * 60 * 1000 + 1)


def test_old_forgery_is_forged_not_stale():
    a_day = 24 * 60 * 60 * 1000
    with pytest.raises(ForgedSignature):
        verify(BODY + b" ", HEADER, keys=[KEY], now_ms=AT_MS + a_day)
    with pytest.raises(StaleSignature):
        verify(BODY, HEADER, keys=[KEY], now_ms=AT_MS + a_day)


def test_errors_say_nothing_of_body_header_and_key():
    for header in (HEADER + " ", f"v={AT_MS},d={'0' * 64}"):
        with pytest.raises(SignatureError) as caught:
            verify(BODY, header, keys=[KEY], now_ms=AT_MS)
        message = str(caught.value) + caught.value.hint
        assert not any(secret in message for secret in ("7b3e9d21", "1790000", DIGEST, "key_c4"))


@pytest.mark.parametrize("body", ["", '{"event":"call_ended"}', '{"name":"Café ☕"}', "0", "\0"])
def test_what_the_vendors_library_signs_verifies(body):
    header = webhook_auth.symmetric["sign"](body, KEY, AT_MS)
    verify(body.encode(), header, keys=[OLD_KEY, KEY], now_ms=AT_MS + 300_000)


@pytest.mark.parametrize("body", ["", '{"event":"call_ended"}', '{"name":"Café ☕"}', "0", "\0"])
def test_what_we_sign_verifies_in_the_vendors_library(body):
    header = sign(body.encode(), key=KEY, now_ms=AT_MS)
    assert webhook_auth.symmetric["verify"](body, KEY, header, {"timestamp": AT_MS + 300_000})
    assert not webhook_auth.symmetric["verify"](body, OLD_KEY, header, {"timestamp": AT_MS})


NEAR_MISSES = st.from_regex(r"v=[0-9]{0,20},d=[0-9a-fA-F]{60,66}[, \n]?", fullmatch=True)


@fuzz
@given(body=st.binary(), header=st.none() | st.text() | st.binary() | NEAR_MISSES)
def test_any_header_and_body_raise_only_signature_error(body, header):
    with pytest.raises(SignatureError):
        verify(body, header, keys=[KEY, ""], now_ms=AT_MS)


@fuzz
@given(body=st.binary(), now_ms=st.integers(0, 10**16 - 1))
def test_whatever_is_signed_verifies(body, now_ms):
    verify(body, sign(body, key=KEY, now_ms=now_ms), keys=[KEY], now_ms=now_ms)
