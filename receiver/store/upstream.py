"""What the warehouse has of the calls that Retell lists, and what became of asking for them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from receiver.addresses import Location
from receiver.store import sql
from receiver.store.engine import AnyStore, reading
from receiver.store.ingest import Outcome, Received, observe
from receiver.store.observations import load, observation_rows
from receiver.store.protocols import Connection
from schema import merge
from schema.events import Fields
from schema.tables import CALLS

_MAX_MS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Here:
    """What is here of a call; `row` is its row of calls, None when there is none."""

    row: dict[str, Any] | None
    has_transcript: bool
    is_analysed: bool
    asked_at: int | None
    is_gone: bool
    is_erased: bool


@dataclass(frozen=True, slots=True)
class SyncRow:
    """A row of syncs: days as YYYY-MM-DD, times in milliseconds."""

    agent_id: str
    key_id: str
    since: str
    until: str
    next_day: str
    started_at: int
    finished_at: int | None
    found: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    gone: int = 0
    failed: int = 0


def here(where: Location, call_ids: Iterable[str]) -> dict[str, Here]:
    """What is here of each of the calls."""
    with reading(where) as connection:
        return {call_id: _here(connection, call_id) for call_id in call_ids}


def _here(connection: Connection, call_id: str) -> Here:
    asked_at, is_gone, is_erased, is_stored, transcript, analysed, *row = connection.execute(
        sql.HELD, (call_id,)
    ).fetchone()
    return Here(
        row=dict(zip(CALLS.names, row, strict=True)) if is_stored else None,
        has_transcript=bool(transcript),
        is_analysed=bool(analysed),
        asked_at=asked_at,
        is_gone=bool(is_gone),
        is_erased=bool(is_erased),
    )


def said_of(where: Location, call_ids: Iterable[str]) -> dict[str, Fields]:
    """What all observations of each of the calls say together; empty for one that is not here."""
    with reading(where) as connection:
        return {call_id: _said_of(connection, call_id) for call_id in call_ids}


def _said_of(connection: Connection, call_id: str) -> Fields:
    known = [k for k in observation_rows(connection, call_id) if k.is_usable]
    calls = [k for k in known if k.entity_type == "call" and k.has_body]
    return merge.fold(load(connection, call_id, k) for k in calls)


def open_calls(
    where: Location, *, since: int | None, until: int | None, agent_id: str | None, key_id: str
) -> dict[str, bool]:
    """Stored calls that something is lacking of, of those that began from `since` to `until`.

    Only calls that the key `key_id` brought (True), or of which no key is known (False).
    """
    return _calls(where, sql.OPEN_CALLS, since, until, agent_id, key_id)


def started_calls(
    where: Location, *, since: int | None, until: int | None, agent_id: str | None, key_id: str
) -> dict[str, bool]:
    """All stored calls that began from `since` to `until`, of the same keys."""
    return _calls(where, sql.STARTED_CALLS, since, until, agent_id, key_id)


def _calls(
    where: Location,
    statement: str,
    since: int | None,
    until: int | None,
    agent_id: str | None,
    key_id: str,
) -> dict[str, bool]:
    span = {"low": 0 if since is None else since, "high": _MAX_MS if until is None else until}
    with reading(where) as connection:
        found = connection.execute(statement, span | {"agent": agent_id, "key": key_id})
        return {call_id: bool(is_ours) for call_id, is_ours in found}


def has_other_key(where: Location, key_id: str) -> bool:
    """Whether another key than `key_id` brought anything, or synced."""
    with reading(where) as connection:
        return any(
            connection.execute(statement, (key_id,)).fetchone()[0]
            for statement in (sql.HAS_OTHER_SYNC, sql.HAS_OTHER_KEY)
        )


def keep(
    store: AnyStore,
    received: Sequence[Received],
    *,
    asked: Sequence[tuple[str, int]] = (),
    gone: Sequence[tuple[str, int]] = (),
    sync: Callable[[Sequence[Outcome]], SyncRow] | None = None,
) -> list[Outcome]:
    """Store what was fetched, and how far the sync has come with it, in one transaction.

    `asked` and `gone` are (call_id, milliseconds). Where a transaction had to be retried, `sync` is
    asked again. Raises StoreUnavailable.
    """

    def unit(connection: Connection) -> list[Outcome]:
        store.lock(connection, {one.event.entity_id for one in received})
        outcomes = [observe(connection, one) for one in received]
        connection.executemany(sql.NOTE_ASKED, asked)
        connection.executemany(sql.NOTE_GONE, gone)
        if sync is not None:
            connection.execute(sql.PUT_SYNC, astuple(sync(outcomes)))
        return outcomes

    return store.run(unit)


def syncs_of(where: Location, agent_id: str, key_id: str) -> list[SyncRow]:
    """Every sync of an agent, or of all agents with an empty id, with a key.

    If there is none, those of older versions, which noted no key, while no other key is known.
    """
    with reading(where) as connection:
        for key in (key_id, ""):
            found = [SyncRow(*r) for r in connection.execute(sql.SYNCS_OF, (agent_id, key))]
            if found:
                break
    # Asked last: it reads all observations.
    return [] if found and key != key_id and has_other_key(where, key_id) else found


def gone_calls(
    where: Location, agent_id: str | None, key_id: str
) -> list[tuple[str, str | None, int]]:
    """(agent_id, agent_name, when it was) of the calls here that Retell has no more.

    Calls that only other keys brought are left out.
    """
    with reading(where) as connection:
        found = connection.execute(sql.GONE_CALLS, {"agent": agent_id, "key": key_id}).fetchall()
    return [(agent or "", name, at or 0) for agent, name, at in found]


def put_coverage(
    store: AnyStore,
    rows: Sequence[tuple[Any, ...]],
    *,
    since: str | None,
    until: str | None,
    agent_id: str | None,
    key_id: str,
    is_alone: bool,
) -> None:
    """Replace the key's rows of the days from `since` to `until`, of an agent if one is named.

    Those of older versions, of which no key is known, are replaced too if the key is alone.
    """

    def unit(connection: Connection) -> None:
        nobodys = key_id if is_alone else ""
        values = (since, since, until, until, agent_id, agent_id, nobodys, key_id)
        connection.execute(sql.DROP_COVERAGE, values)
        connection.executemany(sql.PUT_COVERAGE, rows)

    store.run(unit)
