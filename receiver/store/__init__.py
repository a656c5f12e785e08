"""The only room that writes to the database; `engine` is the door to SQLite and PostgreSQL.

`receive` makes a body ready, `open_store` gives who commits it with whatever else is waiting,
`show` reads it back, `snapshot` reads anything else, `rebuild` makes every table anew from the
observations, `roll_up` adds up the hours that are over and `migrate` makes the database. `carry`
brings all of it into another database, `compare` looks whether it is there, `mirror` keeps it so.
`distribute` spreads its tables over a cluster.
"""

from receiver.store.comparing import Comparison, compare
from receiver.store.connection import sqlite_warning
from receiver.store.copying import Carried, carry
from receiver.store.days import GROUPS, UNKNOWN_DAY, Made, Part
from receiver.store.engine import (
    AnyStore,
    distribute,
    migrate,
    open_store,
    require_bodies,
    snapshot,
)
from receiver.store.exporting import write_table
from receiver.store.migrate import check_schema
from receiver.store.mirroring import Mirrored, mirror
from receiver.store.observations import is_known
from receiver.store.observing import Outcome, Received, receive
from receiver.store.reading import CallState, read_drift, show, state_of
from receiver.store.rebuilding import rebuild
from receiver.store.rollups import keep_rolled_up, roll_up
from receiver.store.snapshots import Result, Row, Snapshot
from receiver.store.store import Store

__all__ = [
    "GROUPS",
    "UNKNOWN_DAY",
    "AnyStore",
    "CallState",
    "Carried",
    "Comparison",
    "Made",
    "Mirrored",
    "Outcome",
    "Part",
    "Received",
    "Result",
    "Row",
    "Snapshot",
    "Store",
    "carry",
    "check_schema",
    "compare",
    "distribute",
    "is_known",
    "keep_rolled_up",
    "migrate",
    "mirror",
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
