"""The digest: its figures against those of the bodies, its links, and when it is written."""

from collections import Counter
from dataclasses import replace
from datetime import date, datetime

import pytest
from click.testing import CliRunner

from receiver.alert_rules import parse_alerts
from receiver.cli.group import main
from receiver.jobs.digest import as_html, as_text, read_digest, run_digest
from receiver.jobs.worker import Run
from receiver.store import alerts as store_of
from receiver.store.alerts import Alert
from tests.support.alerting import DAY_MS, HOUR_MS, ZONE, Agent, at, bodies, fill
from tests.support.engines import url_of
from tests.support.storing import rows

DAY = date(2026, 3, 11)


@pytest.fixture
def of(settings):
    def of(**alerts):
        file = replace(settings.file, alerts=parse_alerts({"pages": "https://a.example"} | alerts))
        return replace(settings, timezone="Europe/Berlin", file=file)

    return of


@pytest.fixture
def calls(store):
    """Six days, the last of which has a new and worse version; an open alert."""

    def fault(start, agent):
        if start.date() < DAY:
            return agent
        return replace(agent, version=2, success=0.3, answer_ms=2000.0)

    found = list(bodies([Agent("a")], "2026-03-06", 6, fault=fault, seed=3))
    fill(store, found)
    store_of.write_run(
        store,
        [Alert("id1", "cost", "", "warning", "It <costs>", "{}", None, None, 1, 2, 2)],
        [],
        [],
    )
    return found


def test_digest_has_the_figures_of_the_bodies(calls, of):
    sums = Counter()
    worst = []
    for _, body in calls:
        one = body["call"]
        start = one["start_timestamp"]
        if not at("2026-03-11") <= start < at("2026-03-12"):
            sums["past"] += 1
            continue
        sums["calls"] += 1
        sums["ms"] += one["duration_ms"]
        sums["cents"] += one["call_cost"]["combined_cost"]
        analysis = one["call_analysis"]
        sums["good"] += analysis["call_successful"]
        if not analysis["call_successful"]:
            is_bad = analysis["user_sentiment"] == "Negative"
            worst.append((not is_bad, -one["duration_ms"], one["call_id"]))
    digest = read_digest(of(budget=[{"name": "acme", "dollars": 1000}]), DAY)
    figures = {figure.name: figure for figure in digest.figures}
    assert figures["Calls"].value == str(sums["calls"])
    assert figures["Calls"].usual == f"{sums['past'] / 5:,.0f}"
    assert figures["Minutes"].value == f"{sums['ms'] / 60_000:,.0f}"
    assert figures["Cost"].value == f"${sums['cents'] / 100:,.2f}"
    assert figures["Success"].value == f"{100 * sums['good'] / sums['calls']:.0f} %"
    assert (figures["Success"].word, figures["Time to answer"].word) == ("worse", "worse")
    assert [link for _, link in digest.calls] == [
        f"/-/call/{call_id}" for *_, call_id in sorted(worst)[:5]
    ]
    assert [text for text, _ in digest.versions] == [f"Agent a, version 2: {sums['calls']} calls"]
    assert digest.budgets[0][0].startswith("acme: $")
    assert [text for text, _ in digest.alerts] == ["Warning: It <costs>"]


def test_digest_has_links_and_no_personal_data(calls, of):
    digest = read_digest(of(), DAY, days=6)
    text, html = as_text(digest, "https://a.example"), as_html(digest, "https://a.example")
    assert "https://a.example/-/call/" in text
    assert 'href="https://a.example/-/call/' in html
    assert "It &lt;costs&gt;" in html
    for shown in (text, html):
        assert "+4930123456" not in shown
        assert "Acme" not in shown
    assert digest.title == "Calls of 2026-03-06 to 2026-03-11"


def test_call_of_an_hour_has_its_length(store, of):
    arrived, body = next(bodies([Agent("a", success=0)], "2026-03-11", 1))
    body["call"]["duration_ms"] = 3_723_000
    fill(store, [(arrived, body)])
    [(text, _)] = read_digest(of(), DAY).calls
    assert text.endswith(", 1:02:03")


def test_day_without_calls_has_a_digest(store, of):
    digest = read_digest(of(), DAY)
    assert [figure.value for figure in digest.figures] == ["0", "0", "$0.00"]
    assert digest.sections == []


def test_digest_is_written_once_when_due(store, of, db):
    settings = of(digest="daily", notify=["json://a", "json://b"])
    now = [at("2026-03-12T07:59")]
    run = Run(settings, store, now_ms=lambda: now[0])
    run_digest(run)
    assert rows(db, "SELECT * FROM notifications") == []
    now[0] = at("2026-03-12T08:00")
    run_digest(run)
    now[0] += 5 * HOUR_MS
    run_digest(run)
    assert (
        rows(db, "SELECT message_id, title FROM notifications")
        == [("digest-2026-03-11", "Calls of 2026-03-11")] * 2
    )
    weekly = Run(of(digest="weekly", notify=["json://a"]), store, now_ms=lambda: now[0])
    for day in range(7):
        now[0] = at("2026-03-13T09:00") + day * DAY_MS
        run_digest(weekly)
    [(message_id,)] = rows(db, "SELECT message_id FROM notifications WHERE title LIKE '%to 2026%'")
    monday = datetime.fromtimestamp(at("2026-03-16") / 1000, ZONE)
    assert (message_id, monday.weekday()) == ("digest-2026-03-15", 0)


def test_command_prints_a_digest(calls, database, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    run = CliRunner().invoke
    printed = run(main, ["digest", "--to", "-", "--day", "2026-03-11"]).output
    assert printed.startswith("Calls of 2026-03-11\n\nCalls: ")
    html = run(main, ["digest", "--day", "2026-03-11", "--format", "html"]).output
    assert html.startswith("<!doctype html>")
    assert run(main, ["digest", "--day", "yesterday"]).exit_code == 2
    sent = run(main, ["digest", "--day", "2026-03-11", "--to", "nothing://secret"])
    assert sent.exit_code == 2
    assert "secret" not in sent.output
