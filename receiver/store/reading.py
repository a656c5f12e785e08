"""Read one call or chat as Retell's API would return it."""

from dataclasses import dataclass
from typing import Any

from receiver.addresses import Location
from receiver.errors import CopyWithoutBodies, NotStored
from receiver.store import sql
from receiver.store.engine import reading, require_bodies
from receiver.store.ingest import load, observation_rows, scopes_of, usable_rows
from receiver.store.protocols import Connection
from schema import merge, retention
from schema.events import Event, values


@dataclass(frozen=True, slots=True)
class CallState:
    """The status and outcome of a call."""

    call_status: str | None
    level: int
    disconnection_reason: str | None
    duration_ms: int | None
    combined_cost_cents: float | None
    cost_is_final: bool | None
    call_summary: str | None

    @property
    def is_over(self) -> bool:
        """Whether the call is stored as ended."""
        return self.level >= 2

    @property
    def is_analysed(self) -> bool:
        """Whether the call is analysed, so that no more events are expected."""
        return self.level >= 3


def state_of(where: Location, call_id: str) -> CallState | None:
    """The call as it is stored now; None if it is not. Raises the driver's errors."""
    with reading(where) as connection:
        row = connection.execute(sql.STATE_OF_CALL, (call_id,)).fetchone()
    return CallState(*row) if row else None


def read_drift(where: Location) -> list[dict[str, Any]]:
    """The rows of the drift view, the most frequent first. Raises NotStored without a database."""
    with reading(where) as connection:
        found = connection.execute(sql.DRIFT)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]


def is_known(connection: Connection, event: Event) -> bool:
    """Whether this body has been received before."""
    known = observation_rows(connection, event.entity_id)
    return any(o.body_sha256 == event.body_sha256 for o in known)


def show(where: Location, entity_id: str) -> dict[str, Any]:
    """The call or chat object, merged from the bodies as they arrived.

    Raises NotStored, also for a copy without the bodies.
    """
    try:
        require_bodies(where)
    except CopyWithoutBodies as error:
        raise NotStored("raw bodies are not in this file", hint=error.hint) from error
    # A body may be retired between the two reads by an observation that is not read yet.
    with reading(where) as connection:
        scopes = scopes_of(connection, entity_id)
        if retention.ALL in scopes:
            raise NotStored("this call was erased")
        if retention.is_closed(scopes):
            raise NotStored(
                "the raw bodies of this call were pruned", hint="Its rows are in the tables."
            )
        known = [row for row in observation_rows(connection, entity_id) if row.is_usable]
        if not known:
            raise NotStored("no call or chat with this id is stored", hint="Check the id.")
        # If a call and a chat have the same id, the call is returned.
        entity_type = min(row.entity_type for row in known)
        return values(
            merge.fold(
                load(connection, entity_id, row, verbatim=True)
                for row in usable_rows(known, entity_type)
            )
        )
