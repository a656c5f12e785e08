"""Distribute the tables over a Citus cluster, with all rows of a call on one node."""

from dataclasses import dataclass
from enum import StrEnum

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import NoCluster, docs
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.citus_layout import (
    DISTRIBUTED,
    LOCAL,
    LOCKS,
    PARENTS,
    REFERENCE,
    reference,
)
from receiver.store.postgres.connection import BUSY, RETRIED, Session, connect, unusable
from receiver.store.postgres.migrate import LOCK_SECONDS, check
from receiver.store.postgres.views import refresh

# The first version that joins local rows with a distributed table on the inner side of an outer
# join, as queries for one call do.
_OLDEST = (11, 2)

_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
# h: by the hash of a column. t: with a copy on each node. Other tables are local.
_FOUND = (
    "SELECT logicalrelid::text, CASE partmethod WHEN 'h' THEN 'distributed' ELSE 'reference' END, "
    "column_to_column_name(logicalrelid, partkey) FROM pg_dist_partition "
    "WHERE logicalrelid::text = ANY (%s) AND (partmethod = 'h' OR repmodel = 't')"
)
# The nodes have settings of their own, whatever the coordinator's session sets.
_DURABLE = (
    "SELECT count(*) FROM run_command_on_workers('SHOW synchronous_commit') WHERE result <> 'on'"
)
# Every transaction that writes a call locks this table first, so there is none while this lock is
# held, and none can wait for a table that is locked later.
_ALONE = f"LOCK TABLE {LOCKS} IN ACCESS EXCLUSIVE MODE"
_SETTINGS = (
    # One connection to each node: a statement refers to what the one before created there.
    "SET LOCAL citus.multi_shard_modify_mode = 'sequential'",
    # Row locks and foreign keys need one copy of each row.
    "SET LOCAL citus.shard_replication_factor = 1",
)
_DISTRIBUTE = "SELECT create_distributed_table(%s, %s, colocate_with => %s)"
_REPLICATE = "SELECT create_reference_table(%s)"
_REFERS = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = %s::regclass"
# Deletes local rows, which have been copied to the nodes and cannot be read any more.
_FREE = "SELECT truncate_local_data_after_distributing_table(%s)"


class Placement(StrEnum):
    """Where a table's rows are stored."""

    DISTRIBUTED = "distributed"
    REFERENCE = "reference"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class PlacedTable:
    """A table, where its rows are stored, the column that decides the node, and if that is new."""

    table: str
    placement: Placement
    column: str | None
    is_new: bool


def distribute(where: PostgresUrl, *, timezone: str) -> list[PlacedTable]:
    """Distribute all tables that are not yet, or none of them; return where each is stored now.

    Waits for transactions that write calls, and blocks later ones. Raises NoCluster,
    SchemaMismatch, DatabaseAway and DatabaseRefused.
    """
    try:
        session = connect(where, lock_seconds=LOCK_SECONDS)
        try:
            with session.transaction():
                _require_cluster(session)
                session.execute(advisory_locks.CHANGE_TABLES)
                check(session)
                before = _found(session)
                _distribute(session, before)
                # Creates their functions on the nodes too.
                refresh(session, timezone)
            for table in DISTRIBUTED:
                session.raw.execute(_FREE, (table,))
            after = _found(session)
        finally:
            session.close()
    except psycopg.Error as error:
        if error.sqlstate in (None, *BUSY, *RETRIED):
            raise unusable(error, "the cluster could not be used") from error
        # Its message names tables and settings only: the server moves the rows itself.
        raise NoCluster(
            f"the cluster refused: {error.diag.message_primary}",
            hint="Tables are distributed together or not at all: correct that, and run the command "
            f"again. For what a cluster needs, see {docs('how-to/postgres.md')}",
        ) from error
    placed = [
        PlacedTable(table, Placement(kind), column, table not in before)
        for table, (kind, column) in after.items()
    ]
    return placed + [PlacedTable(table, Placement.LOCAL, None, False) for table in LOCAL]


def _require_cluster(session: Session) -> None:
    found = session.raw.execute(_VERSION).fetchone()
    if found is None:
        raise NoCluster("the database has no Citus: there is nothing to distribute its tables over")
    if tuple(int(part) for part in found[0].split("-")[0].split(".")[:2]) < _OLDEST:
        raise NoCluster(
            f"the database has Citus {found[0]}, and callhouse needs 11.2 or newer",
            hint="Upgrade Citus on all nodes, then run the command again.",
        )
    if session.raw.execute(_DURABLE).fetchone() != (0,):
        raise NoCluster(
            "a node of the cluster has synchronous_commit switched off: a crash could lose calls",
            hint="Set synchronous_commit = on there, for this database and its user too.",
        )


def _found(session: Session) -> dict[str, tuple[str, str | None]]:
    """How Citus has distributed our tables. Raises NoCluster if it is another way than ours."""
    wanted: dict[str, tuple[str, str | None]] = {
        name: ("distributed", column) for name, column in DISTRIBUTED.items()
    }
    wanted |= dict.fromkeys(REFERENCE, ("reference", None))
    rows = session.raw.execute(_FOUND, ([*wanted, *LOCAL],)).fetchall()
    found = {name: (kind, column if kind == "distributed" else None) for name, kind, column in rows}
    for name, (kind, column) in found.items():
        if wanted.get(name) != (kind, column):
            by = f" by {column}" if column else ""
            raise NoCluster(
                f"the table {name} is {kind}{by} already, which is not how callhouse has it",
                hint="Undo that with undistribute_table, then run the command again.",
            )
    return {name: found[name] for name in wanted if name in found}


def _distribute(session: Session, before: dict[str, tuple[str, str | None]]) -> None:
    new = [table for table in (*REFERENCE, *DISTRIBUTED) if table not in before]
    if not new:
        return
    session.raw.execute(_ALONE)
    for setting in _SETTINGS:
        session.raw.execute(setting)
    for table in new:
        if table in REFERENCE:
            session.raw.execute(_REPLICATE, (table,))
        else:
            group = "none" if table == LOCKS else LOCKS
            session.raw.execute(_DISTRIBUTE, (table, DISTRIBUTED[table], group))
            _add_references(session, table)


def _add_references(session: Session, table: str) -> None:
    """Add the foreign key of a table that was created after its parent was distributed."""
    parent = PARENTS.get(table)
    if parent and session.raw.execute(_REFERS, (table,)).fetchone() == (0,):
        session.raw.execute(
            f"ALTER TABLE {table} ADD FOREIGN KEY ({parent.key[0]}) {reference(parent)}"
        )
