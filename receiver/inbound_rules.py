"""The tables [[inbound.rule]] of callhouse.toml, and their answers to an inbound call or chat.

Retell asks before it connects an inbound call or chat; the first rule that matches answers. In: a
request, a time and the caller's history. Out: an agent, dynamic variables and metadata.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any

from receiver.clock import WEEKDAYS, parse_hours
from receiver.config_checks import named_tables, require_known, table

# Retell asks before it answers a call or chat; an empty object selects the number's own agent.
# Source: https://docs.retellai.com/features/inbound-call-webhook
INBOUND_EVENTS = ("call_inbound", "chat_inbound")
# Retell returns the metadata of an answer with the call.
RULE_KEY = "callhouse_rule"
# The parameters of a history.
PARAMETERS = ("from_number", "to_number", "agent_id", "account")
_FIELDS = (
    "name", "events", "from_number", "to_number", "days", "hours", "history", "match",
    "agent_id", "agent_version", "agent_override", "dynamic_variables", "metadata",
)  # fmt: skip
_ANSWERS = {
    "agent_id": "override_agent_id",
    "agent_version": "override_agent_version",
    "agent_override": "agent_override",
    "dynamic_variables": "dynamic_variables",
    "metadata": "metadata",
}
# {{name}} is one of Retell's own variables, and is not replaced.
_COLUMN = re.compile(r"(?<!\{)\{([A-Za-z_]\w*)\}(?!\})")
_PARAMETER = re.compile(r"'(?:[^']|'')*'|--[^\n]*|(?<!:):([A-Za-z_]\w*)")
_NUMBER = re.compile(r"\+[1-9][0-9]{4,15}")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """A request of Retell. `account` is that of the key that signed it."""

    event: str
    account: str
    from_number: str = ""
    to_number: str = ""
    agent_id: str = ""

    def parameters(self) -> dict[str, str | None]:
        """The parameters of a history. A hidden number is null, because all callers with a hidden
        number would share one history."""
        found = {name: getattr(self, name) for name in PARAMETERS}
        is_hidden = _NUMBER.fullmatch(self.from_number) is None
        return found | {"from_number": None} if is_hidden else found


@dataclass(frozen=True, slots=True)
class InboundRule:
    """A rule. Empty conditions match everything; `history` None is the shipped query.

    `hours` are minutes since midnight; the second may be the smaller one. `match` has the values
    that columns of the history must have. `answer` has the keys of Retell's answer.
    """

    name: str
    events: tuple[str, ...] = INBOUND_EVENTS
    from_number: tuple[str, ...] = ()
    to_number: tuple[str, ...] = ()
    days: tuple[str, ...] = ()
    hours: tuple[int, int] | None = None
    history: str | None = None
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        """The columns of the history that it uses."""
        return {*self.match, *_COLUMN.findall(json.dumps(self.answer))}

    @property
    def reads_history(self) -> bool:
        """Whether the history is read."""
        return self.history is not None or bool(self.columns)

    def mismatch(self, request: InboundRequest, now: datetime) -> str | None:
        """Why the rule does not match, except for the history; None if it matches.

        `now` is in the time zone of the rules.
        """
        if request.event not in self.events:
            return "another event"
        if not _is_one_of(request.from_number, self.from_number):
            return "another from_number"
        if not _is_one_of(request.to_number, self.to_number):
            return "another to_number"
        if self.days and WEEKDAYS[now.weekday()] not in self.days:
            return "another day"
        if self.hours and not _is_within(now.time(), *self.hours):
            return "another time of day"
        return None

    def row_mismatch(self, row: Row | None) -> str | None:
        """Why the history does not match; None if it matches. `row` is None if there is none."""
        if row is None:
            return "no history"
        for column, values in self.match.items():
            if _text(row[column]) not in values:
                return f"another {column}"
        return None

    def answer_with(self, row: Row) -> dict[str, Any]:
        """The answer, with columns of the history. Null values are left out."""
        filled = _filled(self.answer, row)
        return {**filled, "metadata": {**filled.get("metadata", {}), RULE_KEY: self.name}}


def parse_inbound(value: Any) -> tuple[InboundRule, ...]:
    """The table [inbound]. Raises ValueError with a message for a person."""
    require_known(table(value, "inbound"), ("rule",), "[inbound]")
    found = named_tables(value.get("rule", []), "[[inbound.rule]]", "rules")
    return tuple(_rule(name, each) for name, each in found.items())


def _rule(name: str, value: dict[str, Any]) -> InboundRule:
    require_known(value, _FIELDS, "[[inbound.rule]]")
    where = f"the inbound rule {name}"
    return InboundRule(
        name=name,
        events=_names(value.get("events", list(INBOUND_EVENTS)), INBOUND_EVENTS, "events", where),
        from_number=_numbers(value.get("from_number", []), "from_number", where),
        to_number=_numbers(value.get("to_number", []), "to_number", where),
        days=_names(value.get("days", []), WEEKDAYS, "days", where),
        hours=_parse_hours(value["hours"], where) if "hours" in value else None,
        history=_parse_history(value["history"], where) if "history" in value else None,
        match={
            column: tuple(map(_text, wanted if isinstance(wanted, list) else [wanted]))
            for column, wanted in table(value.get("match", {}), f"match of {where}").items()
        },
        answer=_parse_answer(value, where),
    )


def _names(value: Any, known: tuple[str, ...], what: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(each in known for each in value):
        raise ValueError(f"{what} of {where} must be a list of {', '.join(known)}")
    return tuple(value)


def _numbers(value: Any, what: str, where: str) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f"{what} of {where} must be a number, or a list of them")
    return tuple(found)


def _parse_hours(value: Any, where: str) -> tuple[int, int]:
    hours = parse_hours(value) if isinstance(value, str) else None
    if hours is None:
        raise ValueError(f'hours of {where} must be like "9:00-17:30" or "22:00-6:00"')
    return hours


def _parse_history(value: Any, where: str) -> str:
    if not isinstance(value, str) or not re.match(r"\s*(SELECT|WITH)\b", value, re.I):
        raise ValueError(f"history of {where} must be a SELECT")
    unknown = {name for name in _PARAMETER.findall(value) if name} - {*PARAMETERS}
    if unknown:
        raise ValueError(
            f"history of {where} has the parameter :{min(unknown)}; "
            f"it can have :{', :'.join(PARAMETERS)}"
        )
    return value


def _parse_answer(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, kinds in (("agent_id", str), ("agent_version", (int, str))):
        if key in value and (not isinstance(value[key], kinds) or value[key] is True):
            raise ValueError(f"{key} of {where} must be an id or a number of Retell's")
    for key in ("agent_override", "metadata", "dynamic_variables"):
        table(value.get(key, {}), f"{key} of {where}")
    variables = value.get("dynamic_variables", {})
    if not all(isinstance(each, str) for each in variables.values()):
        raise ValueError(f"dynamic_variables of {where} must be text")
    answer = {_ANSWERS[key]: value[key] for key in _ANSWERS if key in value}
    try:
        json.dumps(answer)
    except TypeError:
        raise ValueError(f"{where} answers with a date; write it as text") from None
    return answer


def _is_one_of(number: str, patterns: tuple[str, ...]) -> bool:
    """Whether a number matches one of the patterns, which may end with `*`."""
    return not patterns or any(
        number.startswith(each[:-1]) if each.endswith("*") else number == each for each in patterns
    )


def _is_within(at: time, start: int, end: int) -> bool:
    minute = 60 * at.hour + at.minute
    return start <= minute < end if start < end else minute >= start or minute < end


def _text(value: Any) -> str:
    """A value as text, the same for both engines: SQLite has no booleans."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


_LEFT_OUT: Any = object()


def _filled(value: Any, row: Row) -> Any:
    if isinstance(value, dict):
        filled = {key: _filled(each, row) for key, each in value.items()}
        return {key: each for key, each in filled.items() if each is not _LEFT_OUT}
    if isinstance(value, list):
        return [each for part in value if (each := _filled(part, row)) is not _LEFT_OUT]
    if not isinstance(value, str):
        return value
    alone = _COLUMN.fullmatch(value)
    if alone and row[alone[1]] is None:
        return _LEFT_OUT

    def text_of(match: re.Match[str]) -> str:
        return _text(row[match[1]])

    # In one pass, because a value can contain braces.
    return _COLUMN.sub(text_of, value)
