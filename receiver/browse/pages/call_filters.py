"""The filters of the page of calls: query string -> conditions in SQL, and back. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
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
    row_columns,
)
from receiver.clock import midnight_ms
from receiver.errors import QueryNotUnderstood
from receiver.grading_settings import GradingSettings
from receiver.store.reviewing import answer_id
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette.app import Datasette

# Parameters that change how the list is shown.
_ORDER = ("sort", "after")
_NO_GRADING = GradingSettings()
# An outcome that is the category of many reasons: category:error.
CATEGORY = "category:"

_DURATION = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,3}):(\d{2})|(\d{1,6})\s*(s|m|min|h)?)", re.ASCII)
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600}
_COST = re.compile(r"\$?\s*(\d{1,9}(?:\.\d{1,6})?|\.\d{1,6})", re.ASCII)
# Formatted numbers: +1 (415) 555-0123.
_NUMBER_SEPARATORS = " ()-./\u00a0"
_WHOLE_NUMBER = re.compile(r"\+[0-9]{7,}")
NUMBER_END = re.compile(r"\+?[0-9]{3,15}")


_CONNECTED = plain("""EXISTS (
    SELECT 1 FROM (SELECT 1) LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
    WHERE is_connected(c, r)
)""")
_MANY_TOOL = "EXISTS (SELECT 1 FROM tool_calls t WHERE t.call_id = c.call_id AND t.name = :tool)"
# Few calls have annotations.
_ANNOTATED = (
    "IN (SELECT n.entity_id FROM annotations n "
    "WHERE n.removed_at IS NULL AND n.author NOT GLOB 'model:*' AND "
)


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
    if "agent" not in values:
        values.pop("version", None)
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
            raise _invalid("period", "Choose one from the list.")
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
        raise _invalid("date", "Write it as 2026-05-12.") from None
    if not 2 <= day.year <= 9998:
        raise _invalid("date", "Use a year from 2 to 9998.")
    return day


def _invalid(what: str, hint: str) -> QueryNotUnderstood:
    return QueryNotUnderstood(f"not a valid {what}", hint=hint)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition over a row `c` of the source, and its parameters."""

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    # The same for a query that reads every call: a set of ids instead of one lookup per call.
    of_all: str = ""
    # The SELECT of these ids, by an index that counts them quickly.
    ids: str = ""
    # For a search: whether many texts have the words.
    is_common: bool = False


def conditions(
    filters: Filters,
    zone: ZoneInfo,
    now_ms: int,
    *,
    agent_is_id: bool = True,
    many: frozenset[str] = frozenset(),
    has_rowid: bool = True,
    grading: GradingSettings = _NO_GRADING,
) -> dict[str, Condition]:
    """The condition of each filter but the search words, by its name; `since` and `until` for every
    kind of period.

    `many` are filters that match so many calls that the list is read in its order instead of by
    their index. `has_rowid` is false where the table is a view. `grading` has the questions of
    grades. Raises QueryNotUnderstood.
    """
    found = {}
    columns = row_columns(filters.source, has_rowid=has_rowid)
    for name, (sql, params) in _templates(filters, zone, now_ms):
        ids = _ids(name, sql, filters)
        of_all = f"c.call_id IN ({ids})" if ids and "IS NULL" not in sql else ""
        found[name] = Condition(sql.format(**columns), params, of_all, ids)
    if agent := filters.values.get("agent"):
        column = "c.agent_id" if agent_is_id else columns["agent_name"]
        # With a plus sign, SQLite does not use an index.
        sign = "+" if "agent" in many else ""
        found["agent"] = Condition(f"{sign}{column} = :agent", {"agent": agent})
    if grade := filters.values.get("grade"):
        found["grade"] = _grade(grade, grading, columns["key"])
    if "tool" in many and "tool" in found:
        found["tool"] = Condition(_MANY_TOOL, found["tool"].params)
    return found


_Template = tuple[str, dict[str, Any]]


def _grade(text: str, grading: GradingSettings, key: str) -> Condition:
    """The condition of QUESTION:ANSWER, or of QUESTION for any answer: the model's answers that
    count on the page of grades. For a question that is no longer asked, the answers of every
    model."""
    name, _, answer = text.partition(":")
    params: dict[str, Any] = {"grade_name": name, "grade": answer}
    which = "n.author GLOB 'model:*'"
    for question in grading.questions:
        if question.name == name:
            which = "n.annotation_id = :grade_id"
            params["grade_id"] = answer_id("score", grading.author, question)
    matches = (
        f"n.kind = 'score' AND n.name = :grade_name AND {which} AND n.removed_at IS NULL "
        f"AND n.value {'= :grade' if answer else 'IS NOT NULL'}"
    )
    ids = f"SELECT n.entity_id AS call_id FROM annotations n WHERE {matches}"
    has_grade = f"EXISTS (SELECT 1 FROM annotations n WHERE n.entity_id = {key} AND {matches})"
    return Condition(has_grade, params, f"{key} IN ({ids})", ids)


def _ids(name: str, sql: str, filters: Filters) -> str:
    """The SELECT of the calls whose analysis meets a condition, by the index analyses_judged.

    Calls without an analysis are found by merging the keys of calls and analyses."""
    if name not in ("success", "sentiment") or filters.source is not CALLS:
        return ""
    if "IS NULL" not in sql:
        of = sql.format(success="a.call_successful", sentiment="a.user_sentiment")
        return f"SELECT a.call_id FROM analyses a WHERE {of}"
    of = sql.format(success="a.call_successful", sentiment="lower(trim(a.user_sentiment))")
    return (
        "SELECT call_id FROM calls EXCEPT SELECT call_id FROM analyses "
        f"UNION ALL SELECT a.call_id FROM analyses a WHERE {of} ORDER BY 1"
    )


def _templates(filters: Filters, zone: ZoneInfo, now_ms: int) -> Iterator[tuple[str, _Template]]:
    since, until = days(filters, zone, now_ms)
    if since:
        yield "since", ("{at} >= :since", {"since": midnight_ms(since, zone)})
    if until:
        end = midnight_ms(until + timedelta(days=1), zone)
        yield "until", ("{at} < :until", {"until": end})
    for name, text in filters.used.items():
        if name in _CHOSEN:
            if text not in _CHOSEN[name]:
                raise _invalid(FIELDS[name].lower(), "Choose one from the list.")
            yield name, (_CHOSEN[name][text], {})
        elif name in _READERS:
            yield name, _READERS[name](text)


# Filter -> choice -> condition.
_CHOSEN = {
    "connected": {"yes": _CONNECTED, "no": f"NOT {_CONNECTED}"},
    "success": {
        "yes": "{success} <> 0", "no": "{success} = 0", "unknown": "{success} IS NULL",
    },
    "direction": {
        "inbound": "c.direction = 'inbound'",
        "outbound": "c.direction = 'outbound'",
        "web": "c.direction IS NULL",
    },
    "reviewed": {
        "yes": f"{{key}} {_ANNOTATED}n.kind = 'verdict')",
        "no": f"{{key}} NOT {_ANNOTATED}n.kind = 'verdict')",
    },
}  # fmt: skip


def _version(text: str) -> _Template:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _invalid("version", "Write it as a number.")
    return "{agent_version} = :version", {"version": int(text)}


def _outcome(text: str) -> _Template:
    if text.startswith(CATEGORY):
        return "{is_in_category}", {"outcome": text.removeprefix(CATEGORY)}
    return "{outcome} = :outcome", {"outcome": text}


def _sentiment(text: str) -> _Template:
    if text == "none":
        return "{sentiment} IS NULL", {}
    # Retell's upper and lower case varies.
    return "lower(trim({sentiment})) = :sentiment", {"sentiment": text.lower()}


def _number(text: str) -> _Template:
    number = compact_number(text)
    if _WHOLE_NUMBER.fullmatch(number) or not NUMBER_END.fullmatch(number):
        return "{customer} = :number", {"number": number}
    return number_ends(number)


def compact_number(text: str) -> str:
    """A number as it is stored, or the text."""
    number = "".join(c for c in text if c not in _NUMBER_SEPARATORS)
    return number if NUMBER_END.fullmatch(number) else text


def number_ends(number: str, name: str = "number") -> _Template:
    """The condition for calls or chats whose number ends so, with a parameter of this name.

    Calls are found by reading the index of numbers.
    """
    digits = number.lstrip("+")
    found = f"substr({{customer_of_n}}, -{len(digits)}) = :{name}"
    return f"c.{{row}} IN (SELECT n.{{row}} FROM {{table}} n WHERE {found})", {name: digits}


def _duration(name: str, comparison: str) -> Callable[[str], _Template]:
    sql = f"{{duration_ms}} {comparison} :{name}"
    return lambda text: (sql, {name: 1000 * parse_seconds(text)})


def parse_seconds(text: str) -> int:
    """2:05, 125, 125 s, 2 min or 1 h in seconds. Raises QueryNotUnderstood."""
    if not (match := _DURATION.fullmatch(text.lower())):
        raise _invalid("duration", "Write it as 2:05 or in seconds.")
    hours, minutes, seconds, count, unit = match.groups()
    if count:
        return int(count) * _SECONDS[unit]
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)


def _cost(name: str, comparison: str) -> Callable[[str], _Template]:
    sql = f"c.combined_cost_cents {comparison} :{name}"
    return lambda text: (sql, {name: parse_cents(text)})


def parse_cents(text: str) -> float:
    """0.50 or $0.50 in cents. Raises QueryNotUnderstood."""
    if not (match := _COST.fullmatch(text)):
        raise _invalid("cost", "Write it in dollars: 0.50.")
    return round(float(match[1]) * 100, 7)


# Filter -> a function from its value to the condition.
_READERS: dict[str, Callable[[str], _Template]] = {
    "account": lambda text: ("c.account = :account", {"account": text}),
    "version": _version,
    "outcome": _outcome,
    "sentiment": _sentiment,
    "number": _number,
    "agent_number": lambda text: (
        "c.agent_number = :agent_number", {"agent_number": compact_number(text)},
    ),
    "tool": lambda text: ("{uses_tool}", {"tool": text}),
    "min_duration": _duration("min_duration", ">="),
    "max_duration": _duration("max_duration", "<="),
    "min_cost": _cost("min_cost", ">="),
    "max_cost": _cost("max_cost", "<="),
    "tag": lambda text: (f"{{key}} {_ANNOTATED}n.kind = 'tag' AND n.name = :tag)", {"tag": text}),
    "verdict": lambda text: (
        f"{{key}} {_ANNOTATED}n.kind = 'verdict' AND n.value = :verdict)", {"verdict": text},
    ),
}  # fmt: skip


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


def _in_words(source: Source, name: str, text: str, agents: Mapping[str, str]) -> str:
    known = source.choices.get(name, {})
    if name in ("period", "success", "connected", "direction", "reviewed") and text in known:
        return known[text]
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
