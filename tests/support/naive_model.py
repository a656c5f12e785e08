"""A second, simple implementation of the merge rule, which computes the expected tables.

It does not call schema.merge or receiver.store. Only the projection of merged fields is shared with
the code (`schema.rows.project`, `schema.chats.project_chat`), which has tests of its own.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schema.chats import project_chat
from schema.disconnection_reasons import REASONS
from schema.rows import Stamp, project
from schema.tables import CALLS, TABLES
from tests.support.raw_fields import raw_fields

TERMINAL = ("ended", "not_connected", "error")


@dataclass(frozen=True)
class Delivery:
    """One arrival of a body: `at` is the time of its signature or fetch, `received` that of the
    receiver's clock.

    Without an event it is a bare object, as the API answers.
    """

    event: str | None
    fields: dict[str, Any]
    at: int = 0
    received: int = 0
    id: str = "c"
    kind: str = "call"
    source: str = "webhook"
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        payload = {f"{self.kind}_id": self.id, **self.fields}
        if self.event is None:
            return json.dumps(payload).encode()
        return json.dumps({"event": self.event, self.kind: payload, **self.beside}).encode()

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.id, hashlib.sha256(self.body).hexdigest(), self.source)


@dataclass(frozen=True)
class Seen:
    """All deliveries of one body from one source."""

    deliveries: list[Delivery]

    @property
    def first(self) -> Delivery:
        return self.deliveries[0]

    @property
    def content(self) -> dict[str, Any]:
        """The fields that are not null."""
        named = {f"{self.first.kind}_id": self.first.id, **self.first.fields}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def at(self) -> int:
        times = [d.at for d in self.deliveries]
        return max(times) if self.first.source == "api" else min(times)

    @property
    def first_received(self) -> int:
        return min(d.received for d in self.deliveries)

    @property
    def is_transfer(self) -> bool:
        return (self.first.event or "").startswith("transfer_")

    @property
    def level(self) -> int:
        event, content = self.first.event, self.content
        status = content.get(f"{self.first.kind}_status")
        over = status in TERMINAL or "end_timestamp" in content or "disconnection_reason" in content
        if event in ("call_analyzed", "chat_analyzed"):
            return 3
        if "call_analysis" in content or "chat_analysis" in content:
            return 3
        if self.first.source == "api" and over:
            return 3
        if event in ("call_ended", "chat_ended") or over:
            return 2
        if event in ("call_started", "chat_started", "transcript_updated") or self.is_transfer:
            return 1
        return 1 if status == "ongoing" else 0

    @property
    def rank(self) -> tuple[int, int, str, str]:
        return (self.level, self.at, self.first.source, self.first.key[1])


def observations(deliveries: Iterable[Delivery]) -> list[Seen]:
    """One per entity, body and source."""
    groups: dict[tuple[str, str, str], list[Delivery]] = {}
    for delivery in deliveries:
        groups.setdefault(delivery.key, []).append(delivery)
    return [Seen(group) for group in groups.values()]


def merged(seen: list[Seen]) -> dict[str, Any]:
    """For each field, the value of the highest observation that has it."""
    names = {name for o in seen for name in o.content}
    return {
        name: max((o for o in seen if name in o.content), key=lambda o: o.rank).content[name]
        for name in names
    }


def keeps_body(one: Seen, all_seen: list[Seen]) -> bool:
    """Whether no observation of a strictly higher level has one of its fields."""
    if one.is_transfer or one.first.beside:
        return True
    higher = {name for o in all_seen if o.level > one.level for name in o.content}
    return not set(one.content) <= higher


def of_each(deliveries: Iterable[Delivery]) -> dict[tuple[str, str], list[Seen]]:
    """(id, kind) -> its observations."""
    entities: dict[tuple[str, str], list[Seen]] = {}
    for o in observations(deliveries):
        entities.setdefault((o.first.id, o.first.kind), []).append(o)
    return entities


def shown(deliveries: Iterable[Delivery]) -> dict[str, dict[str, Any]]:
    """id -> the expected output of `show`; the call, if a call and a chat have the same id."""
    entities = of_each(deliveries)
    of_kind = {
        kind: {id: merged(seen) for (id, of), seen in entities.items() if of == kind}
        for kind in ("call", "chat")
    }
    return of_kind["chat"] | of_kind["call"]


def tables(deliveries: Iterable[Delivery]) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in the form of `conftest.dump`."""
    rows: dict[str, list[tuple[Any, ...]]] = {table.name: [] for table in TABLES}
    reasons = dict(REASONS)
    for (entity_id, kind), seen in of_each(deliveries).items():
        rows["observations"] += [_observation(o, seen) for o in seen]
        top = max(seen, key=lambda o: o.rank)
        stamp = Stamp(
            level=top.level, observed_at=top.at, updated_at=max(o.first_received for o in seen)
        )
        beside = sorted({key for o in seen for key in o.first.beside})
        make = project if kind == "call" else project_chat
        projected = make(entity_id, raw_fields(merged(seen)), stamp, beside)
        for (table, _), some in projected.items():
            rows[table] += some
        if kind == "call":
            rows["transfers"] += _transfers(seen)
            reason = projected["calls", None][0][CALLS.names.index("disconnection_reason")]
            if reason is not None:
                reasons.setdefault(reason, ("unknown", "Not known to this version."))
    rows["disconnection_reasons"] = [(name, *meaning) for name, meaning in reasons.items()]
    return {name: sorted(map(_as_stored, some), key=repr) for name, some in rows.items()}


def _observation(o: Seen, seen: list[Seen]) -> tuple[Any, ...]:
    received = [d.received for d in o.deliveries]
    return (
        *o.first.key,
        o.first.kind,
        o.first.event,
        o.level,
        o.at,
        min(received),
        max(received),
        len(received),
        None,
        len(o.first.body),
        None,
        keeps_body(o, seen),
    )


def _transfers(seen: list[Seen]) -> list[tuple[Any, ...]]:
    """A row per body: the same body by two ways is one step, at its earliest time."""
    steps: dict[str, tuple[Any, ...]] = {}
    for o in sorted((o for o in seen if o.is_transfer), key=lambda o: -o.at):
        destination = o.first.beside.get("transfer_destination")
        sha256 = o.first.key[1]
        steps[sha256] = (o.first.id, sha256, o.first.event, o.at, destination, None)
    return list(steps.values())


def _as_stored(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(int(value) if isinstance(value, bool) else value for value in row)
