"""The methods of a connection that the merge needs. Every engine implements them."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

# Retell waits 10 s for an answer: an error must reach it well before.
BUSY_SECONDS = 4.0
# Connections of one process to a server. Transactions that commit at the same time share a write to
# the server's disk.
CONNECTIONS = 8


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def description(self) -> Any:
        """One tuple per column, the name first."""

    def fetchone(self) -> Any:
        """The next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """The remaining rows."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection within a transaction. Placeholders are SQLite's: `?` and `:name`.

    Its errors are attributes, as in the DB-API. Source: PEP 249, optional extensions.
    """

    @property
    def DatabaseError(self) -> type[Exception]:
        """Any error of the database."""

    @property
    def OperationalError(self) -> type[Exception]:
        """An error of the disk, the server or the connection."""

    @property
    def InternalError(self) -> type[Exception]:
        """An internal error of the engine."""

    def execute(self, statement: str, parameters: Any = ..., /) -> Cursor:
        """Execute a statement."""

    def executemany(self, statement: str, parameters: Any, /) -> Any:
        """Execute a statement once for each of several parameters."""

    def upsert(self, table: str, rows: Iterable[tuple[Any, ...]], /) -> None:
        """Insert rows of a call or chat, or update those with their keys."""

    def savepoint(self) -> None:
        """Set a savepoint; they nest."""

    def release_savepoint(self) -> None:
        """Release the last savepoint and keep its changes."""

    def roll_back_to_savepoint(self) -> None:
        """Undo the changes since the last savepoint, and release it."""

    def lock_hour(self, at: int, /) -> None:
        """Lock the hour of a time, shared with others that write calls, until the transaction ends.

        Rolling up takes the lock exclusively.
        """

    def lock_reasons(self, *, shared: bool) -> None:
        """Lock the list of unknown reasons until the transaction ends.

        Adding a reason takes a shared lock. Deleting takes an exclusive one, which waits for calls
        that are not committed yet.
        """
