"""The job alerts while something else is wrong: a rule, the clock, the database, the process."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest

from receiver.errors import SettingsError, StoreUnavailable
from receiver.jobs.alert_findings import find
from receiver.jobs.alert_rules import Rule, parse_alerts
from receiver.jobs.alerts import advance, run_alerts
from receiver.jobs.digest import run_digest
from receiver.jobs.notify import deliver, target_of
from receiver.jobs.worker import Run
from receiver.store.alerts import Alert, Message, claim_message, put_messages
from tests.support.alerting import DAY_MS, at
from tests.support.inbox import Inbox
from tests.support.storing import rows, stored

NOW_MS = at("2026-03-11T10:00")
MINE = {"name": "mine", "sql": "SELECT 'k' AS key", "interval": 3600}
ALWAYS = "SELECT 'k' AS key, 5 AS part, 10 AS count, 1 AS past_part, 100 AS past_count"


@pytest.fixture
def inbox():
    with Inbox() as inbox:
        yield inbox


@pytest.fixture
def job_of(settings, store, inbox):
    """A run of a job with [alerts] as in the file, whose clock is a list."""

    def job_of(clock, **alerts):
        url = inbox.url.replace("http", "json", 1)
        file = replace(settings.file, alerts=parse_alerts({"notify": [url]} | alerts))
        used = replace(settings, timezone="Europe/Berlin", file=file)
        return Run(used, store, now_ms=lambda: clock[0])

    return job_of


@contextmanager
def failing_writes(store):
    """Messages, and what is written in the same transaction, cannot be stored meanwhile."""
    store.run(lambda c: c.execute("ALTER TABLE notifications RENAME TO away") and None)
    try:
        with pytest.raises(StoreUnavailable):
            yield
    finally:
        store.run(lambda c: c.execute("ALTER TABLE away RENAME TO notifications") and None)


def titles(inbox):
    return [json.loads(mail.body)["title"] for mail in inbox.mails]


@pytest.mark.parametrize(
    "fault",
    [
        {"text": "{now"},
        {"text": "{now:d}"},
        {"text": "{name.nothing}"},
        {"sql": ALWAYS.replace("5 AS", "'five' AS")},
        {"sql": ALWAYS.replace("10 AS", "'ten' AS")},
        {"sql": ALWAYS.replace("5 AS", "50 AS")},
    ],
)
def test_rows_without_comparison_stop_no_rule(job_of, db, fault):
    parameters = {"least_count": 5, "deviations": 0.1}
    wrong = {"name": "wrong", "sql": ALWAYS, "compare": "share", "parameters": parameters}
    run = job_of([NOW_MS], rule=[wrong | fault, MINE])
    assert "the rule wrong: its rows cannot be compared" in run_alerts(run)
    assert rows(db, "SELECT rule FROM alerts") == [("mine",)]
    with pytest.raises(SettingsError):
        find(run.settings.file.alerts.rule("wrong"), run.settings, now_ms=NOW_MS)


def test_unreadable_counters_stop_no_rule(job_of, settings, db):
    settings.counters_path.mkdir(parents=True)
    problem = run_alerts(job_of([NOW_MS], rule=[MINE]))
    assert "the rule deliveries: IsADirectoryError" in problem
    assert rows(db, "SELECT rule FROM alerts WHERE rule = 'mine'") == [("mine",)]


def test_rules_run_on_after_a_clock_was_ahead(job_of, db):
    clock = [NOW_MS + 30 * DAY_MS]
    mine = MINE | {"sql": f"SELECT 'k' AS key WHERE :now <= {NOW_MS}"}
    run = job_of(clock, rule=[mine])
    run_alerts(run)
    assert rows(db, "SELECT rule FROM alerts") == []
    clock[0] = NOW_MS
    run_alerts(run)
    assert rows(db, "SELECT rule FROM alerts") == [("mine",)]


def test_alert_seen_by_a_clock_ahead_is_resolved():
    ahead = NOW_MS + 30 * DAY_MS
    alert = Alert("id", "mine", "k", "warning", "it is so", "{}", None, None, ahead, ahead, ahead)
    result = advance([Rule("mine", "Mine")], {"mine": []}, [alert], now_ms=NOW_MS)
    assert [changed.is_open for changed in result.changed] == [False]


def test_message_planned_by_a_clock_ahead_is_sent(job_of, store, inbox):
    run = job_of([NOW_MS])
    [url] = run.settings.file.alerts.urls
    ahead = NOW_MS + 30 * DAY_MS
    message = Message("m", target_of(url), ahead, "Hello", "to you", next_attempt_at=ahead)
    put_messages(store, [message])
    assert deliver(run) == []
    assert titles(inbox) == ["Hello"]


def test_findings_are_found_again_after_failed_write(job_of, store, db):
    run = job_of([NOW_MS], rule=[MINE])
    with failing_writes(store):
        run_alerts(run)
    run_alerts(run)
    assert rows(db, "SELECT rule FROM alerts") == [("mine",)]


def test_alert_of_retells_is_told_after_failed_write(job_of, store, inbox):
    body = {"event": "alert_triggered", "alert": {"name": "Too many failures"}}
    stored(store, body, at=NOW_MS - 1000)
    run = job_of([NOW_MS])
    with failing_writes(store):
        run_alerts(run)
    for _ in range(2):
        run_alerts(run)
    assert ["Too many failures" in mail.body.decode() for mail in inbox.mails] == [True]


def test_digest_is_sent_without_the_job_alerts(job_of, inbox):
    run = job_of([NOW_MS], digest="daily")
    for _ in range(2):
        assert run_digest(run) is None
    assert titles(inbox) == ["Calls of 2026-03-10"]


def test_message_is_claimed_by_one_sender(store):
    message = Message("m", "t", NOW_MS, "Hello", "", next_attempt_at=NOW_MS)
    put_messages(store, [message])
    claims = [claim_message(store, message, until_ms=NOW_MS + 1) for _ in range(2)]
    assert claims == [True, False]
