"""The receiver beside a browse that is attacked: one file, one machine, one good client."""

import os
import statistics
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import httpx
import pytest

from receiver.browse import access
from receiver.store import Store, migrate, receive
from tests.faults.checking import check
from tests.faults.harness import pair, sha256
from tests.faults.neighbours import ATTACKS
from tests.support import running
from tests.support.days import day

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

RATE, ROUNDS, SECONDS = 20, 3, 6
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
    known, tokens = access.AccessList(), []
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
    with running.browse(environ, tmp_path, leads_session=True):
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


@contextmanager
def attacking(name, address, tokens):
    """An attack that has begun."""
    command = [sys.executable, "-m", "tests.faults.neighbours", name, address]
    command += [str(SECONDS + 4), *tokens]
    attack = subprocess.Popen(command, start_new_session=True)
    time.sleep(2)
    try:
        yield
        assert attack.poll() is None, "the attack ended early"
    finally:
        attack.kill()
        attack.wait(10)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_on_browse_hinders_no_webhook(server, browsing, db_path, capsys, name):
    address, tokens, seeded = browsing
    steady, peace, attacked = Steady(server), [], []
    steady.post("warm up", 1)
    for number in range(ROUNDS):
        peace.append(steady.post(f"before {name} {number}", SECONDS))
        with attacking(name, address, tokens):
            attacked.append(steady.post(f"{name} {number}", SECONDS))
        time.sleep(1)
    # Each figure is the median of the rounds: one round that other work disturbs does not count.
    before, found = (
        [statistics.median(f) for f in zip(*p, strict=True)] for p in (peace, attacked)
    )
    with capsys.disabled():
        figures = [f"{seconds * 1000:.0f}" for seconds in (*before, *found)]
        ratios = [f"{b / a:.1f}" for a, b in zip(before, found, strict=True)]
        print(f"\n| {' | '.join([name, *figures, *ratios])} | load {os.getloadavg()[0]:.0f}")
    assert found[0] < MAX_MEDIAN
    assert found[1] < MAX_P99
    check(db_path, steady.acked, steady.acked | seeded)
