"""Statements of a month, their comparison with invoices, and the forecast of a month.

Pure: `receiver/store/statements.py` reads the sums. Amounts are exact US cents (Decimal) until they
are rounded here, once.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any

from schema.products import FAMILIES, OTHER, product_family

# The part of a call's cost that its products do not explain.
NOT_ITEMIZED = "not itemized"
# Sums of floats are rounded to so many digits before they become Decimal: their last digits depend
# on the order of the addition.
_SUM_DIGITS = Decimal("0.000001")
# The largest amount. A larger one counts as this, so that sums stay exact.
_MOST = Decimal(10) ** 15
# Days that a forecast looks back, and the fewest days that it needs.
FORECAST_DAYS, _LEAST_DAYS = 28, 7
# Half the width of an 80 % interval, in standard deviations.
_DEVIATIONS = 1.2816


def cents(value: Decimal | float | None) -> Decimal:
    """A sum of cents from a database as an exact amount."""
    amount = min(max(Decimal(value or 0.0), -_MOST), _MOST)
    return amount.quantize(_SUM_DIGITS, ROUND_HALF_EVEN)


def sum_cents(amounts: Iterable[float]) -> Decimal:
    """The same of single amounts. They are added exactly, so that their order does not matter."""
    most = float(_MOST)
    return cents(math.fsum(max(-most, min(amount, most)) for amount in amounts))


@dataclass(slots=True)
class Sums:
    """The cost of the calls and chats of one group: exact cents, in total and by product."""

    name: str = ""
    calls: int = 0
    chats: int = 0
    duration_ms: int = 0
    total: Decimal = Decimal(0)
    products: dict[str, Decimal] = field(default_factory=dict)

    def add(self, product: str, amount: Decimal | float | None) -> None:
        """Add cents to a product, in either spelling."""
        name = product.replace("-", "_")
        self.products[name] = self.products.get(name, Decimal(0)) + cents(amount)

    def families(self) -> dict[str, Decimal]:
        """Cents by family, with the rest that no product explains. They add up to `total`."""
        found: dict[str, Decimal] = {}
        for product, amount in self.products.items():
            family = product_family(product) or OTHER
            found[family] = found.get(family, Decimal(0)) + amount
        # The products of a call add up to its cost except for the seventh digit.
        rest = self.total - sum(found.values())
        if abs(rest) >= Decimal("0.005"):
            found[NOT_ITEMIZED] = rest
        return found


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a statement: a group's calls and chats, and whole cents that add up. `price` is
    with the markup."""

    key: str
    name: str
    calls: int
    chats: int
    minutes: float
    families: dict[str, int]
    total: int
    price: int


@dataclass(frozen=True, slots=True)
class Correction:
    """What changed in a group after its month was closed: differences of counts and whole cents."""

    key: str
    name: str
    calls: int
    chats: int
    total: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A month by group, with its total. `families` are those with a cost, in their order.

    `closed_at`: when it was closed, in milliseconds; None while costs may still change.
    """

    month: str
    grouping: str | None
    lines: list[Line]
    total: Line
    families: list[str]
    closed_at: int | None = None
    corrections: list[Correction] = field(default_factory=list)


def allocate(amounts: Sequence[Decimal], total: int) -> list[int]:
    """Round amounts to whole numbers that add up to `total`, which is their sum rounded.

    Largest remainder method: each amount is rounded down, and those with the largest remainders get
    one more.
    """
    floors = [int(amount.to_integral_value(ROUND_FLOOR)) for amount in amounts]
    order = sorted(range(len(amounts)), key=lambda i: (floors[i] - amounts[i], i))
    missing = total - sum(floors)
    for i in range(missing):
        floors[order[i % len(order)]] += 1
    return floors


def statement(
    month: str,
    grouping: str | None,
    groups: Mapping[str, Sums],
    *,
    markup: Decimal = Decimal(0),
    closed_at: int | None = None,
    corrections: Sequence[Correction] = (),
) -> Statement:
    """Round a month's sums so that lines add up to the total, and families to their line.

    `markup` is a share: 0.2 adds 20 percent.
    """
    keys = sorted(groups, key=lambda key: (-groups[key].total, key))
    exact = [groups[key].total for key in keys]
    totals = allocate(exact, _whole(sum(exact, Decimal(0))))
    marked = [amount * (1 + markup) for amount in exact]
    prices = allocate(marked, _whole(sum(marked, Decimal(0))))
    lines = [
        _line(key, groups[key], total, price)
        for key, total, price in zip(keys, totals, prices, strict=True)
    ]
    used = {family for line in lines for family, amount in line.families.items() if amount}
    everything = Line(
        key="",
        name="Total",
        calls=sum(line.calls for line in lines),
        chats=sum(line.chats for line in lines),
        minutes=_minutes(sum(group.duration_ms for group in groups.values())),
        families={f: sum(line.families.get(f, 0) for line in lines) for f in used},
        total=sum(totals),
        price=sum(prices),
    )
    families = [family for family in (*FAMILIES, NOT_ITEMIZED) if family in used]
    return Statement(month, grouping, lines, everything, families, closed_at, [*corrections])


def _whole(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_EVEN))


def _minutes(duration_ms: int) -> float:
    return round(duration_ms / 60_000, 1)


def _line(key: str, sums: Sums, total: int, price: int) -> Line:
    families = sums.families()
    # A group without any cost has no families.
    amounts = allocate([*families.values()], total) if families else []
    return Line(
        key=key,
        name=sums.name or key,
        calls=sums.calls,
        chats=sums.chats,
        minutes=_minutes(sums.duration_ms),
        families=dict(zip(families, amounts, strict=True)),
        total=total,
        price=price,
    )


def corrections(closed: Mapping[str, Sums], now: Mapping[str, Sums]) -> list[Correction]:
    """The differences between a month's groups now and when it was closed, in whole cents."""
    found = []
    for key in sorted({*closed, *now}):
        before, after = closed.get(key, Sums()), now.get(key, Sums())
        changed = Correction(
            key=key,
            name=after.name or before.name or key,
            calls=after.calls - before.calls,
            chats=after.chats - before.chats,
            total=_whole(after.total) - _whole(before.total),
        )
        if changed.calls or changed.chats or changed.total:
            found.append(changed)
    return found


def dump(groups: Mapping[str, Sums], store_key: Callable[[str], str]) -> str:
    """Serialize sums as JSON, for a closed month. `store_key` replaces each group's key."""
    return json.dumps(
        {
            store_key(key): [
                sums.calls,
                sums.chats,
                sums.duration_ms,
                str(sums.total),
                {product: str(amount) for product, amount in sorted(sums.products.items())},
            ]
            for key, sums in sorted(groups.items())
        }
    )


def load(stored: str, names: Mapping[str, tuple[str, str]]) -> dict[str, Sums]:
    """Deserialize the sums that `dump` wrote. `names` has the key and name of each stored key."""
    found = {}
    for stored_key, (calls, chats, duration_ms, total, products) in json.loads(stored).items():
        key, name = names.get(stored_key, (stored_key, ""))
        amounts = {product: Decimal(amount) for product, amount in products.items()}
        found[key] = Sums(name, calls, chats, duration_ms, Decimal(total), amounts)
    return found


# Retell's prices of models are for requests of so many tokens; longer ones have a surcharge.
# Source: https://www.retellai.com/pricing
_TOKENS_INCLUDED = 3_500
# The smallest share of the cost that gets a sentence.
_LARGE_SHARE = Decimal("0.25")


def explain_cost(
    call: Mapping[str, Any], metrics: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Why a call was expensive, in sentences, from its rows of calls, call_metrics and
    product_costs.

    Includes only large parts of the cost, and differences between billed and real time.
    """
    total = cents(call["combined_cost_cents"])
    if total <= 0:
        return []
    sums = Sums(total=total)
    for cost in costs:
        sums.add(cost["product"] or "", cost["cost_cents"])
    families, found = sums.families(), []
    if (share := families.get("surcharge", Decimal(0)) / total) >= _LARGE_SHARE:
        text = f"Surcharges are {share:.0%} of the cost."
        tokens, requests = call["llm_tokens_average"], call["llm_requests"]
        if tokens and requests and tokens > _TOKENS_INCLUDED:
            text += (
                f" The {requests:,.0f} requests to the model had {tokens:,.0f} tokens on average; "
                f"above {_TOKENS_INCLUDED:,} each costs more."
            )
        found.append(text)
    spoken = metrics.get("agent_talk_seconds")
    voice = families.get("voice", Decimal(0)) / total
    if voice >= _LARGE_SHARE and spoken is not None and call["duration_ms"]:
        found.append(
            f"The voice is {voice:.0%} of the cost. It is billed for the time that the agent "
            f"speaks: {spoken:,.0f} of {call['duration_ms'] / 1000:,.0f} seconds."
        )
    billed, lasted = call["total_duration_seconds"], call["duration_ms"]
    if billed and lasted is not None and billed - lasted / 1000 >= 2:
        found.append(f"{lasted / 1000:,.0f} seconds are billed as {billed:,.0f}.")
    leg = sum(
        (cents(cost["cost_cents"]) for cost in costs if cost["is_transfer_leg_cost"]), Decimal(0)
    )
    if leg > 0:
        found.append(f"The transferred leg is {leg / total:.0%} of the cost.")
    return found


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A product: whole cents stored and on the invoice; None if it is missing there."""

    product: str
    ours: int | None
    theirs: int | None

    @property
    def verdict(self) -> str:
        """Whether both agree within a cent, differ, or one of them is missing."""
        if self.theirs is None:
            return "not on the invoice"
        if self.ours is None:
            return "not in calls"
        return "agrees" if abs(self.ours - self.theirs) <= 1 else "differs"


# Words in the headings of an invoice's columns, the most specific first.
_PRODUCT_HEADINGS = ("product", "item", "description", "name")
_AMOUNT_HEADINGS = ("amount", "cost", "total", "price")
_MONEY = re.compile(r"-?\d+(\.\d+)?")


def read_invoice(text: str) -> dict[str, Decimal]:
    """Cents by product of an invoice as CSV, amounts in dollars.

    Raises ValueError with what is missing, or which row has no amount.
    """
    try:
        # newline=None: an old Mac's line ends are line ends too.
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=None)))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if not rows:
        raise ValueError("the file is empty")
    heading = [cell.strip().lower() for cell in rows[0]]
    product, amount = (
        next((i for word in words for i, cell in enumerate(heading) if word in cell), None)
        for words in (_PRODUCT_HEADINGS, _AMOUNT_HEADINGS)
    )
    if product is None or amount is None or product == amount:
        raise ValueError("the first row must name a column product and a column amount")
    found: dict[str, Decimal] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        cell = row[amount].strip().replace("$", "").replace(",", "") if len(row) > amount else ""
        if not _MONEY.fullmatch(cell) or len(row) <= product:
            raise ValueError(f"row {number} has no amount in dollars")
        name = product_name(row[product])
        found[name] = found.get(name, Decimal(0)) + Decimal(cell) * 100
    return found


def product_name(text: str) -> str:
    """The name of a product as Retell's events spell it: gpt_4o_mini for "GPT 4o-mini"."""
    return re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")


def reconcile(products: Mapping[str, Decimal], invoice: Mapping[str, Decimal]) -> list[InvoiceLine]:
    """One line per product of either side, the largest amount first."""
    ours: dict[str, Decimal] = {}
    for product, amount in products.items():
        name = product_name(product)
        ours[name] = ours.get(name, Decimal(0)) + amount
    largest = {
        name: max(abs(ours.get(name, Decimal(0))), abs(invoice.get(name, Decimal(0))))
        for name in {*ours, *invoice}
    }
    return [
        InvoiceLine(
            name,
            _whole(ours[name]) if name in ours else None,
            _whole(invoice[name]) if name in invoice else None,
        )
        for name in sorted(largest, key=lambda name: (-largest[name], name))
    ]


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast cost of a month, in cents, with its 80 % interval."""

    expected: float
    low: float
    high: float


def forecast(days: Mapping[date, float], today: date) -> Forecast | None:
    """Forecast the cost of the month of `today` from the cents of each day; days without calls may
    be missing.

    Each remaining day is expected to cost the recent average of its weekday. None with fewer than 7
    days before today.
    """
    lately = _lately(days, today)
    if len(lately) < _LEAST_DAYS:
        return None
    usual = _by_weekday(days, lately)
    # A single week has only one day of each weekday, so it has no deviation.
    if len(lately) > len(usual):
        fitted, parameters = usual, len(usual)
    else:
        fitted, parameters = dict.fromkeys(usual, sum(usual.values()) / len(usual)), 1
    squares = [(days.get(day, 0.0) - fitted[day.weekday()]) ** 2 for day in lately]
    variance = sum(squares) / (len(lately) - parameters)
    left = _days_left(today)
    done = sum(cost for day, cost in days.items() if _is_month(day, today) and day < today)
    # Today is not over: it costs at least its cost so far.
    rest = max(days.get(today, 0.0), usual[today.weekday()])
    rest += sum(usual[day.weekday()] for day in left)
    count = len(left) + 1
    margin = _DEVIATIONS * math.sqrt(variance * (count + count**2 / len(lately)))
    spent = done + days.get(today, 0.0)
    return Forecast(done + rest, max(spent, done + rest - margin), done + rest + margin)


def day_reached(days: Mapping[date, float], today: date, limit: float) -> date | None:
    """The day on which the cost of the month of `today` is expected to reach `limit`; None if that
    is not within the month, or not known."""
    lately = _lately(days, today)
    cost = sum(cents for day, cents in days.items() if _is_month(day, today) and day <= today)
    if cost >= limit:
        return today
    if len(lately) < _LEAST_DAYS:
        return None
    usual = _by_weekday(days, lately)
    cost += max(0.0, usual[today.weekday()] - days.get(today, 0.0))
    if cost >= limit:
        return today
    for day in _days_left(today):
        cost += usual[day.weekday()]
        if cost >= limit:
            return day
    return None


def _lately(days: Mapping[date, float], today: date) -> list[date]:
    """The days before today that a forecast uses."""
    known = [day for day in days if day < today]
    since = max(min(known, default=today), today - timedelta(days=FORECAST_DAYS))
    return [since + timedelta(days=n) for n in range((today - since).days)]


def _by_weekday(days: Mapping[date, float], lately: Sequence[date]) -> dict[int, float]:
    """The average cost of each weekday."""
    found: dict[int, list[float]] = {}
    for day in lately:
        found.setdefault(day.weekday(), []).append(days.get(day, 0.0))
    return {weekday: sum(costs) / len(costs) for weekday, costs in found.items()}


def _days_left(today: date) -> list[date]:
    """The days of the month that come after today."""
    found, day = [], today + timedelta(days=1)
    while _is_month(day, today):
        found.append(day)
        day += timedelta(days=1)
    return found


def _is_month(day: date, other: date) -> bool:
    return (day.year, day.month) == (other.year, other.month)


def month_days(month: str) -> tuple[date, date]:
    """The first day of a month, YYYY-MM, and that of the next. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", month):
        raise ValueError("a month is written YYYY-MM")
    first = date.fromisoformat(f"{month}-01")
    if not 1970 <= first.year <= 2999:
        raise ValueError("the month is not in the years 1970 to 2999")
    return first, (first + timedelta(days=31)).replace(day=1)


def sum_products(groups: Iterable[Sums]) -> dict[str, Decimal]:
    """Exact cents by product over all groups."""
    found: dict[str, Decimal] = {}
    for sums in groups:
        for product, amount in sums.products.items():
            found[product] = found.get(product, Decimal(0)) + amount
    return found
