"""The filters of list-calls: what a request may ask, and whether a call matches.

A field that a call does not have matches nothing but "not present". Source: retell-sdk's
`call_list_params`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from receiver.sandbox.orders import Body

Number = int | float
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "sw": lambda text, part: text.startswith(part),
    "ew": lambda text, part: text.endswith(part),
    "co": lambda text, part: part in text,
}


class StringFilter(Body):
    """Text that equals, starts with, ends with or contains another."""

    type: Literal["string"]
    op: Literal["eq", "ne", "sw", "ew", "co"]
    value: str
    key: str | None = None

    def matches(self, value: Any) -> bool:
        """Say whether a field with this value, None when absent, is asked for."""
        return isinstance(value, str) and _COMPARE[self.op](value, self.value)


class NumberFilter(Body):
    """A number compared with another."""

    type: Literal["number"]
    op: Literal["eq", "ne", "gt", "ge", "lt", "le"]
    value: Number
    key: str | None = None

    def matches(self, value: Any) -> bool:
        """As StringFilter.matches."""
        number = _number(value)
        return number is not None and _COMPARE[self.op](number, self.value)


class RangeFilter(Body):
    """A number between two others, both included."""

    type: Literal["range"]
    op: Literal["bt"]
    value: Annotated[list[Number], Field(min_length=2, max_length=2)]
    key: str | None = None

    def matches(self, value: Any) -> bool:
        """As StringFilter.matches."""
        number = _number(value)
        return number is not None and self.value[0] <= number <= self.value[1]


class EnumFilter(Body):
    """One of several texts."""

    type: Literal["enum"]
    op: Literal["in"]
    value: list[str]
    key: str | None = None

    def matches(self, value: Any) -> bool:
        """As StringFilter.matches."""
        return isinstance(value, str) and value in self.value


class BooleanFilter(Body):
    """True, or false."""

    type: Literal["boolean"]
    op: Literal["eq"]
    value: bool
    key: str | None = None

    def matches(self, value: Any) -> bool:
        """As StringFilter.matches; a dynamic variable spells its truth."""
        return value is self.value or value == str(self.value).lower()


class PresentFilter(Body):
    """A field that is there, or is not."""

    type: Literal["present"]
    op: Literal["pr", "np"]
    key: str | None = None

    def matches(self, value: Any) -> bool:
        """As StringFilter.matches."""
        return (value is not None) == (self.op == "pr")


Amount = Annotated[NumberFilter | RangeFilter, Field(discriminator="type")]
Keyed = Annotated[
    StringFilter | NumberFilter | RangeFilter | EnumFilter | BooleanFilter | PresentFilter,
    Field(discriminator="type"),
]


class AgentFilter(Body):
    """An agent, and its versions; all of them without any."""

    agent_id: str
    version: list[Number] | None = None

    def matches(self, call: dict[str, Any]) -> bool:
        """Say whether the agent had this call."""
        versions = self.version or [call["agent_version"]]
        return call["agent_id"] == self.agent_id and call["agent_version"] in versions


class ToolCallFilter(Body):
    """One tool call that is all of this."""

    name: str | None = None
    type: str | None = None
    success: BooleanFilter | None = None
    latency_ms: Amount | None = None

    def matches(self, call: dict[str, Any]) -> bool:
        """Say whether the call has such a tool call."""
        return any(self._is(run, result) for run, result in _tool_calls(call))

    def _is(self, run: dict[str, Any], result: dict[str, Any] | None) -> bool:
        latency_ms = None
        if result is not None and "time_sec" in run and "time_sec" in result:
            latency_ms = round((result["time_sec"] - run["time_sec"]) * 1000)
        successful = None if result is None else result.get("successful")
        return (
            self.name in (None, run["name"])
            and self.type in (None, run.get("type"))
            and (self.success is None or self.success.matches(successful))
            and (self.latency_ms is None or self.latency_ms.matches(latency_ms))
        )


class Criteria(Body):
    """`filter_criteria`: all of them must hold. A name that is none of these is refused, since a
    misspelt one would otherwise list every call."""

    model_config = ConfigDict(extra="forbid")

    agent: list[AgentFilter] | None = None
    agent_tag: EnumFilter | None = None
    batch_call_id: StringFilter | None = None
    call_id: Annotated[StringFilter | EnumFilter, Field(discriminator="type")] | None = None
    call_status: EnumFilter | None = None
    call_type: EnumFilter | None = None
    call_successful: BooleanFilter | None = None
    in_voicemail: BooleanFilter | None = None
    user_sentiment: EnumFilter | None = None
    direction: EnumFilter | None = None
    disconnection_reason: EnumFilter | None = None
    from_number: StringFilter | None = None
    to_number: StringFilter | None = None
    start_timestamp: Amount | None = None
    end_timestamp: Amount | None = None
    duration_ms: Amount | None = None
    combined_cost: Amount | None = None
    e2e_latency_p50: Amount | None = None
    data_storage_setting: EnumFilter | None = None
    metadata: list[Keyed] | None = None
    dynamic_variables: list[Keyed] | None = None
    custom_analysis_data: list[Keyed] | None = None
    custom_attributes: list[Keyed] | None = None
    tool_calls: list[ToolCallFilter] | None = None


# Where a filter's field lies in a call object, if not under its own name.
_PATHS = {
    "call_successful": ("call_analysis", "call_successful"),
    "in_voicemail": ("call_analysis", "in_voicemail"),
    "user_sentiment": ("call_analysis", "user_sentiment"),
    "combined_cost": ("call_cost", "combined_cost"),
    "e2e_latency_p50": ("latency", "e2e", "p50"),
    "dynamic_variables": ("retell_llm_dynamic_variables",),
    "custom_analysis_data": ("call_analysis", "custom_analysis_data"),
}


def matches(call: dict[str, Any], criteria: Criteria, *, filed_ms: int) -> bool:
    """Say whether a call meets all criteria; `filed_ms` stands for a start it never had."""
    if "start_timestamp" not in call:
        call = call | {"start_timestamp": filed_ms}
    return all(_holds(call, name, asked) for name, asked in criteria if asked is not None)


def _holds(call: dict[str, Any], name: str, asked: Any) -> bool:
    if name == "agent":
        return not asked or any(one.matches(call) for one in asked)
    if name == "tool_calls":
        return all(one.matches(call) for one in asked)
    value = _at(call, _PATHS.get(name, (name,)))
    if isinstance(asked, list):
        return all(one.matches(_at(value, (one.key,))) for one in asked)
    return bool(asked.matches(value))


def _at(value: Any, path: Iterable[str | None]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> Number | None:
    """The number that a value is or, as in a dynamic variable, spells."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _tool_calls(
    call: dict[str, Any],
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """The tool calls of a call, each with its result if it has one."""
    entries = call.get("transcript_with_tool_calls", [])
    results = {e["tool_call_id"]: e for e in entries if e["role"] == "tool_call_result"}
    runs = [entry for entry in entries if entry["role"] == "tool_call_invocation"]
    return [(run, results.get(run["tool_call_id"])) for run in runs]
