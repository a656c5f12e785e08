"""Webhook bodies to measure with: the call_ended and call_analyzed of calls of three lengths."""

import json
from functools import cache
from random import Random
from typing import Any

START_MS = 1_778_544_000_000

# Talk, in seconds: a body has about 340 bytes for each of them, as real ones do.
KINDS = {"four minutes": 262.0, "30 seconds": 18.0, "unanswered": 0.0}

_LETTERS = "eeeeeeetttttaaaaooooiiiinnnnsssshhhrrrddllcumwfgypbvk"


# The number of generated conversations; further calls repeat their words with another id.
_DISTINCT = 200


def pair(kind: str, number: int) -> tuple[bytes, bytes]:
    """The two events of one call, compact JSON as it comes over the wire."""
    call_id, ended, analyzed = _made_up(kind, number % _DISTINCT)
    own = f"call_{number:027x}".encode()
    return ended.replace(call_id, own), analyzed.replace(call_id, own)


@cache
def _made_up(kind: str, number: int) -> tuple[bytes, bytes, bytes]:
    rng = Random(f"{kind} {number}")
    call = _call(rng, KINDS[kind])
    ended = _body("call_ended", call)
    call["call_analysis"] = _analysis(rng, answered=KINDS[kind] > 0)
    return call["call_id"].encode(), ended, _body("call_analyzed", call)


def _body(event: str, call: dict[str, Any]) -> bytes:
    value = {"event": event, "call": call, "event_timestamp": call.get("end_timestamp", START_MS)}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# The words of a language, the frequent ones first.
_WORDS = [
    "".join(Random(n).choices(_LETTERS, k=2 + Random(n).randrange(2 + min(9, n // 40))))
    for n in range(2000)
]

# A word of each answered call, and one of about a fifth of all calls.
EVERYWHERE, IN_SOME = _WORDS[0], _WORDS[-1]


def _text(rng: Random, words: int) -> list[str]:
    return [_WORDS[min(1999, int(rng.paretovariate(0.6)) - 1)] for _ in range(words)]


def _call(rng: Random, talk: float) -> dict[str, Any]:
    call_id = f"call_{rng.getrandbits(108):027x}"
    start = START_MS + rng.randrange(30 * 86_400_000)
    call: dict[str, Any] = {
        "call_id": call_id,
        "call_type": "phone_call",
        "agent_id": f"agent_{rng.randrange(20):026x}",
        "agent_version": rng.randrange(12),
        "agent_name": "Front desk",
        "retell_llm_dynamic_variables": {"customer_name": " ".join(_text(rng, 2)), "plan": "gold"},
        "custom_sip_headers": {
            "X-RetellAI-CallId": call_id,
            "X-RetellAI-Direction": "Outbound",
            "X-RetellAI-OrgId": "org_0123456789abcdef",
        },
        "metadata": {"lead_id": f"{rng.getrandbits(48):012x}", "campaign": "spring"},
        "from_number": f"+1415555{rng.randrange(100, 200):04}",
        "to_number": f"+1212555{rng.randrange(100, 200):04}",
        "direction": "outbound",
        "data_storage_setting": "everything",
        "opt_in_signed_url": False,
    }
    return call | (_answered(rng, call_id, start, talk) if talk else _unanswered())


def _unanswered() -> dict[str, Any]:
    return {
        "call_status": "not_connected",
        "duration_ms": 0,
        "transcript": "",
        "disconnection_reason": "dial_no_answer",
        "call_cost": {"combined_cost": 0},
    }


def _answered(rng: Random, call_id: str, start: int, talk: float) -> dict[str, Any]:
    entries = _conversation(rng, talk)
    utterances = [e for e in entries if "words" in e]
    duration_ms = int(utterances[-1]["words"][-1]["end"] * 1000) + 900
    folder = f"https://recordings.example.com/{rng.getrandbits(256):064x}_{call_id}"
    costs = [
        {"product": name, "unit_price": price, "cost": round(price * duration_ms / 1000, 7)}
        for name, price in (("elevenlabs_tts", 0.1166667), ("gpt_4o_mini", 0.01))
    ]
    return {
        "call_status": "ended",
        "start_timestamp": start,
        "end_timestamp": start + duration_ms,
        "duration_ms": duration_ms,
        "disconnection_reason": "user_hangup",
        "transcript": "".join(f"{e['role'].title()}: {e['content']}\n" for e in utterances),
        "transcript_object": utterances,
        "transcript_with_tool_calls": entries,
        "recording_url": f"{folder}/recording.wav",
        "public_log_url": f"{folder}/public.log",
        "latency": {name: _latency(rng) for name in ("e2e", "llm", "tts")},
        "call_cost": {
            "product_costs": costs,
            "combined_cost": round(sum(c["cost"] for c in costs), 7),
            "total_duration_seconds": -(-duration_ms // 1000),
            "total_duration_unit_price": 0.1266667,
        },
        "llm_token_usage": {
            "values": [rng.randrange(800, 3000) for _ in range(8)],
            "average": 1712.5,
            "num_requests": 8,
        },
    }


def _conversation(rng: Random, talk: float) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    at, turn = 0.8, 0
    while at < talk:
        role = "user" if turn % 2 else "agent"
        words, at = _words(rng, at, rng.randrange(4, 16))
        entry = {"role": role, "content": "".join(w["word"] for w in words), "words": words}
        entries.append(entry | ({"metadata": {"response_id": turn}} if role == "agent" else {}))
        if turn % 6 == 3:
            entries += _tool(rng, at)
        at += rng.uniform(0.3, 1.4)
        turn += 1
    return entries


def _words(rng: Random, at: float, count: int) -> tuple[list[dict[str, Any]], float]:
    words = []
    for word in _text(rng, count):
        end = at + rng.uniform(0.15, 0.5)
        # Most times are whole milliseconds, some have the noise of binary fractions.
        start, stop = (round(at, 3), round(end, 3)) if rng.random() < 0.9 else (at, end)
        words.append({"word": f"{word} ", "start": start, "end": stop})
        at = end
    return words, at


def _tool(rng: Random, at: float) -> list[dict[str, Any]]:
    tool_call_id = f"tool_call_{rng.getrandbits(24):06x}"
    said = {"query": " ".join(_text(rng, 12)), "limit": 5}
    found = {"success": True, "results": [" ".join(_text(rng, 20)) for _ in range(4)]}
    return [
        {
            "role": "node_transition",
            "former_node_id": "node_greeting",
            "former_node_name": "Greeting",
            "new_node_id": "node_lookup",
            "new_node_name": "Look it up",
            "time_sec": round(at, 3),
        },
        {
            "role": "tool_call_invocation",
            "tool_call_id": tool_call_id,
            "name": "look_up",
            "arguments": json.dumps(said),
            "type": "custom",
            "time_sec": round(at + 0.1, 3),
        },
        {
            "role": "tool_call_result",
            "tool_call_id": tool_call_id,
            "successful": True,
            "content": json.dumps(found),
            "time_sec": round(at + 0.9, 3),
        },
    ]


def _latency(rng: Random) -> dict[str, Any]:
    values = sorted(rng.randrange(300, 2500) for _ in range(20))
    return {
        "p50": values[10],
        "p90": values[18],
        "p95": values[19],
        "p99": values[19],
        "min": values[0],
        "max": values[19],
        "num": 20,
        "values": values,
    }


def _analysis(rng: Random, *, answered: bool) -> dict[str, Any]:
    return {
        "call_summary": " ".join(_text(rng, 60)) if answered else "",
        "user_sentiment": "Positive" if answered else "Unknown",
        "call_successful": answered,
        "in_voicemail": False,
        "custom_analysis_data": {"reason": "booking", "urgent": False} if answered else {},
    }
