"""The page of a link to one call or chat, without a login: /-/shared/<token>, and recordings.

It shows the conversation and its outcome. It has no links to other pages, no cost, variables,
metadata or reviews, and none of Retell's own links, which could not be revoked.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette import NotFound, Response

from receiver import clock
from receiver.browse.pages import DATABASE, MASKED, Reader, is_chat, message_page
from receiver.browse.pages.calls import ANALYSIS, RECORDINGS, call_context
from receiver.browse.pages.chats import chat_context
from receiver.browse.pages.media import kept_files, send_kept
from receiver.browse.pages.reviewing import Review
from receiver.browse.pages.sharing import Tokens, fetch_link, why_invalid
from receiver.browse.writing import writer
from receiver.errors import CallhouseError
from receiver.store.reviewing import ShareLink, count_opening

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

Send = Callable[[dict[str, Any]], Awaitable[None]]

_HEADERS = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}


async def shared_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/shared/<token>`. 404 for an unknown link, 410 for one that is no longer valid."""
    link, error = await _fetch_link(datasette, request)
    if link is None or error:
        return await _invalid(datasette, request, 410 if link else 404, error)
    reader = _reader(datasette, link)
    path = datasette.callhouse_tokens.path(link)
    if await is_chat(reader, link.call_id):
        template, context = "chat.html", await _chat_context(reader, request, link)
    else:
        template, context = "call.html", await _call_context(reader, request, link, path)
    context |= {"here": path, "shared": link, "review": Review(link.call_id)}
    # For the template: there is no login, and whether this reader is masked.
    request.scope |= {"actor": None, "callhouse_database": reader.database}
    page = await datasette.render_template(template, context, request=request)
    # A busy database must not prevent the page.
    with suppress(CallhouseError):
        await writer(datasette).run(partial(count_opening, link=link, now_ms=clock.now_ms()))
    return Response.html(page, headers=_HEADERS)


async def _chat_context(reader: Reader, request: "Request", link: ShareLink) -> dict[str, Any]:
    """What is shown of a chat."""
    context = await chat_context(reader, request, link.call_id)
    fields = [(name, values) for name, values in context["fields"] if name == ANALYSIS]
    chat = context["chat"] | {"combined_cost_cents": None}
    return context | {"chat": chat, "fields": fields, "costs": []}


async def _call_context(
    reader: Reader, request: "Request", link: ShareLink, path: str
) -> dict[str, Any]:
    """What is shown of a call."""
    kept = await kept_files(reader, link.call_id)
    # Not Retell's own links: they could not be revoked.
    urls = {kind: f"{path}/media/{kind}" for kind in kept if _is_recording(kind)}
    context = await call_context(reader, request, link.call_id, urls)
    # Hidden data is not in the context of the template.
    view = replace(
        context["view"], costs=[], why_dear=[], latencies=[], attributes=[], documents=[],
        transfers=[],
        recordings=[media for media in context["view"].recordings if media.url in urls.values()],
    )  # fmt: skip
    del context["object"]
    return context | {"view": view}


async def shared_media(datasette: "Datasette", request: "Request", send: Send) -> Response | None:
    """`/-/shared/<token>/media/<kind>`: a kept recording of the call. Raises NotFound."""
    link, error = await _fetch_link(datasette, request)
    kind = request.url_vars["kind"]
    if link is None or error or not _is_recording(kind):
        raise NotFound("There is no such recording.")
    return await send_kept(_reader(datasette, link), link.call_id, kind, request, send)


def _is_recording(kind: str) -> bool:
    return kind.removeprefix("scrubbed_") in RECORDINGS


def _reader(datasette: "Datasette", link: ShareLink) -> Reader:
    return Reader(datasette, MASKED if link.is_masked else DATABASE)


async def _fetch_link(datasette: "Datasette", request: "Request") -> tuple[ShareLink | None, str]:
    """The link of a request, and why it is invalid."""
    tokens: Tokens | None = getattr(datasette, "callhouse_tokens", None)
    ids = tokens.read(request.url_vars["token"]) if tokens else None
    link = await fetch_link(Reader(datasette, DATABASE), *ids) if ids else None
    return link, why_invalid(link, clock.now_ms())


async def _invalid(datasette: "Datasette", request: "Request", status: int, error: str) -> Response:
    request.scope["actor"] = None
    title = "No longer valid" if status == 410 else "Not found"
    return await message_page(datasette, request, status, title, error, _HEADERS)
