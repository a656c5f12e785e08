"""Rounding that adds up, invoices, and the forecast of a month."""

from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.billing import (
    NOT_ITEMIZED,
    Sums,
    allocate,
    cents,
    corrections,
    dump,
    explain_cost,
    forecast,
    load,
    month_days,
    read_invoice,
    reconcile,
    statement,
    sum_cents,
)

# Few digits, so that many amounts end in just half a cent.
AMOUNTS = st.integers(-40, 400).map(lambda n: Decimal(n) / 4)
PRODUCTS = st.dictionaries(
    st.sampled_from(["platform_tts", "gpt_4o_mini", "gpt_4_1", "us_twilio_telephony", "mystery"]),
    AMOUNTS,
)


@st.composite
def sums(draw):
    products = draw(PRODUCTS)
    total = sum(products.values(), Decimal(0)) + draw(st.sampled_from([Decimal(0), Decimal("2.5")]))
    return Sums("", draw(st.integers(0, 3)), 0, 1000, total, products)


@given(st.lists(AMOUNTS, min_size=1, max_size=8))
def test_rounded_amounts_add_up(amounts):
    total = round(sum(amounts))
    rounded = allocate(amounts, total)
    assert sum(rounded) == total
    assert all(abs(whole - amount) < 1 for whole, amount in zip(rounded, amounts, strict=True))


@given(st.dictionaries(st.sampled_from("abcde"), sums()), st.sampled_from(["0", "0.2", "0.125"]))
def test_every_row_and_column_adds_up(groups, markup):
    found = statement("2026-10", "agent", groups, markup=Decimal(markup))
    exact = sum((group.total for group in groups.values()), Decimal(0))
    assert found.total.total == round(exact)
    assert found.total.price == round(exact * (1 + Decimal(markup)))
    assert sum(line.total for line in found.lines) == found.total.total
    assert sum(line.price for line in found.lines) == found.total.price
    for line in [*found.lines, found.total]:
        assert sum(line.families.values()) == line.total
    for family in found.families:
        column = sum(line.families.get(family, 0) for line in found.lines)
        assert column == found.total.families[family]


def test_cost_without_product_is_not_itemized():
    group = Sums("", 1, 0, 0, Decimal(10), {"platform_tts": Decimal(4)})
    [line] = statement("2026-10", None, {"": group}).lines
    assert line.families == {"voice": 4, NOT_ITEMIZED: 6}


@given(st.dictionaries(st.sampled_from("abc"), sums()))
def test_stored_sums_are_read_back(groups):
    names = {key * 2: (key, "") for key in groups}
    assert load(dump(groups, lambda key: key * 2), names) == groups


@pytest.mark.parametrize("amount", [1e300, -1e300, float("inf")])
def test_impossible_amounts_stop_no_statement(amount):
    groups = {"a": Sums("", 1, 0, 0, cents(amount)), "b": Sums("", 1, 0, 0, cents(50.5))}
    groups["a"].add("platform_tts", amount)
    found = statement("2026-10", "agent", groups, markup=Decimal("0.2"))
    assert sum(line.total for line in found.lines) == found.total.total
    assert load(dump(groups, str), {"a": ("a", ""), "b": ("b", "")}) == groups


def test_sums_do_not_depend_on_their_order():
    amounts = [1e15, 0.1, -1e15, 0.2, 1e-7, 5.0]
    assert sum_cents(amounts) == sum_cents(sorted(amounts)) == Decimal("5.3")
    assert sum_cents([1e308, 1e308, -1e308]) == Decimal(10) ** 15


def test_corrections_name_what_changed():
    closed = {"a": Sums("A", 2, 0, 0, Decimal(100)), "b": Sums("B", 1, 0, 0, Decimal(5))}
    now = {"a": Sums("A", 2, 0, 0, Decimal(130)), "c": Sums("C", 1, 1, 0, Decimal(7))}
    found = [(each.name, each.calls, each.chats, each.total) for each in corrections(closed, now)]
    assert found == [("A", 0, 0, 30), ("B", -1, 0, -5), ("C", 1, 1, 7)]
    assert corrections(closed, closed) == []


CALL = {
    "combined_cost_cents": 100.0,
    "duration_ms": 60_000,
    "total_duration_seconds": 60,
    "llm_tokens_average": None,
    "llm_requests": None,
}


def explained(*products, **call):
    costs = [
        {"product": name, "cost_cents": amount, "is_transfer_leg_cost": leg}
        for name, amount, leg in products
    ]
    return explain_cost(CALL | call, {"agent_talk_seconds": 25.2}, costs)


def test_large_surcharge_is_explained_by_tokens():
    tokens = {"llm_tokens_average": 9210.4, "llm_requests": 12}
    [explanation] = explained(("llm_token_surcharge", 92.0, 0), ("gpt_4_1", 8.0, 0), **tokens)
    assert explanation == (
        "Surcharges are 92% of the cost. The 12 requests to the model had 9,210 tokens on average; "
        "above 3,500 each costs more."
    )
    assert explained(("llm_token_surcharge", 24.0, 0), ("gpt_4_1", 76.0, 0), **tokens) == []


def test_voice_is_explained_by_the_time_spoken():
    [explanation] = explained(("platform_tts", 60.0, 0), ("gpt_4_1", 40.0, 0))
    assert explanation.endswith("speaks: 25 of 60 seconds.")


def test_minimum_billing_of_a_short_call_is_explained():
    assert explained(duration_ms=4_200, total_duration_seconds=10) == [
        "4 seconds are billed as 10."
    ]
    # Retell rounds up.
    assert explained(duration_ms=9_001, total_duration_seconds=10) == []


def test_transferred_leg_is_explained():
    legs = [("us_twilio_telephony", 30.0, 1), ("gpt_4_1", 70.0, 0)]
    assert explained(*legs) == ["The transferred leg is 30% of the cost."]


@pytest.mark.parametrize("cost", [None, 0.0, -1.0])
def test_call_without_cost_needs_no_explanation(cost):
    assert explained(("platform_tts", 60.0, 0), combined_cost_cents=cost) == []


def test_invoice_is_read_by_its_headings():
    text = '\ufeffDate,Product name,Minutes,"Amount (USD)"\n1,GPT 4o-mini,5,"$1,234.50"\n,,,\n'
    assert read_invoice(text) == {"gpt_4o_mini": Decimal(123450)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("a,b\n1,2\n", "must name"),
        ("product,amount\nx,much\n", "row 2"),
        ("product,amount\nx\n", "row 2"),
        ("product,amount\nx,NaN\n", "row 2"),
    ],
)
def test_unreadable_invoice_says_what_is_wrong(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_invoice(text)


@given(st.text(alphabet='product,amount"\n\r\0 $1.5é', max_size=60))
def test_no_invoice_fails_otherwise(text):
    with suppress(ValueError):
        read_invoice(text)


def test_lines_agree_within_a_cent():
    ours = {"gpt-4o-mini": Decimal(100), "platform_tts": Decimal(300), "mine": Decimal(1)}
    theirs = {"gpt_4o_mini": Decimal("101.2"), "platform_tts": Decimal(350), "sms": Decimal(9)}
    found = {line.product: line.verdict for line in reconcile(ours, theirs)}
    assert found == {
        "platform_tts": "differs",
        "gpt_4o_mini": "agrees",
        "sms": "not in calls",
        "mine": "not on the invoice",
    }


def costs(since, count, cost):
    return {since + timedelta(days=n): cost(since + timedelta(days=n)) for n in range(count)}


def test_even_days_are_forecast_exactly():
    found = forecast(costs(date(2026, 10, 1), 20, lambda _: 100.0), date(2026, 10, 21))
    assert (found.low, found.expected, found.high) == (3100.0, 3100.0, 3100.0)


def test_weekends_are_forecast_as_weekends():
    def cost(day):
        return 0.0 if day.weekday() >= 5 else 50.0

    every = costs(date(2026, 9, 1), 61, cost)
    known = {day: cents for day, cents in every.items() if day < date(2026, 10, 10)}
    found = forecast(known, date(2026, 10, 10))
    assert found.expected == sum(cost for day, cost in every.items() if day.month == 10)


def test_uneven_days_widen_the_interval():
    today = date(2026, 10, 21)
    found = forecast(costs(date(2026, 9, 1), 50, lambda d: 100.0 + 40 * (d.day % 3)), today)
    assert found.low < found.expected < found.high
    # 1.28 times 33, a day's standard deviation, for eleven days whose mean is known from 28.
    assert 140 < found.high - found.expected < 250


def test_too_few_days_are_no_forecast():
    assert forecast(costs(date(2026, 10, 1), 6, lambda _: 1.0), date(2026, 10, 7)) is None
    assert forecast({}, date(2026, 10, 7)) is None


def test_one_week_gives_a_wide_interval():
    found = forecast(costs(date(2026, 10, 1), 7, lambda d: 10.0 * d.day), date(2026, 10, 8))
    assert found.low < found.expected < found.high


@pytest.mark.parametrize(
    "text", ["2026", "2026-13", "2026-1", "10-2026", "２０２６-10", "1969-12", "9999-12"]
)
def test_invalid_month_is_refused(text):
    with pytest.raises(ValueError, match=r"month"):
        month_days(text)


def test_december_ends_with_the_year():
    assert month_days("2026-12") == (date(2026, 12, 1), date(2027, 1, 1))
