"""What our pages share: who may see them, the rows they are made of, the reader's time zone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from datasette import NotFound
from datasette.utils import tilde_encode

from receiver.browse.access import Access

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# The name in every URL and in datasette_metadata.json, whatever the file is called.
DATABASE = "retell"
# The same file without personal data.
MASKED = "retell_masked"
DATABASE_OF_ROLE = {"reader": DATABASE, "masked": MASKED}
PLUGIN = "callhouse"


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who may look, and at which database."""

    datasette: "Datasette"
    database: str

    @property
    def is_masked(self) -> bool:
        """Whether they see no personal data."""
        return self.database == MASKED


def access(datasette: "Datasette") -> Access | None:
    """Who is known; None on a Datasette that `serving` did not make."""
    return getattr(datasette, "callhouse_access", None)


def database_of(datasette: "Datasette", actor: dict[str, Any] | None) -> str | None:
    """The one database that an actor may see; None for who may see nothing."""
    known = access(datasette)
    if known is None:
        return DATABASE
    role = known.role(actor)
    return DATABASE_OF_ROLE[role] if role else None


async def require_reader(datasette: "Datasette", request: "Request") -> Reader:
    """The visitor. Raises Datasette's Forbidden for who may see no database."""
    database = database_of(datasette, request.actor) or DATABASE
    await datasette.ensure_permissions(
        request.actor, [("view-database", database), "view-instance"]
    )
    return Reader(datasette, database)


async def rows(
    reader: Reader, sql: str, params: Any = None, *, limit_ms: int | None = None
) -> list[dict[str, Any]]:
    """Run a query on what the reader may see.

    Raises QueryInterrupted after `limit_ms`, by default after Datasette's limit.
    """
    answer = await reader.datasette.execute(
        reader.database, sql, params, custom_time_limit=limit_ms
    )
    return [dict(row) for row in answer.rows]


def configured_timezone(datasette: "Datasette") -> ZoneInfo:
    """The reader's zone, which `serving` hands on as configuration of the plugin."""
    return ZoneInfo((datasette.plugin_config(PLUGIN) or {}).get("timezone", "UTC"))


def timezone(datasette: "Datasette") -> ZoneInfo:
    """The same, kept since the start: reading configuration takes too long for each cell."""
    zone: ZoneInfo = datasette.callhouse_timezone
    return zone


async def closed() -> None:
    """A page that is not served. Raises Datasette's NotFound."""
    raise NotFound("There is no such page.")


def call_url(datasette: "Datasette", call_id: str) -> str:
    """The page of a call: under /-/, where no table of that name can stand in the way."""
    return str(datasette.urls.path(f"/-/call/{tilde_encode(call_id)}"))


def chat_url(datasette: "Datasette", chat_id: str) -> str:
    """The page of a chat."""
    return str(datasette.urls.path(f"/-/chat/{tilde_encode(chat_id)}"))
