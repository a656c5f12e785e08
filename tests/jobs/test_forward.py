"""Forwarding: each event reaches each target, in order per call, whatever the target does."""

import base64
import json
import threading
from dataclasses import replace

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.config_file import ConfigFile, Target
from receiver.jobs.forward import (
    LAST_PAUSE_MS,
    MAX_AGE_MS,
    MAX_REFUSALS,
    close,
    forward,
    signature_headers,
    standard_signature,
)
from receiver.jobs.worker import Run, Stopped
from receiver.store.engine import reading
from receiver.store.outbox import OutboxRow, queue_counts
from receiver.webhook.app import create_app
from receiver.webhook.signature import verify
from tests.support.engines import url_of
from tests.support.loopback import Handler, Loopback
from tests.support.running import free_address, wait_until
from tests.support.storing import body_of
from tests.support.targets import TargetServer
from tests.support.webhooks import KEY, NOW_MS, post

SECRET = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
MINUTE_MS = 60_000


@pytest.fixture
def receiver():
    with TargetServer() as receiver:
        yield receiver


class Clock:
    ms = NOW_MS

    def __call__(self):
        return self.ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(settings, store, clock):
    """`world(*targets)` returns (deliver, run): receive an event, run the job."""
    apps, runs = [], []

    def make(*targets):
        configured = replace(settings, file=ConfigFile(forward=targets))
        app = create_app(configured, now_ms=clock, health_cache_seconds=0)
        apps.append(app)
        run_of = Run(configured, store, now_ms=clock)
        runs.append(run_of)

        def deliver(event="call_ended", call_id="c", **fields):
            answer = post(app.test_client(), body_of(event, call_id, **fields), at_ms=clock.ms)
            assert answer.status_code == 204

        def run():
            return forward(run_of)

        return deliver, run

    yield make
    for each in runs:
        close(each)
    for app in apps:
        app.extensions["callhouse"]["store"].close()
        app.extensions["callhouse"]["counters"].close()


def waiting(database):
    with reading(database) as connection:
        return {(c.target, c.state): c.events for c in queue_counts(connection)}


def test_target_gets_original_bytes_and_signature(world, receiver, database):
    deliver, run = world(Target("a", receiver.url))
    deliver("call_started", note="ü ☎")
    assert waiting(database) == {("a", "waiting"): 1}
    assert run() is None
    [(headers, body)] = receiver.got
    assert body == body_of("call_started", note="ü ☎")
    verify(body, headers["X-Retell-Signature"], keys=[KEY], now_ms=NOW_MS)
    assert headers["Content-Type"] == "application/json"
    assert waiting(database) == {}


def test_without_targets_nothing_is_queued(world, database):
    deliver, run = world()
    deliver()
    assert run() is None
    assert waiting(database) == {}


def test_each_target_gets_the_events_it_wants(world, database):
    with TargetServer() as one, TargetServer() as two:
        deliver, run = world(
            Target("one", one.url), Target("two", two.url, events=frozenset({"call_analyzed"}))
        )
        deliver("call_ended")
        deliver("call_analyzed")
        run()
        assert sorted(one.accepted()) == ["call_analyzed", "call_ended"]
        assert two.accepted() == ["call_analyzed"]


def test_retry_of_retells_is_not_forwarded_twice(world, receiver, clock):
    deliver, run = world(Target("a", receiver.url))
    deliver()
    run()
    clock.ms += 10_000
    deliver()
    run()
    assert len(receiver.got) == 1


def test_unknown_event_is_forwarded(world, receiver):
    deliver, run = world(Target("a", receiver.url))
    deliver("call_of_tomorrow")
    run()
    assert receiver.accepted() == ["call_of_tomorrow"]


def test_event_of_an_erased_call_is_not_forwarded(world, receiver, db):
    db.execute("INSERT INTO erasures (entity_id, scope) VALUES ('c', 'all')")
    deliver, run = world(Target("a", receiver.url))
    deliver()
    run()
    assert receiver.got == []


def test_standard_signature_is_as_specified():
    row = OutboxRow("c", "ab" * 32, "a", 0, "v=1,d=2", b'{"test": 2432232314}', 0)
    target = Target("a", "http://a/", secret=SECRET)
    # The known answer of the specification's own library has another id.
    expected = "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert standard_signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", row.body) == (
        f"v1,{expected}"
    )
    headers = signature_headers(target, row, now_ms=1614265330123)
    message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    assert (message_id, timestamp) == (f"evt_{'ab' * 16}", "1614265330")
    signature = standard_signature(SECRET, message_id, timestamp, row.body)
    assert headers["webhook-signature"] == signature
    assert "X-Retell-Signature" not in headers


def test_attempts_have_one_id(world, clock):
    with TargetServer(500) as target:
        deliver, run = world(Target("a", target.url, secret=SECRET))
        deliver()
        run()
        clock.ms += MINUTE_MS
        target.status = 204
        run()
    ids = [headers["webhook-id"] for headers, _ in target.got]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_hour_of_outage_loses_nothing(world, database, clock):
    """Twenty calls of three events while the target is away; then all arrive, in order."""
    events = ("call_started", "call_ended", "call_analyzed")
    address = free_address()
    with TargetServer() as target:
        deliver, run = world(Target("a", f"http://{address}/"))
        for minute in range(60):
            for event in events:
                if minute % 3 == events.index(event):
                    deliver(event, f"call_{minute // 3}")
                    clock.ms += 1
            run()
            clock.ms += MINUTE_MS
        assert waiting(database) == {("a", "waiting"): 60}
        deliver, run = world(Target("a", target.url))
        for _ in range(3 * LAST_PAUSE_MS // MINUTE_MS):
            run()
            clock.ms += MINUTE_MS
        assert waiting(database) == {}
        assert len(target.got) == 60
        for n in range(20):
            assert target.accepted(f"call_{n}") == list(events)


def test_failed_event_holds_back_only_its_call(world, database, clock):
    def status(body):
        return 503 if b'"bad"' in body and b"call_started" in body else 200

    with TargetServer(status) as target:
        deliver, run = world(Target("a", target.url))
        for call_id in ("bad", "good"):
            for event in ("call_started", "call_ended"):
                deliver(event, call_id)
                clock.ms += 1
        run()
        assert target.accepted("good") == ["call_started", "call_ended"]
        assert target.accepted("bad") == ["call_started"]
        target.status = 200
        clock.ms += MINUTE_MS
        run()
        assert target.accepted("bad")[1:] == ["call_started", "call_ended"]
    assert waiting(database) == {}


def test_slow_target_does_not_delay_another(world):
    release = threading.Event()

    def status(_):
        assert release.wait(30)
        return 200

    with TargetServer(status) as slow, TargetServer() as quick:
        deliver, run = world(Target("slow", slow.url), Target("quick", quick.url))
        deliver()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(lambda: quick.got)
            assert not slow.got
        finally:
            release.set()
            thread.join()


def test_redirect_is_not_followed(world, receiver, database):
    with TargetServer(302) as target:
        deliver, run = world(Target("a", target.url))
        deliver()
        run()
    assert waiting(database) == {("a", "waiting"): 1}


@pytest.mark.parametrize("host", ["a..example", f"{64 * 'a'}.example", "xn--a.example"])
def test_impossible_host_does_not_stop_another_target(world, receiver, database, host):
    deliver, run = world(Target("a", f"http://{host}/"), Target("b", receiver.url))
    deliver()
    assert run() is None
    assert receiver.accepted() == ["call_ended"]
    assert waiting(database) == {("a", "waiting"): 1}


def test_accepted_event_needs_no_readable_answer(world, database):
    class Compressing(Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Encoding", "br")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    with Loopback(Compressing) as target:
        deliver, run = world(Target("a", target.url))
        deliver()
        run()
    assert waiting(database) == {}


def test_target_is_asked_after_clock_was_ahead(world, clock):
    with TargetServer(500) as target:
        deliver, run = world(Target("a", target.url))
        deliver()
        clock.ms += 60 * MINUTE_MS
        run()
        clock.ms = NOW_MS
        deliver("call_analyzed", "other")
        run()
        assert target.accepted("other") == ["call_analyzed"]


def test_clock_set_back_keeps_the_order(world, receiver, clock):
    deliver, run = world(Target("a", receiver.url))
    for event in ("call_started", "transcript_updated", "call_ended"):
        deliver(event)
        clock.ms -= MINUTE_MS
        run()
    clock.ms += 3 * MINUTE_MS
    run()
    assert receiver.accepted() == ["call_started", "transcript_updated", "call_ended"]


def test_event_is_sent_after_clock_was_ahead(world, clock):
    with TargetServer(500) as target:
        deliver, run = world(Target("a", target.url))
        deliver()
        clock.ms += 24 * 60 * MINUTE_MS
        run()
        clock.ms = NOW_MS + MINUTE_MS
        run()
        assert target.accepted() == ["call_ended"] * 2


@pytest.mark.parametrize(("status", "attempts"), [(410, 1), (400, MAX_REFUSALS)])
def test_refused_event_is_given_up(world, database, clock, status, attempts):
    with TargetServer(status) as target:
        deliver, run = world(Target("a", target.url))
        deliver("call_started")
        clock.ms += 1
        deliver("call_ended", "other")
        for _ in range(attempts):
            result = run()
            clock.ms += LAST_PAUSE_MS
        run()
    assert waiting(database)[("a", "dead")] >= 1
    assert "given up" in (result or run())


def test_event_is_given_up_after_three_days(world, database, clock):
    deliver, run = world(Target("a", f"http://{free_address()}/"))
    deliver()
    clock.ms += MAX_AGE_MS - 1
    run()
    assert waiting(database) == {("a", "waiting"): 1}
    clock.ms += LAST_PAUSE_MS
    run()
    assert waiting(database) == {("a", "dead"): 1}


def test_stopped_job_leaves_events_in_the_outbox(world, settings, store, database, clock):
    deliver, _ = world(Target("a", f"http://{free_address()}/"))
    deliver()
    stop = threading.Event()
    stop.set()
    configured = replace(settings, file=ConfigFile(forward=(Target("a", "http://a/"),)))
    with pytest.raises(Stopped):
        forward(Run(configured, store, now_ms=clock, stop=stop))
    assert waiting(database) == {("a", "waiting"): 1}


@pytest.fixture
def invoke(database, tmp_path):
    def run(*arguments, url="http://127.0.0.1:1/"):
        text = f"[[forward]]\nname = 'a'\nurl = '{url}'\n"
        (tmp_path / "callhouse.toml").write_text(text, "utf-8")
        environ = {"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(database)}
        return CliRunner(env=environ).invoke(main, ["forward", *arguments])

    return run


@pytest.fixture
def dead(world, database):
    """An event that was given up."""
    with TargetServer(410) as target:
        deliver, run = world(Target("a", target.url))
        deliver("call_ended", "call_1")
        run()
    assert waiting(database) == {("a", "dead"): 1}


def test_dead_event_is_listed_replayed_and_sent(invoke, dead, receiver, database):
    listed = invoke("list").output
    assert "call_1" in listed
    assert "status 410, 1 attempts" in listed
    assert json.loads(invoke("list", "--json").output)["dead"][0]["entity_id"] == "call_1"
    assert invoke(url=receiver.url).exit_code == 1
    assert receiver.got == []
    for command in (["list"], ["replay"], ["discard", "--yes"]):
        unknown = invoke(*command, "--target", "other")
        assert (unknown.exit_code, "there is no target other" in unknown.output) == (2, True)
    assert invoke("replay").output == "1 dead events wait again.\n"
    sent = invoke(url=receiver.url)
    assert (sent.exit_code, sent.output) == (0, "No event waits.\n")
    assert receiver.accepted() == ["call_ended"]


def test_dead_event_is_discarded(invoke, dead, database):
    assert invoke("discard", "--yes").output == "1 events deleted.\n"
    assert waiting(database) == {}


def test_events_of_a_removed_target_are_discarded(world, invoke, database):
    deliver, _ = world(Target("a", "http://a/"), Target("old", "http://old/"))
    deliver()
    assert invoke("discard", "--target", "a", "--yes").output == "0 events deleted.\n"
    assert invoke("discard", "--yes").output == "1 events deleted.\n"
    assert waiting(database) == {("a", "waiting"): 1}


@pytest.mark.sqlite
def test_command_needs_a_target(settings):
    assert CliRunner().invoke(main, ["forward"]).exit_code == 2
