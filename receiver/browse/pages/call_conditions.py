"""The conditions of the filters of the page of calls: values -> SQL. Pure."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.browse.pages.call_filters import (
    CATEGORY,
    FAMILY,
    NO_END,
    NO_NODE,
    Filters,
    days,
    invalid,
)
from receiver.browse.pages.call_sources import CALLS, CHOICES, FIELDS, row_columns
from receiver.clock import midnight_ms
from receiver.grading_settings import GradingSettings
from receiver.store.reviewing import answer_id
from schema.sql.macros import plain
from schema.sql.zones import zone_of

_NO_GRADING = GradingSettings()
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
_OF_SESSION = "SELECT 1 FROM {} WHERE n.call_id = c.call_id AND n.track = 'session'"
_TOOL_RESULTS = {
    "any": "true",
    # Each has a partial index.
    "failed": "n.successful = 0",
    "no-success": (
        "n.successful = 1 AND instr(n.result, 'false') > 0 "
        "AND CASE WHEN json_valid(n.result) THEN json_type(n.result, '$.success') END = 'false'"
    ),
}
_FROM = "coalesce(n.former_node_name, n.former_node_id)"
_TO = "coalesce(n.new_node_name, n.new_node_id)"
_LAST_NODE = (
    f"(SELECT {_TO} FROM node_transitions n WHERE n.call_id = c.call_id AND n.track = 'session' "
    "ORDER BY n.position DESC LIMIT 1)"
)
_MANY_TOOL = "EXISTS (SELECT 1 FROM tool_calls t WHERE t.call_id = c.call_id AND t.name = :tool)"
# Few calls have annotations.
_ANNOTATED = (
    "IN (SELECT n.entity_id FROM annotations n "
    "WHERE n.removed_at IS NULL AND n.author NOT GLOB 'model:*' AND "
)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition over a row `c` of the source, and its parameters."""

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    # The same for a query that reads every call: a set of ids instead of one lookup per call.
    of_all: str = ""
    # The SELECT of these ids, by an index that counts them quickly.
    ids: str = ""
    # The same over a row `a` of analyses.
    of_analysis: str = ""
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
    of_family: Collection[str] | None = None,
) -> dict[str, Condition]:
    """The condition of each filter but the search words, by its name; `since` and `until` for every
    kind of period.

    `many` are filters that match so many calls that the list is read in its order instead of by
    their index. `has_rowid` is false where the table is a view. `grading` has the questions of
    grades, `of_family` the products of a chosen family, if they are known.

    Raises QueryNotUnderstood.
    """
    found = {}
    columns = row_columns(filters.source, has_rowid=has_rowid)
    for name, (sql, params) in _templates(filters, zone, now_ms):
        of = _of_analysis(name, sql, filters)
        ids = f"SELECT a.call_id FROM analyses a WHERE {of}" if of else ""
        of_all = f"c.call_id IN ({ids})" if ids else ""
        ids = ids or _ids_without(name, sql, filters)
        found[name] = Condition(sql.format(**columns), params, of_all, ids, of)
    if agent := filters.values.get("agent"):
        column = "c.agent_id" if agent_is_id else columns["agent_name"]
        # With a plus sign, SQLite does not use an index.
        sign = "+" if "agent" in many else ""
        found["agent"] = Condition(f"{sign}{column} = :agent", {"agent": agent})
    if product := filters.used.get("product"):
        found["product"] = _product(product, of_family, columns["products"])
    if result := filters.used.get("tool_result"):
        tool = filters.values.get("tool")
        found["tool_result"] = _tool_result(result, tool, has_index=has_rowid)
    if grade := filters.values.get("grade"):
        found["grade"] = _grade(grade, grading, columns["key"])
    if "tool" in many and "tool" in found:
        found["tool"] = Condition(_MANY_TOOL, found["tool"].params)
    return found


_Template = tuple[str, dict[str, Any]]
_JUDGED = ("success", "sentiment")


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


def _of_analysis(name: str, sql: str, filters: Filters) -> str:
    """The condition of a call's analysis, over a row `a` of analyses, for which there is the index
    analyses_judged."""
    if name not in _JUDGED or filters.source is not CALLS or "IS NULL" in sql:
        return ""
    return sql.format(success="a.call_successful", sentiment="a.user_sentiment")


def _ids_without(name: str, sql: str, filters: Filters) -> str:
    """The SELECT of the calls without a success or sentiment: those without an analysis are found
    by merging the keys of calls and analyses."""
    if name not in _JUDGED or filters.source is not CALLS or "IS NULL" not in sql:
        return ""
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
                raise invalid(FIELDS[name].lower(), "Choose one from the list.")
            yield name, (_CHOSEN[name][text], {})
        elif name in _READERS:
            yield name, _READERS[name](text)
        elif name in _OF_HOUR:
            yield name, _of_hour(name, text, _local_ms(zone, since, until, now_ms))


# Filter -> choice -> condition.
_CHOSEN = {
    "connected": {"yes": _CONNECTED, "no": f"NOT {_CONNECTED}"},
    "success": {
        "yes": "{success} <> 0",
        "no": "{success} = 0",
        "judged": "{success} IS NOT NULL",
        "unknown": "{success} IS NULL",
    },
    "direction": {
        "inbound": "c.direction = 'inbound'",
        "outbound": "c.direction = 'outbound'",
        "web": "c.direction IS NULL",
    },
    "transferred": {
        "yes": (
            "(c.transfer_destination IS NOT NULL "
            "OR c.disconnection_reason IN ('call_transfer', 'transfer_bridged'))"
        ),
    },
    "reviewed": {
        "yes": f"{{key}} {_ANNOTATED}n.kind = 'verdict')",
        "no": f"{{key}} NOT {_ANNOTATED}n.kind = 'verdict')",
    },
}  # fmt: skip


# The first day is Thursday, 1 January 1970.
_DAY_MS = 86_400_000
_MAX_SEPARATORS = 8
_OF_HOUR = {"weekday": "({} / 86400000 + 3) % 7", "hour": "{} / 3600000 % 24"}


def _local_ms(zone: ZoneInfo, since: date | None, until: date | None, now_ms: int) -> str:
    """SQL of the local time of a row in milliseconds, correct between two days."""
    first = midnight_ms(since, zone) if since else 0
    last = midnight_ms(until, zone) if until else now_ms
    return zone_of(zone.key).local_ms("{at}", first, last + 2 * _DAY_MS)


def _of_hour(name: str, text: str, local_ms: str) -> _Template:
    """The condition of a day of the week or an hour of the day."""
    if name == "hour":
        if not (text.isascii() and text.isdigit() and int(text) < 24):
            raise invalid("hour", "Write it as a number from 0 to 23.")
        value = int(text)
    elif text in CHOICES[name]:
        value = [*CHOICES[name]].index(text)
    else:
        raise invalid(name, "Write it as mon or tue.")
    return f"{_OF_HOUR[name].format(f'({local_ms})')} = :{name}", {name: value}


def _tool_result(text: str, tool: str | None, *, has_index: bool) -> Condition:
    if text not in _TOOL_RESULTS:
        raise invalid("tool result", f"Choose one of {', '.join(_TOOL_RESULTS)}.")
    # With a plus sign, SQLite does not use the index of names.
    matches = f"{_TOOL_RESULTS[text]}{' AND +n.name = :tool' if tool else ''}"
    exists = f"EXISTS ({_OF_SESSION.format('tool_calls n')} AND {matches})"
    params = {"tool": tool} if tool else {}
    if text == "any" or not has_index:
        return Condition(exists, params)
    ids = f"SELECT n.call_id FROM tool_calls n WHERE n.track = 'session' AND {matches}"
    return Condition(exists, params, f"c.call_id IN ({ids})", ids)


def _node(text: str) -> _Template:
    visited = f"{_OF_SESSION.format('node_transitions n')} AND :node IN ({_FROM}, {_TO})"
    return f"EXISTS ({visited})", {"node": text}


def _next_node(text: str) -> _Template:
    if text == NO_NODE:
        return f"{_LAST_NODE} = :node", {}
    steps = f"{_OF_SESSION.format('node_transitions n')} AND {_FROM} = :node AND {_TO} = :next_node"
    return f"EXISTS ({steps})", {"next_node": text}


def _product(text: str, of_family: Collection[str] | None, products: str) -> Condition:
    """The condition of a product, or of a family, whose products are `of_family`: with None, the
    family of each is computed, which is slow."""
    family = text.removeprefix(FAMILY)
    if family != text and of_family is None:
        matches, value = plain("family_of(p) = :product"), family
    else:
        names = [text] if family == text else of_family or ()
        matches = "p.spelled IN (SELECT value FROM json_each(:product))"
        value = json.dumps([each for name in names for each in _spellings(name)])
    return Condition(f"EXISTS (SELECT 1 FROM {products} p WHERE {matches})", {"product": value})


def _spellings(product: str) -> list[str]:
    """The names with `-` for any `_`: Retell writes both, and SQL's replace() would be slow."""
    first, *rest = product.split("_")
    if len(rest) > _MAX_SEPARATORS:
        return [product, product.replace("_", "-")]
    found = [first]
    for part in rest:
        found = [f"{begun}{separator}{part}" for begun in found for separator in "_-"]
    return found


def _version(text: str) -> _Template:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("version", "Write it as a number.")
    return "{agent_version} = :version", {"version": int(text)}


def _outcome(text: str) -> _Template:
    if text == NO_END:
        return "{has_no_end}", {}
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
        raise invalid("duration", "Write it as 2:05 or in seconds.")
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
        raise invalid("cost", "Write it in dollars: 0.50.")
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
    "node": _node,
    "next_node": _next_node,
    "min_duration": _duration("min_duration", ">="),
    "max_duration": _duration("max_duration", "<="),
    "min_cost": _cost("min_cost", ">="),
    "max_cost": _cost("max_cost", "<="),
    "tag": lambda text: (f"{{key}} {_ANNOTATED}n.kind = 'tag' AND n.name = :tag)", {"tag": text}),
    "verdict": lambda text: (
        f"{{key}} {_ANNOTATED}n.kind = 'verdict' AND n.value = :verdict)", {"verdict": text},
    ),
}  # fmt: skip
