"""Saved views: filters of the page of calls under a name, for their author or for everybody.

In: forms posted to /-/views. Out: rows of saved_views, and links to them. A user may show one view
on their home page: a row without a name has its query.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette import Forbidden, NotFound, Response

from receiver import clock
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.pages import (
    REVIEWERS,
    Reader,
    fetch_rows,
    is_admin,
    require_reader,
    reviewer,
    user_with_role,
)
from receiver.browse.pages.call_filters import (
    list_url,
    parse_query_string,
)
from receiver.browse.pages.call_list import prepare
from receiver.browse.pages.call_sources import (
    CHATS,
)
from receiver.browse.pages.reviewing import refused
from receiver.browse.writing import audit, writer
from receiver.errors import NotStored, QueryNotUnderstood, StoreUnavailable
from receiver.store.reviewing import SavedView, remove_view, write_view

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

MAX_NAME, MAX_QUERY, MAX_VIEWS = 60, 2_000, 50
# Calls of a view on the home page.
_ON_HOME = 5
_VIEWS = """
SELECT
    view_id, name, query, author, is_shared,
    query = (SELECT query FROM saved_views WHERE view_id = :home) AS is_on_home
FROM saved_views
WHERE removed_at IS NULL AND name <> '' AND (is_shared = 1 OR author = :user)
ORDER BY author <> :user, lower(name), view_id LIMIT 100
"""
_COUNT = """
SELECT count(*) AS views FROM saved_views
WHERE author = :user AND removed_at IS NULL AND name <> ''
"""
_UNSTORABLE = re.compile("[\0-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class View:
    """A saved view that the reader may open. `query` is the address of the page of calls."""

    id: str
    name: str
    query: str
    url: str
    is_shared: bool
    is_mine: bool
    can_remove: bool
    is_on_home: bool


@dataclass(frozen=True, slots=True)
class ViewOnHome:
    """A view and its first calls or chats, as the page of calls has them; None if they take too
    long."""

    view: View
    is_chats: bool
    entries: list[dict[str, Any]] | None


def viewer(datasette: "Datasette", request: "Request") -> str | None:
    """The user behind a request if they may save views: not a program, and nobody from whom calls
    or personal data are hidden, as a view may name a number."""
    return user_with_role(datasette, request, (*REVIEWERS, "reader"))


async def fetch_views(datasette: "Datasette", request: "Request | None") -> list[View]:
    """The reader's own views, then those that others share, each by name."""
    if request is None or (user := viewer(datasette, request)) is None:
        return []
    reader = await require_reader(datasette, request)
    admin = is_admin(datasette, request)
    return [
        View(
            row["view_id"],
            row["name"],
            row["query"],
            list_url(datasette, row["query"]),
            bool(row["is_shared"]),
            row["author"] == user,
            row["author"] == user or admin,
            bool(row["is_on_home"]),
        )
        for row in await fetch_rows(reader, _VIEWS, {"user": user, "home": _home_id(user)})
    ]


async def fetch_view_on_home(reader: Reader, request: "Request") -> ViewOnHome | None:
    """The view that the user chose for the home page."""
    views = await fetch_views(reader.datasette, request)
    view = next((view for view in views if view.is_on_home), None)
    if view is None:
        return None
    filters = parse_query_string(view.query)
    entries = None
    with suppress(QueryInterrupted, QueryNotUnderstood):
        found = await prepare(reader, filters, clock.now_ms())
        entries = await found.fetch_entries(await found.fetch_ids(_ON_HOME))
    return ViewOnHome(view, filters.source is CHATS, entries)


def _home_id(user: str) -> str:
    """The id of the row that says which view the user's home page shows."""
    return hashlib.sha256(f"home\0{user}".encode()).hexdigest()[:24]


def can_save(datasette: "Datasette", request: "Request") -> bool:
    """Whether the user may save a view, and the database can be written."""
    return viewer(datasette, request) is not None and not writer(datasette).why_read_only


async def write_views(datasette: "Datasette", request: "Request") -> Response:
    """A posted form: save a view, remove one, or choose the one of home. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    user = viewer(datasette, request)
    if user is None:
        raise Forbidden("Your role does not allow this.")
    if request.method != "POST":
        raise NotFound("There is no such page.")
    form = {name: _UNSTORABLE.sub(" ", text) for name, text in (await request.post_vars()).items()}
    # The same view in the one spelling of addresses.
    query = parse_query_string(form.get("query", "")).query()
    try:
        if "remove" in form:
            await _remove(datasette, request, form["remove"], user)
        elif "home" in form:
            await _choose_for_home(datasette, user, query if form["home"] else None)
        else:
            can_share = reviewer(datasette, request) is not None
            await _save(reader, form | {"query": query}, user, can_share=can_share)
    except (NotStored, StoreUnavailable, ValueError) as error:
        return await refused(datasette, request, error)
    return Response.redirect(list_url(datasette, query))


async def _save(reader: Reader, form: Mapping[str, str], user: str, *, can_share: bool) -> None:
    name, query = form.get("name", "").strip(), form["query"]
    if not name or len(name) > MAX_NAME:
        raise ValueError(f"Give the view a name of at most {MAX_NAME} characters.")
    if len(query) > MAX_QUERY:
        raise ValueError("The address of this view is too long to save.")
    [count] = await fetch_rows(reader, _COUNT, {"user": user})
    if count["views"] >= MAX_VIEWS:
        raise ValueError(f"You have {MAX_VIEWS} views. Remove one first.")
    now = clock.now_ms()
    is_shared = can_share and "is_shared" in form
    view = SavedView(secrets.token_hex(12), name, query, user, int(is_shared), now, now)
    await writer(reader.datasette).run(partial(write_view, view=view))
    audit(user, "shared view" if is_shared else "saved view", view.view_id)


async def _remove(datasette: "Datasette", request: "Request", view_id: str, user: str) -> None:
    """Remove a view of the user's own, or as admin any."""
    views = await fetch_views(datasette, request)
    if not any(view.id == view_id and view.can_remove for view in views):
        raise Forbidden("Only its author and an admin may remove this view.")
    remove = partial(remove_view, view_id=view_id, now_ms=clock.now_ms())
    if await writer(datasette).run(remove):
        audit(user, "removed view", view_id)


async def _choose_for_home(datasette: "Datasette", user: str, query: str | None) -> None:
    """Show the views of this query on the user's home page, or none."""
    now, view_id = clock.now_ms(), _home_id(user)
    if query is None:
        await writer(datasette).run(partial(remove_view, view_id=view_id, now_ms=now))
    else:
        if len(query) > MAX_QUERY:
            raise ValueError("The address of this view is too long to save.")
        view = SavedView(view_id, "", query, user, 0, now, now)
        await writer(datasette).run(partial(write_view, view=view))
    audit(user, "chose view of home" if query is not None else "removed view of home", view_id)
