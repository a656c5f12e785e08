"""The Datasette plugin. Found through the entry point `datasette`.

It must not import datasette.app: that loads the plugins, and would find this one half made and
without its hooks.
"""

from typing import TYPE_CHECKING, Any

from datasette import Response, hookimpl
from datasette.utils import tilde_encode
from jinja2 import Environment

from receiver.browse import pages, text
from receiver.browse.call_page import call_json, call_page
from receiver.browse.cells import cell
from receiver.browse.chat_page import chat_page
from receiver.browse.dashboards import dashboard, dashboards
from receiver.browse.datasette_compat import TemplateNonces
from receiver.browse.door import actor_of, door
from receiver.browse.failing import failed
from receiver.browse.home import home
from receiver.browse.login import login, logout
from receiver.browse.policy import App, protected
from receiver.browse.search import search_page
from receiver.browse.spoken import spoken
from schema.questions import questions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette import Request
    from datasette.app import Datasette

_OF_A_DATABASE = frozenset(
    {"view-database", "view-database-download", "view-table", "view-query", "execute-sql"}
)

_NOT_FOR_THIS_LOGIN = (
    "Your login does not see this page. Ask whoever runs callhouse for another role if you need it."
)


@hookimpl(trylast=True)
def permission_allowed(
    datasette: "Datasette", actor: dict[str, Any] | None, action: str, resource: Any
) -> bool | None:
    """Everybody sees the one database of their role. Last, for the last opinion counts."""
    if pages.access(datasette) is None:
        return None
    seen = pages.database_of(datasette, actor)
    if seen is None:
        return False
    if action in _OF_A_DATABASE:
        database = resource if isinstance(resource, str) else resource[0]
        return None if database == seen else False
    return None


@hookimpl
def actor_from_request(datasette: "Datasette", request: "Request") -> dict[str, Any] | None:
    """Whoever a token or a login cookie belongs to."""
    if pages.access(datasette) is None:
        return None
    return actor_of(datasette, dict(request.scope["headers"]))


@hookimpl
def forbidden(datasette: "Datasette", request: "Request") -> "Callable[[], Awaitable[Response]]":
    """A page that this login may not see says so, with the navigation to those that it may."""

    async def page() -> Response:
        context = {"title": "Not for this login", "error": _NOT_FOR_THIS_LOGIN, "status": 403}
        body = await datasette.render_template("error.html", context, request=request)
        return Response.html(body, 403)

    return page


@hookimpl
def handle_exception(
    datasette: "Datasette", request: "Request", exception: Exception
) -> "Callable[[], Awaitable[Response]] | None":
    """Answer what Datasette has no answer for, and log what failed where, without values."""
    if pages.access(datasette) is None or getattr(exception, "status", 500) < 500:
        return None
    return lambda: failed(datasette, request, exception)


@hookimpl(trylast=True)
def asgi_wrapper(datasette: "Datasette") -> "Callable[[App], App]":
    """Send a strict Content-Security-Policy with everything; let nobody in without a login."""
    return lambda app: protected(door(datasette, app))


@hookimpl
def prepare_jinja2_environment(env: Environment, datasette: "Datasette") -> None:
    """Our way to write times, lengths and money, in our templates and Datasette's."""
    env.add_extension(TemplateNonces)
    zone = datasette.callhouse_timezone = pages.configured_timezone(datasette)
    env.filters |= {
        "when": lambda ms, *form: text.when(ms, zone, *form),
        "clock": text.clock,
        "dollars": text.dollars,
        "wait": text.length,
        "pretty": text.pretty,
        "words_of": text.words_of,
        "spoken": spoken,
        "tilde_encode": tilde_encode,
        "call_url": lambda call_id: pages.call_url(datasette, call_id),
        "chat_url": lambda chat_id: pages.chat_url(datasette, chat_id),
    }


@hookimpl(tryfirst=True)
def register_routes() -> list[tuple[str, Any]]:
    """Our pages, under /-/ where no table can stand in the way. Our login comes before a
    plugin's."""
    return [
        (r"^/-/login$", login),
        (r"^/-/logout$", logout),
        # Tools of Datasette and of a plugin that are open to everybody, and of use to nobody here.
        (r"^/-/(allow-debug|password-tool|messages)$", pages.closed),
        (r"^/-/call/(?P<call_id>[^/.]+)$", call_page),
        (r"^/-/call/(?P<call_id>[^/.]+)\.json$", call_json),
        (r"^/-/chat/(?P<chat_id>[^/.]+)$", chat_page),
        (r"^/-/search$", search_page),
        (r"^/-/dashboards$", dashboards),
        (r"^/-/dashboards/(?P<slug>[^/]+)$", dashboard),
    ]


@hookimpl
def canned_queries(database: str) -> dict[str, dict[str, Any]]:
    """Questions ready to ask, on the page of the database."""
    if database == "_internal":
        return {}
    return {
        name: {
            "title": question.title,
            "description": question.explained,
            "params": [parameter.name for parameter in question.parameters],
            "sql": question.sql,
            "hide_sql": True,
        }
        for name, question in questions().items()
    }


@hookimpl
def extra_template_vars(
    view_name: str | None, request: "Request | None", datasette: "Datasette"
) -> "dict[str, Any] | Callable[[], Awaitable[dict[str, Any]]]":
    """The database that links lead to, and the figures of the home page, for the template that
    takes the place of Datasette's."""
    actor = request.actor if request else None
    warehouse = pages.database_of(datasette, actor) or pages.DATABASE
    always = {"warehouse": warehouse, "is_masked": warehouse == pages.MASKED}
    if view_name != "index" or request is None:
        return always

    async def figures() -> dict[str, Any]:
        return always | {"home": await home(datasette, request)}

    return figures


@hookimpl
def extra_css_urls() -> list[str]:
    """Our stylesheet, on every page."""
    return ["/-/static-plugins/callhouse/callhouse.css"]


@hookimpl
def table_actions(datasette: "Datasette", database: str, table: str) -> list[dict[str, str]]:
    """From where words are stored to where they are searched."""
    if database != pages.DATABASE or table not in ("transcripts", "utterances", "call_log"):
        return []
    return [{"href": datasette.urls.path("/-/search"), "label": "Search what was said"}]


@hookimpl
def render_cell(
    row: Any, value: Any, column: str, table: str | None, datasette: "Datasette"
) -> Any:
    """Ids lead to their pages, times and money are written for people, JSON is folded."""
    if value is None:
        return None
    urls = {
        "call": lambda call_id: pages.call_url(datasette, call_id),
        "chat": lambda chat_id: pages.chat_url(datasette, chat_id),
    }
    return cell(value, column, table, row, pages.timezone(datasette), urls)
