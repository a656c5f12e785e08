"""What our pages share: who may see them, the rows they are made of, the reader's time zone."""

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from datasette.utils import tilde_encode

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# The name in every URL and in datasette_metadata.json, whatever the file is called.
DATABASE = "retell"
PLUGIN = "callhouse"


async def require_reader(datasette: "Datasette", request: "Request") -> None:
    """Raise Datasette's Forbidden unless the visitor may see the database, as its own pages do."""
    await datasette.ensure_permissions(
        request.actor, [("view-database", DATABASE), "view-instance"]
    )


async def rows(
    datasette: "Datasette", sql: str, params: Any = None, *, limit_ms: int | None = None
) -> list[dict[str, Any]]:
    """Run a query. Raises QueryInterrupted after `limit_ms`, by default after Datasette's limit."""
    answer = await datasette.execute(DATABASE, sql, params, custom_time_limit=limit_ms)
    return [dict(row) for row in answer.rows]


def configured_timezone(datasette: "Datasette") -> ZoneInfo:
    """The reader's zone, which `serving` hands on as configuration of the plugin."""
    return ZoneInfo((datasette.plugin_config(PLUGIN) or {}).get("timezone", "UTC"))


def timezone(datasette: "Datasette") -> ZoneInfo:
    """The same, kept since the start: reading configuration takes too long for each cell."""
    zone: ZoneInfo = datasette.jinja_env.globals["timezone"]
    return zone


def call_url(datasette: "Datasette", call_id: str) -> str:
    """The page of a call: under /-/, where no table of that name can stand in the way."""
    return str(datasette.urls.path(f"/-/call/{tilde_encode(call_id)}"))


def chat_url(datasette: "Datasette", chat_id: str) -> str:
    """The page of a chat."""
    return str(datasette.urls.path(f"/-/chat/{tilde_encode(chat_id)}"))
