"""The pages of list-calls, day by day, and how a listed call compares to what is stored of it.

Source: https://docs.retellai.com/api-references/list-calls
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from receiver.errors import BadRequest, UnexpectedAnswer
from receiver.retell.client import Answer, Retell, items_of, next_key
from receiver.retell.http import compact
from schema.events import Fields, parse, value
from schema.merge import began_at, fields_are_over, is_over
from schema.rows import MEDIA_KINDS, Stamp, project
from schema.tables import CALLS

# Retell adds to a call for some time after its end: the analysis, a transferred leg, its cost. What
# a response lacks that was fetched so long after the end, later ones will lack too.
SETTLED_MS = 2 * 24 * 3600 * 1000
# A sync that continues from an earlier one lists this many days again, for calls that were ongoing
# and calls that Retell added late.
OVERLAP_DAYS = 2

_LINKS = frozenset(f"{kind}_url" for kind in MEDIA_KINDS)


@dataclass(frozen=True, slots=True)
class CallProgress:
    """How complete a call is, as Retell lists it or as it is stored."""

    is_over: bool
    is_analysed: bool
    cost_is_final: bool
    # Whether Retell can have a transcript of it.
    expects_transcript: bool
    # Milliseconds of its end, else its start, else when it was reported.
    at: int


@dataclass(frozen=True, slots=True)
class StoredCall:
    """What is stored of a call; `progress` is None if nothing is.

    `fetched_at` is when Retell last answered about it, in milliseconds.
    """

    progress: CallProgress | None
    has_transcript: bool = False
    fetched_at: int | None = None
    is_gone: bool = False
    is_erased: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it was fetched so long after its end that a later response has nothing more."""
        return (
            self.progress is not None
            and self.fetched_at is not None
            and self.fetched_at >= self.progress.at + SETTLED_MS
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Calls to list together: those of `day`, from `since` to `until` in milliseconds, both
    included; None is open."""

    day: date
    since: int | None
    until: int | None


def progress_of(row: Mapping[str, Any], *, is_analysed: bool) -> CallProgress:
    """The progress of a row of calls."""
    end = row["end_timestamp"]
    at = began_at(row["start_timestamp"], row["observed_at"]) if end is None else end
    return CallProgress(
        is_over=is_over(row["call_status"], row["end_timestamp"], row["disconnection_reason"]),
        is_analysed=is_analysed,
        cost_is_final=bool(row["cost_is_final"]),
        expects_transcript=row["call_status"] != "not_connected"
        and row["start_timestamp"] is not None
        and row["data_storage_setting"] != "basic_attributes_only",
        at=at or 0,
    )


def row_of(call_id: str, fields: Fields, observed_at: int) -> dict[str, Any]:
    """The row of calls made from a listed item alone."""
    rows = project(call_id, fields, Stamp(0, observed_at, observed_at))
    return dict(zip(CALLS.names, rows["calls", None][0], strict=True))


def missing_parts(listed: CallProgress, stored: StoredCall) -> list[str]:
    """The parts that are not stored of a listed call; `["call"]` if nothing is.

    Empty for a call that is erased, gone at Retell or ongoing, and for one that was fetched long
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
    """Whether Retell may have more of a stored call than is stored."""
    progress = stored.progress
    if progress is None or stored.is_gone or stored.is_erased or stored.is_settled:
        return False
    is_complete = progress.is_over and progress.is_analysed and progress.cost_is_final
    return not is_complete or (progress.expects_transcript and not stored.has_transcript)


def adds_information(fields: Fields, stored: Fields) -> bool:
    """Whether `fields` has anything that `stored`, the fold of all observations, lacks.

    An ongoing call adds nothing to a call that is over, and neither does another signed URL of the
    same recording.
    """
    if fields_are_over(stored) and not fields_are_over(fields):
        return False
    return any(
        name not in stored
        or (stored[name] != raw and name not in _LINKS and value(stored[name]) != value(raw))
        for name, raw in fields.items()
    )


def window(day: date, zone: ZoneInfo, *, is_first: bool = False, is_last: bool = False) -> Window:
    """A day of `zone`. The first is open to the past and the last to the future, because clocks
    may differ."""
    return Window(
        day,
        None if is_first else _midnight(day, zone),
        None if is_last else _midnight(day + timedelta(days=1), zone) - 1,
    )


def day_of(milliseconds: int, zone: ZoneInfo) -> date:
    """The day of a time in `zone`. Raises ValueError outside of the calendar."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, zone).date()
    except (OverflowError, OSError):
        raise ValueError("the time is outside of the calendar") from None


def begins_on(milliseconds: Any, zone: ZoneInfo, *, otherwise: date) -> date:
    """The day on which a call began; `otherwise` if its start is missing or not a time."""
    if not isinstance(milliseconds, int):
        return otherwise
    try:
        return day_of(milliseconds, zone)
    except ValueError:
        return otherwise


def resume_day(next_day: date, started_on: date) -> date:
    """The first day to list after a sync that had listed all days before `next_day`."""
    return min(next_day, started_on - timedelta(days=OVERLAP_DAYS))


def _midnight(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


# Calls in the page that is searched for the first start.
_FIRST_PAGE = 50


@dataclass(frozen=True, slots=True)
class Item:
    """A call in a page of list-calls, without transcripts. `observed_at` in milliseconds."""

    call_id: str
    agent_id: str
    agent_name: str | None
    day: date
    progress: CallProgress
    fields: Fields
    body: bytes
    observed_at: int


@dataclass(frozen=True, slots=True)
class Page:
    """Calls of a window that no earlier page had."""

    items: list[Item]
    is_last: bool


class Listing:
    """The calls of an account, or of one agent, listed by days of `zone`."""

    def __init__(self, retell: Retell, zone: ZoneInfo, agent_id: str | None = None) -> None:
        self._retell = retell
        self.zone = zone
        self.agent_id = agent_id
        # The ids of the window that was listed last.
        self.listed: set[str] = set()

    def first_day(self, after: int | None = None) -> date | None:
        """The day of the first call that began at `after` or later; None if there is none.

        Calls that never began have no day: then it is the day of `after`.
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
        """The days to list; read the `pages` of each before asking for the next.

        Without `until` the last is open to the future; with `from_start` the first is open to the
        past. Days without calls are skipped.
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
                # The last day may be open, so it is always listed.
                day = min(max(day, found or last), last)

    def pages(self, here: Window, *, limit: int) -> Iterator[Page]:
        """The calls of a window, oldest first. Raises RetellError.

        Starts once more if Retell rejects the key to the next page.
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
                raise UnexpectedAnswer("Retell lists a call without call_id")
            row = row_of(event.entity_id, event.fields, answer.started_at_ms)
            start = row["start_timestamp"]
            yield Item(
                call_id=event.entity_id,
                agent_id=row["agent_id"] or "",
                agent_name=row["agent_name"],
                day=begins_on(start, self.zone, otherwise=here.day),
                progress=progress_of(row, is_analysed="call_analysis" in event.fields),
                fields=event.fields,
                body=body,
                observed_at=answer.started_at_ms,
            )
