"""The filters, the order and the pages of list-calls and list-chats."""

from __future__ import annotations

import base64
import json
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model, model_validator

from receiver.errors import Refusal
from receiver.sandbox.companies import read_data
from receiver.sandbox.orders import INVALID, Body

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


class Filter(Body):
    """A condition for a field; `key` is its name within metadata, variables and the like."""

    key: str | None = None


class StringFilter(Filter):
    """A string that equals, starts with, ends with or contains another."""

    type: Literal["string"]
    op: Literal["eq", "ne", "sw", "ew", "co"]
    value: str


class NumberFilter(Filter):
    """A number compared with another."""

    type: Literal["number"]
    op: Literal["eq", "ne", "gt", "ge", "lt", "le"]
    value: Number


class RangeFilter(Filter):
    """A number between two others, both included."""

    type: Literal["range"]
    op: Literal["bt"]
    value: Annotated[list[Number], Field(min_length=2, max_length=2)]


class EnumFilter(Filter):
    """One of several strings."""

    type: Literal["enum"]
    op: Literal["in"]
    value: list[str]


class BooleanFilter(Filter):
    """True or false."""

    type: Literal["boolean"]
    op: Literal["eq"]
    value: bool


class PresentFilter(Filter):
    """A field that exists, or does not."""

    type: Literal["present"]
    op: Literal["pr", "np"]


def meets(asked: Filter, value: Any) -> bool:
    """Return whether a value, None if absent, meets a filter."""
    number = _number(value)
    match asked:
        case StringFilter():
            return isinstance(value, str) and _COMPARE[asked.op](value, asked.value)
        case NumberFilter():
            return number is not None and _COMPARE[asked.op](number, asked.value)
        case RangeFilter():
            return number is not None and asked.value[0] <= number <= asked.value[1]
        case EnumFilter():
            return isinstance(value, str) and value in asked.value
        case BooleanFilter():
            # Dynamic variables are strings, such as "true".
            return value is asked.value or value == str(asked.value).lower()
        case PresentFilter():
            return (value is not None) == (asked.op == "pr")
    raise TypeError(type(asked))


Amount = Annotated[NumberFilter | RangeFilter, Field(discriminator="type")]
Keyed = Annotated[
    StringFilter | NumberFilter | RangeFilter | EnumFilter | BooleanFilter | PresentFilter,
    Field(discriminator="type"),
]


class AgentFilter(Body):
    """An agent and its versions; without `version`, all."""

    agent_id: str
    version: list[Number] | None = None

    def matches(self, call: dict[str, Any]) -> bool:
        """Return whether the call or chat is of this agent."""
        version = call.get("agent_version", call.get("version"))
        return call["agent_id"] == self.agent_id and (not self.version or version in self.version)


class ToolCallFilter(Body):
    """A tool call that meets all of these conditions."""

    name: str | None = None
    type: str | None = None
    success: BooleanFilter | None = None
    latency_ms: Amount | None = None

    def matches(self, call: dict[str, Any]) -> bool:
        """Return whether the call has such a tool call."""
        return any(self._is(run, result) for run, result in _tool_calls(call))

    def _is(self, run: dict[str, Any], result: dict[str, Any] | None) -> bool:
        latency_ms = None
        if result is not None and "time_sec" in run and "time_sec" in result:
            latency_ms = round((result["time_sec"] - run["time_sec"]) * 1000)
        successful = None if result is None else result.get("successful")
        return (
            self.name in (None, run["name"])
            and self.type in (None, run.get("type"))
            and (self.success is None or meets(self.success, successful))
            and (self.latency_ms is None or meets(self.latency_ms, latency_ms))
        )


class Criteria(Body):
    """`filter_criteria` of calls and chats: all must be met. Unknown names are rejected, because a
    misspelt one would list everything."""

    model_config = ConfigDict(extra="forbid")


# Path of a filter's field in the call object, if it is not the filter's name.
_ANALYSED = (
    "call_successful", "chat_successful", "in_voicemail", "user_sentiment", "custom_analysis_data"
)  # fmt: skip
_PATHS = {
    "e2e_latency_p50": ("latency", "e2e", "p50"),
    "dynamic_variables": ("retell_llm_dynamic_variables",),
}


def matches(call: dict[str, Any], criteria: Criteria, *, created_ms: int) -> bool:
    """Return whether a call meets all criteria; `created_ms` replaces a missing start."""
    if "start_timestamp" not in call:
        call = call | {"start_timestamp": created_ms}
    return all(_holds(call, name, asked) for name, asked in criteria if asked is not None)


def _holds(call: dict[str, Any], name: str, asked: Any) -> bool:
    if name == "agent":
        return not asked or any(one.matches(call) for one in asked)
    if name == "tool_calls":
        return all(one.matches(call) for one in asked)
    path = _PATHS.get(name, (name,))
    if name in _ANALYSED or name == "combined_cost":
        part = "cost" if name == "combined_cost" else "analysis"
        path = (f"{'call' if 'call_id' in call else 'chat'}_{part}", name)
    value = _at(call, path)
    if isinstance(asked, list):
        return all(meets(one, _at(value, (one.key,))) for one in asked)
    return meets(asked, value)


def _at(value: Any, path: Iterable[str | None]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> Number | None:
    """The value as a number; dynamic variables are strings."""
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


# An item has no transcripts; get-call has.
_NOT_LISTED = (
    "transcript", "transcript_object", "transcript_with_tool_calls", "message_with_tool_calls"
)  # fmt: skip


def id_of(entity: dict[str, Any]) -> str:
    """Return the id of a call or chat."""
    return str(entity.get("call_id") or entity["chat_id"])


@dataclass(frozen=True)
class ListedCall:
    """A call or chat, and the time it is sorted by if it never started: its creation."""

    call: dict[str, Any]
    created_ms: int

    @property
    def position(self) -> tuple[int, str]:
        """Its unique position in the list."""
        return self.call.get("start_timestamp", self.created_ms), id_of(self.call)


class ListOrder(Body):
    """The body of a list."""

    filter_criteria: Criteria = Criteria()
    sort_order: Literal["ascending", "descending"] = "descending"
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    pagination_key: str | None = None
    skip: Annotated[int, Field(ge=0)] | None = None
    include_total: bool = False

    @model_validator(mode="after")
    def _one_way_on(self) -> ListOrder:
        if self.pagination_key is not None and self.skip:
            raise ValueError("pagination_key and skip cannot be used together")
        return self


# Kinds of filters in data/filters.yaml.
_KINDS: dict[str, Any] = {
    "string": StringFilter,
    "enum": EnumFilter,
    "boolean": BooleanFilter,
    "id": Annotated[StringFilter | EnumFilter, Field(discriminator="type")],
    "amount": Amount,
    "keyed": list[Keyed],
    "agents": list[AgentFilter],
    "tools": list[ToolCallFilter],
}


def _order(name: str) -> type[ListOrder]:
    """The body of a list, by its filters in data/filters.yaml."""
    found = read_data("data/filters.yaml")
    kinds = [*found["both"].items(), *found[name].items()]
    fields: dict[str, Any] = {
        n: (_KINDS[kind] | None, None) for kind, names in kinds for n in names
    }
    criteria = create_model(f"{name} criteria", __base__=Criteria, **fields)
    return create_model(f"{name} order", __base__=ListOrder, filter_criteria=(criteria, criteria()))


CallListOrder, ChatListOrder = _order("calls"), _order("chats")


def page(calls: Iterable[ListedCall], order: ListOrder) -> dict[str, Any]:
    """Return the response of list-calls or list-chats. Raises Refusal 400 for an invalid key."""
    down = order.sort_order == "descending"
    wanted = order.filter_criteria
    found = [c for c in calls if matches(c.call, wanted, created_ms=c.created_ms)]
    found.sort(key=lambda listed: listed.position, reverse=down)
    rest = found[order.skip or 0 :]
    if order.pagination_key is not None:
        # By position, not by index: a new call does not shift the pages.
        last = _position(order.pagination_key)
        after = operator.lt if down else operator.gt
        rest = [listed for listed in found if after(listed.position, last)]
    items = rest[: order.limit]
    answer: dict[str, Any] = {
        "items": [_item(listed.call) for listed in items],
        "has_more": len(rest) > len(items),
    }
    if answer["has_more"]:
        answer["pagination_key"] = _key(items[-1].position)
    if order.include_total:
        answer["total"] = len(found)
    return answer


def _item(call: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if not name.endswith(_NOT_LISTED)}


def _key(position: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _position(key: str) -> tuple[int, str]:
    try:
        at_ms, call_id = json.loads(base64.urlsafe_b64decode(key))
        return int(at_ms), str(call_id)
    except (ValueError, TypeError):
        raise Refusal(400, f"{INVALID} pagination_key is not valid") from None
