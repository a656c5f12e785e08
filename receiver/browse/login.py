"""Logging in with a password, and by a token; the door of /-/mcp."""

import asyncio
from typing import TYPE_CHECKING, Any

from datasette import Response

from receiver.browse.pages import access
from receiver.browse.policy import App, Receive, Send

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette


async def login(datasette: "Datasette", request: "Request") -> Response:
    """/-/login: the form, and what it sends."""
    error = None
    known = access(datasette)
    if request.method == "POST" and known:
        posted = await request.post_vars()
        name, password = posted.get("username") or "", posted.get("password") or ""
        # The hash is slow on purpose: other requests go on meanwhile.
        actor = await asyncio.to_thread(known.log_in, name.strip(), password)
        if actor:
            response = Response.redirect(datasette.urls.path("/"))
            response.set_cookie(
                "ds_actor",
                datasette.sign({"a": actor}, "actor"),
                httponly=True,
                secure=request.scheme == "https",
            )
            return response
        error = "Invalid username or password"
    return Response.html(
        await datasette.render_template("password_login.html", {"error": error}, request=request)
    )


def bearer(datasette: "Datasette", request: "Request") -> dict[str, Any] | None:
    """The actor of an Authorization header with a token."""
    return _bearer(datasette, request.headers.get("authorization") or "")


def _bearer(datasette: "Datasette", header: str) -> dict[str, Any] | None:
    scheme, _, token = header.partition(" ")
    known = access(datasette)
    if known is None or scheme.lower() != "bearer":
        return None
    return known.actor_of_token(token.strip())


def assistants_only_by_token(datasette: "Datasette", app: App) -> App:
    """Refuse /-/mcp, which datasette-mcp serves, to whoever has no token: it would let anybody open
    sessions, and takes a browser's cookie for a login."""
    path = datasette.urls.path("/-/mcp")

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/") == path:
            said = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if _bearer(datasette, said) is None:
                headers = {"www-authenticate": "Bearer"}
                await Response.text("A token is needed", 401, headers).asgi_send(send)
                return
        await app(scope, receive, send)

    return wrapped
