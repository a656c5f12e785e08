"""The table jobs: when each job of the worker ran, and which process runs it now.

A worker claims a job with a lease, which it renews while the job runs. The claim names the previous
run, so only one of two workers that read the same state gets it. After a worker was killed, its
lease ends and another worker can claim the job.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from receiver.store.protocols import Connection

if TYPE_CHECKING:
    from receiver.store.engine import AnyStore


# A lease is one minute: one that ends much later was written while the clock was ahead.
MAX_LEASE_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of jobs; times in milliseconds. It is claimed while `lease_until` is not None."""

    name: str
    started_at: int | None = None
    ended_at: int | None = None
    result: str | None = None
    problem: str | None = None
    failures: int | None = None
    next_run_at: int | None = None
    owner: str | None = None
    lease_until: int | None = None

    def lease_end(self, now_ms: int) -> int | None:
        """When the lease ends or ended; None if there is none."""
        until = self.lease_until
        return until if until is not None and until <= now_ms + MAX_LEASE_MS else None


_ROWS = (
    "SELECT name, started_at, ended_at, result, problem, failures, next_run_at, owner, lease_until "
    "FROM jobs ORDER BY name"
)
_INSERT = "INSERT INTO jobs (name) VALUES (?) ON CONFLICT (name) DO NOTHING"
_CLAIM = (
    "UPDATE jobs SET started_at = :now, owner = :owner, lease_until = :lease_until "
    "WHERE name = :name AND coalesce(started_at, 0) = :started_at "
    "AND (lease_until IS NULL OR lease_until <= :now OR lease_until > :latest "
    "OR owner = :dead_owner) RETURNING name"
)
# Only the run that has the lease may change the row.
_RENEW = (
    "UPDATE jobs SET lease_until = :lease_until WHERE name = :name AND owner = :owner "
    "AND started_at = :started_at AND lease_until IS NOT NULL RETURNING name"
)
_FINISH = (
    "UPDATE jobs SET ended_at = :ended_at, result = :result, problem = :problem, "
    "failures = :failures, next_run_at = :next_run_at, lease_until = NULL "
    "WHERE name = :name AND owner = :owner AND started_at = :started_at "
    "AND lease_until IS NOT NULL RETURNING name"
)


def job_rows(connection: Connection) -> dict[str, JobRow]:
    """All rows, by the name of the job."""
    return {row[0]: JobRow(*row) for row in connection.execute(_ROWS).fetchall()}


def claim(
    store: "AnyStore",
    row: JobRow,
    *,
    owner: str,
    now_ms: int,
    lease_ms: int,
    dead_owner: str | None = None,
) -> bool:
    """Begin a run of the job if its row is still `row` and nobody has its lease.

    The lease of `dead_owner`, a process that has ended, is ignored. Raises StoreUnavailable.
    """
    values = {
        "name": row.name,
        "owner": owner,
        "dead_owner": dead_owner or "",
        "now": now_ms,
        "latest": now_ms + MAX_LEASE_MS,
        "lease_until": now_ms + lease_ms,
        "started_at": row.started_at or 0,
    }

    def unit(connection: Connection) -> bool:
        connection.execute(_INSERT, (row.name,))
        return bool(connection.execute(_CLAIM, values).fetchall())

    return store.run(unit)


def renew(store: "AnyStore", name: str, *, owner: str, started_at: int, lease_until: int) -> bool:
    """Extend the lease of a run; False if another run has it. Raises StoreUnavailable."""
    values = {
        "name": name,
        "owner": owner,
        "started_at": started_at,
        "lease_until": lease_until,
    }
    return store.run(lambda connection: bool(connection.execute(_RENEW, values).fetchall()))


def finish(store: "AnyStore", row: JobRow) -> bool:
    """Store the result of the run of `row.owner` from `row.started_at`, and release its lease.

    False if another run has it. Raises StoreUnavailable.
    """
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    del values["lease_until"]
    return store.run(lambda connection: bool(connection.execute(_FINISH, values).fetchall()))
