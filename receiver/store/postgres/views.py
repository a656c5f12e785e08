"""Create the views and the functions that they call, and replace those of other versions."""

import hashlib
from functools import cache

import psycopg

from receiver.errors import SchemaMismatch
from receiver.store import protocols
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.citus_layout import is_distributed
from receiver.store.postgres.connection import Session
from schema.sql import rollups
from schema.sql.rollups import ROLLUPS
from schema.sql.views import read, views

_FUNCTIONS = read("postgres/functions.sql")
_FOUND = (
    "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class "
    "WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace"
)


def refresh(session: Session, timezone: str) -> None:
    """Replace the views unless they are this version's, in this time zone.

    In a cluster they count every call, on all nodes at once: rollup tables are on one of them.
    """
    wanted = views(timezone, rolled_up=not is_distributed(session), postgres=True)
    marks = {name: _mark(text) for name, text in wanted.items()}
    found = dict(session.execute(_FOUND).fetchall())
    if marks.items() <= found.items():
        return
    session.execute(advisory_locks.STOP_ROLLING_UP)
    # Their sums had another meaning, or other days.
    if any(found.get(rollup.hourly) != marks[rollup.hourly] for rollup in ROLLUPS):
        session.execute(rollups.INVALIDATE_HOURS)
    if any(found.get(rollup.daily) != marks[rollup.daily] for rollup in ROLLUPS):
        session.execute(rollups.INVALIDATE_DAYS)
    # A view comes after those that it reads.
    for name in reversed(wanted):
        try:
            session.raw.execute(f"DROP VIEW IF EXISTS {name}")
        except psycopg.errors.DependentObjectsStillExist:
            raise SchemaMismatch(
                f"a view or function of yours reads the view {name}, which has to be replaced",
                hint=f"Save its definition and drop it, start callhouse, and create it again. "
                f"To see which it is: DROP VIEW {name}",
            ) from None
    # Several statements at once cannot be prepared.
    session.raw.execute(_FUNCTIONS, prepare=False)
    for name, text in wanted.items():
        session.raw.execute(text)
        session.raw.execute(f"COMMENT ON VIEW {name} IS '{marks[name]}'")


def views_match(connection: protocols.Connection, timezone: str) -> bool:
    """Whether the views read what this version rolls up in this time zone."""
    return _figures(timezone).items() <= dict(connection.execute(_FOUND).fetchall()).items()


@cache
def _figures(timezone: str) -> dict[str, str]:
    wanted = views(timezone, postgres=True)
    return {
        name: _mark(wanted[name]) for rollup in ROLLUPS for name in (rollup.hourly, rollup.daily)
    }


def selects(timezone: str) -> dict[str, str]:
    """View name -> its SELECT without rollup tables, each after those that it reads."""
    texts = views(timezone, rolled_up=False, postgres=True)
    return {name: text.removeprefix(f"CREATE VIEW {name} AS") for name, text in texts.items()}


def _mark(text: str) -> str:
    """The comment by which a view is recognised, as the server does not store its text."""
    return hashlib.sha256(f"{text}\n{_FUNCTIONS}".encode()).hexdigest()
