"""The cost of the month until now, its forecast, and the budgets of callhouse.toml."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from receiver.browse.formatting import format_dollars
from receiver.errors import CallhouseError
from receiver.jobs.alert_findings import read_budgets
from receiver.store.statements import Spending, read_spending

if TYPE_CHECKING:
    from receiver.config import Settings


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A budget, formatted. `width` is its spent part in percent, at most 100; `reached`: when all
    of it is or will be spent."""

    name: str
    spent: str
    dollars: str
    percent: str
    width: float
    reached: str
    tone: str


@dataclass(frozen=True, slots=True)
class MonthCost:
    """The formatted cost of the month's calls and chats; `problem` is why it cannot be read."""

    title: str = ""
    month: str = ""
    spent: str = ""
    forecast: str = ""
    interval: str = ""
    budgets: tuple[BudgetRow, ...] = ()
    problem: str = ""


def read_month_cost(settings: "Settings", *, now_ms: int) -> MonthCost:
    """The month of `now_ms`, of all accounts."""
    try:
        return _read(settings, now_ms)
    except CallhouseError as error:
        return MonthCost(problem=f"{error}. {error.hint}")


def _read(settings: "Settings", now_ms: int) -> MonthCost:
    spent = read_spending(settings.database, None, [""], timezone=settings.timezone, now_ms=now_ms)
    budgets = read_budgets(settings, settings.file.alerts.budgets, now_ms=now_ms)
    low, expected, high = "", "", ""
    if spent.forecast:
        cents = (spent.forecast.low, spent.forecast.expected, spent.forecast.high)
        low, expected, high = map(format_dollars, cents)
    return MonthCost(
        title=f"{spent.today:%B %Y}",
        month=spent.month,
        spent=format_dollars(spent.cents),
        forecast=expected,
        interval=f"{low} to {high}" if expected else "",
        budgets=tuple(_row(budget.name, budget.dollars, cost) for budget, cost in budgets),
    )


def _row(name: str, dollars: float, spent: Spending) -> BudgetRow:
    percent, end = spent.percent_of(dollars), spent.day_of(dollars)
    if percent >= 100:
        reached, tone = "All of it is spent", "bad"
    elif end:
        reached, tone = f"On {end:%-d %B}, at this pace", "bad"
    else:
        reached, tone = "Not this month, at this pace", ""
    return BudgetRow(
        name=name,
        spent=format_dollars(spent.cents),
        dollars=format_dollars(100 * dollars),
        percent=f"{percent:.0f} %",
        width=min(100.0, max(0.0, percent)),
        reached=reached,
        tone=tone,
    )
