"""Migrate a database file to this version's schema; several processes may start at once."""

import fcntl
import importlib.resources
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path

import sqlite_utils
from sqlite_utils.migrations import Migrations

from receiver.addresses import files_beside
from receiver.errors import SchemaMismatch, StoreUnavailable
from receiver.store import protocols, sql
from receiver.store.connection import (
    FAULTS,
    MIGRATION_SET,
    WAREHOUSE_ID,
    Connection,
    connect,
    connect_readonly,
    damage,
    file_kind,
    is_damage,
    refuse,
    result_code,
    sqlite3,
)
from schema.disconnection_reasons import REASONS
from schema.sql import rollups
from schema.sql.rollups import ROLLUPS
from schema.sql.views import views

# The end of a migration's name if older versions can continue to use the database: it only adds
# tables, nullable columns or indexes, or drops indexes.
COMPATIBLE = "_compatible"
BUSY_TIMEOUT_MS = 30_000
# How long a start checks for damage: a small file completely, a large one in part.
DAMAGE_SECONDS = 3.0
_UNWRITABLE = FAULTS | {sqlite3.SQLITE_READONLY}


def migrate(path: Path, *, timezone: str) -> list[str]:
    """Create or update the file at `path` and its views; return the migrations applied.

    Safe to run from several processes at once and beside a running receiver. Raises
    SchemaMismatch for a file of a newer version, ForeignDatabase and CopyWithoutBodies for one that
    is not a warehouse, and StoreUnavailable for one that is damaged or cannot be written.
    """
    _refuse_others(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            new = _update(path, timezone)
            _make_private(path)
            return new
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, sqlite3.Error) and result_code(error) not in _UNWRITABLE:
            raise
        raise StoreUnavailable(
            f"{path} cannot be written: {error.strerror if isinstance(error, OSError) else error}",
            hint="CALLHOUSE_DATABASE_URL must name a file that this user can create and write.",
        ) from error


def _make_private(path: Path) -> None:
    """Make the files readable by their owner only: older versions created them with the mode of the
    umask."""
    for each in (path, *files_beside(path)):
        # Another user's file, or no such file.
        with suppress(OSError):
            each.chmod(each.stat().st_mode & 0o700)


def _refuse_others(path: Path) -> None:
    """Raise ForeignDatabase or CopyWithoutBodies, before any file is created beside the
    database."""
    if not path.is_file():
        return
    # Other problems are reported when the file is opened for writing.
    with suppress(sqlite3.DatabaseError), closing(connect_readonly(path)) as connection:
        refuse(file_kind(connection), path)


def _update(path: Path, timezone: str) -> list[str]:
    connection = _open(path)
    try:
        # One transaction: a failed migration changes nothing.
        connection.execute("BEGIN IMMEDIATE")
        try:
            new = _migrate(connection, timezone)
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back if the disk is full.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return new
    finally:
        connection.close()


def _open(path: Path) -> Connection:
    """Open or create the file. Raises StoreUnavailable if it is damaged."""
    connection = None
    try:
        connection = connect(path, busy_timeout_ms=BUSY_TIMEOUT_MS, create=True)
        found = damage(connection, seconds=DAMAGE_SECONDS)
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        if not is_damage(error):
            raise
        found = str(error)
    else:
        if found is None:
            return connection
        connection.close()
    raise StoreUnavailable(
        f"the database is damaged: {found}",
        hint="Stop callhouse, keep the damaged file for inspection, and restore a backup.",
    )


def _migrate(connection: Connection, timezone: str) -> list[str]:
    before = applied(connection)
    if newer(before):
        # The newer version's reasons and views are kept.
        require(before)
        return []
    migrations().apply(sqlite_utils.Database(connection))
    if connection.execute("PRAGMA application_id").fetchone() != (WAREHOUSE_ID,):
        connection.execute(f"PRAGMA application_id = {WAREHOUSE_ID}")
    connection.executemany(sql.SEED_REASON, [(r, *meaning) for r, meaning in REASONS.items()])
    _refresh_views(connection, timezone)
    return sorted(applied(connection) - before)


def check(connection: Connection) -> None:
    """Raise SchemaMismatch unless this version can use the file."""
    require(applied(connection))


def newer(found: set[str]) -> set[str]:
    """The migrations of a database that a newer version applied. Raises SchemaMismatch if this
    version cannot use the database after one of them."""
    unknown = found - set(scripts())
    if refused := sorted(name for name in unknown if not name.endswith(COMPATIBLE)):
        raise SchemaMismatch(
            f"the database has migrations this version does not know: {refused}",
            hint="Install the newer callhouse that made them.",
        )
    return unknown


def require(found: set[str]) -> None:
    """Raise SchemaMismatch unless this version can use a database with these migrations."""
    newer(found)
    if set(scripts()) - found:
        raise SchemaMismatch("the database does not have this version's schema")


def check_schema(path: Path) -> None:
    """Raise SchemaMismatch unless the file has this version's schema. The file is only read."""
    with closing(connect_readonly(path)) as connection:
        try:
            check(connection)
        except SchemaMismatch as error:
            error.hint = "Make the copy again with this version: callhouse export --to copy.db"
            raise


def check_connection(path: Path) -> None:
    """Open the file for writing, which asserts every setting of a connection, and check its schema.

    Raises StoreUnavailable.
    """
    try:
        with closing(connect(path, busy_timeout_ms=0)) as connection:
            check(connection)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path} cannot be opened for writing: {error}") from error


def applied(connection: Connection) -> set[str]:
    """Names of the migrations in the file."""
    return {m.name for m in migrations().applied(sqlite_utils.Database(connection))}


def migrations() -> Migrations:
    """The numbered SQL files, each applied and recorded in one transaction."""
    numbered = Migrations(MIGRATION_SET)
    for name, script in scripts().items():

        @numbered(name=name)
        def apply(db: sqlite_utils.Database, script: str = script) -> None:
            db.executescript(script)

    return numbered


def scripts() -> dict[str, str]:
    """Name of each migration -> its SQL, in order."""
    folder = importlib.resources.files("schema.sql") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return {f.name.removesuffix(".sql"): f.read_text(encoding="utf-8") for f in files}


def _refresh_views(connection: Connection, timezone: str) -> None:
    """Replace the views unless they already belong to this version and time zone."""
    wanted = views(timezone)
    # Users may have created views of their own.
    found = dict(connection.execute(sql.VIEWS).fetchall())
    present = {name: text for name, text in found.items() if name in wanted}
    if present == wanted:
        return
    # Existing sums may have another meaning, or other days.
    if any(present.get(rollup.hourly) != wanted[rollup.hourly] for rollup in ROLLUPS):
        connection.execute(rollups.INVALIDATE_HOURS)
    if any(present.get(rollup.daily) != wanted[rollup.daily] for rollup in ROLLUPS):
        connection.execute(rollups.INVALIDATE_DAYS)
    for name in present:
        connection.execute(f"DROP VIEW {name}")
    for text in wanted.values():
        connection.execute(text)


def views_match(connection: protocols.Connection, timezone: str) -> bool:
    """Whether the views belong to this version and time zone."""
    present = dict(connection.execute(sql.VIEWS).fetchall())
    return _figures(timezone).items() <= present.items()


@cache
def _figures(timezone: str) -> dict[str, str]:
    expected = views(timezone)
    return {name: expected[name] for rollup in ROLLUPS for name in (rollup.hourly, rollup.daily)}


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time: otherwise, eight that open a new file at once collide."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
