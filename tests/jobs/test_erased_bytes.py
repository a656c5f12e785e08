"""Under load, no byte of what was erased is left in any file of either engine."""

import hashlib
import json
import random
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest

from receiver.store import open_store, receive
from receiver.store.ingest import observe
from tests.support.engines import url_of
from tests.support.erasing import files_with
from tests.support.running import environment
from tests.support.storing import count

CALLS, EVERY = 5_000, 25
HOUR_MS = 3_600_000


def word(number):
    """What one call alone says, in letters."""
    digits = hashlib.sha256(str(number).encode()).hexdigest()[:20]
    return digits.translate(str.maketrans("0123456789", "ghijklmnop"))


def end_of(number):
    """Its last letters: the index of words has the first ones only where no word before has
    them."""
    return word(number)[6:]


def event(number, name, start_ms):
    caller = word(number)
    call = {
        "call_id": f"call_{number * 7919 % 100_003:06}",
        "agent_id": f"agent_{number % 5}",
        "from_number": caller,
        "start_timestamp": start_ms + number * 60_000,
        "batch_call_id": "erase" if number % EVERY == 0 else "keep",
        "transcript": f"User: {caller} speaking, and some more words of call {number}.",
        "transcript_with_tool_calls": [
            {"role": "user", "content": caller, "words": [{"word": caller, "start": 0, "end": 1}]},
            {"role": "agent", "content": f"Hello {caller}.", "words": []},
        ],
        "metadata": {"name": caller},
        "recording_url": f"https://r/{caller}",
    }
    if name == "call_analyzed":
        call["call_analysis"] = {"call_summary": f"About {caller}.", "call_successful": True}
    body = json.dumps({"event": name, "call": call}).encode()
    return receive(body, source="webhook", observed_at=number, received_at=start_ms)


def fill(database, calls=CALLS):
    """Store calls; some of their later events come when rows of other calls are between."""
    events = [
        each
        for number in range(calls)
        for each in (event(number, "call_ended", 0), event(number // 2, "call_analyzed", 0))
    ]
    with closing(open_store(database)) as store:
        for n in range(0, len(events), 50):
            some = events[n : n + 50]

            def unit(connection, some=some):
                store.lock(connection, {each.event.entity_id for each in some})
                for each in some:
                    observe(connection, each)

            store.run(unit)


@contextmanager
def load(database, first):
    """Events of new calls arrive until the end; yields a function that says how many."""
    stop, sent = threading.Event(), []

    def send():
        with closing(open_store(database)) as store:
            while not stop.is_set():
                store.add(event(first + len(sent), "call_ended", 0))
                sent.append(1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: len(sent)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


@contextmanager
def erasing(database, folder, *options):
    """`callhouse erase` of every twenty-fifth call, as a process."""
    settings = {
        "CALLHOUSE_DATABASE_URL": url_of(database),
        "CALLHOUSE_MEDIA_URL": f"file:{folder}/media",
    }
    command = ["erase", "--where", "batch_call_id = 'erase'", "--yes", "--json", *options]
    with subprocess.Popen(
        [sys.executable, "-m", "receiver", *command],
        env=environment(**settings),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@pytest.mark.slow
@pytest.mark.sqlite
def test_kills_at_any_moment_leave_a_sound_file(engine, database, db, tmp_path):
    """Also while it writes to the file beside SQLite; a receiver writes meanwhile."""
    fill(database, 1000)
    chance, gone = random.Random(1), [end_of(number) for number in range(0, 1000, EVERY)]
    with load(database, 1001):
        for _ in range(20):
            with erasing(database, tmp_path) as process:
                try:
                    process.wait(chance.uniform(0.5, 3))
                except subprocess.TimeoutExpired:
                    process.kill()
    with erasing(database, tmp_path) as process:
        assert json.loads(process.communicate(timeout=300)[0])["left"] is None
    engine.check(db)
    assert files_with(engine.folder(database), *gone) == set()


@pytest.mark.slow
def test_two_hundred_of_five_thousand_leave_no_byte(engine, database, db, tmp_path):
    fill(database)
    gone = [end_of(number) for number in range(0, CALLS, EVERY)]
    assert len(gone) == 200
    assert {text for _, text in files_with(engine.folder(database), *gone)} == set(gone)
    # On SQLite nothing needs to be written anew.
    vacuum = ["--vacuum"] if url_of(database).startswith("postgres") else []
    with load(database, CALLS + 1) as sent, erasing(database, tmp_path, *vacuum) as process:
        before = sent()
        result = json.loads(process.communicate(timeout=300)[0])
        assert sent() > before
    assert result["left"] is None
    assert result["receipt"]["entities"] >= 200
    assert files_with(engine.folder(database), *gone) == set()
    assert count(db, "calls") > CALLS - 200
