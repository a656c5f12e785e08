"""What passes before Datasette sees a request: methods, bodies, headers, and who is asking.

In: an ASGI request. Out: the same, with the actor and a body of bounded size; or a refusal.
Anonymous requests for pages are redirected to the login, all others of theirs get a 403.
"""

import json
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, quote

from datasette import Response

from receiver.browse.access import Access
from receiver.browse.datasette_compat import COOKIES, is_csv_request, login_of_request
from receiver.browse.pages import access
from receiver.browse.policy import App, Receive, Send
from receiver.browse.sessions import COOKIE, Attempts, Sessions

if TYPE_CHECKING:
    from datasette.app import Datasette

# More than any form of ours sends, and any SQL that an assistant writes.
MAX_BODY_BYTES = 64 * 1024

_MCP = "/-/mcp"
# Forms. Everything else is read with GET.
_POSTED = ("/-/login", "/-/logout")
_PUBLIC = frozenset({"/-/login", "/-/logout", "/robots.txt", "/favicon.ico"})
_PUBLIC_FOLDERS = ("/-/static/", "/-/static-plugins/")
_DATA_SUFFIXES = (".json", ".jsono", ".csv", ".db")
_COOKIES = (COOKIE, *COOKIES)
_JSON = "application/json"
_MAX_NEXT = 2_000


@dataclass(frozen=True, slots=True)
class Door:
    """What decides who gets in."""

    access: Access
    sessions: Sessions
    attempts: Attempts


@dataclass(slots=True)
class _Visit:
    """A request as far as the door looks at it."""

    scope: dict[str, Any]
    headers: dict[bytes, bytes]
    path: str

    def header(self, name: str) -> str:
        return self.headers.get(name.encode(), b"").decode("latin-1")


def door(datasette: "Datasette", app: App) -> App:
    """Wrap Datasette; one that `serving` did not make is left open."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or access(datasette) is None:
            await app(scope, receive, send)
            return
        visit = _visit(scope)
        refusal = _refused_at_once(visit)
        if refusal is None:
            visit.scope["actor"] = actor = actor_of(datasette, visit.headers)
            login_of_request.set(str((actor or {}).get("id", "")))
            is_csv_request.set(_is_csv(visit))
            refusal = _refused_as(datasette, visit, actor)
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            receive, refusal = await _bounded(visit, receive)
        if refusal is not None:
            await refusal.asgi_send(_without_body(scope, send))
            return
        await app(visit.scope, receive, _without_body(scope, send))

    return wrapped


def actor_of(datasette: "Datasette", headers: dict[bytes, bytes]) -> dict[str, Any] | None:
    """Who a token or a login cookie belongs to; a token decides if there are both."""
    found = actor_of_token(datasette, headers)
    if found or b"authorization" in headers:
        return found
    cookies = dict(_cookies(headers.get(b"cookie", b"")))
    actor: dict[str, Any] | None = datasette.callhouse_door.sessions.actor(cookies.get(COOKIE, ""))
    return actor


def actor_of_token(datasette: "Datasette", headers: dict[bytes, bytes]) -> dict[str, Any] | None:
    """Who the token in the Authorization header belongs to."""
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    known = access(datasette)
    if known is None or scheme.lower() != "bearer":
        return None
    return known.actor_of_token(token.strip())


def _visit(scope: dict[str, Any]) -> _Visit:
    """The request with the headers that Datasette can read: it fails on cookies that are no
    cookies and on tokens that are not ASCII."""
    headers = [(name.lower(), value) for name, value in scope["headers"]]
    cookie = "; ".join(f"{n}={v}" for n, v in _cookies(dict(headers).get(b"cookie", b"")))
    headers = [(n, v) for n, v in headers if n not in (b"cookie", b"x-csrftoken")]
    if cookie:
        headers.append((b"cookie", cookie.encode("ascii")))
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    path = raw_path.decode("ascii", "replace").partition("?")[0]
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    scope = scope | {"headers": headers, "method": method, "raw_path": raw_path}
    return _Visit(scope, dict(headers), path)


def _cookies(header: bytes) -> list[tuple[str, str]]:
    """Our cookies and Datasette's, as far as they are such."""
    found: SimpleCookie = SimpleCookie()
    for pair in header.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name in _COOKIES and value.isascii() and value.isprintable():
            try:
                found.load(f"{name}={value}")
            except CookieError:
                continue
    return [(name, morsel.coded_value) for name, morsel in found.items()]


def _refused_at_once(visit: _Visit) -> Response | None:
    """Refuse methods and bodies that no page takes."""
    method, is_mcp = visit.scope["method"], _is_mcp(visit)
    if method != "GET" and not is_mcp and (method != "POST" or visit.path not in _POSTED):
        allowed = "GET, HEAD, POST" if visit.path in _POSTED else "GET, HEAD"
        return Response.text("This method is not allowed here.", 405, {"Allow": allowed})
    length = visit.header("content-length")
    if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
        return _too_large()
    if method == "POST" and not is_mcp:
        content_type = visit.header("content-type").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            return Response.text("Send the form as application/x-www-form-urlencoded.", 415)
    return None


def _refused_as(
    datasette: "Datasette", visit: _Visit, actor: dict[str, Any] | None
) -> Response | None:
    """What this visitor gets instead of the page."""
    # A browser's cookie opens no /-/mcp: another page could make the browser post there.
    if _is_mcp(visit) and actor_of_token(datasette, visit.headers) is None:
        return Response.text("A token is needed.", 401, {"WWW-Authenticate": "Bearer"})
    if actor or visit.path in _PUBLIC or visit.path.startswith(_PUBLIC_FOLDERS):
        return None
    if not _is_page(visit):
        error = {"ok": False, "error": "Log in, or send a token.", "status": 403, "title": None}
        return Response(json.dumps(error), 403, content_type=_JSON)
    query = visit.scope.get("query_string", b"").decode("latin-1")
    target = f"{visit.path}?{query}" if query else visit.path
    # The login page takes no longer one.
    next_ = "" if target == "/" or len(target) > _MAX_NEXT else f"?next={quote(target, safe='/~')}"
    return Response.redirect(f"/-/login{next_}", headers={"Cache-Control": "no-store"})


def _is_mcp(visit: _Visit) -> bool:
    return visit.path.rstrip("/") == _MCP


def _is_csv(visit: _Visit) -> bool:
    query = parse_qs(visit.scope.get("query_string", b"").decode("latin-1"))
    return visit.path.endswith(".csv") or "csv" in query.get("_format", [])


def _is_page(visit: _Visit) -> bool:
    """Whether a person asks with a browser, as opposed to a program that wants data."""
    query = parse_qs(visit.scope.get("query_string", b"").decode("latin-1"))
    wants_json = _JSON in visit.header("accept") and "text/html" not in visit.header("accept")
    is_data = visit.path.endswith(_DATA_SUFFIXES) or "_format" in query
    return not (b"authorization" in visit.headers or wants_json or is_data)


async def _bounded(visit: _Visit, receive: Receive) -> tuple[Receive, Response | None]:
    """Read the body, up to the limit, and give it out again."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return receive, Response.text("The body ended early.", 400)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            return receive, _too_large()
    if not _is_mcp(visit) and not _is_form(bytes(body)):
        return receive, Response.text("The form cannot be read.", 400)
    return _replayed(
        {"type": "http.request", "body": bytes(body), "more_body": False}, receive
    ), None


def _replayed(message: dict[str, Any], receive: Receive) -> Receive:
    left = [message]

    async def replay() -> dict[str, Any]:
        return left.pop() if left else await receive()

    return replay


def _is_form(body: bytes) -> bool:
    """Whether Datasette can read it: UTF-8, with a token of ASCII."""
    try:
        fields = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return False
    return fields.get("csrftoken", "").isascii()


def _too_large() -> Response:
    # The connection is closed, so that the rest is not read.
    text = f"A body here has at most {MAX_BODY_BYTES:,} bytes."
    return Response.text(text, 413, {"Connection": "close"})


def _without_body(scope: dict[str, Any], send: Send) -> Send:
    """HEAD is answered as GET is, without the body."""
    if scope["method"] != "HEAD":
        return send

    async def send_head(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            message = message | {"body": b""}
        await send(message)

    return send_head
