"""Digests: their figures against those of the bodies, their links, and when they are written."""

import json
import re
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from math import sqrt
from statistics import NormalDist, fmean

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.cli.group import main
from receiver.jobs.alert_rules import parse_alerts
from receiver.jobs.digest import as_html, as_text, read_digest, run_digest
from receiver.jobs.notify import target_of
from receiver.jobs.worker import Run
from receiver.store import alerts as store_of
from receiver.store import open_store, receive
from receiver.store.alerts import Alert
from receiver.store.engine import register_keys
from receiver.store.reviewing import Annotation, write_annotations
from tests.support.alerting import DAY_MS, HOUR_MS, ZONE, Agent, at, bodies, fill
from tests.support.engines import url_of
from tests.support.storing import rows, stored
from tests.support.webhooks import KEY

DAY = date(2026, 3, 11)
NOW = at("2026-03-12T08:00")


def texts(entries):
    return [text for text, _ in entries]


def with_alerts(settings, **alerts):
    file = replace(settings.file, alerts=parse_alerts({"pages": "https://a.example"} | alerts))
    return replace(settings, timezone="Europe/Berlin", file=file)


@pytest.fixture
def of(settings):
    return partial(with_alerts, settings)


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
    digest = read_digest(of(budget=[{"name": "acme", "dollars": 1000}]), DAY, now_ms=NOW)
    figures = {figure.name: figure for figure in digest.figures}
    assert figures["Calls"].value == str(sums["calls"])
    assert figures["Calls"].usual == f"{sums['past'] / 5:,.0f}"
    assert figures["Minutes"].value == f"{sums['ms'] / 60_000:,.0f}"
    assert figures["Cost"].value == f"${sums['cents'] / 100:,.2f}"
    assert figures["Success"].value == f"{100 * sums['good'] / sums['calls']:.0f} %"
    assert (figures["Success"].word, figures["Time to answer"].word) == ("worse", "worse")
    lists = digest.sections
    assert [link for _, link in lists["Calls to listen to"]] == [
        f"/-/call/{call_id}" for *_, call_id in sorted(worst)[:5]
    ]
    assert texts(lists["New versions"]) == [f"Agent a, version 2: {sums['calls']} calls"]
    assert lists["Budgets"][0][0].startswith("acme: $")
    assert texts(lists["Open alerts"]) == ["Warning: It <costs>"]


def test_digest_has_links_and_no_personal_data(calls, of):
    digest = read_digest(of(), DAY, days=6, now_ms=NOW)
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
    [(text, _)] = read_digest(of(), DAY, now_ms=NOW).sections["Calls to listen to"]
    assert text.endswith(", 1:02:03")


def test_day_without_calls_has_a_digest(store, of):
    digest = read_digest(of(), DAY, now_ms=NOW)
    assert [figure.value for figure in digest.figures] == ["0", "0", "$0.00"]
    [cost] = digest.sections.values()
    assert texts(cost) == ["2026-03 until 2026-03-11: $0.00"]


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
    # Nobody listens there.
    sent = run(main, ["digest", "--day", "2026-03-11", "--to", "json://127.0.0.1:9/secret"])
    assert (sent.exit_code, "secret" in sent.output) == (1, False)


SUBJECTS = [
    {"account": "acme"},
    {"agents": ["a"]},
    {"metadata": {"client": "Acme"}},
]


@pytest.fixture(scope="module")
def month():
    """39 days of two agents: of account acme, and of zeta, whose last version is a new one."""

    def fault(start, agent):
        if agent.agent_id == "b" and start.date() >= DAY:
            return replace(agent, version=2, negative=0.9)
        return agent

    return list(bodies([Agent("a"), Agent("b")], "2026-02-01", 39, fault=fault, seed=5))


@pytest.fixture(scope="module")
def accounts(engine, month):
    """The month in two accounts, each with alerts and an assigned call: settings."""
    with engine.blank() as where, closing(open_store(where)) as store:
        register_keys(store, {"k1": "acme", "k2": "zeta"})
        fill(store, month, {"a": "k1", "b": "k2"})
        alerts = [
            Alert(f"id{key}", rule, key, "warning", f"Alert of {key}", "{}", None, None, 1, 2, 2)
            for rule, key in (
                ("success", "a version 1"), ("success", "b version 2"),
                ("account_silence", "zeta"), ("account_silence", "acme"),
                ("coverage", ""), ("budget", "zeta 2026-03"), ("budget", "acme 2026-03"),
            )
        ]  # fmt: skip
        store_of.write_run(store, alerts, [], [])
        for agent in "ab":
            write_annotations(store, [assigned(call_of(month, agent), f"r{agent}")])
        yield config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(where)})


def call_of(month, agent):
    return next(b["call"]["call_id"] for _, b in month if b["call"]["agent_id"] == agent)


def assigned(call_id, person):
    at_ms = at("2026-03-10T09:00")
    return Annotation(call_id, "1", "assignee", None, None, None, person, "x", at_ms, at_ms)


def digest_of(settings, day=DAY, **limited):
    budgets = [
        {"name": "acme", "dollars": 500, "account": "acme"},
        {"name": "zeta", "dollars": 500, "account": "zeta"},
    ]
    settings = with_alerts(settings, digest=[{"name": "d", **limited}], budget=budgets)
    [found] = settings.file.alerts.digests
    return read_digest(settings, day, found, now_ms=NOW)


@pytest.mark.parametrize("limited", SUBJECTS, ids=lambda limited: next(iter(limited)))
def test_limited_digest_has_no_others_figures(accounts, month, limited):
    own = [body["call"] for _, body in month if body["call"]["agent_id"] == "a"]
    today = [call for call in own if at("2026-03-11") <= call["start_timestamp"]]
    past = [c for c in own if at("2026-02-11") <= c["start_timestamp"] < at("2026-03-11")]
    digest = digest_of(accounts, **limited)
    figures = {figure.name: figure for figure in digest.figures}
    assert (figures["Calls"].value, figures["Calls"].usual) == (
        str(len(today)), f"{len(past) / 28:,.0f}",
    )  # fmt: skip
    cents = sum(call["call_cost"]["combined_cost"] for call in today)
    assert figures["Cost"].value == f"${cents / 100:,.2f}"
    good = sum(call["call_analysis"]["call_successful"] for call in today)
    assert figures["Success"].value == f"{100 * good / len(today):.0f} %"
    spent = sum(
        c["call_cost"]["combined_cost"] for c in own if c["start_timestamp"] >= at("2026-03-01")
    )
    assert f"${spent / 100:,.2f}" in digest.sections["Cost of the month"][0][0]
    assert "New versions" not in digest.sections
    names = {call["call_id"] for call in own}
    assert {link.rpartition("/")[2] for _, link in digest.sections["Calls to listen to"]} <= names
    assert texts(digest.sections["Open reviews"]) == ["Agent a: assigned to ra on 2026-03-10"]
    shown = as_text(digest, "https://a.example") + as_html(digest, "https://a.example")
    for other in ("Agent b", "zeta", "rb", "agent=b", "Alert of ;"):
        assert other not in shown
    of_account = ["Warning: Alert of acme", "Warning: Alert of acme 2026-03"]
    found = sorted(texts(digest.sections["Open alerts"]))
    assert found == ["Warning: Alert of a version 1", *of_account * ("account" in limited)]


def test_forecast_is_that_of_the_days(accounts, month):
    digest = digest_of(accounts, role="owner")
    days = Counter()
    for _, body in month:
        start = datetime.fromtimestamp(body["call"]["start_timestamp"] / 1000, ZONE).date()
        days[start] += body["call"]["call_cost"]["combined_cost"]
    lately = [date(2026, 2, 12) + timedelta(days=n) for n in range(28)]
    usual = [fmean(days[d] for d in lately if d.weekday() == weekday) for weekday in range(7)]
    rest = [date(2026, 3, 12) + timedelta(days=n) for n in range(20)]
    expected = sum(days[date(2026, 3, d)] for d in range(1, 12))
    expected += sum(usual[day.weekday()] for day in rest)
    error = sqrt(sum((days[d] - usual[d.weekday()]) ** 2 for d in lately) / 21)
    reach = NormalDist().inv_cdf(0.9) * error * sqrt(20 + 20 * 20 / 28)
    shown = [int(float(part.replace(",", "")) * 100 + 0.5) for part in re.findall(
        r"\$([\d,.]+\d)", digest.sections["Cost of the month"][1][0]
    )]  # fmt: skip
    assert shown == [
        pytest.approx(value, abs=1) for value in (expected, expected - reach, expected + reach)
    ]
    [text] = [text for text in texts(digest.sections["Budgets"]) if text.startswith("acme: ")]
    cents = sum(
        b["call"]["call_cost"]["combined_cost"]
        for _, b in month
        if b["call"]["agent_id"] == "a" and b["call"]["start_timestamp"] >= at("2026-03-01")
    )
    assert f"${cents / 100:,.2f} of $500.00 ({cents / 500:.0f} %); forecast $" in text


def test_month_that_is_over_has_no_forecast(accounts, month):
    digest = digest_of(accounts, date(2026, 2, 28))
    cents = sum(
        body["call"]["call_cost"]["combined_cost"]
        for _, body in month
        if body["call"]["start_timestamp"] < at("2026-03-01")
    )
    assert texts(digest.sections["Cost of the month"]) == [
        f"2026-02 until 2026-02-28: ${cents / 100:,.2f}"
    ]


def test_each_role_has_its_lists(accounts, month):
    owner, support, operator = (
        digest_of(accounts, role=role) for role in ("owner", "support", "operator")
    )
    assert [*owner.sections] == ["Cost of the month", "Budgets", "New versions"]
    assert [*support.sections] == ["Calls to listen to", "Negative sentiment", "Open reviews"]
    today = [
        body["call"]["call_analysis"]["user_sentiment"]
        for _, body in month
        if body["call"]["agent_id"] == "b" and body["call"]["start_timestamp"] >= at("2026-03-11")
    ]
    assert support.sections["Negative sentiment"][0] == (
        f"Agent b: {today.count('Negative')} of {len(today)} calls",
        "/-/calls?since=2026-03-11&until=2026-03-11&sentiment=negative&agent=b",
    )
    assert [*operator.sections] == ["Open alerts", "Deliveries", "Coverage", "Jobs", "Disk"]
    arrived = Counter(
        body["call"]["agent_id"] for at_ms, body in month
        if at("2026-03-11") <= at_ms < at("2026-03-12")
    )  # fmt: skip
    assert texts(operator.sections["Deliveries"]) == [
        f"{name}: {arrived[agent]} events of {arrived[agent]} calls and chats"
        for name, agent in (("acme", "a"), ("zeta", "b"))
    ]
    assert texts(operator.sections["Coverage"]) == ["Not compared with Retell yet"]
    assert re.search(
        r" free( on this machine)?; the database has ", texts(operator.sections["Disk"])[0]
    )


def test_reviewed_call_is_no_open_review(store, of):
    fill(store, bodies([Agent("a")], "2026-03-10", 1))
    write_annotations(
        store,
        [
            assigned("c000_0000", "r"),
        ],
    )
    write_annotations(store, [assigned("c000_0001", "r")])
    verdict = Annotation("c000_0001", "2", "verdict", None, None, None, "good", "r", NOW, NOW)
    write_annotations(store, [verdict])
    found = read_digest(of(), DAY, now_ms=NOW).sections["Open reviews"]
    assert found == [("Agent a: assigned to r on 2026-03-10", "/-/call/c000_0000")]


def test_chats_are_among_open_reviews_of_their_digest(store, of):
    fill(store, bodies([Agent("a")], "2026-03-10", 1))
    for agent in "ab":
        chat = {"chat_id": f"chat_{agent}", "chat_status": "ended", "agent_id": agent}
        stored(store, {"event": "chat_ended", "chat": chat}, at("2026-03-10"))
        write_annotations(store, [replace(assigned(f"chat_{agent}", "r"), changed_at=1)])
    write_annotations(store, [assigned("c000_0000", "r")])
    [digest] = of(digest=[{"name": "a", "agents": ["a"]}]).file.alerts.digests
    found = [
        [link for _, link in read_digest(of(), DAY, *each, now_ms=NOW).sections["Open reviews"]]
        for each in ((), (digest,))
    ]
    # The longest wait first.
    of_a = ["/-/chat/chat_a", "/-/call/c000_0000"]
    assert found == [[*of_a[:1], "/-/chat/chat_b", *of_a[1:]], of_a]


def test_coverage_says_when_it_was_compared(store, of):
    put = (
        "INSERT INTO coverage (day, agent_id, account, listed, stored, missing, incomplete, "
        "checked_at) VALUES ('2026-03-11', ?, 'acme', 10, 9, 1, 0, ?)"
    )
    checked = [("a", at("2026-03-11T14:00")), ("b", at("2026-03-11T14:05"))]
    store.run(lambda c: c.executemany(put, checked) and None)
    settings = of(digest=[{"name": "ops", "role": "operator", "notify": ["json://a"]}])
    [digest] = settings.file.alerts.digests
    [(text, _)] = read_digest(settings, DAY, digest, now_ms=NOW).sections["Coverage"]
    assert text == (
        "acme: 18 of 20 calls stored, 2 missing, 0 incomplete, compared on 2026-03-11 14:05"
    )


def test_each_digest_has_its_own_urls(store, of, db):
    digests = [
        {"name": "owner", "role": "owner", "every": "weekly", "notify": ["json://a"]},
        {"name": "ops", "role": "operator", "hour": 6},
    ]
    settings = of(digest=digests, notify=["json://b"])
    for at_ms in (at("2026-03-15T05:59"), at("2026-03-15T06:00"), at("2026-03-16T08:00")):
        run_digest(Run(settings, store, now_ms=lambda at_ms=at_ms: at_ms))
    found = rows(db, "SELECT message_id, target FROM notifications ORDER BY message_id")
    assert found == [
        ("digest-ops-2026-03-14", target_of("json://b")),
        ("digest-ops-2026-03-15", target_of("json://b")),
        ("digest-owner-2026-03-15", target_of("json://a")),
    ]
    assert settings.file.alerts.urls == ("json://b", "json://a", "json://b")


def test_command_prints_a_digest_by_name(calls, database, monkeypatch, tmp_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    file = tmp_path / "callhouse.toml"
    file.write_text('[[alerts.digest]]\nname = "north"\nrole = "owner"\nagents = ["b"]\n')
    monkeypatch.setenv("CALLHOUSE_CONFIG", str(file))
    run = CliRunner().invoke
    printed = run(main, ["digest", "--name", "north", "--to", "-", "--day", "2026-03-11"])
    assert printed.output.startswith("north: calls of 2026-03-11\n\nCalls: 0\n")
    unknown = run(main, ["digest", "--name", "south"])
    assert unknown.exit_code == 2
    assert "north" in unknown.output


def test_digest_counts_the_chats_of_its_days(store, of):
    """In all, and of an agent or a value of the metadata, against the bodies; one is of before."""
    register_keys(store, {"k1": "acme", "k2": "zeta"})
    chats = []
    for n in range(12):
        chat = {
            "chat_id": f"chat_{n}",
            "agent_id": "ab"[n % 2],
            "start_timestamp": at("2026-03-11") + n if n else at("2026-03-10"),
            "metadata": {"client": "Acme"} if n % 3 else {"client": ["x"]},
            "chat_cost": {"combined_cost": 100 + n},
            "chat_analysis": {
                "call_successful": True,
                "chat_successful": None if n == 5 else n % 4 > 0,
                "user_sentiment": ("Positive", " negative")[n % 2],
            },
        }
        chats.append(chat)
        body = json.dumps({"event": "chat_analyzed", "chat": chat}).encode()
        received = receive(
            body, source="webhook", observed_at=1, received_at=1, key_id=f"k{1 + n % 2}"
        )
        store.add(received)

    def expected(*numbers):
        those = [chats[n] for n in numbers]
        cents = sum(chat["chat_cost"]["combined_cost"] for chat in those)
        judged = [c["chat_analysis"]["chat_successful"] for c in those]
        judged = [value for value in judged if value is not None]
        negative = sum("neg" in c["chat_analysis"]["user_sentiment"] for c in those)
        text = f"{len(those)} chats: ${cents / 100:,.2f}, {sum(judged)} of {len(judged)} successful"
        return [text + (f", {negative} negative" if negative else "")]

    for limited, numbers in (
        ({}, range(1, 12)),
        ({"role": "support"}, range(1, 12)),
        ({"agents": ["b"]}, range(1, 12, 2)),
        ({"account": "acme"}, range(2, 12, 2)),
        ({"metadata": {"client": "Acme"}}, [n for n in range(1, 12) if n % 3]),
    ):
        settings = of(digest=[{"name": "d", **limited}])
        [digest] = settings.file.alerts.digests
        found = read_digest(settings, DAY, digest, now_ms=NOW).sections["Chats"]
        assert texts(found) == expected(*numbers), limited
        assert found[0][1] == "/-/calls?kind=chat&since=2026-03-11&until=2026-03-11"
    settings = of(digest=[{"name": "o", "role": "operator"}])
    [digest] = settings.file.alerts.digests
    assert "Chats" not in read_digest(settings, DAY, digest, now_ms=NOW).sections
