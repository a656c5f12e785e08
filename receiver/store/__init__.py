"""The only package that writes to the database, SQLite or PostgreSQL (`engine`).

In: bodies received, fetched or copied. Out: committed rows, and functions that read them.

`receive` parses a body, `open_store` returns the writer that commits it, `show` reads it back,
`snapshot` reads anything else, `rebuild` makes every table from the observations, `roll_up` fills
the hours that are over, `migrate` creates or updates the database, and `distribute` distributes its
tables over a cluster.
"""

from receiver.store.connection import sqlite_warning
from receiver.store.days import GROUPS, UNKNOWN_DAY, Fingerprint, Part
from receiver.store.engine import (
    AnyStore,
    distribute,
    migrate,
    open_store,
    require_bodies,
    snapshot,
)
from receiver.store.exporting import write_table
from receiver.store.ingest import Outcome, Received, receive
from receiver.store.migrate import check_schema
from receiver.store.reading import CallState, is_known, read_drift, show, state_of
from receiver.store.rebuilding import rebuild
from receiver.store.rollups import keep_rolled_up, roll_up
from receiver.store.snapshots import Result, Row, Snapshot
from receiver.store.store import Store

__all__ = [
    "GROUPS",
    "UNKNOWN_DAY",
    "AnyStore",
    "CallState",
    "Fingerprint",
    "Outcome",
    "Part",
    "Received",
    "Result",
    "Row",
    "Snapshot",
    "Store",
    "check_schema",
    "distribute",
    "is_known",
    "keep_rolled_up",
    "migrate",
    "open_store",
    "read_drift",
    "rebuild",
    "receive",
    "require_bodies",
    "roll_up",
    "show",
    "snapshot",
    "sqlite_warning",
    "state_of",
    "write_table",
]
