"""The pages /-/login and /-/logout."""

import asyncio
import logging
import math
import re
from typing import TYPE_CHECKING, Any

from datasette import Response

from receiver.browse.access import ADMIN
from receiver.browse.door import Door
from receiver.browse.pages import access
from receiver.browse.sessions import COOKIE, SESSION_SECONDS

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_log = logging.getLogger("callhouse.login")
# A path of this server as browsers send it. They drop tabs and line ends, and read a backslash as a
# slash, so that none of them may be in it, and the second character may not be a slash.
_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")
_NEVER_NEXT = re.compile(r"/-/log(in|out)(?![^/?#])")


async def login(datasette: "Datasette", request: "Request") -> Response:
    """`/-/login?next=/path`: the form and what it posts; then on to the page that was asked for."""
    known = access(datasette)
    target = own_path(request.args.get("next"))
    if known is None or known.role(request.actor):
        return Response.redirect(target)
    if request.method == "POST":
        return await _posted(datasette, request, target)
    # Without users there is only one name to type.
    return await _form(datasette, request, "" if known.known.users else ADMIN)


def own_path(text: str | None) -> str:
    """The path if it leads to a page of this server, else the home page."""
    is_own = text and _OWN_PATH.fullmatch(text) and not _NEVER_NEXT.match(text)
    return str(text) if is_own else "/"


async def _posted(datasette: "Datasette", request: "Request", target: str) -> Response:
    posted = await request.post_vars()
    name, password = (posted.get("username") or "").strip(), posted.get("password") or ""
    door: Door = datasette.callhouse_door
    known = door.access
    wait = door.attempts.begin(name)
    if wait:
        _log.warning("too many failed logins: one refused without a look at its password")
        return await _form(datasette, request, name, wait=wait)
    # The hash is slow on purpose: other requests are answered meanwhile.
    actor = await asyncio.to_thread(known.log_in, name, password)
    if actor is None:
        # A name that nobody has may be a password typed into the wrong field.
        shown = name if name == ADMIN or name in known.known.users else "an unknown name"
        _log.warning("failed login as %s from %s", shown, _client(request))
        return await _form(datasette, request, name, error="Invalid username or password")
    door.attempts.succeeded(name)
    response = Response.redirect(target)
    response.set_cookie(
        COOKIE,
        door.sessions.start(actor),
        max_age=SESSION_SECONDS,
        httponly=True,
        secure=request.scheme == "https",
    )
    return response


async def _form(
    datasette: "Datasette", request: "Request", name: str, *, error: str = "", wait: float = 0
) -> Response:
    seconds = math.ceil(wait)
    if wait:
        error = f"Too many failed logins. Try again in {seconds} s."
    context = {"error": error, "username": name[:64]}
    page = await datasette.render_template("login.html", context, request=request)
    if wait:
        return Response.html(page, 429, {"Retry-After": str(seconds)})
    return Response.html(page, 403 if error else 200)


def _client(request: "Request") -> str:
    return str((request.scope.get("client") or ("an unknown address",))[0])


async def logout(datasette: "Datasette", request: "Request") -> Response:
    """`/-/logout`: a button; posted, the session ends, and the cookie with it."""
    if request.method != "POST" and request.actor:
        context: dict[str, Any] = {"actor": request.actor}
        page = await datasette.render_template("logout.html", context, request=request)
        return Response.html(page)
    response = Response.redirect(datasette.urls.path("/-/login"))
    if request.method == "POST":
        datasette.callhouse_door.sessions.end(request.cookies.get(COOKIE, ""))
        response.set_cookie(COOKIE, "", expires=0, max_age=0)
    return response
