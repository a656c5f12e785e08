"""The receiver beside a browse that is attacked: one file, one machine, one good client."""

import os
import statistics
import subprocess
import sys
import time
from contextlib import closing

import httpx
import pytest

from receiver import access
from receiver.sandbox.days import day
from receiver.store import Store, migrate, receive
from tests.faults.checking import check
from tests.faults.harness import pair, sha256
from tests.faults.neighbours import ATTACKS
from tests.support import running

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

RATE, SECONDS = 20, 10
# Generous, on a busy machine. docs/explanation/reliability.md has what was measured.
MAX_MEDIAN, MAX_P99 = 0.25, 4.0


@pytest.fixture
def browsing(db_path, tmp_path):
    """A browse on the receiver's file, with a day of calls and the tokens of three logins;
    and the hashes of the events of that day."""
    migrate(db_path, timezone="UTC")
    seeded = set()
    with closing(Store(db_path)) as store:
        for delivery in day(1, day_start_ms=1_778_544_000_000, calls=200):
            at = delivery.at_ms
            store.add(receive(delivery.body, source="webhook", observed_at=at, received_at=at))
            seeded.add(sha256(delivery.body))
    known, tokens = access.Known(), []
    for name in ("ann", "bob", "cy"):
        known.tokens[name], token = access.new_token("reader")
        tokens.append(token)
    access.save(access.path_beside(db_path), known)
    address = running.free_address()
    environ = running.environment(
        CALLHOUSE_DATABASE_URL=f"sqlite:///{db_path}",
        CALLHOUSE_BROWSE_BIND=address,
        CALLHOUSE_BROWSE_PASSWORD="sesame",
    )
    with running.browse(environ, tmp_path):
        yield address, tokens, seeded


class Steady:
    """One client that posts events of 8 KB at a steady rate, and how long each answer took."""

    def __init__(self, server):
        self.server = server
        self.acked = set()

    def post(self, name, seconds):
        """Returns the median and the p99, in seconds."""
        bodies = [
            body
            for n in range(RATE * seconds // 2)
            for body in pair(f"{name.replace(' ', '_')}_{n}", padding=6000)
        ]
        took = []
        with httpx.Client() as client:
            began = time.monotonic()
            for number, body in enumerate(bodies):
                time.sleep(max(0, began + number / RATE - time.monotonic()))
                before = time.monotonic()
                assert self.server.post(body, client=client).status_code == 204
                took.append(time.monotonic() - before)
                self.acked.add(sha256(body))
        return statistics.median(took), sorted(took)[int(len(took) * 0.99)]


def test_attacks_on_browse_hinder_no_webhook(server, browsing, db_path, capsys):
    address, tokens, seeded = browsing
    steady, rows = Steady(server), []
    steady.post("warm up", 1)
    for name in ATTACKS:
        peace = steady.post(f"before {name}", SECONDS)
        command = [sys.executable, "-m", "tests.faults.neighbours", name, address]
        attack = subprocess.Popen([*command, str(SECONDS + 4), *tokens])
        time.sleep(2)
        try:
            found = steady.post(name, SECONDS)
            assert attack.poll() is None, "the attack ended early"
        finally:
            attack.kill()
            attack.wait(10)
        rows.append((name, peace, found))
        time.sleep(1)
    with capsys.disabled():
        print(f"\nload {os.getloadavg()[0]:.1f}; ms: median and p99 in peace, under attack, ratios")
        for name, peace, found in rows:
            figures = [f"{seconds * 1000:.1f}" for seconds in (*peace, *found)]
            ratios = [f"{b / a:.1f}" for a, b in zip(peace, found, strict=True)]
            print(f"| {' | '.join([name, *figures, *ratios])} |")
    assert max(found[0] for _, _, found in rows) < MAX_MEDIAN
    assert max(found[1] for _, _, found in rows) < MAX_P99
    check(db_path, steady.acked, steady.acked | seeded)
