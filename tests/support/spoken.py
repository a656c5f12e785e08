"""A call and a chat with words that tests look for in a browser."""

from typing import Any

from tests.support.browsing import START

SPOKEN_SECONDS = 12
SPOKEN_TEXT = "I would like to book a porcelain crown for next week please"


def spoken_call() -> dict[str, Any]:
    words = [
        {"word": word + " ", "start": 2 + n * 0.5, "end": 2.4 + n * 0.5}
        for n, word in enumerate(SPOKEN_TEXT.split())
    ]
    hello = [{"word": "Hello.", "start": 0.2, "end": 0.9}]
    turns = [
        {"role": "agent", "content": "Hello.", "words": hello},
        {"role": "user", "content": f"{SPOKEN_TEXT} ", "words": words},
        {"role": "tool_call_invocation", "name": "book", "arguments": "{}", "time_sec": 4.2},
    ]
    return {
        "call_id": "call_spoken",
        "call_status": "ended",
        "direction": "inbound",
        "from_number": "+14155550123",
        "agent_name": "Dental",
        "start_timestamp": START,
        "duration_ms": SPOKEN_SECONDS * 1000,
        "disconnection_reason": "user_hangup",
        "transcript": f"Agent: Hello.\nUser: {SPOKEN_TEXT}\n",
        "transcript_with_tool_calls": turns,
        "recording_url": "https://recordings.example/call_spoken.wav",
        "recording_multi_channel_url": "https://recordings.example/two.wav",
    }


def chat_with_tools() -> dict[str, Any]:
    use = {"role": "tool_call_invocation", "tool_call_id": "t", "name": "book"}
    result = {"role": "tool_call_result", "tool_call_id": "t", "content": '{"success": true}'}
    return {
        "chat_id": "chat_spoken",
        "chat_type": "sms_chat",
        "chat_status": "ended",
        "user_number": "+14155550123",
        "start_timestamp": START,
        "message_with_tool_calls": [
            {"role": "user", "content": "A crown, please."},
            use | {"arguments": "{}"},
            {"role": "node_transition", "former_node_name": "a", "new_node_name": "b"},
            result,
        ],
    }
