"""The Datasette plugin, found through the entry point `datasette`: hooks and routes.

In: Datasette's requests. Out: pages of calls, chats and dashboards, and Datasette's own
tables and SQL, for readers with a login.

It must not import datasette.app: that loads the plugins, and this one would be half imported.
"""

from typing import TYPE_CHECKING, Any

from datasette import Response, hookimpl
from datasette.utils import tilde_encode
from jinja2 import Environment

from receiver.browse import formatting, pages
from receiver.browse.datasette_compat import TemplateNonces
from receiver.browse.middleware import (
    App,
    actor_from_headers,
    authenticated,
    with_security_headers,
)
from receiver.browse.pages.alerts import alerts_page
from receiver.browse.pages.call_download import download_calls
from receiver.browse.pages.call_filters import calls_url
from receiver.browse.pages.call_list_page import call_list_page, former_search
from receiver.browse.pages.calls import call_json, call_page
from receiver.browse.pages.chats import chat_page
from receiver.browse.pages.conversation import readable, words_markup
from receiver.browse.pages.dashboards import dashboard, dashboards, versions
from receiver.browse.pages.grades import grades_page
from receiver.browse.pages.home import home_page
from receiver.browse.pages.login import login, logout
from receiver.browse.pages.media import media
from receiver.browse.pages.questions import questions_page
from receiver.browse.pages.retention import retention_page
from receiver.browse.pages.review_queue import review_page
from receiver.browse.pages.reviewing import grading_of
from receiver.browse.pages.saved_views import fetch_views, write_views
from receiver.browse.pages.shared import shared_media, shared_page
from receiver.browse.pages.sharing import share
from receiver.browse.pages.statement import statement_page
from receiver.browse.pages.status import status_page
from receiver.browse.request_state import may_fold
from receiver.browse.static_files import compressed, hashed, with_static_files
from receiver.clock import format_duration
from schema.products import product_label
from schema.questions import questions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from datasette import Request
    from datasette.app import Datasette

_DATABASE_ACTIONS = frozenset(
    {"view-database", "view-database-download", "view-table", "view-query", "execute-sql"}
)
# Datasette allows them to a user named root, who would see the requests of others.
_DEBUG_ACTIONS = frozenset({"debug-menu", "permissions-debug"})
# Tables that the page of calls shows.
_CALL_TABLES = frozenset({"calls", "call_log", "transcripts", "utterances"})


@hookimpl(trylast=True)
def permission_allowed(
    datasette: "Datasette", actor: dict[str, Any] | None, action: str, resource: Any
) -> bool | None:
    """Each reader may read the one database of their role. Last, as the last opinion counts."""
    if pages.authentication(datasette) is None:
        return None
    if action in _DEBUG_ACTIONS:
        return False
    allowed = pages.database_of(datasette, actor)
    if allowed is None:
        return False
    if action in _DATABASE_ACTIONS:
        database = resource if isinstance(resource, str) else resource[0]
        return None if database == allowed else False
    return None


@hookimpl
def actor_from_request(datasette: "Datasette", request: "Request") -> dict[str, Any] | None:
    """The actor of a token or a login cookie."""
    if pages.authentication(datasette) is None:
        return None
    return actor_from_headers(datasette, dict(request.scope["headers"]))


@hookimpl
def forbidden(datasette: "Datasette", request: "Request") -> "Callable[[], Awaitable[Response]]":
    """The page for a reader whose role does not allow it."""
    return lambda: pages.forbidden_page(datasette, request)


@hookimpl
def handle_exception(
    datasette: "Datasette", request: "Request", exception: Exception
) -> "Callable[[], Awaitable[Response]] | None":
    """The page for every exception. Programs get Datasette's response to those that it expects."""
    if pages.authentication(datasette) is None:
        return None
    if getattr(exception, "status", 500) >= 500:
        return lambda: pages.error_page(datasette, request, exception)
    if request.path.endswith((".json", ".csv")) or "_format" in request.args:
        return None
    return lambda: pages.refusal_page(datasette, request, exception)


@hookimpl(trylast=True)
def asgi_wrapper(datasette: "Datasette") -> "Callable[[App], App]":
    """Wrap Datasette: every request needs a login, but those for static files; every response gets
    security headers, and is compressed."""
    return lambda app: with_security_headers(
        datasette, with_static_files(compressed(authenticated(datasette, app)))
    )


@hookimpl
def prepare_jinja2_environment(env: Environment, datasette: "Datasette") -> None:
    """Filters for callhouse's templates and those of Datasette."""
    env.add_extension(TemplateNonces)
    zone = datasette.callhouse_timezone = pages.configured_timezone(datasette)
    env.globals["saved_views"] = lambda request: fetch_views(datasette, request)
    env.globals["calls_url"] = lambda **filters: calls_url(datasette, **filters)
    env.filters |= {
        "local_time": lambda ms, *form: formatting.format_time(ms, zone, *form),
        "short_time": lambda ms: formatting.format_short_time(ms, zone),
        "duration": format_duration,
        "dollars": formatting.format_dollars,
        "milliseconds": formatting.format_milliseconds,
        "pretty_json": formatting.pretty_json,
        "label": formatting.label,
        "product": product_label,
        "words_markup": words_markup,
        "readable": readable,
        "with_editor_labels": formatting.with_editor_labels,
        "tilde_encode": tilde_encode,
        "call_url": lambda call_id: pages.call_url(datasette, call_id),
        "chat_url": lambda chat_id: pages.chat_url(datasette, chat_id),
    }


@hookimpl(tryfirst=True)
def register_routes() -> list[tuple[str, Any]]:
    """Pages below /-/, where they cannot collide with a table. First, before other plugins'
    logins."""
    return [
        (r"^/$", home_page),
        (r"^/-/login$", login),
        (r"^/-/logout$", logout),
        # Tools of Datasette and its plugins that would be open without a login; `databases` has the
        # path of the file and the databases of other logins.
        (r"^/-/(allow-debug|password-tool|messages|databases(\.json)?)$", pages.not_served),
        (r"^/-/call/(?P<call_id>[^/.]+)$", call_page),
        (r"^/-/call/(?P<call_id>[^/.]+)\.json$", call_json),
        (r"^/-/chat/(?P<chat_id>[^/.]+)$", chat_page),
        (r"^/-/media/(?P<call_id>[^/.]+)/(?P<kind>[^/.]+)$", media),
        (r"^/-/calls$", call_list_page),
        (r"^/-/views$", write_views),
        (r"^/-/calls\.(?P<format>csv|json|xlsx)$", download_calls),
        (r"^/-/search$", former_search),
        (r"^/-/review$", review_page),
        (r"^/-/grades$", grades_page),
        (r"^/-/share$", share),
        (r"^/-/shared/(?P<token>[^/]+)$", shared_page),
        (r"^/-/shared/(?P<token>[^/]+)/media/(?P<kind>[a-z_]+)$", shared_media),
        (r"^/-/statement$", statement_page),
        (r"^/-/questions$", questions_page),
        (r"^/-/status$", status_page),
        (r"^/-/alerts$", alerts_page),
        (r"^/-/retention$", retention_page),
        (r"^/-/dashboards$", dashboards),
        (r"^/-/dashboards/(?P<slug>[^/]+)$", dashboard),
        (r"^/-/versions$", versions),
    ]


@hookimpl
def canned_queries(database: str) -> dict[str, dict[str, Any]]:
    """The prepared questions, listed on the page of the database."""
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
def extra_template_vars(request: "Request | None", datasette: "Datasette") -> dict[str, Any]:
    """For every template, the reader's database."""
    actor = request.actor if request else None
    database = pages.database_of(datasette, actor) or pages.DATABASE
    if request and "callhouse_database" in request.scope:
        # The page of a shared link has a database without a login.
        database = request.scope["callhouse_database"]
    reader = pages.Reader(datasette, database)
    return {
        "calls_database": database,
        "is_masked": reader.is_masked,
        "is_limited": reader.is_limited,
    }


@hookimpl
def extra_css_urls() -> list[str]:
    """The stylesheet of every page."""
    return [hashed("/-/static-plugins/callhouse/callhouse.css")]


@hookimpl
def menu_links(datasette: "Datasette", request: "Request | None") -> list[dict[str, str]]:
    """The queue, for those who may review, grades if a model is asked, and alerts, for those who
    see all calls."""
    if request is None or not request.actor:
        return []
    links = [{"href": datasette.urls.path("/-/questions"), "label": "Questions"}]
    if pages.reviewer(datasette, request):
        links.append({"href": datasette.urls.path("/-/review"), "label": "Review"})
    if grading_of(datasette).questions:
        links.append({"href": datasette.urls.path("/-/grades"), "label": "Grades"})
    database = pages.database_of(datasette, request.actor)
    if database and not pages.Reader(datasette, database).is_limited:
        links.append({"href": datasette.urls.path("/-/alerts"), "label": "Alerts"})
    return links


@hookimpl
def table_actions(datasette: "Datasette", database: str, table: str) -> list[dict[str, str]]:
    """A link to the page of calls, on tables that it shows."""
    if database == "_internal" or table not in _CALL_TABLES:
        return []
    return [{"href": calls_url(datasette), "label": "Filter and search calls"}]


@hookimpl
def render_cell(
    row: Any, value: Any, column: str, table: str | None, datasette: "Datasette"
) -> Any:
    """Link ids to their pages, format times and money, fold JSON."""
    if value is None or (isinstance(value, str) and not may_fold(value)):
        return None
    urls = {
        "call": lambda call_id: pages.call_url(datasette, call_id),
        "chat": lambda chat_id: pages.chat_url(datasette, chat_id),
    }
    return formatting.format_cell(value, column, table, row, pages.timezone(datasette), urls)
