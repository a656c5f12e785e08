"""A set of observations -> one call.

The state is a grow-only set of observations, and the rows of a call are a pure function of that
set: any order of arrival and any number of deliveries end in the same tables. For each top-level
field, the value of the highest observation that has it wins, as a whole. Absent and null values are
ignored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from schema.events import Event, RawFields, value

TERMINAL_STATUSES = frozenset({"ended", "not_connected", "error"})

_EVENT_LEVELS = {
    "call_started": 1,
    "chat_started": 1,
    "transcript_updated": 1,
    "call_ended": 2,
    "chat_ended": 2,
    "call_analyzed": 3,
    "chat_analyzed": 3,
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One distinct body about an entity; `observed_at` in milliseconds.

    `event` is None if the body is compacted, erased or not loaded.
    """

    level: int
    observed_at: int
    source: str
    body_sha256: str
    event: Event | None = field(default=None, kw_only=True)

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """The total order of observations. Level comes before time, so that a late, re-signed
        retry of call_ended cannot beat call_analyzed."""
        return (self.level, self.observed_at, self.source, self.body_sha256)

    @property
    def fields(self) -> RawFields:
        """Its fields; empty if its body is not loaded."""
        return self.event.fields if self.event else {}

    @property
    def is_transfer(self) -> bool:
        """Whether it reports a step of a transfer."""
        return self.event is not None and (self.event.event or "").startswith("transfer_")


def is_over(status: Any, end_timestamp: object, disconnection_reason: object) -> bool:
    """Whether a call or chat with these values is over."""
    return (
        (isinstance(status, str) and status in TERMINAL_STATUSES)
        or end_timestamp is not None
        or disconnection_reason is not None
    )


def fields_are_over(fields: RawFields) -> bool:
    """Whether a call or chat with these fields is over."""
    return is_over(
        value(fields.get("call_status", fields.get("chat_status"))),
        fields.get("end_timestamp"),
        fields.get("disconnection_reason"),
    )


def began_at(start_timestamp: int | None, observed_at: int | None) -> int | None:
    """When a call or chat began, in milliseconds: when it was first reported, if it has no start.
    Views and rollups have the same rule as call_time in schema/sql/views.sql."""
    return start_timestamp if start_timestamp is not None else observed_at or None


def level(event: Event, *, source: str) -> int:
    """The stage of the call or chat: 0 registered, 1 ongoing, 2 ended, 3 analysed.

    The higher of what the event's name and the object's content say.
    """
    fields, name = event.fields, event.event or ""
    status = value(fields.get("call_status", fields.get("chat_status")))
    finished = fields_are_over(fields)
    if "call_analysis" in fields or "chat_analysis" in fields or (source == "api" and finished):
        return 3
    by_content = 2 if finished else 1 if status == "ongoing" else 0
    by_name = 1 if name.startswith("transfer_") else _EVENT_LEVELS.get(name, 0)
    return max(by_content, by_name)


def fold(observations: Iterable[Observation]) -> dict[str, bytes]:
    """Merge observations: each field has the value of the highest observation that has it."""
    merged: dict[str, bytes] = {}
    for observation in sorted(observations, key=lambda o: o.rank):
        merged |= observation.fields
    return merged


def retired(candidate: Observation, higher: Iterable[Observation]) -> bool:
    """Whether `candidate`'s body may be deleted: an observation of a strictly higher level has each
    of its fields.

    A later duplicate can move an observation within its level, but not to another. A body with more
    keys in its envelope (a transfer's destination) is kept.
    """
    if candidate.event is None or candidate.event.envelope or candidate.is_transfer:
        return False
    fields = {name for o in higher if o.level > candidate.level for name in o.fields}
    return candidate.fields.keys() <= fields


def compactable(observations: Sequence[Observation]) -> list[Observation]:
    """The observations whose bodies may be deleted."""
    # One observation per level and set of fields is enough.
    carriers = {(o.level, frozenset(o.fields)): o for o in observations}
    return [o for o in observations if retired(o, carriers.values())]
