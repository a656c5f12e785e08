"""Alerts: what the rules find, how an alert opens, changes and resolves, and its messages."""

import http.server
import json
import logging
import threading
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import pytest

from receiver.config_file import ConfigFile
from receiver.errors import SettingsError
from receiver.jobs.alert_findings import Finding, compare, expand, find
from receiver.jobs.alert_rules import AlertSettings, Budget, Rule, parse_alerts
from receiver.jobs.alerts import advance, replay, run_alerts
from receiver.jobs.worker import Run
from receiver.store.alerts import acknowledge, read_alerts, read_retell_alerts, snooze
from receiver.store.engine import reading, register_keys
from receiver.webhook.health import Counters, note
from tests.support.alerting import DAY_MS, HOUR_MS, Agent, at, bodies, fill
from tests.support.billing import call
from tests.support.storing import ERASE, rows, stored

NOW_MS = at("2026-03-11T10:00")
MINUTE_MS = 60_000


@pytest.fixture
def of(settings):
    """Settings with [alerts] as in the file."""

    def of(**alerts):
        file = replace(
            settings.file,
            alerts=parse_alerts(alerts),
            public_url="https://calls.example.com/webhook",
        )
        return replace(settings, timezone="Europe/Berlin", file=file)

    return of


def found(settings, name, now_ms=NOW_MS):
    return find(settings.file.alerts.rule(name), settings, now_ms=now_ms)


class Clock:
    def __init__(self, ms=NOW_MS):
        self.ms = ms

    def __call__(self):
        return self.ms


@contextmanager
def inbox(*, refuse=0):
    """A server that messages are posted to, which refuses the first ones: its URL, and messages."""
    received, left = [], [refuse]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            left[0] -= 1
            if left[0] < 0:
                received.append(body)
            self.send_response(500 if left[0] >= 0 else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"json://secret:word@127.0.0.1:{server.server_port}/hook", received
        finally:
            server.shutdown()
            thread.join()


BAD = {
    "success": {"success": 0.2},
    "negative": {"negative": 0.7},
    "latency": {"answer_ms": 2500.0},
    "cost": {"cents_per_minute": 40.0},
    "tools": {"tool_failures": 0.7},
    "transfers": {"transfer_failures": 1.0},
}


@pytest.fixture
def history(store):
    """Seven days of calls until NOW_MS, the last of them with a fault of one agent."""

    def history(agent, **fault):
        since = NOW_MS - DAY_MS

        def now(start, agent):
            is_bad = start.timestamp() * 1000 >= since
            return replace(agent, **fault) if is_bad else agent

        calls = bodies([agent], "2026-03-05", 7, fault=now, seed=5)
        fill(store, [(at_ms, body) for at_ms, body in calls if at_ms < NOW_MS])

    return history


def test_unusual_figures_of_a_version_are_found(history, of):
    history(Agent("a"), **{k: v for fault in BAD.values() for k, v in fault.items()})
    settings = of()
    for name in BAD:
        [finding] = found(settings, name)
        assert finding.key == ("a version 1 lookup" if name == "tools" else "a version 1")
        assert not found(settings, name, NOW_MS - DAY_MS), name
    # The same figures from the bodies.
    [success] = found(settings, "success")
    assert success.figures["now"] < 0.4 < 0.6 < success.figures["past"]


def test_undialled_calls_are_found(history, of):
    history(Agent("o", is_outbound=True), dial_failures=0.6)
    [finding] = found(of(), "dials")
    assert finding.key == "o"
    assert not found(of(), "dials", NOW_MS - DAY_MS)


def test_usual_figures_are_not_found(history, of):
    history(Agent("a"))
    for name in BAD:
        assert found(of(), name) == [], name


@pytest.mark.parametrize(
    ("now", "count", "is_found"),
    [(0.5, 200, True), (0.5, 29, False), (0.75, 200, False), (0.95, 200, False)],
)
def test_difference_needs_calls_and_size(now, count, is_found):
    rule = ConfigFile().alerts.rule("success")
    row = {"key": "a", "part": now * count, "count": count, "past_part": 800, "past_count": 1000}
    assert (compare(rule, row) is not None) == is_found


def weekly(store, *, until, agent="a", keys=MappingProxyType({})):
    """A call every five minutes from nine to one, for five weeks."""
    day = at("2026-02-09")
    times = [
        start + n * 5 * MINUTE_MS
        for start in range(day + 9 * HOUR_MS, until, 7 * DAY_MS)
        for n in range(4 * 12)
    ]
    costs = {"platform_tts": 1.0}
    calls = [(t, call(f"{agent}{t}", t, costs, agent_id=agent)) for t in times if t < until]
    fill(store, calls, keys)


def test_silence_is_found_where_calls_are_usual(store, of):
    monday = at("2026-03-09")
    weekly(store, until=monday + 11 * HOUR_MS)
    settings = of()
    rule = settings.file.alerts.rule("silence")
    # At five minutes each, the fifteenth call is usually there after 75 minutes.
    assert found(settings, "silence", monday + 12 * HOUR_MS) == []
    [finding] = found(settings, "silence", monday + 12 * HOUR_MS + 10 * MINUTE_MS)
    assert "75 minutes" in finding.text
    # At night and on other days nobody calls.
    assert found(settings, "silence", monday + 8 * HOUR_MS) == []
    assert found(settings, "silence", monday - 2 * DAY_MS) == []
    [episode] = replay(
        rule, settings, since_ms=monday - DAY_MS, now_ms=monday + 13 * HOUR_MS,
        step_ms=15 * MINUTE_MS,
    )  # fmt: skip
    assert episode.opened_at == monday + 12 * HOUR_MS + 15 * MINUTE_MS


def test_one_silent_account_is_found(store, of):
    monday, keys = at("2026-03-09"), {"a": "k1", "b": "k2"}
    register_keys(store, {"k1": "north", "k2": "south"})
    weekly(store, until=monday + 13 * HOUR_MS, agent="a", keys=keys)
    weekly(store, until=monday + 10 * HOUR_MS, agent="b", keys=keys)
    # The fifteenth call of south after 9:55 is usually there at 11:10.
    assert found(of(), "account_silence", monday + 11 * HOUR_MS + 5 * MINUTE_MS) == []
    now = monday + 11 * HOUR_MS + 15 * MINUTE_MS
    [finding] = found(of(), "account_silence", now)
    assert (finding.key, finding.figures["minutes"]) == ("south", 80)
    assert "account south for 80 minutes" in finding.text
    assert found(of(), "silence", now) == []
    # Of a single account, the rule silence says the same.
    store.run(lambda c: c.execute("DELETE FROM account_keys WHERE account = 'north'") and None)
    assert found(of(), "account_silence", now) == []


def test_silence_ignores_a_change_of_the_clocks(store, of):
    """On 29 March nine o'clock is an hour earlier in UTC."""
    for day in ("2026-03-02", "2026-03-09", "2026-03-16", "2026-03-23"):
        for n in range(20):
            start = at(f"{day}T09:00") + n * 5 * MINUTE_MS
            stored(store, call(f"c{day}_{n}", start, {"platform_tts": 1.0}), at=start)
    for minutes in (0, 30, 55):
        assert found(of(), "silence", at(f"2026-03-30T08:{minutes:02}")) == []
    assert found(of(), "silence", at("2026-03-30T10:15"))


def test_incomplete_coverage_is_found_until_fixed(store, of):
    put = (
        "INSERT INTO coverage (day, agent_id, missing, incomplete, checked_at) "
        "VALUES ('2026-03-10', 'a', 3, 1, ?)"
    )
    store.run(lambda c: c.execute(put, (NOW_MS - HOUR_MS,)) and None)
    [finding] = found(of(), "coverage")
    assert finding.text == "Missing calls: 3; incomplete calls: 1; days: 1, the last 2026-03-10"
    assert found(of(), "coverage", NOW_MS - 2 * HOUR_MS) == []
    store.run(lambda c: c.execute("UPDATE coverage SET missing = 0, incomplete = 0") and None)
    assert found(of(), "coverage") == []


def test_events_not_understood_are_found(store, of):
    stored(store, ["no object"], at=NOW_MS - HOUR_MS)
    assert [f.figures["events"] for f in found(of(), "quarantined")] == [1]
    assert found(of(), "quarantined", NOW_MS + DAY_MS) == []


def test_forged_deliveries_are_found(settings, of):
    counters = Counters(settings.counters_path)
    for _ in range(5):
        note(counters, "forged", now_ms=NOW_MS)
    counters.close()
    [finding] = found(of(), "deliveries")
    assert finding.text.startswith("Only forged events arrive")
    assert found(of(), "deliveries", NOW_MS + HOUR_MS) == []


def test_failing_jobs_and_old_backups_are_found(store, of, settings):
    put = (
        "INSERT INTO jobs (name, started_at, ended_at, result, problem, failures, next_run_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    old = NOW_MS - 3 * DAY_MS
    later = NOW_MS + HOUR_MS
    lines = [
        ("coverage", NOW_MS, NOW_MS, "failed", "no connection", 3, later),
        ("backup", old, old, "done", None, 0, later),
    ]
    store.run(lambda c: c.executemany(put, lines) and None)
    with_backup = of()
    file = replace(with_backup.file, backup=replace(with_backup.file.backup, to="/backups"))
    found_now = found(replace(with_backup, file=file), "health")
    assert [f.key for f in found_now] == ["a job fails: coverage"]
    assert [f.key for f in found(replace(with_backup, file=file), "backup")] == [""]
    assert found(with_backup, "backup") == []


def test_budget_has_levels_and_an_end(store, of):
    for n in range(40):
        start = at("2026-02-01") + n * DAY_MS + 12 * HOUR_MS
        for client, cents in (("Acme", 100.0), ("Zeta", 900.0)):
            body = call(f"c{n}{client}", start, {"platform_tts": cents})
            body["call"]["metadata"] = {"client": client}
            stored(store, body)
    budget = {"name": "acme", "dollars": 20, "metadata": {"client": "Acme"}}
    settings = of(budget=[budget])
    # A dollar a day since 1 March: ten of twenty on the tenth, and the rest ten days later.
    [finding] = found(settings, "budget", at("2026-03-10T13:00"))
    assert (finding.severity, finding.key) == ("info", "acme 2026-03")
    assert finding.figures == {"percent": 50.0, "dollars": 10.0, "full_on": "2026-03-20"}
    assert found(settings, "budget", at("2026-03-09T13:00")) == []
    tight = of(budget=[budget | {"dollars": 12}, {"name": "all", "dollars": 5}])
    assert [f.severity for f in found(tight, "budget", at("2026-03-10T13:00"))] == [
        "warning",
        "critical",
    ]


def test_own_rule_is_a_select_that_cannot_write(store, of):
    stored(store, call("c1", NOW_MS - HOUR_MS, {"platform_tts": 1.0}))
    sql = """
        SELECT call_id AS key, 'ask +49 30 123456 or jo@example.com' AS text, duration_ms
        FROM calls WHERE start_timestamp > :now - :hours * 3600000
    """
    mine = {"name": "mine", "sql": sql, "parameters": {"hours": 2}, "severity": "info"}
    [finding] = found(of(rule=[mine]), "mine")
    assert finding == Finding("mine", "c1", "ask … or …", "info", {"duration_ms": 90_000})
    assert found(of(rule=[mine]), "mine", NOW_MS + 2 * HOUR_MS) == []
    wrong = mine | {"sql": "SELECT 1 FROM nowhere"}
    with pytest.raises(SettingsError, match="nowhere"):
        found(of(rule=[wrong]), "mine")


def test_raw_bodies_are_not_read_by_rules(store, of):
    stored(store, call("c1", NOW_MS, {"platform_tts": 1.0}))
    mine = {"name": "mine", "sql": "SELECT count(body) AS bodies FROM observations"}
    try:
        [finding] = found(of(rule=[mine]), "mine")
    except SettingsError:
        return
    assert finding.figures == {"bodies": 0}


def test_parameters_are_written_into_the_select():
    rule = Rule(
        "r", "R", sql="SELECT :least, ':: ::text', :today, :unknown", parameters={"least": 3}
    )
    assert expand(rule, "UTC", 0) == "SELECT 3, ':: ::text', '1970-01-01', :unknown"


# State, by a rule that finds what it is told.
RULES = (
    Rule("cause", "Cause", hides=("effect",), interval=60),
    Rule("effect", "Effect", interval=60),
)


def step(alerts, now_ms, **found):
    """Advance the alerts by findings, each `(key, severity)`."""
    findings = {
        rule: [Finding(rule, key, f"{rule} {key}", severity) for key, severity in keys]
        for rule, keys in found.items()
    }
    result = advance(RULES, findings, alerts, now_ms=now_ms)
    by_id = {a.alert_id: a for a in [*alerts, *result.opened, *result.changed]}
    told = {change.alert.alert_id for change in result.changes}
    open_alerts = [
        replace(a, notified_at=now_ms) if a.alert_id in told else a
        for a in by_id.values()
        if a.is_open
    ]
    return open_alerts, [(change.what, change.alert.key) for change in result.changes]


ONE = [("x", "warning")]


def test_alert_opens_once_and_resolves():
    alerts, changes = step([], 0, effect=ONE)
    assert changes == [("opened", "x")]
    for minute in range(1, 60):
        alerts, changes = step(alerts, minute * MINUTE_MS, effect=ONE)
        assert changes == []
    # It is gone for ten minutes before it is over.
    alerts, changes = step(alerts, 68 * MINUTE_MS, effect=[])
    assert (len(alerts), changes) == (1, [])
    alerts, changes = step(alerts, 69 * MINUTE_MS, effect=[])
    assert (alerts, changes) == ([], [("resolved", "x")])


def test_worse_alert_sends_a_message_better_none():
    alerts, _ = step([], 0, effect=ONE)
    alerts, changes = step(alerts, 1, effect=[("x", "critical")])
    assert changes == [("worse", "x")]
    alerts, changes = step(alerts, 2, effect=ONE)
    assert changes == []


def test_cause_hides_what_follows_from_it():
    alerts, changes = step([], 0, effect=ONE, cause=[("", "critical")])
    assert changes == [("opened", "")]
    alerts, changes = step(alerts, 60 * MINUTE_MS, effect=[], cause=[])
    assert (alerts, changes) == ([], [("resolved", "")])


def test_hidden_alert_that_outlives_its_cause_is_sent():
    alerts, _ = step([], 0, effect=ONE, cause=[("", "critical")])
    alerts, changes = step(alerts, 60 * MINUTE_MS, effect=ONE, cause=[])
    assert changes == [("resolved", ""), ("opened", "x")]
    assert [a.cause for a in alerts] == [None]


def test_snoozed_alert_is_sent_again_afterwards():
    alerts, _ = step([], 0, effect=ONE)
    alerts = [replace(a, snoozed_until=HOUR_MS) for a in alerts]
    alerts, changes = step(alerts, HOUR_MS - 1, effect=[("x", "critical")])
    assert changes == []
    alerts, changes = step(alerts, HOUR_MS + 1, effect=[("x", "critical")])
    assert changes == [("still open", "x")]
    alerts, changes = step(alerts, HOUR_MS + 2, effect=[("x", "critical")])
    assert changes == []


def test_rule_that_is_off_closes_its_alerts():
    alerts, _ = step([], 0, effect=ONE)
    result = advance(RULES[:1], {}, alerts, now_ms=1)
    assert [a.resolved_at for a in result.changed] == [1]
    assert result.changes == []


def test_rule_that_did_not_run_changes_nothing():
    alerts, _ = step([], 0, effect=ONE)
    assert step(alerts, DAY_MS, cause=[]) == (alerts, [])


def test_outage_gives_one_message_and_one_recovery(store, of, database):
    monday = at("2026-03-09")
    weekly(store, until=monday + 11 * HOUR_MS)
    clock = Clock(monday + 11 * HOUR_MS)
    with inbox() as (url, received):
        run = Run(of(notify=[url]), store, now_ms=clock)
        for minute in range(0, 200, 5):
            clock.ms = monday + 11 * HOUR_MS + minute * MINUTE_MS
            if minute >= 120:
                body = call(f"new{minute}", clock.ms, {"platform_tts": 1.0})
                stored(store, body, at=clock.ms)
            assert run_alerts(run) is None
    assert [message["title"] for message in received] == [
        "Critical: No events",
        "Resolved: No events",
    ]
    assert "https://calls.example.com/-/status" in received[0]["message"]
    with reading(database) as connection:
        [alert] = read_alerts(connection, resolved_since=0)
    assert (alert.rule, alert.is_open) == ("silence", False)


def test_failed_delivery_is_retried_and_names_no_url(store, of, db, caplog):
    clock = Clock()
    caplog.set_level(logging.DEBUG)
    mine = {"name": "mine", "sql": "SELECT 'k' AS key, 'it is so' AS text"}
    with inbox(refuse=1) as (url, received):
        run = Run(of(notify=[url], rule=[mine]), store, now_ms=clock)
        assert run_alerts(run) == "1 messages could not be delivered: see /-/alerts"
        [(state, problem)] = rows(db, "SELECT state, problem FROM notifications")
        assert (state, problem) == ("waiting", "it was not accepted")
        assert run_alerts(run) is None
        clock.ms += 31_000
        assert run_alerts(run) is None
    assert [(m["title"], m["message"].splitlines()[0]) for m in received] == [
        ("Warning: mine", "Warning: it is so.")
    ]
    assert rows(db, "SELECT state, attempts FROM notifications") == [("sent", 2)]
    assert "secret" not in caplog.text
    assert "hook" not in caplog.text
    assert "secret:word" not in repr(run.settings)
    assert not any("secret" in str(row) for row in rows(db, "SELECT * FROM notifications"))


def test_bad_rule_does_not_stop_the_others(store, of, db):
    clock = Clock()
    wrong = {"name": "wrong", "sql": "SELECT * FROM nowhere"}
    mine = {"name": "mine", "sql": "SELECT 'k' AS key"}
    problem = run_alerts(Run(of(rule=[wrong, mine]), store, now_ms=clock))
    assert "the rule wrong: " in problem
    assert rows(db, "SELECT rule, key FROM alerts") == [("mine", "k")]


def test_people_acknowledge_and_snooze_open_alerts(store, of, database):
    clock = Clock()
    mine = {"name": "mine", "sql": "SELECT 'k' AS key"}
    run_alerts(Run(of(rule=[mine]), store, now_ms=clock))
    with reading(database) as connection:
        [alert] = read_alerts(connection, resolved_since=0)
    assert acknowledge(store, [alert.alert_id, "none"], user="rita", now_ms=5) == 1
    assert snooze(store, [alert.alert_id], until=9, now_ms=6) == 1
    clock.ms += 61_000
    run_alerts(Run(of(rule=[mine]), store, now_ms=clock))
    with reading(database) as connection:
        [alert] = read_alerts(connection, resolved_since=0)
    assert (alert.acknowledged_by, alert.acknowledged_at, alert.snoozed_until) == ("rita", 5, 9)
    assert alert.seen_at == clock.ms


def test_events_of_retells_rules_fill_a_table(store, of, database, db):
    body = {
        "event": "alert_triggered",
        "alert": {
            "alert_incident_id": "incident_1", "name": "Too many\ud800 failures", "window": "3h",
            "metric_type": "transfer_call_failure_count", "threshold_type": "absolute",
            "threshold_value": 5, "comparator": ">=", "current_value": 7,
            "triggered_timestamp": NOW_MS - 1000,
        },
    }  # fmt: skip
    stored(store, body, at=NOW_MS - 1000)
    stored(store, {"event": "alert_triggered", "alert": {"threshold_value": "x"}}, at=5)
    with inbox() as (url, received):
        run = Run(of(notify=[url]), store, now_ms=Clock())
        assert run_alerts(run) is None
        assert run_alerts(run) is None
    assert len(received) == 1
    text = "transfer call failure count within 3h is 7, threshold >= 5"
    assert text in received[0]["message"]
    with reading(database) as connection:
        newest, other = read_retell_alerts(connection, limit=5)
    if newest.incident_id is None:
        newest, other = other, newest
    assert (newest.incident_id, newest.threshold_value, newest.period) == ("incident_1", 5.0, "3h")
    assert newest.name == "Too many\ufffd failures"
    assert other.threshold_value is None
    store.run(lambda c: c.execute("DELETE FROM retell_alerts") and None)
    store.run(lambda c: c.execute(ERASE, (newest.entity_id, 5)) and None)
    run_alerts(run)
    assert rows(db, "SELECT entity_id FROM retell_alerts") == [(other.entity_id,)]


def test_defaults_have_no_target():
    assert AlertSettings().notify == ()
    assert Budget("a", 5.0).grouping is None
