"""The Datasette plugin. Found through the entry point `datasette`.

It must not import datasette.app: that loads the plugins, and would find this one half made and
without its hooks.
"""

from typing import TYPE_CHECKING, Any

from datasette import hookimpl
from datasette.utils import tilde_encode
from markupsafe import Markup

from receiver.browse.privacy import authorize
from schema.questions import questions

if TYPE_CHECKING:
    from datasette.app import Datasette


@hookimpl
def prepare_connection(conn: Any) -> None:
    """Keep what must stay private out of every page and every query."""
    conn.set_authorizer(authorize)


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
def extra_css_urls() -> list[str]:
    """Our stylesheet, on every page."""
    return ["/-/static-plugins/callhouse/callhouse.css"]


@hookimpl
def render_cell(
    value: Any, column: str, table: str | None, database: str, datasette: "Datasette"
) -> Markup | None:
    """A call_id leads to its call, in views and queries too, where no foreign key says so."""
    if column != "call_id" or table == "calls" or not isinstance(value, str):
        return None
    url = datasette.urls.row(database, "calls", tilde_encode(value))
    return Markup('<a href="{}">{}</a>').format(url, value)
