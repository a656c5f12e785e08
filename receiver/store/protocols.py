"""What the merge needs of a connection: the few methods that every engine's has."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

# Retell waits 10 s for an answer: a refusal must reach it well before.
BUSY_SECONDS = 4.0
# Of one process to a server. What commits at one moment shares a write to the server's disk.
CONNECTIONS = 8


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    @property
    def description(self) -> Any:
        """A tuple for each column, its name first."""

    def fetchone(self) -> Any:
        """The next row, None after the last."""

    def fetchall(self) -> list[Any]:
        """The rows that are left."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection within a transaction. Statements are SQLite's: `?` and `:name`.

    Its errors hang on it, as the DB-API has them. Source: PEP 249, optional extensions.
    """

    @property
    def DatabaseError(self) -> type[Exception]:
        """Anything that went wrong in the database."""

    @property
    def OperationalError(self) -> type[Exception]:
        """The disk, the server or the moment is at fault."""

    @property
    def InternalError(self) -> type[Exception]:
        """The engine is at fault."""

    def execute(self, statement: str, parameters: Any = ..., /) -> Cursor:
        """Carry out a statement."""

    def executemany(self, statement: str, parameters: Any, /) -> Any:
        """Carry out a statement for each of several parameters."""

    def upsert(self, table: str, rows: Iterable[tuple[Any, ...]], /) -> None:
        """Insert rows of a call or chat, or update those with their keys."""

    def savepoint(self) -> None:
        """Set a savepoint; they nest."""

    def release_savepoint(self) -> None:
        """Keep what was done since the last savepoint."""

    def roll_back_to_savepoint(self) -> None:
        """Undo what was done since the last savepoint, and release it."""

    def lock_hour(self, at: int, /) -> None:
        """Share the hour of a time with others that write calls, until the transaction ends.

        Whoever rolls the hour up has it alone.
        """

    def lock_reasons(self, *, shared: bool) -> None:
        """Lock what decides which unknown reasons are stored, until the transaction ends.

        Those that add one share the lock, and one that drops some has it alone: it waits for calls
        that are not committed yet.
        """
