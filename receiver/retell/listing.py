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
from schema.merge import TERMINAL_STATUSES
from schema.parts import MEDIA_KINDS
from schema.rows import Stamp, project
from schema.tables import CALLS

# Retell adds to a call for some time after its end: the analysis, a transferred leg, its cost. What
# an answer lacks that was fetched so long after the end, later ones will lack too.
SETTLED_MS = 2 * 24 * 3600 * 1000
# A sync that continues from an earlier one lists as many days again that it had listed already, for
# calls that were going on and those that were filed late.
OVERLAP_DAYS = 2

_LINKS = frozenset(f"{kind}_url" for kind in MEDIA_KINDS)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far a call is: as Retell lists it, or as it is stored. Times in milliseconds."""

    is_over: bool
    is_analysed: bool
    cost_is_final: bool
    # Whether something may have been said that may be kept.
    expects_transcript: bool
    # Its end, or its start, or when it was reported.
    at: int


@dataclass(frozen=True, slots=True)
class Held:
    """What the warehouse has of a call; `snapshot` is None when it has nothing."""

    snapshot: Snapshot | None
    has_transcript: bool = False
    asked_at: int | None = None
    is_gone: bool = False
    is_erased: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether an answer of Retell came so late that a later one will hold no more."""
        return (
            self.snapshot is not None
            and self.asked_at is not None
            and self.asked_at >= self.snapshot.at + SETTLED_MS
        )


@dataclass(frozen=True, slots=True)
class Window:
    """Calls to list together: those of `day`, from `since` to `until` in milliseconds, both
    included; None is open."""

    day: date
    since: int | None
    until: int | None


def snapshot(row: Mapping[str, Any], *, is_analysed: bool) -> Snapshot:
    """The snapshot of a row of calls."""
    times = (row["end_timestamp"], row["start_timestamp"], row["observed_at"])
    return Snapshot(
        is_over=row["call_status"] in TERMINAL_STATUSES
        or row["end_timestamp"] is not None
        or row["disconnection_reason"] is not None,
        is_analysed=is_analysed,
        cost_is_final=bool(row["cost_is_final"]),
        expects_transcript=row["call_status"] != "not_connected"
        and row["start_timestamp"] is not None
        and row["data_storage_setting"] != "basic_attributes_only",
        at=next((time for time in times if time is not None), 0),
    )


def row_of(call_id: str, fields: Fields, observed_at: int) -> dict[str, Any]:
    """The row of calls that a listed item would have by itself."""
    rows = project(call_id, fields, Stamp(0, observed_at, observed_at))
    return dict(zip(CALLS.names, rows["calls", None][0], strict=True))


def lacks(listed: Snapshot, held: Held) -> list[str]:
    """What the warehouse lacks of a call that Retell lists: the whole call, or parts of it.

    Nothing of a call that is erased here or was not found there, or is in progress: it has nothing
    final yet. Nor what an answer long after its end lacked too.
    """
    if held.is_erased or held.is_gone:
        return []
    if held.snapshot is None:
        return ["call"]
    if not listed.is_over or held.is_settled:
        return []
    return [
        part
        for part, is_lacking in (
            ("end", not held.snapshot.is_over),
            ("transcript", listed.expects_transcript and not held.has_transcript),
            ("analysis", listed.is_analysed and not held.snapshot.is_analysed),
            ("cost", listed.cost_is_final and not held.snapshot.cost_is_final),
        )
        if is_lacking
    ]


def is_open(held: Held) -> bool:
    """Whether Retell may know more of a stored call than is stored, and was not asked too late."""
    stored = held.snapshot
    if stored is None or held.is_gone or held.is_erased or held.is_settled:
        return False
    is_whole = stored.is_over and stored.is_analysed and stored.cost_is_final
    return not is_whole or (stored.expects_transcript and not held.has_transcript)


def is_news(said: Fields, known: Fields) -> bool:
    """Whether `said` holds anything beyond `known`, what all observations say together.

    An answer that shows the call in progress adds nothing to a call that is over. Nor does another
    link to the same recording: signed links differ each time.
    """
    if _is_over(known) and not _is_over(said):
        return False
    return any(
        name not in known
        or (known[name] != spelled and name not in _LINKS and value(known[name]) != value(spelled))
        for name, spelled in said.items()
    )


def _is_over(fields: Fields) -> bool:
    status = value(fields.get("call_status"))
    return (
        (isinstance(status, str) and status in TERMINAL_STATUSES)
        or "end_timestamp" in fields
        or "disconnection_reason" in fields
    )


def window(day: date, zone: ZoneInfo, *, is_first: bool = False, is_last: bool = False) -> Window:
    """A day of `zone`. The first of all is open to the past, the last of all to the future: no
    clock is trusted to say when the account began or what time it is at Retell."""
    return Window(
        day,
        None if is_first else _midnight(day, zone),
        None if is_last else _midnight(day + timedelta(days=1), zone) - 1,
    )


def day_of(milliseconds: int, zone: ZoneInfo) -> date:
    """The day of `zone` in which a moment lies. Raises ValueError if no calendar has it."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, zone).date()
    except (OverflowError, OSError):
        raise ValueError("no calendar has this time") from None


def begins_on(milliseconds: Any, zone: ZoneInfo, *, otherwise: date) -> date:
    """The day on which a call began; `otherwise` if it does not say, or says what is no time."""
    if not isinstance(milliseconds, int):
        return otherwise
    try:
        return day_of(milliseconds, zone)
    except ValueError:
        return otherwise


def goes_on_from(next_day: date, started_on: date) -> date:
    """The first day that a sync must list after one that had listed all days before `next_day`."""
    return min(next_day, started_on - timedelta(days=OVERLAP_DAYS))


def _midnight(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


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
