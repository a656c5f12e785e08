"""How much code one webhook runs through: what a newcomer must read to follow it.

`pytest tests/webhook/test_path.py` prints it by file. The goal is 10 files and 700 lines.
"""

import inspect
import sys
from collections import defaultdict

import pytest

from receiver.webhook.signature import sign
from tests.support import ROOT
from tests.support.webhooks import post

pytestmark = pytest.mark.sqlite

CALL = {"call_id": "call_a", "agent_id": "agent_a", "start_timestamp": 1_778_699_000_000}
ENDED = CALL | {
    "call_status": "ended",
    "end_timestamp": 1_778_699_060_000,
    "duration_ms": 60_000,
    "disconnection_reason": "user_hangup",
    "transcript": "Agent: Hello.\nUser: Good morning.",
    "transcript_object": [
        {"role": "agent", "content": "Hello.", "words": [{"word": "Hello.", "start": 0, "end": 1}]},
        {"role": "user", "content": "Good morning.", "words": []},
    ],
    "call_cost": {
        "combined_cost": 7.5,
        "product_costs": [{"product": "voice_engine", "cost": 7.5}],
    },
}
# As it is today; it may only shrink.
MAX_FILES = 11
MAX_LINES = 1_281


def traced(work) -> set:
    """The code objects of receiver and schema that run while `work` does."""
    found = set()

    def profile(frame, event, _):
        if event == "call":
            found.add(frame.f_code)

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    ours = (str(ROOT / "receiver"), str(ROOT / "schema"))
    return {code for code in found if code.co_filename.startswith(ours)}


def test_webhook_runs_through_few_files(client, capsys):
    post(client, {"event": "call_started", "call": CALL})
    answers = []
    codes = traced(lambda: answers.append(post(client, {"event": "call_ended", "call": ENDED})))
    # The sender's part.
    codes.discard(sign.__code__)
    assert answers[0].status_code == 204
    lines = defaultdict(set)
    functions = defaultdict(set)
    for code in codes:
        if not code.co_name.startswith("<"):
            source, first = inspect.getsourcelines(code)
            name = code.co_filename.removeprefix(f"{ROOT}/")
            lines[name] |= set(range(first, first + len(source)))
            functions[name].add(code.co_qualname)
    with capsys.disabled():
        print()
        for name in sorted(lines, key=lambda name: -len(lines[name])):
            print(f"{len(lines[name]):5} lines {len(functions[name]):3} functions  {name}")
        total = sum(map(len, lines.values()))
        print(
            f"{total:5} lines {sum(map(len, functions.values())):3} functions  {len(lines)} files"
        )
    assert len(lines) <= MAX_FILES
    assert total <= MAX_LINES
