"""A list of calls against the local Retell: whatever happens, nobody is called twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress

import pytest

from receiver import errors
from receiver.retell.call_lists import (
    KEY_HOLDS_MS,
    LOST_ATTEMPTS,
    LOST_IN_A_ROW,
    MARKER,
    Caller,
    Pace,
    read_rows,
)
from receiver.retell.client import Retell
from receiver.retell.journal import Journal
from receiver.sandbox.server import Limit, Sandbox
from receiver.store import open_store
from tests.support.engines import url_of
from tests.support.proxies import Lost, Proxy
from tests.support.webhooks import KEY, NOW_MS

pytestmark = pytest.mark.slow_on_postgres

FROM = "+14155550100"
NUMBERS = [f"+1415555{n:04}" for n in range(1000)]


class Killed(BaseException):
    """The process is gone."""


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.seconds = 0.0

    def sleep(self, seconds):
        self.seconds += seconds

    def now_ms(self):
        return NOW_MS + int(self.seconds * 1000)


@pytest.fixture
def sandbox():
    with Sandbox(api_key=KEY, limits=None, concurrency=1000, now_ms=lambda: NOW_MS) as sandbox:
        yield sandbox


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def csv_path(tmp_path):
    return tmp_path / "list.csv"


@pytest.fixture
def run(sandbox, csv_path, database, clock):
    """Place the list once; return its summary and the error that stopped it."""

    def run(*, url=None, per_second=1.0, path=csv_path):
        store = open_store(database)
        retell = Retell(
            url or sandbox.url, KEY, sleep=clock.sleep, now_ms=clock.now_ms, chance=lambda: 0.0
        )
        pace = Pace(per_second, sleep=clock.sleep, monotonic=lambda: clock.seconds)
        stopped = None
        try:
            with retell, Journal(path) as journal:
                rows = read_rows(
                    path.read_text(),
                    name=path.name,
                    run_id=journal.run_id,
                    defaults={"from_number": FROM},
                )
                caller = Caller(retell, store, journal, pace)
                try:
                    caller.place_all(rows, advance=lambda: None)
                except errors.CallhouseError as error:
                    stopped = error
        finally:
            store.close()
        return caller.summary, stopped

    return run


def write(csv_path, numbers):
    csv_path.write_text("to_number\n" + "".join(f"{n}\n" for n in numbers))


def called(sandbox):
    return Counter(call["to_number"] for call in sandbox.calls.values())


def stored(db):
    return Counter(row["to_number"] for row in db.execute("SELECT to_number FROM calls"))


def test_each_number_is_called_once_and_stored(run, sandbox, csv_path, db):
    write(csv_path, NUMBERS[:3])
    summary, stopped = run()
    assert (summary.counts, stopped) == ({"placed": 3}, None)
    assert called(sandbox) == stored(db) == Counter(NUMBERS[:3])
    assert [r["source"] for r in db.execute("SELECT source FROM observations")] == ["api"] * 3


def test_second_run_calls_only_new_numbers(run, sandbox, csv_path):
    write(csv_path, NUMBERS[:2])
    run()
    write(csv_path, NUMBERS[:3])
    summary, _ = run()
    assert summary.counts == {"placed before": 2, "placed": 1}
    assert called(sandbox) == Counter(NUMBERS[:3])


def test_calls_are_spread_over_time(run, csv_path, clock):
    write(csv_path, NUMBERS[:5])
    run(per_second=2.0)
    assert clock.seconds == pytest.approx(2.0)


def test_rejected_rows_are_reported_and_others_called(run, sandbox, csv_path):
    write(csv_path, [NUMBERS[0], "+15005550422", "0415", "+15005550400", NUMBERS[1]])
    summary, stopped = run(per_second=100.0)
    assert stopped is None
    assert summary.counts == {"placed": 2, "refused": 3}
    assert [line for line, _ in summary.refused] == [3, 4, 5]
    assert "(422)" in summary.refused[0][1]
    assert "E.164" in summary.refused[1][1]
    assert "(400)" in summary.refused[2][1]
    assert called(sandbox) == Counter(NUMBERS[:2])


def test_rejected_requests_slow_the_pace(run, csv_path, clock):
    write(csv_path, ["+15005550422", NUMBERS[0]])
    run(per_second=100.0)
    assert clock.seconds == pytest.approx(1.0)


def test_account_errors_stop_the_list(run, sandbox, csv_path):
    write(csv_path, [NUMBERS[0], "+15005550402", NUMBERS[1]])
    summary, stopped = run()
    assert isinstance(stopped, errors.PaymentRequired)
    assert summary.counts == {"placed": 1}
    assert called(sandbox) == Counter(NUMBERS[:1])


def test_stopped_list_continues(run, sandbox, csv_path):
    write(csv_path, NUMBERS[:3])

    def refuse(method, path, headers, body):
        return headers | {"Authorization": "Bearer other"}, body

    with Proxy(sandbox.url, before=refuse) as proxy:
        summary, stopped = run(url=proxy.url)
    assert isinstance(stopped, errors.KeyRefused)
    assert not summary.counts
    assert run()[0].counts == {"placed": 3}
    assert called(sandbox) == Counter(NUMBERS[:3])


def test_rate_limited_list_waits_as_asked(csv_path, run, clock, db):
    write(csv_path, NUMBERS[:5])
    limit = {"create": Limit(2, 10_000)}
    with Sandbox(api_key=KEY, limits=limit, now_ms=clock.now_ms) as sandbox:
        summary, stopped = run(url=sandbox.url, per_second=100.0)
        assert (summary.counts, stopped) == ({"placed": 5}, None)
        assert called(sandbox) == stored(db) == Counter(NUMBERS[:5])
    assert 20 <= clock.seconds < 25


def test_a_list_throttled_for_ever_stops(run, csv_path, sandbox):
    write(csv_path, ["+15005550429", NUMBERS[0]])
    summary, stopped = run()
    assert isinstance(stopped, errors.ListStopped)
    assert not summary.counts
    assert not sandbox.calls


def test_unreachable_api_stops_the_list(run, csv_path):
    write(csv_path, NUMBERS[:1])
    summary, stopped = run(url="http://127.0.0.1:9")
    assert isinstance(stopped, errors.ListStopped)
    assert not summary.counts


def loses(when, n, *, times=1, path="/v2/create-phone-call"):
    """A proxy's hooks that lose the n-th request to `path`, or its answer, and some after it."""
    seen = Counter()

    def hook(method, asked, *rest):
        if asked == path:
            seen[when] += 1
            if n <= seen[when] < n + times:
                raise Lost
        return rest if when == "before" else None

    return {when: hook}


@pytest.mark.parametrize("when", ["before", "after"])
def test_lost_response_is_looked_up_then_repeated(run, sandbox, csv_path, db, when):
    write(csv_path, NUMBERS[:3])
    with Proxy(sandbox.url, **loses(when, 2)) as proxy:
        summary, stopped = run(url=proxy.url)
    assert (summary.counts, stopped) == ({"placed": 3}, None)
    assert called(sandbox) == stored(db) == Counter(NUMBERS[:3])


def test_lost_response_is_found_without_idempotency(run, sandbox, csv_path, db):
    write(csv_path, NUMBERS[:2])

    def without_key(method, path, headers, body):
        if path.endswith("create-phone-call"):
            value = json.loads(body)
            value.pop("idempotency_key")
            body = json.dumps(value).encode()
        return headers, body

    with Proxy(sandbox.url, before=without_key, **loses("after", 1)) as proxy:
        assert run(url=proxy.url)[0].counts == {"placed": 2}
    assert called(sandbox) == stored(db) == Counter(NUMBERS[:2])


def test_attempt_lost_an_hour_ago_is_not_repeated(run, sandbox, csv_path, clock):
    write(csv_path, NUMBERS[:2])
    with Proxy(sandbox.url, **loses("before", 1, times=LOST_ATTEMPTS)) as proxy:
        summary, _ = run(url=proxy.url)
    assert summary.counts == {"unknown": 1, "placed": 1}
    clock.sleep(KEY_HOLDS_MS / 1000)
    summary, stopped = run()
    assert (summary.counts, stopped) == ({"unknown": 1, "placed before": 1}, None)
    assert [line for line, _ in summary.unknown] == [2]
    assert called(sandbox) == Counter(NUMBERS[1:2])


def test_placed_attempt_lost_an_hour_ago_is_found(run, sandbox, csv_path, clock, db):
    write(csv_path, NUMBERS[:1])
    lost = loses("after", 1, times=99)
    with Proxy(sandbox.url, **lost, **loses("before", 1, times=99, path="/v3/list-calls")) as p:
        assert isinstance(run(url=p.url)[1], errors.RetellSilent)
    clock.sleep(2 * 3600)
    assert run()[0].counts == {"placed": 1}
    assert called(sandbox) == stored(db) == Counter(NUMBERS[:1])


def test_list_stops_after_lost_responses_in_a_row(run, sandbox, csv_path):
    write(csv_path, NUMBERS[:9])
    with Proxy(sandbox.url, **loses("before", 1, times=99)) as proxy:
        summary, stopped = run(url=proxy.url)
    assert isinstance(stopped, errors.ListStopped)
    assert summary.counts == {"unknown": LOST_IN_A_ROW}
    assert run()[0].counts == {"placed": 9}
    assert called(sandbox) == Counter(NUMBERS[:9])


def test_rejection_does_not_settle_a_lost_attempt(run, sandbox, csv_path, clock):
    """The first may have placed the call, so that after the hour nothing repeats it."""
    write(csv_path, ["+15005550400"])
    with Proxy(sandbox.url, **loses("before", 1)) as proxy:
        assert run(url=proxy.url)[0].counts == {"refused": 1}
    clock.sleep(2 * 3600)
    assert run()[0].counts == {"unknown": 1}


def test_unstored_call_is_fetched_by_next_run(run, sandbox, csv_path, store, db, monkeypatch):
    write(csv_path, NUMBERS[:2])
    with monkeypatch.context() as patch:

        def fail(self, received):
            raise errors.StoreBusy("busy")

        patch.setattr(type(store), "add", fail)
        _, stopped = run()
    assert isinstance(stopped, errors.PlacedButNotStored)
    [call_id] = sandbox.calls
    assert call_id in str(stopped)
    assert run()[0].counts == {"placed before": 1, "placed": 1}
    assert called(sandbox) == stored(db) == Counter(NUMBERS[:2])


def test_a_call_deleted_since_is_not_placed_again(run, sandbox, csv_path, store, monkeypatch):
    write(csv_path, NUMBERS[:1])
    with monkeypatch.context() as patch:
        busy = errors.StoreBusy("busy")
        patch.setattr(type(store), "add", lambda *_: (_ for _ in ()).throw(busy))
        run()
    monkeypatch.setattr(
        Retell, "get_call", lambda *_: (_ for _ in ()).throw(errors.NotAtRetell("gone"))
    )
    assert run()[0].counts == {"placed before": 1}
    assert called(sandbox) == Counter(NUMBERS[:1])


def test_every_call_has_its_rows_marker(run, sandbox, csv_path):
    write(csv_path, NUMBERS[:2])
    run()
    markers = {call["metadata"][MARKER] for call in sandbox.calls.values()}
    assert len(markers) == 2


# -- killed ----------------------------------------------------------------------------------------


@contextmanager
def killed_at(monkeypatch, store, step):
    """Die before or after the step-th time that something lasting happens; yield whether it did."""
    steps = Counter()

    def deadly(cls, name):
        original = getattr(cls, name)

        def wrapped(*args, **kwargs):
            for moment in ("before", "after"):
                if moment == "after":
                    result = original(*args, **kwargs)
                steps["n"] += 1
                if steps["n"] == step:
                    steps["killed"] = 1
                    raise Killed
            return result

        patch.setattr(cls, name, wrapped)

    with monkeypatch.context() as patch:
        deadly(Journal, "_write")
        deadly(Retell, "_once")
        deadly(type(store), "add")
        yield steps


@pytest.mark.slow
def test_killed_between_steps_each_number_called_once(
    run, sandbox, tmp_path, store, db, monkeypatch
):
    for step in range(1, 100):
        path = tmp_path / f"list-{step}.csv"
        numbers = NUMBERS[step * 3 : step * 3 + 3]
        write(path, numbers)
        with killed_at(monkeypatch, store, step) as steps, suppress(Killed):
            run(path=path)
        assert not run(path=path)[1]
        assert [called(sandbox)[number] for number in numbers] == [1, 1, 1], step
        if not steps["killed"]:
            break
    assert step > 30
    assert called(sandbox) == stored(db)


@pytest.mark.slow
def test_killed_at_random_each_number_called_once(csv_path, database, db):
    """The real command, kill -9, started again until it is done."""
    chance, numbers = random.Random(4), NUMBERS[:60]
    write(csv_path, numbers)
    command = [sys.executable, "-m", "receiver", "call", "--from", FROM]
    command += ["--csv", str(csv_path), "--per-second", "40"]
    kills = 0
    with Sandbox(api_key=KEY, limits=None, concurrency=1000) as sandbox:
        environ = os.environ | {
            "RETELL_API_KEY": KEY,
            "RETELL_BASE_URL": sandbox.url,
            "CALLHOUSE_DATABASE_URL": url_of(database),
        }
        while True:
            process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE)
            # From before it has started to after a good part of the list; a machine that is too
            # busy to start it in that time gives it longer.
            time.sleep(chance.uniform(0.4, 1.2 + kills / 20))
            os.kill(process.pid, signal.SIGKILL)
            _, output = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, output
            kills += 1
            assert kills < 200
        assert called(sandbox) == stored(db) == Counter(numbers)
    assert kills >= 3
