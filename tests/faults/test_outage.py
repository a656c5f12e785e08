"""An outage: the receiver is killed, unreachable and without room, for longer than Retell tries.

Goal: what was missed is named exactly, and after a sync the tables are those of a run without any
outage. Method: the sandbox reports to the real server through the same calls twice.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from receiver.retell.client import Retell
from receiver.sandbox.server import Sandbox
from receiver.store import show
from receiver.store.connection import connect
from schema.tables import CALL_TABLES, CHAT_TABLES, DISCONNECTION_REASONS
from tests.faults.harness import free_port
from tests.support.meddling import Meddler
from tests.support.running import wait_until
from tests.support.webhooks import KEY

PAST_MS = 1_778_284_800_000
DAYS = 4
# A call that was fetched was observed later than one that was reported.
TIMES = {"observed_at", "updated_at", "seen_at"}
# The steps of a transfer are told by webhooks only: Retell's API knows how it ended.
WEBHOOKS_ONLY = {"transfers"}


@contextmanager
def account(url, port, *, on_delivery=lambda _: None):
    """At the same port each time: links to recordings contain it."""
    with Sandbox(
        api_key=KEY, seed=5, speed=0, limits=None, webhook_url=url, port=port,
        on_delivery=on_delivery,
    ) as box:  # fmt: skip
        yield box


class Outage:
    """Told of every attempt to deliver a webhook; between two of them, things are done."""

    def __init__(self) -> None:
        self.done = 0
        self.steps: list[tuple[int, Callable[[], None]]] = []
        self._lock = threading.Lock()

    def __call__(self, delivery) -> None:
        with self._lock:
            self.done += delivery.arrived or delivery.attempts > 3
            while self.steps and self.done >= self.steps[0][0]:
                self.steps.pop(0)[1]()

    def plan(self, server, box, planned) -> None:
        """A stretch of each kind, with good times between."""
        url = box.webhook_url

        def point(where):
            box.webhook_url = where

        def limit(size):
            for pid in server.workers():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        shares = {
            0.1: server.kill_tree,
            0.3: server.start,
            0.4: lambda: point(f"http://127.0.0.1:{free_port()}/webhook"),
            0.6: lambda: point(url),
            0.7: lambda: limit(4096),
            0.9: lambda: limit(resource.RLIM_INFINITY),
        }
        self.steps = [(round(share * planned), step) for share, step in shares.items()]


def populate(box, calls) -> int:
    return box.populate(calls=calls, days=DAYS, day_start_ms=PAST_MS, deliver=True, chats=True)


def rows(path, table, *, without=()):
    connection = connect(path, busy_timeout_ms=5000)
    try:
        columns = [name for name in table.names if name not in without]
        found = connection.execute(f"SELECT {', '.join(columns)} FROM {table.name}").fetchall()
        # Retell signs its links anew each time it is asked.
        return sorted(tuple(str(value).partition("?Expires=")[0] for value in row) for row in found)
    finally:
        connection.close()


def stored(path) -> set[str]:
    connection = connect(path, busy_timeout_ms=5000)
    try:
        ids = "SELECT call_id FROM calls UNION ALL SELECT chat_id FROM chats"
        return {row[0] for row in connection.execute(ids)}
    finally:
        connection.close()


def environ(box, path):
    return os.environ | {
        "RETELL_API_KEY": KEY,
        "RETELL_BASE_URL": box.url,
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}",
    }


def command(box, path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "receiver", *arguments],
        env=environ(box, path),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("calls", [20, 2000])
def test_sync_after_an_outage_restores_the_same_tables(
    serve, db_path, new_database, tmp_path, calls
):
    plain = shutil.copy(new_database, tmp_path / "plain.db")
    server, port = serve(plain).start(), free_port()
    with account(f"{server.url}/webhook", port) as box:
        planned = populate(box, calls)
        box.settle(300)
        assert all(delivery.arrived for delivery in box.deliveries)
        every = {*box.calls, *box.chats}
    assert stored(plain) == every
    assert len(every) > calls + 10

    server, outage = serve(db_path).start(), Outage()
    with account(f"{server.url}/webhook", port, on_delivery=outage) as box:
        outage.plan(server, box, planned)
        assert populate(box, calls) == planned
        box.settle(300)
        assert outage.steps == []
        lost = {503, None} & {d.status for d in box.deliveries if not d.arrived}
        assert lost == {503, None}

        reported = {d.call_id for d in box.deliveries if d.arrived}
        missing = every - stored(db_path)
        assert {*box.calls, *box.chats} == every
        assert missing <= every - reported
        assert missing & set(box.chats)
        before = command(box, db_path, "coverage", "--json")
        assert before.returncode == 1, before.stderr
        found = json.loads(before.stdout)
        assert set(found["missing_call_ids"]) == missing
        assert found["incomplete_call_ids"]
        assert len(missing) > calls / 10

        synced = command(box, db_path, "sync")
        assert synced.returncode == 0, synced.stderr
        assert f"{len(every):,} found: {len(missing):,} new" in synced.stdout
        complete = command(box, db_path, "coverage", "--json")
        assert (complete.returncode, json.loads(complete.stdout)["complete"]) == (0, True)

    for table in (*CALL_TABLES, *CHAT_TABLES, DISCONNECTION_REASONS):
        healed, expected = (rows(p, table, without=TIMES) for p in (db_path, plain))
        if table.name in WEBHOOKS_ONLY:
            keys = {row[:2] for row in expected}
            assert {row[:2] for row in healed} <= keys
        else:
            assert healed == expected, table.name


@pytest.mark.slow
def test_live_chats_of_an_outage_are_completed(serve, db_path):
    """Chats by SMS that begin, go on and end while the receiver is dead, some of them unheard of;
    the sync that mends them is killed on its way."""
    server, port = serve(db_path).start(), free_port()
    with account(f"{server.url}/webhook", port) as box:
        sms = {"from_number": "+12065550117", "to_number": "+14155550199"}
        with Retell(box.url, KEY) as retell:

            def begin(count):
                return [retell.create_sms_chat(sms).value["chat_id"] for _ in range(count)]

            before = begin(6)
            retell.end_chat(before[5])
            box.settle(60)
            assert stored(db_path) == set(before)
            server.kill_tree()
            during = begin(120)
            for chat_id in (*before[:2], *during[:30]):
                retell.end_chat(chat_id)
            retell.create_chat_completion(before[2], "Are you there?")
            box.settle(120)
        server.start()
        found = json.loads(command(box, db_path, "coverage", "--json").stdout)
        assert set(found["missing_call_ids"]) == set(during)
        # Retell lists no end of the others.
        assert set(found["incomplete_call_ids"]) == set(before[:2])

        # Slow enough to be met on its way.
        with Meddler(box.url, lambda *_: time.sleep(0.1)) as between:
            killed = subprocess.Popen(
                [sys.executable, "-m", "receiver", "sync"],
                env=environ(between, db_path),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda: len(stored(db_path)) > len(before), seconds=60)
            killed.kill()
            killed.wait(30)
        assert stored(db_path) < {*before, *during}
        synced = command(box, db_path, "sync")
        assert synced.returncode == 0, synced.stderr
        complete = command(box, db_path, "coverage", "--json")
        assert json.loads(complete.stdout)["complete"]
        for chat_id, chat in box.chats.items():
            if chat_id not in before[2:5]:
                assert show(db_path, chat_id) == chat
    assert stored(db_path) == {*before, *during}
