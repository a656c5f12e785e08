"""What the warehouse knows of one call or chat, as Retell would say it."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from receiver.errors import NotStored
from receiver.store import sql
from receiver.store.connection import Connection, sqlite3
from receiver.store.observations import known_observations, load
from schema import merge
from schema.events import values


def connect_readonly(path: Path) -> Connection:
    """Open `path` for reading. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)


def show(path: Path, entity_id: str) -> dict[str, Any]:
    """The call or chat object, merged from the bodies as they came. Raises NotStored."""
    if not path.exists():
        raise NotStored(f"there is no database at {path}", hint="Run `callhouse serve` first.")
    connection = connect_readonly(path)
    try:
        # One moment: a body may be dropped between two reads, superseded by one not yet seen.
        connection.execute("BEGIN")
        if connection.execute(sql.IS_ERASED, (entity_id,)).fetchone():
            raise NotStored("this call was erased")
        known = [k for k in known_observations(connection, entity_id) if k.is_usable]
        if not known:
            raise NotStored("no call or chat with this id is stored", hint="Check the id.")
        # The same id as call and chat: the call is meant.
        entity_type = min(k.entity_type for k in known)
        return values(
            merge.fold(
                load(connection, entity_id, k, verbatim=True)
                for k in known
                if k.entity_type == entity_type
            )
        )
    finally:
        connection.close()
