"""The filters, the order and the pages of lists."""

import base64
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from receiver.errors import ApiError
from receiver.sandbox.orders import INVALID, parse
from receiver.sandbox.templates import read_data
from receiver.sandbox.wire import Json
from receiver.sandbox.workspace import StoredCall

_DEFAULT_LIMIT, _MOST = 50, 1000
_PATHS: Mapping[str, Sequence[str]] = read_data("data/filters.yaml")["paths"]
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "sw": lambda text, part: text.startswith(part),
    "ew": lambda text, part: text.endswith(part),
    "co": lambda text, part: part in text,
    "in": lambda text, texts: text in texts,
    "bt": lambda number, ends: ends[0] <= number <= ends[1],
}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | float | None:
    """The value as a number; dynamic variables are strings."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _boolean(value: Any) -> bool | None:
    """The value as true or false; dynamic variables are strings."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value)
    return value if isinstance(value, bool) else None


_READ: Mapping[str, Callable[[Any], Any]] = {
    "string": _text,
    "enum": _text,
    "number": _number,
    "range": _number,
    "boolean": _boolean,
}


def meets(asked: Any, value: Any) -> bool:
    """Return whether a value, None if absent, meets a filter."""
    if asked is None:
        return True
    if asked.type == "present":
        return (value is not None) is (asked.op == "pr")
    found = _READ[asked.type](value)
    return found is not None and bool(_COMPARE[asked.op](found, asked.value))


def _matches(stored: StoredCall, criteria: Any) -> bool:
    """Return whether a call or chat meets all criteria; its creation replaces a missing start."""
    entity = {"start_timestamp": stored.created_ms} | stored.call
    return all(_holds(entity, name, asked) for name, asked in criteria or () if asked is not None)


def _holds(entity: Mapping[str, Any], name: str, asked: Any) -> bool:
    if name == "agent":
        version = entity.get("agent_version", entity.get("version"))
        of_agent = [agent for agent in asked if agent.agent_id == entity["agent_id"]]
        return not asked or any(not each.version or version in each.version for each in of_agent)
    if name == "tool_calls":
        runs = _tool_calls(entity)
        return all(any(_is_run(tool, *run) for run in runs) for tool in asked)
    noun = "call" if "call_id" in entity else "chat"
    value = _at(entity, [part.format(noun=noun) for part in _PATHS.get(name, (name,))])
    if isinstance(asked, list):
        return all(meets(each, _at(value, (each.key,))) for each in asked)
    return meets(asked, value)


def _at(value: Any, path: Iterable[str | None]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _tool_calls(call: Mapping[str, Any]) -> list[tuple[Json, Json]]:
    """The tool calls of a call, each with its result, which may be empty."""
    entries = call.get("transcript_with_tool_calls", [])
    results = {e["tool_call_id"]: e for e in entries if e["role"] == "tool_call_result"}
    runs = [entry for entry in entries if entry["role"] == "tool_call_invocation"]
    return [(run, results.get(run["tool_call_id"], {})) for run in runs]


def _is_run(asked: Any, run: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    latency_ms = None
    if "time_sec" in run and "time_sec" in result:
        latency_ms = round((result["time_sec"] - run["time_sec"]) * 1000)
    return (
        asked.name in (None, run["name"])
        and asked.type in (None, run.get("type"))
        and meets(asked.success, result.get("successful"))
        and meets(asked.latency_ms, latency_ms)
    )


# An item has no transcripts; get-call has.
_NOT_LISTED = (
    "transcript", "transcript_object", "transcript_with_tool_calls", "message_with_tool_calls"
)  # fmt: skip


def page(stored: Iterable[StoredCall], order: Any) -> Json:
    """Return the response of list-calls or list-chats. Raises ApiError 400 for an invalid key."""
    down = order.sort_order != "ascending"
    matching = [each for each in stored if _matches(each, order.filter_criteria)]
    found = sorted(((each.position, each.call) for each in matching), reverse=down)
    rest = found[order.skip or 0 :]
    if order.pagination_key is not None:
        # By position, not by index: a new call does not shift the pages.
        last = _position(order.pagination_key)
        after = operator.lt if down else operator.gt
        rest = [each for each in found if after(each[0], last)]
    items = rest[: order.limit or _DEFAULT_LIMIT]
    answer: Json = {
        "items": [
            {name: value for name, value in call.items() if not name.endswith(_NOT_LISTED)}
            for _, call in items
        ],
        "has_more": len(rest) > len(items),
    }
    if answer["has_more"]:
        key = json.dumps(items[-1][0]).encode()
        answer["pagination_key"] = base64.urlsafe_b64encode(key).decode()
    if order.include_total:
        answer["total"] = len(found)
    return answer


def _position(key: str) -> tuple[int, str]:
    try:
        at_ms, call_id = json.loads(base64.urlsafe_b64decode(key))
        return int(at_ms), str(call_id)
    except (ValueError, TypeError):
        raise ApiError(400, f"{INVALID} pagination_key is not valid") from None


T = TypeVar("T")


def plain_page(
    query: Mapping[str, str], oldest_first: Sequence[T], item: Callable[[T], Json]
) -> Json:
    """Return a page of agents or versions, by a query. Raises ApiError 400."""
    order = parse("page", dict(query))
    found = oldest_first if order.sort_order == "ascending" else oldest_first[::-1]
    start = order.pagination_key or "0"
    if not start.isdecimal():
        raise ApiError(400, f"{INVALID} pagination_key is not valid")
    end = int(start) + (order.limit or _MOST)
    answer: Json = {
        "items": [item(one) for one in found[int(start) : end]],
        "has_more": end < len(found),
    }
    return answer | ({"pagination_key": str(end)} if answer["has_more"] else {})
