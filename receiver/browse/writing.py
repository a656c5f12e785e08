"""Write what people add on pages: reviews, shared links, saved views.

In: functions that write to a store. Out: committed rows in the database that is browsed. If that is
a mirror, they are written to its server first, and then to the mirror: every page, filter and query
reads the mirror, so all of them show at once what was written. Reading the new rows through the
store instead would show them on one page only. The mirror process writes the same rows again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from receiver.addresses import Location
from receiver.errors import CallhouseError, CopyWithoutBodies, NotStored
from receiver.store import AnyStore, open_store, require_bodies
from receiver.store.reviewing import is_mirror

if TYPE_CHECKING:
    from datasette.app import Datasette

T = TypeVar("T")
_log = logging.getLogger("callhouse.audit")


class Writer:
    """Writes to the file that is browsed, or to `server` and then to the file, its mirror."""

    def __init__(self, path: Path, server: Location | None = None) -> None:
        self._path = path
        self._server = None if server == path else server
        self._stores: list[AnyStore] = []
        self._opening = threading.Lock()

    @cached_property
    def why_read_only(self) -> str:
        """Why nothing can be written, for people; empty if it can."""
        try:
            require_bodies(self._path)
            if is_mirror(self._path) and self._server is None:
                return (
                    "This file is a mirror. To review and share calls, start browse with the "
                    "server's CALLHOUSE_DATABASE_URL and --mirror."
                )
        except CopyWithoutBodies:
            return "This file is a copy: it can only be read."
        except NotStored:
            return "There is no database."
        return ""

    async def run(self, work: Callable[[AnyStore], T]) -> T:
        """Write in a thread; return what the first database returned.

        Raises NotStored if it cannot be written, StoreUnavailable, and what `work` raises.
        """
        return await asyncio.to_thread(self._run, work)

    def close(self) -> None:
        """Close the databases."""
        with self._opening:
            for store in self._stores:
                store.close()
            self._stores = []

    def _run(self, work: Callable[[AnyStore], T]) -> T:
        if self.why_read_only:
            raise NotStored(self.why_read_only)
        first, *mirrors = self._open()
        result = work(first)
        for mirror in mirrors:
            try:
                work(mirror)
            except CallhouseError as error:
                # The mirror process writes it within seconds.
                _log.warning("not written to the mirror yet: %s", type(error).__name__)
        return result

    def _open(self) -> list[AnyStore]:
        with self._opening:
            if not self._stores:
                where = [self._path] if self._server is None else [self._server, self._path]
                self._stores = [open_store(each, connections=2) for each in where]
            return self._stores


def writer(datasette: "Datasette") -> Writer:
    """The writer that `serving` sets. Raises NotStored on another Datasette."""
    found: Writer | None = getattr(datasette, "callhouse_writer", None)
    if found is None:
        raise NotStored("callhouse browse does not serve this database.")
    return found


def audit(author: str, what: str, entity_id: str) -> None:
    """Log who wrote what kind of thing about which call; no content. At the level of warnings,
    which are logged without configuration."""
    _log.warning("%s: %s of %r", author, what, entity_id)
