"""Faults to plant in the store, each of which a history must find. `patch(object, name, value)`."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import receiver.store.connection
import receiver.store.ingest
import receiver.store.store
import schema.merge
from receiver.errors import StoreUnavailable
from receiver.store import Outcome, Store
from receiver.store.connection import Connection, sqlite3
from tests.simulation.world import DiskLog

Patch = Callable[..., None]


def _executing(patch: Patch, change: Callable[..., Any]) -> None:
    """Let `change(connection, execute, statement, ...)` stand before every statement."""

    class Changed(Connection):
        def execute(self, *args):
            return change(super().execute, *args)

    genuine = sqlite3.connect
    patch(sqlite3, "connect", lambda *a, **k: genuine(*a, **k | {"factory": Changed}))


def synchronous_normal(patch: Patch) -> None:
    pragmas = receiver.store.connection._PRAGMAS | {"synchronous": 1}
    patch(receiver.store.connection, "_PRAGMAS", pragmas)


def deleted_log_is_not_noticed(patch: Patch) -> None:
    patch(DiskLog, "is_gone", False)


def no_identity_check(patch: Patch) -> None:
    patch(Store, "_check_identity", lambda _: None)


def acknowledged_before_the_commit(patch: Patch) -> None:
    add = Store.add

    def add_later(store, received):
        def add_silently():
            with suppress(StoreUnavailable):
                add(store, received)

        process = store._machine
        process.world.start(process, add_silently, after=0.001)
        return Outcome.STORED

    patch(Store, "add", add_later)


def deferred_begin(patch: Patch) -> None:
    def deferred(execute, statement, *rest):
        return execute(statement.replace("BEGIN IMMEDIATE", "BEGIN"), *rest)

    _executing(patch, deferred)


def failed_commit_counts_as_done(patch: Patch) -> None:
    def careless(execute, statement, *rest):
        try:
            return execute(statement, *rest)
        except sqlite3.Error:
            if statement != "COMMIT":
                raise

    _executing(patch, careless)


def followers_are_not_woken(patch: Patch) -> None:
    def forget(store, leader):
        store._leader = None

    patch(Store, "_hand_over", forget)


def connection_is_kept_after_an_error(patch: Patch) -> None:
    patch(Store, "_disconnect", lambda _: None)


def body_and_tables_in_two_transactions(patch: Patch) -> None:
    insert = receiver.store.ingest._insert

    def insert_alone(connection, received, account, **options):
        row = insert(connection, received, account, **options)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        return row

    patch(receiver.store.ingest, "_insert", insert_alone)


def arrival_order_wins(patch: Patch) -> None:
    patch(schema.merge.Observation, "rank", property(lambda _: ()))


def one_body_per_call_and_event(patch: Patch) -> None:
    observe = receiver.store.ingest.observe

    def observe_once(connection, received):
        sql = "SELECT 1 FROM observations WHERE entity_id = ? AND event = ?"
        stored = connection.execute(sql, (received.event.entity_id, received.event.event))
        return Outcome.DUPLICATE if stored.fetchone() else observe(connection, received)

    patch(receiver.store.store, "observe", observe_once)


def locks_are_waited_for_without_end(patch: Patch) -> None:
    patch(Store, "_wait", lambda store, *_: store._machine.sleep(0.0005))


def busy_is_not_waited_for(patch: Patch) -> None:
    def refuse(store, deadline, reason=None):
        raise receiver.store.store.StoreBusy("locked")

    patch(Store, "_wait", refuse)


# Each with the number of histories within which it must be found.
PLANTED = {
    synchronous_normal: 100,
    no_identity_check: 500,
    deleted_log_is_not_noticed: 500,
    acknowledged_before_the_commit: 100,
    deferred_begin: 100,
    failed_commit_counts_as_done: 500,
    followers_are_not_woken: 100,
    connection_is_kept_after_an_error: 200,
    body_and_tables_in_two_transactions: 500,
    arrival_order_wins: 100,
    one_body_per_call_and_event: 100,
    locks_are_waited_for_without_end: 300,
    busy_is_not_waited_for: 100,
}
