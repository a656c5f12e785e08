"""What the merge needs of a connection: the few methods that every engine's has."""

from collections.abc import Iterator
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
