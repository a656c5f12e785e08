"""Statements: a month's sums against the raw bodies, and months that are closed."""

import random
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import partial

import pytest

from receiver.store import migrate, roll_up
from receiver.store.statements import SETTLED_MS, read_month, read_spending
from schema.products import product_family
from tests.support.billing import DAY_MS, SINCE, UNTIL, ZONE, call, chat
from tests.support.erasing import erased
from tests.support.storing import rows, stored
from tests.support.tables import dump

LATER = UNTIL + 30 * DAY_MS


def read(database, grouping=None, *, month="2026-10", now_ms=LATER, markup="0"):
    return read_month(
        database, month, grouping=grouping, timezone=ZONE, now_ms=now_ms, markup=Decimal(markup)
    )


def bodies(count=60, seed=3):
    """Calls and chats around and within October in Berlin."""
    rng = random.Random(seed)
    names = ["platform_tts", "gpt-4o-mini", "gpt_4o_mini", "voice_engine", "mystery_fee"]
    found = []
    for n in range(count):
        start = rng.choice([SINCE - 1, SINCE, UNTIL - 1, UNTIL, rng.randrange(SINCE, UNTIL)])
        cost = {name: rng.randrange(1, 999_999) / 7000 for name in rng.sample(names, 3)}
        metadata = rng.choice([{}, {"client": "Acme"}, {"client": "=Zeta"}, {"client": 7}])
        agent = {"agent_id": f"agent_{n % 3}", "agent_name": f"Agent {n % 3}"}
        make = chat if n % 10 == 0 else call
        found.append(make(f"c{n:02}", start, cost, metadata=metadata, **agent))
    return found


def naive(found, key_of):
    """Cents by group and family in October, and counts, from the bodies alone."""
    cents, counts = Counter(), Counter()
    for body in found:
        what = body.get("call") or body["chat"]
        if not SINCE <= what["start_timestamp"] < UNTIL:
            continue
        key = key_of(what)
        counts[key, "calls" if "call" in body else "chats"] += 1
        for part in what.get("call_cost", what.get("chat_cost"))["product_costs"]:
            family = product_family(part["product"]) or "other"
            cents[key, family] += Fraction(part["cost"])
    return cents, counts


@pytest.mark.parametrize(
    ("grouping", "key_of"),
    [
        (None, lambda _: ""),
        ("agent", lambda what: what["agent_id"]),
        ("metadata.client", lambda what: str(what["metadata"].get("client", ""))),
    ],
)
def test_statement_has_the_sums_of_the_bodies(store, database, grouping, key_of):
    found = bodies()
    for body in found:
        stored(store, body)
    cents, counts = naive(found, key_of)
    of = read(database, grouping).statement
    assert {line.key for line in of.lines} == {key for key, _ in counts}
    for line in of.lines:
        assert (line.calls, line.chats) == (counts[line.key, "calls"], counts[line.key, "chats"])
        assert line.minutes == 1.5 * line.calls
        for family, amount in line.families.items():
            assert abs(amount - cents[line.key, family]) < 1
    assert abs(of.total.total - sum(cents.values())) <= Fraction(1, 2)


def random_calls(rng, count):
    """Calls around October, some without a cost, with a transferred leg or without an end."""
    for n in range(count):
        start = rng.choice([SINCE - 1, SINCE, UNTIL - 1, UNTIL, rng.randrange(SINCE, UNTIL)])
        cost = {name: rng.random() * 90 for name in rng.sample(["tts", "gpt-4o", "gpt_4o"], 2)}
        body = call(f"r{n:03}", start, cost, agent_id=rng.choice(["a", "b", None]))
        content = body["call"]
        content["call_cost"]["product_costs"][0]["is_transfer_leg_cost"] = rng.random() < 0.2
        if rng.random() < 0.2:
            del content["call_cost"]["combined_cost"]
        if rng.random() < 0.2:
            content |= {"call_status": "ongoing", "end_timestamp": None}
        if rng.random() < 0.5:
            content["call_analysis"] = {"call_successful": True}
        yield body | {"event": rng.choice(["call_ended", "call_analyzed"])}


@pytest.mark.parametrize("grouping", [None, "agent", "account", "metadata.client"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_sums_of_days_equal_those_of_calls(store, database, grouping, is_shared):
    """Views in another time zone have other days, so the calls themselves are read."""
    rng = random.Random(9)
    for body in random_calls(rng, 60):
        stored(store, body, at=UNTIL)
    accounts = ("one", "two") if is_shared else ("one", "one")
    for account, agent in zip(accounts, ("a", "b"), strict=True):
        store.run(lambda c, of=(account, agent): c.execute(
            "UPDATE calls SET account = ? WHERE agent_id = ?", of) and None
        )  # fmt: skip
    month = partial(
        read_month, database, "2026-10", grouping=grouping, timezone=ZONE, markup=0, close=False
    )

    def found():
        for now_ms in (UNTIL - 7 * DAY_MS, LATER):
            of = month(now_ms=now_ms)
            products = {name: round(cents, 4) for name, cents in of.products.items()}
            yield replace(of, forecast=None, products=products)
            keys = ["", "a", "one"]
            spent = read_spending(database, grouping, keys, timezone=ZONE, now_ms=now_ms)
            yield {day: round(cents, 6) for day, cents in spent.days.items() if cents}

    migrate(database, timezone="Asia/Kolkata")
    of_calls = [*found()]
    migrate(database, timezone=ZONE)
    assert [*found()] == of_calls
    assert [*roll_up(store, timezone=ZONE, now_ms=LATER)]
    assert [*found()] == of_calls
    assert of_calls[0].not_final
    assert of_calls[0].transferred


def test_accounts_have_their_own_lines(store, database, db):
    for n, account in enumerate(["agency", "default", "default"]):
        stored(store, call(f"c{n}", SINCE, {"platform_tts": 10.0}))
        store.run(lambda c, n=n, name=account: c.execute(
            "UPDATE calls SET account = ? WHERE call_id = ?", (name, f"c{n}")) and None
        )  # fmt: skip
    found = read(database, "account").statement
    assert {line.name: line.total for line in found.lines} == {"agency": 10, "default": 20}


def test_closed_month_stays_and_changes_are_corrections(store, database):
    for n in range(3):
        stored(store, call(f"c{n}", SINCE, {"platform_tts": 100.0}, agent_id="a"))
    first = read(database, "agent")
    assert (first.statement.closed_at, first.statement.corrections) == (LATER, [])
    stored(store, call("c0", SINCE, {"platform_tts": 150.0}, agent_id="a"), at=5)
    stored(store, call("late", SINCE, {"platform_tts": 1.0}, agent_id="b"))
    again = read(database, "agent", now_ms=LATER + DAY_MS)
    assert again.statement.lines == first.statement.lines
    assert again.statement.closed_at == LATER
    assert [(c.key, c.calls, c.total) for c in again.statement.corrections] == [
        ("a", 0, 50),
        ("b", 1, 1),
    ]


def test_markup_applies_to_closed_months(store, database):
    stored(store, call("c", SINCE, {"platform_tts": 100.0}))
    assert read(database).statement.total.price == 100
    assert read(database, markup="0.2").statement.total.price == 120


def test_month_stays_open_until_costs_are_final(store, database, db):
    stored(store, call("done", SINCE, {"platform_tts": 1.0}, call_analysis={}), at=UNTIL)
    stored(store, call("open", SINCE, {}, call_cost={}), at=UNTIL)
    assert read(database, now_ms=UNTIL - 1).statement.closed_at is None
    found = read(database, now_ms=UNTIL + 1)
    assert (found.statement.closed_at, found.unsettled, found.not_final) == (None, 1, 1)
    assert rows(db, "SELECT count(*) FROM statements") == [(0,)]
    found = read(database, now_ms=UNTIL + SETTLED_MS)
    assert (found.statement.closed_at, found.unsettled) == (UNTIL + SETTLED_MS, 0)


def test_cost_of_zero_before_the_analysis_closes_nothing(store, database):
    ended = call("c", SINCE, {"platform_tts": 0.0})
    stored(store, ended, at=UNTIL)
    found = read(database, now_ms=UNTIL + 1)
    assert (found.statement.closed_at, found.unsettled) == (None, 1)
    analysed = call("c", SINCE, {"platform_tts": 90.0}, call_analysis={"call_successful": True})
    stored(store, analysed | {"event": "call_analyzed"}, at=UNTIL)
    found = read(database, now_ms=UNTIL + 1)
    assert (found.statement.closed_at, found.statement.total.total) == (UNTIL + 1, 90)


def test_month_stays_open_while_a_chat_lasts(store, database):
    stored(store, chat("c", UNTIL - 1, {"chat": 1.0}, chat_status="ongoing"), at=UNTIL)
    found = read(database, now_ms=UNTIL + 1)
    assert (found.statement.closed_at, found.unsettled) == (None, 1)
    analysed = chat("c", UNTIL - 1, {"chat": 90.0}, chat_analysis={"chat_successful": True})
    stored(store, analysed | {"event": "chat_analyzed"}, at=UNTIL)
    found = read(database, now_ms=UNTIL + 1)
    assert (found.statement.closed_at, found.statement.total.total) == (UNTIL + 1, 90)


def test_erased_metadata_is_in_no_closed_month(store, database, db, settings):
    stored(store, call("c", SINCE, {"platform_tts": 5.0}, metadata={"client": "Jane Doe"}))
    [line] = read(database, "metadata.client").statement.lines
    assert line.name == "Jane Doe"
    erased(settings, store, "c")
    assert not any("Jane Doe" in str(row) for found in dump(db).values() for row in found)
    of = read(database, "metadata.client").statement
    assert of.lines[0].name.startswith("sha256:")
    assert [(c.calls, c.total) for c in of.corrections] == [(-1, -5)]


def test_this_month_has_a_forecast(store, database):
    for n in range(20):
        stored(store, call(f"c{n}", SINCE + n * DAY_MS, {"platform_tts": 100.0}))
    now_ms = SINCE + 20 * DAY_MS + 1
    found = read(database, now_ms=now_ms)
    assert found.statement.closed_at is None
    assert 2900 < found.forecast.expected <= 3100
    assert read(database, month="2026-09", now_ms=now_ms).forecast is None


def test_forecast_counts_chats(store, database):
    for n in range(20):
        stored(store, chat(f"c{n}", SINCE + n * DAY_MS, {"chat": 100.0}))
    found = read(database, now_ms=SINCE + 20 * DAY_MS + 1)
    assert 2900 < found.forecast.expected <= 3100


@pytest.mark.parametrize(
    ("grouping", "keys", "of"),
    [
        (None, [""], lambda _: True),
        ("agent", ["agent_1", "agent_2"], lambda chat: chat["agent_id"] != "agent_0"),
        ("metadata.client", ["Acme"], lambda chat: chat["metadata"].get("client") == "Acme"),
    ],
)
def test_spending_on_chats_is_that_of_the_bodies(store, database, grouping, keys, of):
    costs = []
    for n in range(24):
        fields = {"agent_id": f"agent_{n % 3}", "metadata": {"client": "Acme"} if n % 2 else {}}
        body = chat(f"c{n}", SINCE + n * DAY_MS, {"chat": n + 0.1}, **fields)
        stored(store, body)
        costs += [n + 0.1] if of(body["chat"]) else []
    now_ms = SINCE + 24 * DAY_MS
    found = read_spending(database, grouping, keys, timezone=ZONE, now_ms=now_ms)
    assert found.cents == pytest.approx(sum(costs))
    assert len(found.days) == len(costs)


def test_what_explains_an_invoice_is_counted(store, database, db):
    leg = [{"product": "us_twilio_telephony", "cost": 3, "is_transfer_leg_cost": True}]
    cost = {"combined_cost": 3, "product_costs": leg}
    stored(store, call("leg", SINCE, {}, call_cost=cost))
    stored(store, call("gone", SINCE, {"platform_tts": 1.0}))
    store.run(
        lambda c: (
            c.execute("INSERT INTO upstream_calls (call_id, gone_at) VALUES ('gone', 1)") and None
        )
    )
    store.run(
        lambda c: (
            c.execute(
                "INSERT INTO coverage (day, agent_id, missing) VALUES ('2026-10-31', 'a', 4), "
                "('2026-11-01', 'a', 9)"
            )
            and None
        )
    )
    found = read(database)
    assert (found.transferred, found.gone, found.missing) == (1, 1, 4)
    assert {name: float(cents) for name, cents in found.products.items()} == {
        "us_twilio_telephony": 3.0,
        "platform_tts": 1.0,
    }


def test_statement_without_calls_is_empty(database):
    found = read(database, "agent").statement
    assert (found.lines, found.families, found.total.total) == ([], [], 0)
