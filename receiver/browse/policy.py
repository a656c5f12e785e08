"""The Content-Security-Policy of every response: scripts and styles from files of this server.

Datasette's templates have some inline, which get a nonce: see `datasette_compat.TemplateNonces`.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from receiver.browse.datasette_compat import EDITOR_STYLE_HASHES, csp_nonce

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def policy(nonce: str) -> str:
    """Everything from this server; recordings and pictures from any host with TLS."""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}'",
            f"style-src 'self' 'nonce-{nonce}' {EDITOR_STYLE_HASHES}",
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
        csp_nonce.set(nonce)

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
