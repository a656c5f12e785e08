"""The interface of all database engines, and the engine of an address.

SQLite's connections are used directly. PostgreSQL implements the same few methods
(`receiver/store/postgres/`). No other module depends on the engine.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from receiver.addresses import Location, PostgresUrl
from receiver.errors import NoCluster
from receiver.store import sql
from receiver.store.ingest import Outcome, Received
from receiver.store.protocols import BUSY_SECONDS, CONNECTIONS, Connection
from receiver.store.snapshots import Row, Snapshot
from receiver.store.sqlite import Sqlite

if TYPE_CHECKING:
    from receiver.store.postgres.distributing import PlacedTable

T = TypeVar("T")


class AnyStore(Protocol):
    """The only writer, whatever the engine."""

    def add(self, received: Received, /) -> Outcome:
        """Store one body; return once it is durable. Raises StoreUnavailable."""

    def run(self, unit: Callable[[Connection], T], /) -> T:
        """Run `unit` in a transaction; more than once if the engine asks for a retry.

        Raises StoreUnavailable.
        """

    def read(self, unit: Callable[[Connection], T], /) -> T:
        """Run `unit`, which only reads, beside other writers. Raises StoreUnavailable."""

    def first_row(
        self, query: str, parameters: Mapping[str, Any], /, *, seconds: float
    ) -> tuple[list[str], Row | None]:
        """The columns and the first row of a user's SELECT with parameters `:name`.

        Raises SettingsError for a mistake in it, QueryTooSlow if it takes longer than `seconds`,
        StoreUnavailable.
        """

    def lock_hours(self, connection: Connection, timezone: str, since: int, last: int, /) -> bool:
        """Lock the calls that began from `since` to `last` until the transaction ends.

        Both are milliseconds since the epoch. Returns whether sums may be stored: whether the views
        that read them belong to this version and time zone.
        """

    def lock(self, connection: Connection, entity_ids: Iterable[str], /) -> None:
        """Lock these calls and chats until the transaction ends."""

    def reindex(self, connection: Connection, /) -> None:
        """Rebuild the full-text indexes if the engine needs it."""

    def close(self) -> None:
        """Close the database."""


class Engine(Protocol):
    """A database of one engine."""

    def open(self, *, busy_seconds: float, connections: int) -> AnyStore:
        """The writer of a migrated database; a file has one connection."""

    def migrate(self, *, timezone: str) -> list[str]:
        """Migrate it to this version's schema; return the migrations applied."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A consistent snapshot for reading."""

    def views_match(self, connection: Connection, timezone: str, /) -> bool:
        """Whether the views belong to this version and time zone."""

    def snapshot(self, *, timezone: str | None, private: bool) -> AbstractContextManager[Snapshot]:
        """A read-only snapshot for users' queries."""

    def check(self, problems: list[str]) -> dict[str, Any]:
        """writable, schema, quarantined and jobs for the health check; adds to `problems`."""

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database and of its write-ahead log."""

    def clean(self, *, pause: Callable[[float], None]) -> str | None:
        """Remove the remains of deleted rows from its files; return what is left and why.

        `pause` is called between two steps with the seconds that the last one took. Raises
        StoreUnavailable.
        """

    def shrink(self, *, repack: bool, pause: Callable[[float], None]) -> int:
        """Return unused space to the file system beside other writers; return the number of bytes
        that only `vacuum` can return. `repack` after many rows were deleted. Raises
        StoreUnavailable."""

    def vacuum(self) -> str | None:
        """Rewrite the database without the remains of deleted rows, while nobody else can write;
        return what is left and why. Raises StoreUnavailable."""


def engine(where: Location) -> Engine:
    """The engine of a database. Raises SettingsError if it is not installed."""
    if isinstance(where, PostgresUrl):
        # Imported here: with SQLite, no client of PostgreSQL is loaded.
        from receiver.store.postgres import Postgres

        return Postgres(where)
    return Sqlite(where)


def open_store(
    where: Location, *, busy_seconds: float = BUSY_SECONDS, connections: int = CONNECTIONS
) -> AnyStore:
    """The writer of a migrated database, with so many connections to a server."""
    return engine(where).open(busy_seconds=busy_seconds, connections=connections)


def migrate(
    where: Location, *, timezone: str, account_keys: Mapping[str, str] | None = None
) -> list[str]:
    """Create or update the database and its views; return the migrations applied.

    `account_keys` are the accounts by the ids of their keys, which are stored too.

    Safe to run from several processes at once and beside a running receiver. Raises SchemaMismatch
    for a database of a newer version, StoreUnavailable for a damaged one, and the driver's errors.
    """
    applied = engine(where).migrate(timezone=timezone)
    if account_keys:
        store = open_store(where)
        try:
            register_keys(store, account_keys)
        finally:
            store.close()
    return applied


def register_keys(store: AnyStore, account_keys: Mapping[str, str]) -> None:
    """Store the accounts by the ids of their keys. Raises StoreUnavailable."""
    known = dict(store.read(lambda c: c.execute(sql.ACCOUNT_KEYS_STORED).fetchall()))
    if rows := [(key, name) for key, name in account_keys.items() if known.get(key) != name]:
        store.run(lambda c: c.executemany(sql.PUT_ACCOUNT_KEY, rows))


def reading(where: Location) -> AbstractContextManager[Connection]:
    """A consistent snapshot of the database for reading. Raises NotStored if there is none,
    ForeignDatabase, StoreUnavailable."""
    return engine(where).reading()


def require_bodies(where: Location) -> None:
    """Raise CopyWithoutBodies for a copy without the raw bodies, and what `reading` raises.

    A database on a server always has them.
    """
    found = engine(where)
    if isinstance(found, Sqlite):
        found.require_bodies()


def snapshot(
    where: Location, *, timezone: str | None, private: bool
) -> AbstractContextManager[Snapshot]:
    """A read-only snapshot for users' queries.

    With `timezone`, views show times in it; `private` includes private columns, which otherwise
    read as NULL. Raises NotStored without a database, SettingsError with the engine's message for a
    mistake in a query, ExportFailed or DatabaseAway if it cannot be read, ExportFailed if the
    export cannot be written.
    """
    return engine(where).snapshot(timezone=timezone, private=private)


def distribute(where: Location, *, timezone: str) -> "list[PlacedTable]":
    """Distribute the tables over the Citus cluster whose coordinator is at an address; return the
    placement of each table.

    Raises NoCluster if it is not one, SchemaMismatch and DatabaseAway.
    """
    if not isinstance(where, PostgresUrl):
        raise NoCluster(
            "CALLHOUSE_DATABASE_URL names a file: there is nothing to distribute it over"
        )
    from receiver.store.postgres.distributing import distribute as distribute_tables

    return distribute_tables(where, timezone=timezone)
