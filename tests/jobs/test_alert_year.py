"""The shipped rules over a generated year with planted faults: when each is found, and how often
a rule finds what is chance.

Comparisons get their figures from the bodies, hour by hour, as the rules' SELECT would; silence is
evaluated by its SELECT. docs/how-to/alerts.md has the figures that are counted here.
"""

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from receiver.jobs.alert_findings import compare, find
from receiver.jobs.alert_rules import shipped_rules
from receiver.jobs.alerts import advance
from receiver.store import receive
from receiver.store.engine import register_keys
from receiver.store.ingest import observe
from tests.support.alerting import HOUR_MS, ZONE, Agent, at, bodies
from tests.support.storing import body_of

pytestmark = [pytest.mark.slow, pytest.mark.sqlite]
FIRST, DAYS = "2025-01-01", 365
# Rule -> first day of its fault, which lasts three days; whose, and what it changes.
FAULTS = {
    "success": ("2025-03-04", "a", {"success": 0.45}),
    "negative": ("2025-04-08", "a", {"negative": 0.45}),
    "latency": ("2025-05-06", "a", {"answer_ms": 1500.0}),
    "cost": ("2025-06-10", "a", {"cents_per_minute": 20.0}),
    "tools": ("2025-08-05", "a", {"tool_failures": 0.4}),
    "transfers": ("2025-09-09", "a", {"transfer_failures": 0.95}),
    "dials": ("2025-10-07", "o", {"dial_failures": 0.35}),
}
RULES = {rule.name: rule for rule in shipped_rules()}


def fault(start: datetime, agent: Agent) -> Agent:
    day = start.date()
    # A new version that changes nothing.
    agent = replace(agent, version=2) if day.isoformat() >= "2025-07-15" else agent
    for first, agent_id, changed in FAULTS.values():
        begin = datetime.fromisoformat(first).date()
        if agent_id == agent.agent_id and begin <= day < begin + timedelta(days=3):
            return replace(agent, **changed)
    return agent


def figures(call) -> dict[str, dict[str, float]]:
    """What a call adds to the row of each rule."""
    if "start_timestamp" not in call:
        return {"dials": {"part": 1, "count": 1}}
    analysis, minutes = call["call_analysis"], call["duration_ms"] / 60_000
    cents, answer = call["call_cost"]["combined_cost"], call["latency"]["e2e"]["p50"]
    found = {
        "success": {"part": analysis["call_successful"], "count": 1},
        "negative": {"part": analysis["user_sentiment"] == "Negative", "count": 1},
        "latency": {"total": answer, "squares": answer**2, "count": 1},
        "cost": {"total": cents, "squares": cents**2, "count": 1, "per": minutes},
    }
    if call["direction"] == "outbound":
        found["dials"] = {"part": 0, "count": 1}
    kinds = {}
    for entry in call["transcript_with_tool_calls"]:
        if entry["role"] == "tool_call_invocation":
            is_transfer = entry["type"] == "transfer_call"
            kinds[entry["tool_call_id"]] = "transfers" if is_transfer else "tools"
        else:
            rule = kinds[entry["tool_call_id"]]
            found[rule] = {"part": not entry["successful"], "count": 1}
    return found


@pytest.fixture(scope="module")
def sums():
    """Rule, subject -> the sums of each hour since FIRST; and the begin of a subject's hours."""
    found = defaultdict(lambda: defaultdict(Counter))
    for _, body in bodies([Agent("a"), Agent("o", is_outbound=True)], FIRST, DAYS, fault=fault):
        call = body["call"]
        start = call.get("start_timestamp", body.get("event_timestamp"))
        for rule, adds in figures(call).items():
            subject = call["agent_id"]
            subject += "" if rule == "dials" else f" version {call['agent_version']}"
            found[rule, subject][(start - at(FIRST)) // HOUR_MS].update(adds)
    return found


def by_days(subject, hours, now, hour):
    """The cost of a minute in the last day and in each of the days before, as the SELECT has it."""
    ratios = []
    for day in range((hour - 24) // 24 - 28, (hour - 24) // 24):
        sums = Counter()
        for n in range(day * 24, day * 24 + 24):
            sums.update(hours.get(n, {}))
        if sums["per"]:
            ratios.append(sums["total"] / sums["per"])
    return {
        "key": subject,
        "value": now["total"] / now["per"] if now["per"] > 1e-6 else None,
        "count": now["count"],
        "past_total": sum(ratios),
        "past_squares": sum(ratio**2 for ratio in ratios),
        "past_days": len(ratios),
    }


def episodes(sums, rule):
    """When the rule would have opened an alert, by the hour, as hours since FIRST."""
    subjects = {s: h for (name, s), h in sums.items() if name == rule}
    open_alerts, found = [], []
    windows = {s: (Counter(), Counter()) for s in subjects}
    for hour in range(1, DAYS * 24):
        findings = []
        for subject, hours in subjects.items():
            now, past = windows[subject]
            now.update(hours.get(hour - 1, {}))
            left = hours.get(hour - 25, {})
            now.subtract(left)
            past.update(left)
            past.subtract(hours.get(hour - 25 - 28 * 24, {}))
            row = {"key": subject, **now, **{f"past_{name}": v for name, v in past.items()}}
            if not past.get("count") and " version 2" in subject:
                # Its agent's past, as the SELECT has it.
                of_agent = windows[subject.replace("version 2", "version 1")][1]
                row |= {f"past_{name}": value for name, value in of_agent.items()}
            if rule == "cost":
                row = by_days(subject, hours, now, hour)
            if (finding := compare(RULES[rule], row)) is not None:
                findings.append(finding)
        at_ms = hour * HOUR_MS
        result = advance([RULES[rule]], {rule: findings}, open_alerts, now_ms=at_ms)
        found += [(hour, alert.key) for alert in result.opened]
        known = {a.alert_id: a for a in [*open_alerts, *result.opened, *result.changed]}
        open_alerts = [alert for alert in known.values() if alert.is_open]
    return found


def test_faults_are_found_and_noise_is_not(sums):
    false = {}
    for rule, (first, agent, _) in FAULTS.items():
        begin = (at(first) - at(FIRST)) // HOUR_MS
        opened = episodes(sums, rule)
        own = [hour - begin for hour, key in opened if key.startswith(agent)]
        within = [hours for hours in own if 0 <= hours <= 96]
        print(f"{rule}: found after {within[:1]} hours, {len(opened)} alerts in the year")
        # The promised day.
        assert within, rule
        assert within[0] <= 24, rule
        false[rule] = len(opened) - len(within)
    print(f"false alarms a month: {sum(false.values()) / 12:.2f} {false}")
    # One a month.
    assert sum(false.values()) <= 12, false


KEYS = {"a": ("k1", "north"), "b": ("k2", "south")}
# Of all, and of the account south while the others' calls arrive.
OUTAGES = (
    (at("2025-02-18T10:00"), at("2025-02-18T14:00")),
    (at("2025-03-15T08:00"), at("2025-03-15T16:00")),
)
OF_SOUTH = (
    (at("2025-06-03T10:00"), at("2025-06-03T18:00")),
    (at("2025-09-12T08:00"), at("2025-09-12T18:00")),
)


@pytest.fixture
def year(store):
    """The times of a year's calls by agent. In outages, nothing is delivered."""
    register_keys(store, dict(KEYS.values()))
    found = [
        (at_ms, body["call"]["agent_id"])
        for at_ms, body in bodies([Agent("a"), Agent("b")], FIRST, DAYS, seed=7)
    ]
    found = [
        (at_ms, agent)
        for at_ms, agent in found
        if not any(since <= at_ms < until for since, until in OUTAGES)
        and not (agent == "b" and any(since <= at_ms < until for since, until in OF_SOUTH))
    ]
    for n in range(0, len(found), 200):
        received = [
            receive(
                body_of("call_started", f"c{at_ms}{agent}", agent_id=agent, start_timestamp=at_ms),
                source="webhook", observed_at=at_ms, received_at=at_ms, key_id=KEYS[agent][0],
            )
            for at_ms, agent in found[n : n + 200]
        ]  # fmt: skip
        store.run(lambda c, received=received: [observe(c, each) for each in received] and None)
    return found


def outages_and_false_alarms(settings, rule, key, times, outages):
    """After how many minutes each outage is found, and the pauses in which one is found."""

    def is_found(at_ms):
        return key in [each.key for each in find(RULES[rule], settings, now_ms=at_ms)]

    minutes, false = [], []
    for before, after in pairwise(times):
        outage = next((since for since, _ in outages if before < since <= after), None)
        if outage is not None:
            hit = next((t for t in range(before, after, 5 * 60_000) if is_found(t)), None)
            minutes.append(hit and (hit - outage) // 60_000)
        # The longest silence of a pause is at its end. In half an hour, half as many calls begin as
        # a rule wants.
        elif after - before >= 30 * 60_000 and is_found(after):
            false.append(after)
    return minutes, false


def test_outages_are_found_and_pauses_are_not(year, settings):
    settings = replace(settings, timezone=ZONE.key)
    times = [at_ms for at_ms, _ in year]
    minutes, false = outages_and_false_alarms(settings, "silence", "", times, OUTAGES)
    print(f"outages found after {minutes} minutes, {len(false)} false alarms in a year")
    assert minutes[0] <= 120
    assert minutes[1] <= 360
    assert len(false) <= 1


def test_silent_account_is_found_while_others_talk(year, settings):
    settings = replace(settings, timezone=ZONE.key)
    for agent, (_, account) in KEYS.items():
        times = [at_ms for at_ms, each in year if each == agent]
        outages = sorted([*OUTAGES, *(OF_SOUTH if account == "south" else ())])
        minutes, false = outages_and_false_alarms(
            settings, "account_silence", account, times, outages
        )
        print(f"{account}: found after {minutes} minutes, {len(false)} false alarms in a year")
        assert len(false) <= 1
        if account == "south":
            assert max(minutes[2:]) <= 360
    for since, until in OF_SOUTH:
        assert not any(
            find(RULES["silence"], settings, now_ms=t) for t in range(since, until, 15 * 60_000)
        )
