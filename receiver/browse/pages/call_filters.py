"""The filters of the page of calls: query string -> values, and back; their labels. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode
from zoneinfo import ZoneInfo

from receiver.browse.formatting import label, local_day
from receiver.browse.pages.call_sources import (
    CALLS,
    CHATS,
    CHOICES,
    FIELDS,
    PERIODS,
    Source,
)
from receiver.errors import QueryNotUnderstood
from schema.products import product_label

if TYPE_CHECKING:
    from datasette.app import Datasette

# Parameters that change how the list is shown.
_ORDER = ("sort", "after")
# An outcome that is the category of many reasons: category:error.
CATEGORY = "category:"
# The category of calls that have no reason.
NO_END = f"{CATEGORY}no end yet"
# A product that is a family of products: family:voice.
FAMILY = "family:"
# The next node of a call that ended in a node.
NO_NODE = "none"
# Filters that narrow another one, and mean nothing without it.
NARROWING = {"version": "agent", "next_node": "node"}


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters in the query string that are set, in the order of FIELDS."""

    values: Mapping[str, str]
    sort: str = ""
    after: str = ""

    @property
    def source(self) -> Source:
        """Calls or chats."""
        return CHATS if self.values.get("kind") == "chat" else CALLS

    @property
    def used(self) -> dict[str, str]:
        """The values that apply to the source."""
        return {n: v for n, v in self.values.items() if n not in self.source.lacks}

    @property
    def of_other_kind(self) -> "Filters":
        """The same filters for chats instead of calls, or the other way round."""
        other = CHATS if self.source is CALLS else CALLS
        values = {n: v for n, v in self.used.items() if n not in other.lacks and n != "kind"}
        values |= {"kind": "chat"} if other is CHATS else {}
        return Filters(values, self.sort)

    def query(self, *, without: str = "", **changes: str) -> str:
        """The query string of this view's first page, with some values changed or one left out."""
        values = {n: v for n, v in self.values.items() if n != without}
        asked = values | {"sort": self.sort} | changes
        names = (*FIELDS, *_ORDER)
        return urlencode({name: asked[name] for name in names if asked.get(name)})


def parse_filters(get: Callable[[str], str | None]) -> Filters:
    """Read the filters with a function from a parameter's name to its value."""
    values = {name: text for name in FIELDS if (text := (get(name) or "").strip()[:500])}
    if "since" in values or "until" in values:
        values.pop("period", None)
    for name, other in NARROWING.items():
        if other not in values:
            values.pop(name, None)
    for name, choices in CHOICES.items():
        # The former search had Negative.
        if name in values and (text := values[name].lower()) in choices:
            values[name] = text
    return Filters(values, (get("sort") or "").strip(), (get("after") or "").strip())


def parse_query_string(text: str) -> Filters:
    """The same from a query string."""
    values = {name: found[0] for name, found in parse_qs(text).items()}
    return parse_filters(values.get)


def list_url(datasette: "Datasette", query: str) -> str:
    """The page of calls with this query string."""
    path = str(datasette.urls.path("/-/calls"))
    return f"{path}?{query}" if query else path


def calls_url(datasette: "Datasette", **filters: str | int | None) -> str:
    """The page of calls with these filters, those of FIELDS; None and "" leave one out.

    `agent` is an id or a name, `outcome` a reason or category:NAME, `since` and `until` are local
    days, both inclusive. Raises TypeError for the name of no filter.
    """
    if unknown := filters.keys() - FIELDS.keys() - {"sort"}:
        raise TypeError(f"no such filter: {', '.join(sorted(unknown))}")
    values = {name: str(value) for name, value in filters.items() if value not in (None, "")}
    query = urlencode({name: values[name] for name in (*FIELDS, "sort") if name in values})
    return list_url(datasette, query)


def days(filters: Filters, zone: ZoneInfo, now_ms: int) -> tuple[date | None, date | None]:
    """The first and the last local day, each None if it is open. Raises QueryNotUnderstood."""
    if period := filters.values.get("period"):
        if period not in PERIODS:
            raise invalid("period", "Choose one from the list.")
        return period_days(period, local_day(now_ms, zone))
    since, until = (_parse_day(filters.values.get(name, "")) for name in ("since", "until"))
    return since, until


def period_days(period: str, today: date) -> tuple[date, date]:
    """The first and the last day of a preset. Weeks begin on Monday; the current one ends today."""
    if period.endswith("-days"):
        return today - timedelta(days=int(period.removesuffix("-days")) - 1), today
    monday, first = today - timedelta(days=today.weekday()), today.replace(day=1)
    last_month = first - timedelta(days=1)
    return {
        "today": (today, today),
        "yesterday": (today - timedelta(days=1), today - timedelta(days=1)),
        "this-week": (monday, today),
        "last-week": (monday - timedelta(days=7), monday - timedelta(days=1)),
        "this-month": (first, today),
        "last-month": (last_month.replace(day=1), last_month),
        "this-year": (today.replace(month=1, day=1), today),
    }[period]


def _parse_day(text: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise invalid("date", "Write it as 2026-05-12.") from None
    if not 2 <= day.year <= 9998:
        raise invalid("date", "Use a year from 2 to 9998.")
    return day


def invalid(what: str, hint: str) -> QueryNotUnderstood:
    """The error of a value that is not valid."""
    return QueryNotUnderstood(f"not a valid {what}", hint=hint)


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set: its label, and the query string without it."""

    name: str
    text: str
    query: str


def chips(filters: Filters, agents: Mapping[str, str]) -> list[Chip]:
    """The filters that are set, except the kind; `agents` has names by id."""
    return [
        Chip(name, _in_words(filters.source, name, text, agents), filters.query(without=name))
        for name, text in filters.used.items()
        if name != "kind"
    ]


# Filters whose choices say what they are.
_SELF_EXPLAINING = frozenset(
    {"period", "weekday", "success", "connected", "direction", "transferred", "tool_result"}
    | {"reviewed"}
)


def _in_words(source: Source, name: str, text: str, agents: Mapping[str, str]) -> str:
    known = source.choices.get(name, {})
    if name in _SELF_EXPLAINING and text in known:
        return known[text]
    if name == "hour":
        return f"{int(text)}:00 to {int(text) + 1}:00" if text.isdecimal() else text
    if name == "product":
        family = text.removeprefix(FAMILY)
        return f"Product: {product_label(text)}" if family == text else f"Cost: {label(family)}"
    if name == "next_node" and text == NO_NODE:
        return "Ended there"
    if name == "agent":
        return agents.get(text, text)
    if name == "outcome":
        category = text.removeprefix(CATEGORY)
        return label(text) if category == text else f"Outcome: {label(category)}"
    if name == "grade":
        question, _, answer = text.partition(":")
        return f"{label(question)}: {label(answer) if answer else 'answered'}"
    unit = {"min_duration": "long", "max_duration": "long"}.get(name, "")
    shown = known.get(text) or text
    if name.endswith("_cost"):
        shown = f"${shown.lstrip('$')}"
    return f"{FIELDS[name]} {shown} {unit}".strip()
