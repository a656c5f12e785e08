"""ASGI middleware around Datasette: limits, authentication and security headers.

In: an ASGI request. Out: the same request with its actor and a body of limited size, or an error
response. Anonymous requests for pages are redirected to the login, others get a 403.
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

from datasette import Response

from receiver.browse.datasette_compat import COOKIES, EDITOR_STYLE_HASHES
from receiver.browse.pages import authentication
from receiver.browse.pages.login import COOKIE
from receiver.browse.request_state import (
    MAX_FOLDED_CHARACTERS,
    csp_nonce,
    is_csv_request,
    json_left,
    login_of_request,
    schema_of_request,
    table_of_page,
)

if TYPE_CHECKING:
    from datasette.app import Datasette

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

# Larger than all forms and the SQL that assistants send.
MAX_BODY_BYTES = 64 * 1024

_MCP = "/-/mcp"
# Forms. All other pages are read with GET.
_POST_PATHS = tuple(
    f"/-/{name}" for name in ("alerts", "login", "logout", "review", "share", "statement", "views")
)
_PUBLIC_PATHS = frozenset({"/-/login", "/-/logout", "/robots.txt", "/favicon.ico"})
# A link to one call or chat.
_SHARED = re.compile(r"/-/shared/[\w.-]+(/media/[a-z_]+)?", re.ASCII)
_DATA_SUFFIXES = (".json", ".jsono", ".csv", ".db")
_JSON = "application/json"
# Signed values are URL-safe base64 and dots. Browsers store no cookie above 4 KB.
_COOKIE_VALUE = re.compile(r"[\w.-]{1,4096}", re.ASCII)
# The login page accepts no longer ?next=.
_MAX_NEXT_CHARACTERS = 2_000


@dataclass(slots=True)
class _ParsedRequest:
    """A request as far as the middleware reads it."""

    scope: dict[str, Any]
    headers: dict[bytes, bytes]
    path: str

    def header(self, name: str) -> str:
        return self.headers.get(name.encode(), b"").decode("latin-1")

    @property
    def is_mcp(self) -> bool:
        return self.path.rstrip("/") == _MCP

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.scope.get("query_string", b"").decode("latin-1"))

    @property
    def is_csv(self) -> bool:
        return self.path.endswith(".csv") or "csv" in self.query.get("_format", [])

    @property
    def is_page(self) -> bool:
        """Whether a browser asks for a page, as opposed to a program that asks for data."""
        wants_json = _JSON in self.header("accept") and "text/html" not in self.header("accept")
        is_data = self.path.endswith(_DATA_SUFFIXES) or "_format" in self.query
        return not (b"authorization" in self.headers or wants_json or is_data)


def authenticated(datasette: "Datasette", app: App) -> App:
    """Require a login, except on a Datasette that `serving` did not create."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or authentication(datasette) is None:
            await app(scope, receive, send)
            return
        request = _parse(scope)
        error = _check_method_and_body(request)
        if error is None:
            request.scope["actor"] = actor = actor_from_headers(datasette, request.headers)
            login_of_request.set(str((actor or {}).get("id", "")))
            is_csv_request.set(request.is_csv)
            table_of_page.set("")
            schema_of_request.set({})
            json_left.set([MAX_FOLDED_CHARACTERS])
            error = _check_login(datasette, request, actor)
        if error is None and scope["method"] not in ("GET", "HEAD"):
            receive, error = await _read_body(request, receive)
        send = _without_body(scope, send)
        if error is not None:
            await error.asgi_send(send)
        else:
            await app(request.scope, receive, send)

    return wrapped


def actor_from_headers(
    datasette: "Datasette", headers: dict[bytes, bytes]
) -> dict[str, Any] | None:
    """The actor of a token or a login cookie; with both, the token decides."""
    found = _actor_from_token(datasette, headers)
    known = authentication(datasette)
    if found or known is None or b"authorization" in headers:
        return found
    cookies = _parse_cookies(headers.get(b"cookie", b""))
    return known.sessions.actor(cookies.get(COOKIE, ""))


def _actor_from_token(datasette: "Datasette", headers: dict[bytes, bytes]) -> dict[str, Any] | None:
    """The actor of the token in the Authorization header."""
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    known = authentication(datasette)
    if known is None or scheme.lower() != "bearer":
        return None
    return known.access.actor_of_token(token.strip())


def _parse(scope: dict[str, Any]) -> _ParsedRequest:
    """The request with headers that Datasette can read: it fails on invalid cookies and on form
    tokens that are not ASCII."""
    headers = [(name.lower(), value) for name, value in scope["headers"]]
    cookies = _parse_cookies(dict(headers).get(b"cookie", b""))
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    headers = [(n, v) for n, v in headers if n not in (b"cookie", b"x-csrftoken")]
    if cookie:
        headers.append((b"cookie", cookie.encode("ascii")))
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    path = raw_path.decode("ascii", "replace").partition("?")[0]
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    scope = scope | {"headers": headers, "method": method, "raw_path": raw_path}
    return _ParsedRequest(scope, dict(headers), path)


def _parse_cookies(header: bytes) -> dict[str, str]:
    """The cookies of callhouse and Datasette. The time that Python takes to parse a cookie with
    backslashes grows with the square of its length, so all others are left out."""
    found = {}
    for pair in header.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name in (COOKIE, *COOKIES) and _COOKIE_VALUE.fullmatch(value):
            found[name] = value
    return found


def _check_method_and_body(request: _ParsedRequest) -> Response | None:
    """The error for a method or body that no page accepts."""
    method = request.scope["method"]
    if method != "GET" and not request.is_mcp:
        can_post = request.path in _POST_PATHS
        if method != "POST" or not can_post:
            allowed = "GET, HEAD, POST" if can_post else "GET, HEAD"
            return Response.text("This method is not allowed here.", 405, {"Allow": allowed})
    length = request.header("content-length")
    if length.isdigit() and int(length[:20]) > MAX_BODY_BYTES:
        return _too_large()
    if method == "POST" and not request.is_mcp:
        if request.header("sec-fetch-site") in ("cross-site", "same-site"):
            # Without cookies, Datasette checks no form token: another site could log somebody in.
            return Response.text("Another site may not post here.", 403)
        content_type = request.header("content-type").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            return Response.text("Send the form as application/x-www-form-urlencoded.", 415)
    return None


def _check_login(
    datasette: "Datasette", request: _ParsedRequest, actor: dict[str, Any] | None
) -> Response | None:
    """The response for a request without the login that its path needs."""
    # A cookie is not enough for /-/mcp: another site could make the browser post there.
    if request.is_mcp and _actor_from_token(datasette, request.headers) is None:
        return Response.text("A token is needed.", 401, {"WWW-Authenticate": "Bearer"})
    if actor or request.path in _PUBLIC_PATHS:
        return None
    if _SHARED.fullmatch(request.path):
        return None
    if not request.is_page:
        error = {"ok": False, "error": "Log in, or send a token.", "status": 403, "title": None}
        return Response(json.dumps(error), 403, content_type=_JSON)
    query = request.scope.get("query_string", b"").decode("latin-1")
    target = f"{request.path}?{query}" if query else request.path
    has_next = target != "/" and len(target) <= _MAX_NEXT_CHARACTERS
    next_ = f"?next={quote(target, safe='/~')}" if has_next else ""
    return Response.redirect(f"/-/login{next_}", headers={"Cache-Control": "no-store"})


async def _read_body(request: _ParsedRequest, receive: Receive) -> tuple[Receive, Response | None]:
    """Read the body up to its limit; return a `receive` that returns it again, or an error."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return receive, Response.text("The body ended early.", 400)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            return receive, _too_large()
    if not request.is_mcp and not _is_form(bytes(body)):
        return receive, Response.text("The form cannot be read.", 400)
    messages = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def replay() -> dict[str, Any]:
        return messages.pop() if messages else await receive()

    return replay, None


def _is_form(body: bytes) -> bool:
    """Whether Datasette can read it: UTF-8, with an ASCII form token."""
    try:
        fields = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return False
    return fields.get("csrftoken", "").isascii()


def _too_large() -> Response:
    # Closing the connection leaves the rest of the body unread.
    text = f"The body is limited to {MAX_BODY_BYTES:,} bytes."
    return Response.text(text, 413, {"Connection": "close"})


def _without_body(scope: dict[str, Any], send: Send) -> Send:
    """HEAD has the response of GET without its body."""
    if scope["method"] != "HEAD":
        return send

    async def send_head(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            message = message | {"body": b""}
        await send(message)

    return send_head


def with_security_headers(datasette: "Datasette", app: App) -> App:
    """Add a Content-Security-Policy with a nonce of its own to every response."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        csp_nonce.set(nonce)
        recordings = _hosts_of_recordings(datasette)

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                policy = content_security_policy(nonce, recordings)
                headers = [
                    (b"content-security-policy", policy.encode()),
                    (b"referrer-policy", b"same-origin"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                message = message | {"headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped


def _hosts_of_recordings(datasette: "Datasette") -> str:
    """Any host with TLS, and a local Retell without it."""
    settings = getattr(datasette, "callhouse_settings", None)
    url = urlsplit(settings.base_url if settings else "https:")
    return "https:" if url.scheme == "https" else f"https: {url.scheme}://{url.netloc}"


def content_security_policy(nonce: str, recordings: str) -> str:
    """Everything only from this server, except recordings from `recordings`."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}'",
            f"style-src 'self' 'nonce-{nonce}' {EDITOR_STYLE_HASHES}",
            "img-src 'self' data:",
            f"media-src 'self' {recordings}",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
