"""The files that calls link to: recordings made from the transcript's times, logs; and their links.

A voice is a tone with the overtones of a vowel, higher for the agent than for the caller; words
that scrubbing removed are a beep. Pure and deterministic: a call always gives the same bytes.
"""

import io
import math
import wave
from collections.abc import Mapping
from functools import lru_cache
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from receiver.errors import ApiError
from receiver.sandbox.timeline import starts_at
from receiver.sandbox.wire import Json, hex_digits

# Samples per second, unsigned bytes.
RATE = 8000
SILENCE = 0x80
# How long a signed link works: a day, and under restricted storage ten minutes.
SIGNED_MS, RESTRICTED_MS = 86_400_000, 600_000

# Hertz of the agent, of other speakers, and of removed words.
_PITCH = {"agent": 210.0, "user": 118.0, "beep": 1000.0}
# Strength of the overtones of some vowels.
_VOWELS = ((0.5, 0.9, 0.7, 0.6, 0.3), (0.8, 0.4, 0.2, 0.1, 0.1), (0.6, 0.8, 0.3, 0.2, 0.5))
# Samples over which a syllable becomes louder and fainter.
_FADE = 160
_SYLLABLE_LETTERS = 3
# Syllables have multiples of so many samples, so that few differ.
_STEP = 40

Call = Mapping[str, Any]
NOT_FOUND = "Not Found"


def signed(rng: Random, call: Call, now_ms: int) -> Json:
    """Sign a call's links, which work from `now_ms` on for as long as Retell's; unsigned ones
    always work."""
    if not call.get("opt_in_signed_url"):
        return dict(call)
    restricted = call.get("data_storage_setting", "everything") != "everything"
    expires = (now_ms + (RESTRICTED_MS if restricted else SIGNED_MS)) // 1000
    query = f"?Expires={expires}&Key-Pair-Id=K2EXAMPLE&Signature={hex_digits(rng, 344)}"
    return {
        key: value.partition("?")[0] + query
        if key.endswith("_url") and isinstance(value, str)
        else value
        for key, value in call.items()
    }


def fetch(call: Call, path: str, query: str, now_ms: int) -> tuple[bytes, str]:
    """The content and the content type of the file that a call links to at this path. Raises
    ApiError 404 if there is none, 403 for a link that has expired or lacks the call's signature."""
    for key, url in call.items():
        if key.endswith("_url") and isinstance(url, str) and urlsplit(url).path == path:
            break
    else:
        raise ApiError(404, NOT_FOUND)
    if call.get("opt_in_signed_url"):
        given = parse_qs(query)
        until = given.get("Expires", [""])[0]
        is_signed = "Signature" in given and until.isascii() and until.isdigit()
        if not is_signed or int(until) * 1000 <= now_ms:
            raise ApiError(403, "Access denied: the link has expired or is not signed.")
    if key == "public_log_url":
        return _log(call).encode("utf-8", "replace"), "text/plain"
    if key == "knowledge_base_retrieved_contents_url":
        return b"Opening hours, prices and directions, as retrieved for this call.\n", "text/plain"
    stereo, scrubbed = "multi_channel" in key, "scrubbed" in key
    return recording(call, stereo=stereo, scrubbed=scrubbed), "audio/wav"


def recording(call: Call, *, stereo: bool, scrubbed: bool = False) -> bytes:
    """A WAV file as long as the call; with `stereo`, the agent is on the left."""
    # The scrubbed words where the file is scrubbed, or there are no others.
    names = ("transcript_with_tool_calls", "scrubbed_transcript_with_tool_calls")
    found = [call[name] for name in names if call.get(name)] or [[]]
    entries = [entry for entry in found[-1 if scrubbed else 0] if entry.get("words")]
    seconds = max((w["end"] for entry in entries for w in entry["words"]), default=0)
    samples = round(RATE * max(call.get("duration_ms", 0) / 1000, seconds))
    channels = [bytearray([SILENCE]) * samples for _ in range(2 if stereo else 1)]
    for entry in entries:
        voice = "agent" if entry["role"] == "agent" else "user"
        channel = channels[0 if voice == "agent" else -1]
        for word in entry["words"]:
            start, end = (min(samples, round(word[key] * RATE)) for key in ("start", "end"))
            if start < end:
                channel[start:end] = _spoken(voice, str(word["word"]), end - start)
    data = bytearray(len(channels) * samples)
    for n, channel in enumerate(channels):
        data[n :: len(channels)] = channel
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((len(channels), 1, RATE, samples, "NONE", ""))
        sound.writeframes(data)
    return file.getvalue()


def _spoken(voice: str, word: str, samples: int) -> bytes:
    """A word as syllables, one for every few letters."""
    word = word.strip()
    if word.startswith("["):
        return _syllable("beep", 0, samples)
    count = max(1, min(samples // (2 * _FADE), round(len(word) / _SYLLABLE_LETTERS)))
    length = samples // count // _STEP * _STEP or samples
    sounds = [
        _syllable(voice, (ord(word[i * len(word) // count]) if word else 0) % len(_VOWELS), length)
        for i in range(count)
    ]
    return b"".join(sounds).ljust(samples, bytes([SILENCE]))


@lru_cache(maxsize=2048)
def _syllable(voice: str, vowel: int, samples: int) -> bytes:
    tone = _wave(voice, vowel)
    fade = min(_FADE, samples // 2)
    loud = (tone * (samples // len(tone) + 1))[:samples]
    for i in range(fade):
        loud[i] *= i / fade
        loud[-1 - i] *= i / fade
    return bytes(SILENCE + round(value) for value in loud)


@lru_cache(maxsize=64)
def _wave(voice: str, vowel: int) -> list[float]:
    """Ten periods of a voice, so that its pitch is not rounded to whole samples."""
    overtones = (1.0,) if voice == "beep" else _VOWELS[vowel]
    samples = round(10 * RATE / _PITCH[voice])
    turn = 2 * math.pi * 10 / samples
    volume = (40 if voice == "beep" else 90) / sum(overtones)
    return [
        volume * sum(s * math.sin(turn * i * n) for n, s in enumerate(overtones, start=1))
        for i in range(samples)
    ]


def _log(call: Call) -> str:
    lines = [
        f"{starts_at(entry):.3f} {entry.get('role')} {entry.get('name', '')}\n"
        for entry in call.get("transcript_with_tool_calls") or ()
    ]
    end = call.get("duration_ms", 0) / 1000
    return "".join(lines) + f"{end:.3f} {call.get('disconnection_reason')}\n"
