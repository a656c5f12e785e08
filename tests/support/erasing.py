"""Erasing and pruning in tests: a call with one word in every field, and a search for its
remains."""

import json
import subprocess
import sys
from pathlib import Path

from receiver.jobs.erase import erase
from receiver.store import rebuild
from tests.support import ROOT
from tests.support.storing import add

SECRET = "Zyxomma"
# Indexed by its characters.
WRITTEN = "鬱蒼橡"
WHOLE = {
    "transcript": f"User: {SECRET} speaking.",
    "transcript_with_tool_calls": [{"role": "user", "content": SECRET, "words": []}],
    "from_number": f"{SECRET} number",
    "agent_id": "agent_1",
    "agent_name": "Desk",
    "start_timestamp": 1_778_544_000_000,
    "metadata": {"who": SECRET},
    "recording_url": f"https://r/{SECRET}",
    "call_analysis": {"call_summary": f"{SECRET} {WRITTEN}", "call_successful": True},
    "disconnection_reason": f"{SECRET} reason",
    "call_cost": {"combined_cost": 2, "product_costs": [{"product": "voice", "cost": 2}]},
}


def erased(settings, store, *ids, **named):
    named = {"author": "tester", "reason": None, "now_ms": lambda: 99} | named
    return erase(settings, store, sorted(ids), pause=lambda _: None, **named)


def add_whole(store, call_id="gone", **fields):
    return add(store, "call_analyzed", call_id, at=7, **{**WHOLE, **fields})


def rebuilt(store) -> int:
    return rebuild(store, progress=lambda *_: None)


def files_with(folder: Path, *texts: str) -> set[tuple[str, str]]:
    """Files below a folder and texts that are in them, in compressed bodies too.

    Read by another process: this one would drop its locks on the database by closing a file.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.searching", str(folder)],
        input=json.dumps(texts),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {(file, text) for file, text in json.loads(done.stdout)}
