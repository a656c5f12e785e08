"""The recordings that the sandbox serves: two voices at the transcript's times, behind links that
expire."""

import io
import struct
import time
import wave
from itertools import pairwise
from statistics import mean

import httpx
import pytest

from receiver.sandbox.recordings import RATE, RESTRICTED_MS, SIGNED_MS, recording
from receiver.sandbox.server import Sandbox

KEY = "key_of_the_sandbox"
NOW_MS = 1_778_673_600_000
DAY_MS = 86_400_000


class Clock:
    now_ms = NOW_MS

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sandbox(clock):
    with Sandbox(api_key=KEY, limits=None, now_ms=clock, signs_all_urls=True) as sandbox:
        sandbox.populate(calls=60)
        yield sandbox


def with_file(sandbox, kind="recording", **fields):
    """A call that has such a file."""
    return next(
        call
        for call in sandbox.calls.values()
        if f"{kind}_url" in call and all(call.get(k) == v for k, v in fields.items())
    )


def get_call(sandbox, call_id):
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.get(f"{sandbox.url}/v2/get-call/{call_id}", headers=headers).json()


def fetch(sandbox, call, kind="recording", **headers):
    url = get_call(sandbox, call["call_id"])[f"{kind}_url"]
    return httpx.get(url, headers=headers)


def samples(content):
    """The bytes of each channel, 0 as silence."""
    with wave.open(io.BytesIO(content)) as sound:
        assert (sound.getsampwidth(), sound.getframerate()) == (1, RATE)
        channels = sound.getnchannels()
        frames = sound.readframes(sound.getnframes())
    return [[value - 128 for value in frames[n::channels]] for n in range(channels)]


def loudness(channel, start, end):
    return mean(abs(value) for value in channel[round(start * RATE) : round(end * RATE)])


def pitch(channel, start, end):
    """Upward crossings of zero in a second."""
    part = channel[round(start * RATE) : round(end * RATE)]
    crossings = sum(a < 0 <= b for a, b in pairwise(part))
    return crossings * RATE / len(part)


def test_recording_is_as_long_as_the_call(sandbox):
    call = with_file(sandbox)
    [channel] = samples(fetch(sandbox, call).content)
    assert len(channel) / RATE == pytest.approx(call["duration_ms"] / 1000, abs=0.5)


def test_each_voice_sounds_when_it_speaks(sandbox):
    call = with_file(sandbox, "recording_multi_channel", call_type="phone_call")
    left, right = samples(fetch(sandbox, call, "recording_multi_channel").content)
    utterances = [
        entry for entry in call["transcript_object"] if entry["role"] in ("agent", "user")
    ]
    assert {entry["role"] for entry in utterances} == {"agent", "user"}
    for entry in utterances:
        mine = left if entry["role"] == "agent" else right
        for word in entry["words"]:
            assert loudness(mine, word["start"], word["end"]) > 10
    silences = [(a["words"][-1]["end"], b["words"][0]["start"]) for a, b in pairwise(utterances)]
    for start, end in silences:
        if end - start > 0.1:
            assert loudness(left, start + 0.01, end - 0.01) == 0


def test_agent_and_caller_differ_in_pitch():
    def call(role):
        word = {"word": "mmm", "start": 0, "end": 0.5}
        entry = {"role": role, "words": [word]}
        return {"duration_ms": 500, "transcript_with_tool_calls": [entry]}

    [agent], [caller] = (samples(recording(call(r), stereo=False)) for r in ("agent", "user"))
    assert agent != caller
    period = {role: RATE / hertz for role, hertz in (("agent", 210), ("user", 118))}
    assert period["agent"] < period["user"]
    assert correlation(agent, round(period["agent"])) > correlation(agent, round(period["user"]))
    assert correlation(caller, round(period["user"])) > correlation(caller, round(period["agent"]))


def correlation(channel, lag):
    middle = channel[1000:3000]
    later = channel[1000 + lag : 3000 + lag]
    return sum(a * b for a, b in zip(middle, later, strict=True))


def test_removed_words_are_a_beep(sandbox):
    call = with_file(sandbox, "scrubbed_recording")
    words = [
        word
        for entry in call["scrubbed_transcript_with_tool_calls"]
        for word in entry.get("words", ())
        if word["word"].startswith("[")
    ]
    assert words
    [plain] = samples(fetch(sandbox, call).content)
    [scrubbed] = samples(fetch(sandbox, call, "scrubbed_recording").content)
    for word in words:
        assert pitch(scrubbed, word["start"] + 0.02, word["end"] - 0.02) == pytest.approx(
            1000, abs=60
        )
        assert pitch(plain, word["start"] + 0.02, word["end"] - 0.02) < 900


def test_same_call_gives_the_same_bytes(sandbox):
    call = with_file(sandbox)
    assert fetch(sandbox, call).content == fetch(sandbox, call).content


def test_range_gives_a_part_with_its_etag(sandbox):
    call = with_file(sandbox)
    whole = fetch(sandbox, call)
    part = fetch(sandbox, call, Range="bytes=100-199")
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.content)}"
    assert part.headers["ETag"] == whole.headers["ETag"]
    other = fetch(sandbox, call, Range="bytes=100-199", **{"If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)


@pytest.mark.parametrize(
    ("storage", "life_ms"), [("everything", SIGNED_MS), ("everything_except_pii", RESTRICTED_MS)]
)
def test_link_expires_and_get_call_renews_it(sandbox, clock, storage, life_ms):
    call = with_file(sandbox, data_storage_setting=storage)
    url = get_call(sandbox, call["call_id"])["recording_url"]
    clock.now_ms += life_ms - 1000
    assert httpx.get(url).status_code == 200
    clock.now_ms += 1000
    assert httpx.get(url).status_code == 403
    assert httpx.get(url.partition("?")[0]).status_code == 403
    assert fetch(sandbox, call).status_code == 200


def test_unsigned_link_works_without_a_key(clock):
    with Sandbox(api_key=KEY, limits=None, now_ms=clock) as sandbox:
        sandbox.populate(calls=30)
        call = with_file(sandbox, opt_in_signed_url=False)
        clock.now_ms += 100 * DAY_MS
        assert httpx.get(call["recording_url"]).status_code == 200


def test_deleted_call_has_no_recording(sandbox):
    call = with_file(sandbox)
    url = get_call(sandbox, call["call_id"])["recording_url"]
    headers = {"Authorization": f"Bearer {KEY}"}
    httpx.delete(f"{sandbox.url}/v2/delete-call/{call['call_id']}", headers=headers)
    assert httpx.get(url).status_code == 404
    assert httpx.get(f"{sandbox.url}/media/nobody/nothing.wav").status_code == 404


def test_log_names_what_happened(sandbox):
    call = with_file(sandbox)
    log = fetch(sandbox, call, "public_log")
    assert log.headers["Content-Type"].startswith("text/plain")
    assert call["disconnection_reason"] in log.text


def test_header_says_how_long_the_data_is():
    content = recording({"duration_ms": 1000}, stereo=True)
    assert struct.unpack("<I", content[4:8]) == (len(content) - 8,)
    assert struct.unpack("<I", content[40:44]) == (len(content) - 44,)


def test_ten_minutes_of_speech_take_little_time():
    words = [{"word": "hello ", "start": n * 0.4, "end": n * 0.4 + 0.3} for n in range(1500)]
    entry = {"role": "agent", "words": words}
    call = {"duration_ms": 600_000, "transcript_with_tool_calls": [entry]}
    began = time.process_time()
    assert len(recording(call, stereo=True)) > 9_000_000
    assert time.process_time() - began < 1
