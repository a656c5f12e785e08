"""The Content-Security-Policy, and what makes Datasette's own pages work under it.

Scripts and styles come from files of this server. Datasette's templates hold some inline; they get
the answer's nonce, written into the source of templates and never into what is rendered, so that
markup in a transcript gets none. Their style attributes are dropped: callhouse.css says all.
"""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from jinja2 import Environment
from jinja2.ext import Extension

_nonce: ContextVar[str] = ContextVar("nonce", default="")

_INLINE = re.compile(r"<(script|style)(?=[\s>{])")
_STYLE_ATTRIBUTE = re.compile(r'\sstyle="(?:\{\{.*?\}\}|[^"{])*"')

# The style element that cm-resize of Datasette's SQL editor makes: empty, then with its rules.
_EDITOR_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-38xqj8N9cygggde3AvM+xVgS15DUXTOhM9fjk0hLOS0='"
)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Nonces(Extension):
    """Gives every script and style of a template's source the nonce of the answer."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["csp_nonce"] = _nonce.get

    def preprocess(self, source: str, *_: object, **__: object) -> str:
        """Called by Jinja with each template before it is compiled."""
        source = _INLINE.sub(r'<\1 nonce="{{ csp_nonce() }}"', source)
        return _STYLE_ATTRIBUTE.sub("", source)


def policy(nonce: str) -> str:
    """Everything from this server; recordings and pictures from any host with TLS."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}'",
            f"style-src 'self' 'nonce-{nonce}' {_EDITOR_STYLES}",
            "img-src 'self' data:",
            "media-src 'self' https:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def protected(app: App) -> App:
    """Send the policy, with a nonce of its own, with every answer."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        _nonce.set(nonce)

        async def send_with_policy(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (b"content-security-policy", policy(nonce).encode()),
                    (b"referrer-policy", b"same-origin"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                message = message | {"headers": [*message.get("headers", ()), *headers]}
            await send(message)

        await app(scope, receive, send_with_policy)

    return wrapped
