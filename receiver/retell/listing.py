"""The pages of list-calls and list-chats, day by day, and how an item compares to what is stored.

Source: https://docs.retellai.com/api-references/list-calls
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from receiver.clock import midnight_ms
from receiver.errors import BadRequest, NotAtRetell, UnexpectedAnswer
from receiver.retell.client import Answer, Retell, items_of, next_key
from receiver.retell.http import compact
from schema.chats import project_chat
from schema.events import RawFields, parse, value
from schema.merge import began_at, fields_are_over, is_over
from schema.rows import MEDIA_KINDS, Stamp, project
from schema.tables import CALLS, CHATS

EntityType = Literal["call", "chat"]
ENTITY_TYPES: tuple[EntityType, ...] = ("call", "chat")

# For some time after a call's end, Retell adds the analysis, a transferred leg and its cost. A
# response that was fetched so long after the end is final.
SETTLED_MS = 2 * 24 * 3600 * 1000
# A sync lists so many days of an earlier one again, because calls were ongoing or added late.
OVERLAP_DAYS = 2

_LINKS = frozenset(f"{kind}_url" for kind in MEDIA_KINDS)


@dataclass(frozen=True, slots=True)
class CallProgress:
    """How complete a call or chat is, as Retell lists it or as it is stored."""

    is_over: bool
    is_analysed: bool
    cost_is_final: bool
    # Whether it can have a transcript.
    expects_transcript: bool
    # Its end in milliseconds, or its start, or when it was reported.
    at: int


@dataclass(frozen=True, slots=True)
class StoredCall:
    """The stored state of a call or chat; `progress` is None if it is not stored.

    `fetched_at` is the time of Retell's last response about it, in milliseconds.
    """

    progress: CallProgress | None
    has_transcript: bool = False
    fetched_at: int | None = None
    is_gone: bool = False
    is_erased: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it was fetched so long after its end that the response was final."""
        return (
            self.progress is not None
            and self.fetched_at is not None
            and self.fetched_at >= self.progress.at + SETTLED_MS
        )


@dataclass(frozen=True, slots=True)
class Window:
    """The calls and chats of `day`, from `since` to `until` in milliseconds, inclusive; None means
    no limit."""

    day: date
    since: int | None
    until: int | None


# Columns of which an analysed chat has at least one.
_CHAT_ANALYSIS = ("chat_summary", "user_sentiment", "chat_successful", "custom_analysis_data")


def progress_of(row: Mapping[str, Any], *, is_analysed: bool = False) -> CallProgress:
    """The progress of a row of calls or chats. A row of chats says itself whether it is analysed,
    and its cost changes no more once it is over."""
    end = row["end_timestamp"]
    at = began_at(row["start_timestamp"], row["observed_at"]) if end is None else end
    is_chat = "chat_status" in row
    status = row["chat_status" if is_chat else "call_status"]
    over = is_over(status, row["end_timestamp"], row["disconnection_reason"])
    has_cost = over and row["combined_cost_cents"] is not None
    return CallProgress(
        is_over=over,
        is_analysed=any(row[name] is not None for name in _CHAT_ANALYSIS)
        if is_chat
        else is_analysed,
        cost_is_final=has_cost if is_chat else bool(row["cost_is_final"]),
        expects_transcript=status != "not_connected"
        and row["start_timestamp"] is not None
        and row["data_storage_setting"] != "basic_attributes_only",
        at=at or 0,
    )


def row_of(
    entity_id: str, fields: RawFields, observed_at: int, entity_type: EntityType = "call"
) -> dict[str, Any]:
    """The row of calls or chats made from a listed item alone."""
    stamp = Stamp(0, observed_at, observed_at)
    if entity_type == "chat":
        rows = project_chat(entity_id, fields, stamp)
        return dict(zip(CHATS.names, rows["chats", None][0], strict=True))
    rows = project(entity_id, fields, stamp)
    return dict(zip(CALLS.names, rows["calls", None][0], strict=True))


def missing_parts(listed: CallProgress, stored: StoredCall) -> list[str]:
    """The missing parts of a listed call or chat; `["call"]` if it is not stored.

    Empty for a call that is erased, deleted at Retell or ongoing, and for one that was fetched long
    after its end.
    """
    if stored.is_erased or stored.is_gone:
        return []
    if stored.progress is None:
        return ["call"]
    if not listed.is_over or stored.is_settled:
        return []
    return [
        part
        for part, is_lacking in (
            ("end", not stored.progress.is_over),
            ("transcript", listed.expects_transcript and not stored.has_transcript),
            ("analysis", listed.is_analysed and not stored.progress.is_analysed),
            ("cost", listed.cost_is_final and not stored.progress.cost_is_final),
        )
        if is_lacking
    ]


def is_open(stored: StoredCall) -> bool:
    """Whether Retell may have more data about a stored call."""
    progress = stored.progress
    if progress is None or stored.is_gone or stored.is_erased or stored.is_settled:
        return False
    is_complete = progress.is_over and progress.is_analysed and progress.cost_is_final
    return not is_complete or (progress.expects_transcript and not stored.has_transcript)


def adds_information(fields: RawFields, stored: RawFields) -> bool:
    """Whether `fields` has information that is not in `stored`, the fold of all observations.

    An ongoing call adds none to one that is over, nor does another signed URL of the same
    recording.
    """
    if fields_are_over(stored) and not fields_are_over(fields):
        return False
    return any(
        name not in stored
        or (stored[name] != raw and name not in _LINKS and value(stored[name]) != value(raw))
        for name, raw in fields.items()
    )


def window(day: date, zone: ZoneInfo, *, is_first: bool = False, is_last: bool = False) -> Window:
    """A day of `zone`. The first day has no beginning and the last has no end, because clocks may
    differ."""
    return Window(
        day,
        None if is_first else midnight_ms(day, zone),
        None if is_last else midnight_ms(day + timedelta(days=1), zone) - 1,
    )


def day_of(milliseconds: int, zone: ZoneInfo) -> date:
    """The day of a time in `zone`. Raises ValueError outside of the calendar."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, zone).date()
    except (OverflowError, OSError):
        raise ValueError("the time is outside of the calendar") from None


def begins_on(milliseconds: Any, zone: ZoneInfo, *, otherwise: date) -> date:
    """The day on which a call began; `otherwise` if its start is missing or invalid."""
    if not isinstance(milliseconds, int):
        return otherwise
    try:
        return day_of(milliseconds, zone)
    except ValueError:
        return otherwise


def resume_day(next_day: date, started_on: date) -> date:
    """The first day to list after a sync that had listed all days before `next_day`."""
    return min(next_day, started_on - timedelta(days=OVERLAP_DAYS))


# The size of the page that is searched for the first start.
_FIRST_PAGE = 50


@dataclass(frozen=True, slots=True)
class Item:
    """A call or chat in a page of a list, without transcripts. `observed_at` in milliseconds."""

    entity_id: str
    agent_id: str
    agent_name: str | None
    day: date
    progress: CallProgress
    fields: RawFields
    body: bytes
    observed_at: int


@dataclass(frozen=True, slots=True)
class Page:
    """New calls, or chats, of a window. `is_last`: the window has no further page."""

    entity_type: EntityType
    items: list[Item]
    is_last: bool


class Listing:
    """The calls and chats of an account, or of one agent, listed by days of `zone`."""

    def __init__(self, retell: Retell, zone: ZoneInfo, agent_id: str | None = None) -> None:
        self._retell = retell
        self.zone = zone
        self.agent_id = agent_id
        # The ids of the window that was listed last.
        self.listed: set[str] = set()

    def first_day(self, after: int | None = None) -> date | None:
        """The day of the first call or chat that began at `after` or later; None if there is none.

        Calls that never began have no day: then it is the day of `after`.
        """
        days = [self._first_day(entity_type, after) for entity_type in ENTITY_TYPES]
        return min((day for day in days if day is not None), default=None)

    def _first_day(self, entity_type: EntityType, after: int | None) -> date | None:
        answer = self._list(entity_type, self._body(after, None) | {"limit": _FIRST_PAGE})
        calls = items_of(answer, f"{entity_type}s") if answer else []
        if answer is None or not calls:
            return None
        starts = [start for call in calls if isinstance(start := call.get("start_timestamp"), int)]
        if after is not None and not isinstance(calls[0].get("start_timestamp"), int):
            return day_of(after, self.zone)
        today = day_of(answer.started_at_ms, self.zone)
        return begins_on(starts[0], self.zone, otherwise=today) if starts else today

    def windows(
        self, since: date, until: date | None, today: date, *, from_start: bool
    ) -> Iterator[Window]:
        """The days to list; read the `pages` of each before asking for the next.

        Without `until` the last day has no end; with `from_start` the first has no beginning. Days
        without calls are skipped.
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
                # The last day may have no end, so it is always listed.
                day = min(max(day, found or last), last)

    def pages(self, here: Window, *, limit: int) -> Iterator[Page]:
        """The calls of a window, oldest first, then its chats. Raises RetellError.

        Starts once again if Retell rejects the key of the next page.
        """
        self.listed = set()
        for entity_type in ENTITY_TYPES:
            yield from self._pages(entity_type, here, limit)

    def _pages(self, entity_type: EntityType, here: Window, limit: int) -> Iterator[Page]:
        key, restarts = None, 0
        seen: set[str] = set()
        is_last_list = entity_type == ENTITY_TYPES[-1]
        while True:
            body = self._body(here.since, here.until) | {"limit": limit}
            try:
                answer = self._list(entity_type, body | ({"pagination_key": key} if key else {}))
            except BadRequest:
                if key is None or restarts:
                    raise
                key, restarts = None, restarts + 1
                seen.clear()
                continue
            found = self._items(entity_type, answer, here) if answer else iter(())
            items = [item for item in found if item.entity_id not in self.listed]
            self.listed |= {item.entity_id for item in items}
            key = next_key(answer, seen) if answer else None
            yield Page(entity_type, items, is_last=key is None and is_last_list)
            if key is None:
                return

    def _list(self, entity_type: EntityType, body: Mapping[str, Any]) -> Answer | None:
        """A page; None if this API has no list of chats."""
        if entity_type == "call":
            return self._retell.list_calls(body)
        try:
            return self._retell.list_chats(body)
        except NotAtRetell:
            return None

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

    def _items(self, entity_type: EntityType, answer: Answer, here: Window) -> Iterator[Item]:
        for item in items_of(answer, f"{entity_type}s"):
            body = compact(item)
            event = parse(body, source="api")
            if event.entity_type != entity_type:
                raise UnexpectedAnswer(f"Retell lists a {entity_type} without {entity_type}_id")
            row = row_of(event.entity_id, event.fields, answer.started_at_ms, entity_type)
            start = row["start_timestamp"]
            yield Item(
                entity_id=event.entity_id,
                agent_id=row["agent_id"] or "",
                agent_name=row["agent_name"],
                day=begins_on(start, self.zone, otherwise=here.day),
                progress=progress_of(row, is_analysed="call_analysis" in event.fields),
                fields=event.fields,
                body=body,
                observed_at=answer.started_at_ms,
            )
