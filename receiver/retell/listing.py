"""Asking Retell what calls there are: pages of list-calls, day by day.

Source: https://docs.retellai.com/api-references/list-calls
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.errors import BadRequest, UnexpectedAnswer
from receiver.retell.client import Answer, Retell, items_of, next_key
from receiver.retell.planning import Snapshot, Window, begins_on, day_of, row_of, snapshot, window
from receiver.retell.sending import compact
from schema.events import Fields, parse

# Enough to find one that has started.
_FIRST_PAGE = 50


@dataclass(frozen=True, slots=True)
class Item:
    """A call as list-calls has it: without its transcripts. `observed_at` in milliseconds."""

    call_id: str
    agent_id: str
    agent_name: str | None
    day: date
    snapshot: Snapshot
    fields: Fields
    body: bytes
    observed_at: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some calls of a window, none of which a page before had."""

    items: list[Item]
    is_last: bool


class Listing:
    """The calls of an account, or of one of its agents; `zone` says what a day is."""

    def __init__(self, retell: Retell, zone: ZoneInfo, agent_id: str | None = None) -> None:
        self._retell = retell
        self.zone = zone
        self.agent_id = agent_id
        # The ids of the window that was read last.
        self.listed: set[str] = set()

    def first_day(self, after: int | None = None) -> date | None:
        """The day of the first call that began at `after` or later; None if there is none.

        Of calls that never began nothing tells their day: then the day of `after` stands.
        """
        body = self._body(after, None) | {"limit": _FIRST_PAGE}
        answer = self._retell.list_calls(body)
        calls = items_of(answer, "calls")
        if not calls:
            return None
        starts = [start for call in calls if isinstance(start := call.get("start_timestamp"), int)]
        if after is not None and not isinstance(calls[0].get("start_timestamp"), int):
            return day_of(after, self.zone)
        today = day_of(answer.started_at_ms, self.zone)
        return begins_on(starts[0], self.zone, otherwise=today) if starts else today

    def windows(
        self, since: date, until: date | None, today: date, *, from_start: bool
    ) -> Iterator[Window]:
        """The days to list, one after the other; `pages` must have been read before the next.

        Without `until` the last is open to the future; with `from_start` the first is open to the
        past. Days on which nothing began are passed over without listing each.
        """
        last = until or max(today, since)
        day, is_first = since, from_start
        while day <= last:
            is_last = until is None and day == last
            here = window(day, self.zone, is_first=is_first, is_last=is_last)
            yield here
            is_first = False
            day += timedelta(days=1)
            if here.until is not None and day <= last and not self.listed:
                found = self.first_day(here.until + 1)
                # The last day is listed in any case: it may be open.
                day = min(max(day, found or last), last)

    def pages(self, here: Window, *, limit: int) -> Iterator[Page]:
        """The calls of a window, oldest first. Raises RetellError.

        A key to the next page that is not good any more makes it begin once more.
        """
        self.listed = set()
        key, restarts = None, 0
        seen: set[str] = set()
        while True:
            body = self._body(here.since, here.until) | {"limit": limit}
            try:
                answer = self._retell.list_calls(body | ({"pagination_key": key} if key else {}))
            except BadRequest:
                if key is None or restarts:
                    raise
                key, restarts = None, restarts + 1
                seen.clear()
                continue
            items = [item for item in self._items(answer, here) if item.call_id not in self.listed]
            self.listed |= {item.call_id for item in items}
            key = next_key(answer, seen)
            yield Page(items, is_last=key is None)
            if key is None:
                return

    def _body(self, since: int | None, until: int | None) -> dict[str, Any]:
        criteria: dict[str, Any] = {}
        if self.agent_id is not None:
            criteria["agent"] = [{"agent_id": self.agent_id}]
        if since is not None and until is not None:
            criteria["start_timestamp"] = {"type": "range", "op": "bt", "value": [since, until]}
        elif since is not None:
            criteria["start_timestamp"] = {"type": "number", "op": "ge", "value": since}
        elif until is not None:
            criteria["start_timestamp"] = {"type": "number", "op": "le", "value": until}
        return {"filter_criteria": criteria, "sort_order": "ascending"}

    def _items(self, answer: Answer, here: Window) -> Iterator[Item]:
        for call in items_of(answer, "calls"):
            body = compact(call)
            event = parse(body, source="api")
            if event.entity_type != "call":
                raise UnexpectedAnswer("Retell lists something that has no call_id")
            row = row_of(event.entity_id, event.fields, answer.started_at_ms)
            start = row["start_timestamp"]
            yield Item(
                call_id=event.entity_id,
                agent_id=row["agent_id"] or "",
                agent_name=row["agent_name"],
                day=begins_on(start, self.zone, otherwise=here.day),
                snapshot=snapshot(row, is_analysed="call_analysis" in event.fields),
                fields=event.fields,
                body=body,
                observed_at=answer.started_at_ms,
            )
