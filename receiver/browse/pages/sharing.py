"""Links that show one call or chat without a login: their tokens, and the form for them.

A token is the ids of the call or chat and of the link, signed with the secret of the login cookies.
The row of share_links decides until when it is valid, and whether it shows personal data.
"""

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette import Forbidden, NotFound, Response
from itsdangerous import BadData, URLSafeSerializer

from receiver import clock
from receiver.browse.pages import (
    Reader,
    fetch_rows,
    is_admin,
    require_entity_url,
    require_reader,
    reviewer,
)
from receiver.browse.pages.reviewing import refused, require_reviewer
from receiver.browse.writing import audit, writer
from receiver.errors import NotStored, StoreUnavailable
from receiver.store.reviewing import ShareLink, revoke_link, write_link
from receiver.store.sql import select
from schema.tables import SHARE_LINKS

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

MAX_DAYS = 365
_DAY_MS = 86_400_000
_LINKS = select(SHARE_LINKS)


class Tokens:
    """Signs and verifies the tokens of links."""

    def __init__(self, secret: str) -> None:
        self._signer = URLSafeSerializer(secret, "callhouse-share")

    def path(self, link: ShareLink) -> str:
        """The path of a link's page."""
        return f"/-/shared/{self._signer.dumps([link.call_id, link.link_id])}"

    def read(self, token: str) -> tuple[str, str] | None:
        """The ids of the entity and the link; None for a token that was not signed here."""
        try:
            call_id, link_id = self._signer.loads(token)
        except (BadData, ValueError, TypeError):
            return None
        return str(call_id), str(link_id)


def new_link(call_id: str, author: str, *, days: int, is_masked: bool, now_ms: int) -> ShareLink:
    """A link that is valid from now on. Raises ValueError for an impossible number of days."""
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"A link is valid for 1 to {MAX_DAYS} days.")
    return ShareLink(
        call_id=call_id,
        link_id=secrets.token_urlsafe(12),
        is_masked=int(is_masked),
        author=author,
        created_at=now_ms,
        expires_at=now_ms + days * _DAY_MS,
        changed_at=now_ms,
    )


def why_invalid(link: ShareLink | None, now_ms: int) -> str:
    """Why a link shows nothing, for people; empty if it does."""
    if link is None:
        return "There is no such link."
    if link.revoked_at is not None:
        return "This link was revoked."
    return "" if now_ms < link.expires_at else "This link has expired."


async def fetch_link(reader: Reader, call_id: str, link_id: str) -> ShareLink | None:
    """A link, valid or not."""
    found = await _fetch_all(reader, call_id)
    return next((link for link in found if link.link_id == link_id), None)


async def _fetch_all(reader: Reader, call_id: str) -> list[ShareLink]:
    rows = await fetch_rows(reader, _LINKS, [call_id])
    return sorted((ShareLink(**row) for row in rows), key=lambda link: link.created_at)


async def fetch_links(reader: Reader, request: "Request", call_id: str) -> list[dict[str, Any]]:
    """The valid links of a call or chat with their addresses, for users who may share."""
    if reviewer(reader.datasette, request) is None:
        return []
    tokens: Tokens = reader.datasette.callhouse_tokens
    origin = f"{request.scheme}://{request.host}"
    return [
        {"link": link, "url": f"{origin}{tokens.path(link)}"}
        for link in await _fetch_all(reader, call_id)
        if not why_invalid(link, clock.now_ms())
    ]


async def share(datasette: "Datasette", request: "Request") -> Response:
    """`/-/share`: a posted form makes a link, or revokes one. Raises Forbidden, NotFound."""
    reader, user = await require_reader(datasette, request), require_reviewer(datasette, request)
    if request.method != "POST":
        raise NotFound("There is no such page.")
    form = await request.post_vars()
    call_id = form.get("entity_id", "")
    url = await require_entity_url(reader, call_id)
    try:
        if "revoke" in form:
            await _revoke(reader, request, call_id, form["revoke"], user)
        else:
            days = form.get("days", "")
            link = new_link(
                call_id, user, is_masked="masked" in form, now_ms=clock.now_ms(),
                days=int(days) if days.isascii() and days.isdecimal() and len(days) < 5 else 0,
            )  # fmt: skip
            await writer(datasette).run(partial(write_link, link=link))
            audit(user, "masked link" if link.is_masked else "link", call_id)
    except (NotStored, StoreUnavailable, ValueError) as error:
        return await refused(datasette, request, error)
    return Response.redirect(f"{url}#share")


async def _revoke(
    reader: Reader, request: "Request", call_id: str, link_id: str, user: str
) -> None:
    """Revoke a link of the user's own, or as admin any. Raises Forbidden, NotFound."""
    link = await fetch_link(reader, call_id, link_id)
    if link is None:
        raise NotFound("There is no such link.")
    if link.author != user and not is_admin(reader.datasette, request):
        raise Forbidden("Only its author and an admin may revoke this link.")
    await writer(reader.datasette).run(partial(revoke_link, link_id=link_id, now_ms=clock.now_ms()))
    audit(user, "revoked link", call_id)
