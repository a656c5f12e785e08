"""The stored status of the calls and chats that Retell lists, and the results of sync and coverage.

`entity_type` is call or chat.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from receiver.addresses import Location
from receiver.store import sql
from receiver.store.engine import AnyStore, reading
from receiver.store.ingest import (
    Outcome,
    Received,
    load,
    observation_rows,
    observe,
    usable_rows,
)
from receiver.store.protocols import Connection
from schema import merge
from schema.events import RawFields
from schema.tables import CALLS, CHATS

_MAX_MS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StoredCallStatus:
    """Which parts of a call or chat are stored; `row` is its row, None if there is none.

    `is_erased`: nothing more of it is stored. If it has a row, its bodies were pruned.
    """

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
    account: str | None = None


def statuses(where: Location, entity_type: str, ids: Iterable[str]) -> dict[str, StoredCallStatus]:
    """Which parts of each of the calls or chats are stored."""
    with reading(where) as connection:
        return {id: _status(connection, entity_type, id) for id in ids}


def _status(connection: Connection, entity_type: str, id: str) -> StoredCallStatus:
    asked_at, is_gone, is_erased, is_stored, transcript, analysed, *row = connection.execute(
        sql.STORED[entity_type], (id,)
    ).fetchone()
    names = (CHATS if entity_type == "chat" else CALLS).names
    return StoredCallStatus(
        row=dict(zip(names, row, strict=True)) if is_stored else None,
        has_transcript=bool(transcript),
        is_analysed=bool(analysed),
        asked_at=asked_at,
        is_gone=bool(is_gone),
        is_erased=bool(is_erased),
    )


def stored_fields(where: Location, entity_type: str, ids: Iterable[str]) -> dict[str, RawFields]:
    """The folded fields of each; empty for one that is not stored."""
    with reading(where) as connection:
        return {id: _stored_fields(connection, entity_type, id) for id in ids}


def _stored_fields(connection: Connection, entity_type: str, id: str) -> RawFields:
    known = usable_rows(observation_rows(connection, id), entity_type)
    return merge.fold(load(connection, id, row) for row in known)


def started(
    where: Location,
    entity_type: str,
    *,
    since: int | None,
    until: int | None,
    agent_id: str | None,
    account: str,
    only_unfinished: bool = False,
) -> dict[str, bool]:
    """The ids of stored calls or chats that began from `since` to `until`, or only of incomplete
    ones; only those of the account (True), or those without a key (False).
    """
    statement = (sql.UNFINISHED if only_unfinished else sql.STARTED)[entity_type]
    span = {"low": 0 if since is None else since, "high": _MAX_MS if until is None else until}
    with reading(where) as connection:
        found = connection.execute(statement, span | {"agent": agent_id, "account": account})
        return {id: bool(is_ours) for id, is_ours in found}


def has_other_account(where: Location, account: str) -> bool:
    """Whether there are observations or syncs of another account's keys."""
    with reading(where) as connection:
        return any(
            connection.execute(statement, (account,)).fetchone()[0]
            for statement in (sql.HAS_OTHER_SYNC, sql.HAS_OTHER_ACCOUNT)
        )


def has_agent(where: Location, agent_id: str) -> bool:
    """Whether a call or chat of the agent is stored."""
    with reading(where) as connection:
        return bool(connection.execute(sql.HAS_AGENT, (agent_id, agent_id)).fetchone()[0])


def store_fetched(
    store: AnyStore,
    received: Sequence[Received],
    *,
    asked: Sequence[tuple[str, int, str]] = (),
    gone: Sequence[tuple[str, int, str]] = (),
    sync: Callable[[Sequence[Outcome]], SyncRow] | None = None,
) -> list[Outcome]:
    """Store what was fetched and the sync's position in one transaction.

    `asked` and `gone` are (id, milliseconds, account). `sync` is called again if the
    transaction is retried. Raises StoreUnavailable.
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


def syncs_of(where: Location, agent_id: str, account: str) -> list[SyncRow]:
    """All syncs of an agent (an empty id means all agents) and account.

    If there are none, those of older versions, which stored no key, unless there is another
    account.
    """
    with reading(where) as connection:
        ours = connection.execute(sql.SYNCS_OF, (agent_id, account)).fetchall()
        nobodys = [] if ours else connection.execute(sql.SYNCS_OF_NOBODY, (agent_id,)).fetchall()
    # Last, because it reads all observations.
    if nobodys and has_other_account(where, account):
        return []
    return [SyncRow(*row) for row in ours or nobodys]


def gone_calls(
    where: Location, agent_id: str | None, account: str
) -> list[tuple[str, str | None, int]]:
    """(agent_id, agent_name, time) of stored calls and chats that Retell no longer has, except
    those of other accounts.
    """
    with reading(where) as connection:
        found = connection.execute(sql.GONE, {"agent": agent_id, "account": account}).fetchall()
    return [(agent or "", name, at or 0) for agent, name, at in found]


def write_coverage(
    store: AnyStore,
    rows: Sequence[tuple[Any, ...]],
    *,
    since: str | None,
    until: str | None,
    agent_id: str | None,
    account: str,
    is_alone: bool,
) -> None:
    """Replace the account's rows of the days from `since` to `until`, of an agent if one is named.

    Rows of older versions, without a key, are replaced too if there is no other account.
    """

    def unit(connection: Connection) -> None:
        values = (since, since, until, until, agent_id, agent_id, account, is_alone)
        connection.execute(sql.DROP_COVERAGE, values)
        connection.executemany(sql.PUT_COVERAGE, rows)

    store.run(unit)
