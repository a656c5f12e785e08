"""The pages of callhouse, and what they share: the reader, queries, addresses, error pages."""

import hashlib
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from datasette import Forbidden, NotFound, Response
from datasette.utils import tilde_encode

from receiver.browse.datasette_compat import GuardedDatabase, QueryInterrupted
from receiver.browse.request_state import is_own_query

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

    from receiver.browse.pages.login import Authentication

_log = logging.getLogger("callhouse.browse")
T = TypeVar("T")

# The name in every URL and in datasette_metadata.json, whatever the name of the file.
DATABASE = "retell"
# The same file without personal data.
MASKED = "retell_masked"
DATABASE_OF_ROLE = {"admin": DATABASE, "reviewer": DATABASE, "reader": DATABASE, "masked": MASKED}
# Roles that may write.
REVIEWERS = ("admin", "reviewer")
PLUGIN = "callhouse"

_IS_CHAT = """
SELECT 0 AS is_chat FROM calls WHERE call_id = :id
UNION ALL SELECT 1 FROM chats WHERE chat_id = :id
"""
_RECEIVER = Path(__file__).parents[2]
# They run SQL that readers wrote, so errors there are not errors of callhouse.
_RUN_QUERIES = ("datasette_compat.py", "pool.py")


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who may read one of the databases."""

    datasette: "Datasette"
    database: str

    @property
    def is_masked(self) -> bool:
        """Whether personal data is hidden."""
        return is_masked(self.datasette, self.database)

    @property
    def is_limited(self) -> bool:
        """Whether calls of others are hidden."""
        served = self.datasette.databases.get(self.database)
        return isinstance(served, GuardedDatabase) and bool(served.limits)


def is_masked(datasette: "Datasette", database: str) -> bool:
    """Whether a database has no personal data."""
    served = datasette.databases.get(database)
    return isinstance(served, GuardedDatabase) and served.is_masked


def authentication(datasette: "Datasette") -> "Authentication | None":
    """Users, sessions and failed logins; None on a Datasette that `serving` did not create."""
    return getattr(datasette, "callhouse_authentication", None)


def database_of(datasette: "Datasette", actor: dict[str, Any] | None) -> str | None:
    """The database that an actor may read, or None. The database of limits is added at first
    use."""
    known = authentication(datasette)
    if known is None:
        return DATABASE
    role, limits = known.access.role(actor), known.access.limits(actor)
    if role is None:
        return None
    whole = DATABASE_OF_ROLE[role]
    if not limits:
        return whole
    # Signed, so that nobody can find out by its name whether a login has certain limits.
    signed = datasette.sign(repr(limits), "limits").encode()
    name = f"{whole}_{hashlib.sha256(signed).hexdigest()[:10]}"
    if name not in datasette.databases:
        datasette.get_database(whole).add_limited(limits, name)
    return name


async def require_reader(datasette: "Datasette", request: "Request") -> Reader:
    """The reader behind a request. Raises Forbidden if they may read no database."""
    database = database_of(datasette, request.actor) or DATABASE
    await datasette.ensure_permissions(
        request.actor, [("view-database", database), "view-instance"]
    )
    return Reader(datasette, database)


async def require_unlimited_reader(datasette: "Datasette", request: "Request") -> Reader:
    """The same, for pages about all calls. Raises Forbidden for limited readers too."""
    reader = await require_reader(datasette, request)
    if reader.is_limited:
        raise Forbidden("This page is about the calls of everybody.")
    return reader


def reviewer(datasette: "Datasette", request: "Request") -> str | None:
    """The user behind a request if their role may write."""
    return user_with_role(datasette, request, REVIEWERS)


def user_with_role(
    datasette: "Datasette", request: "Request", roles: tuple[str, ...]
) -> str | None:
    """The user of a request if they have one of these roles; None for tokens, which have no form
    with a CSRF token, and for limited logins, which must not name other calls."""
    known = authentication(datasette)
    actor = request.actor or {}
    if known is None or known.access.role(actor) not in roles or known.access.limits(actor):
        return None
    name = str(actor["id"])
    return None if name.startswith("token:") else name


def is_admin(datasette: "Datasette", request: "Request") -> bool:
    """Whether the user may also change annotations of others."""
    known = authentication(datasette)
    if known is None or known.access.limits(request.actor):
        return False
    return known.access.role(request.actor) == "admin"


async def fetch_rows(
    reader: Reader, sql: str, params: Any = None, *, limit_ms: int | None = None
) -> list[dict[str, Any]]:
    """Run a query on the reader's database.

    Raises QueryInterrupted after `limit_ms`, by default after Datasette's limit.
    """
    database = reader.datasette.get_database(reader.database)
    token = is_own_query.set(True)
    try:
        result = await database.execute(sql, params, custom_time_limit=limit_ms)
    finally:
        is_own_query.reset(token)
    return [dict(row) for row in result.rows]


async def run_in_thread(reader: Reader, work: Callable[[], T]) -> T:
    """Run a function that reads by itself, in a thread of the login that asks: other logins keep
    theirs. Raises QueryInterrupted if there is no result in time."""
    database = reader.datasette.get_database(reader.database)
    result: T = await database.execute_fn(lambda _connection: work())
    return result


def configured_timezone(datasette: "Datasette") -> ZoneInfo:
    """The time zone of pages, which `serving` puts into the plugin's configuration."""
    return ZoneInfo((datasette.plugin_config(PLUGIN) or {}).get("timezone", "UTC"))


def timezone(datasette: "Datasette") -> ZoneInfo:
    """The time zone of pages, cached: reading the configuration is too slow for each cell."""
    zone: ZoneInfo = datasette.callhouse_timezone
    return zone


def call_url(datasette: "Datasette", call_id: str) -> str:
    """The page of a call: under /-/, where it cannot collide with a table."""
    return str(datasette.urls.path(f"/-/call/{tilde_encode(call_id)}"))


def chat_url(datasette: "Datasette", chat_id: str) -> str:
    """The page of a chat."""
    return str(datasette.urls.path(f"/-/chat/{tilde_encode(chat_id)}"))


async def is_chat(reader: Reader, entity_id: str) -> bool | None:
    """Whether an id is that of a chat, or of a call; None if it is neither."""
    found = await fetch_rows(reader, _IS_CHAT, {"id": entity_id})
    return bool(found[0]["is_chat"]) if found else None


async def entity_url(reader: Reader, entity_id: str) -> str | None:
    """The page of the call or chat with this id; None if there is none."""
    kind = await is_chat(reader, entity_id)
    if kind is None:
        return None
    return (chat_url if kind else call_url)(reader.datasette, entity_id)


async def require_entity_url(reader: Reader, entity_id: str) -> str:
    """The same. Raises NotFound."""
    if (url := await entity_url(reader, entity_id)) is None:
        raise NotFound("No call or chat with this id is stored.")
    return url


async def not_served() -> None:
    """The handler of pages that are switched off. Raises NotFound."""
    raise NotFound("There is no such page.")


async def forbidden_page(datasette: "Datasette", request: "Request") -> Response:
    """The 403 for a page that this role may not read, with the usual navigation."""
    error = (
        "Your role does not allow this page. "
        "Ask the operator of callhouse for another role if you need it."
    )
    return await message_page(datasette, request, 403, "Not allowed", error)


async def message_page(
    datasette: "Datasette",
    request: "Request",
    status: int,
    title: str,
    error: str,
    headers: dict[str, str] | None = None,
) -> Response:
    """A page that says why there is no other."""
    context = {"title": title, "error": error, "status": status, "query": _query_of(request)}
    page = await datasette.render_template("error.html", context, request=request)
    return Response.html(page, status, headers=headers)


def _query_of(request: "Request") -> dict[str, Any] | None:
    """The reader's SQL and its parameters on a page that failed; None on other pages."""
    if "sql" not in request.args or request.path.startswith("/-/"):
        return None
    named = [(name, request.args[name]) for name in request.args if name != "sql"]
    return {
        "sql": request.args["sql"],
        "parameters": [(name, value) for name, value in named if not name.startswith("_")],
    }


async def refusal_page(
    datasette: "Datasette", request: "Request", exception: Exception
) -> Response:
    """The page for an exception that Datasette expects: with the usual navigation, and with the
    query if it is one that failed."""
    status: int = getattr(exception, "status", 500)
    message = str(getattr(exception, "message", None) or (exception.args or ("",))[0])
    if getattr(exception, "message_is_html", False):
        # The one message with markup: a query was interrupted.
        title, message = "This takes too long", "The query was stopped. Narrow it down."
    elif getattr(exception, "title", None) == "Invalid SQL":
        title = "This query cannot run"
        if "SELECT" in message:
            message = "Only queries that read can run here: SQL that starts with SELECT or WITH."
    elif status == 404:
        title = "Not found"
        message = "There is no such page." if message in ("", "404") else message
    else:
        title = getattr(exception, "title", None) or "This address cannot be read"
    return await message_page(datasette, request, status, title, message)


async def error_page(datasette: "Datasette", request: "Request", exception: Exception) -> Response:
    """503 for a query over its time limit, 500 for an error of callhouse, else 400, because
    Datasette raises on parameters that it cannot parse. Logs where it failed, without values."""
    frames = traceback.extract_tb(exception.__traceback__)
    is_fault = any(
        Path(frame.filename).is_relative_to(_RECEIVER) and not frame.filename.endswith(_RUN_QUERIES)
        for frame in frames
    )
    # A form whose bytes are no text.
    is_fault = is_fault and frames[-1].name != "post_vars"
    if isinstance(exception, QueryInterrupted):
        status, title = 503, "This takes too long"
        error = "Try again in a moment, or narrow the query down."
    elif is_fault:
        status, title = 500, "This page failed"
        error = "The log of browse says where it failed."
    else:
        status, title = 400, "This address cannot be read"
        error = "One of its parameters has an invalid value."
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    _log.warning("%s: %s at %s", status, type(exception).__name__, where)
    if request.path.endswith(".json"):
        content = {"ok": False, "error": error, "status": status, "title": title}
        return Response.json(content, status=status)
    return await message_page(datasette, request, status, title, error)
