"""list-calls: filtered, sorted, a page at a time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from receiver.errors import Refusal
from receiver.sandbox.filters import Criteria, matches
from receiver.sandbox.orders import INVALID, Body

# An item has no transcripts; get-call has.
_NOT_LISTED = ("transcript", "transcript_object", "transcript_with_tool_calls")


@dataclass(frozen=True)
class Filed:
    """A call and the moment it is sorted by: its start, or its creation if it never started."""

    call: dict[str, Any]
    filed_ms: int

    @property
    def position(self) -> tuple[int, str]:
        """Its place in the list; no two calls share one."""
        return self.call.get("start_timestamp", self.filed_ms), self.call["call_id"]


class ListOrder(Body):
    """The body of list-calls."""

    filter_criteria: Criteria = Criteria()
    sort_order: Literal["ascending", "descending"] = "descending"
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    pagination_key: str | None = None
    skip: Annotated[int, Field(ge=0)] | None = None
    include_total: bool = False

    @model_validator(mode="after")
    def _one_way_on(self) -> ListOrder:
        if self.pagination_key is not None and self.skip is not None:
            raise ValueError("pagination_key and skip cannot be used together")
        return self


def page(calls: Iterable[Filed], order: ListOrder) -> dict[str, Any]:
    """Return the answer of list-calls. Raises Refusal 400 for a key that is none of ours."""
    down = order.sort_order == "descending"
    found = [
        filed
        for filed in calls
        if matches(filed.call, order.filter_criteria, filed_ms=filed.filed_ms)
    ]
    found.sort(key=lambda filed: filed.position, reverse=down)
    rest = found[order.skip or 0 :]
    if order.pagination_key is not None:
        # By position, not by number: a call that comes meanwhile shifts no page.
        last = _position(order.pagination_key)
        rest = [
            filed for filed in found if (filed.position < last if down else filed.position > last)
        ]
    items = rest[: order.limit]
    answer: dict[str, Any] = {
        "items": [_item(filed.call) for filed in items],
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
        raise Refusal(400, f"{INVALID} pagination_key is not one of ours") from None
