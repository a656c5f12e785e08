"""/-/chat/<chat_id>: one chat, its messages in their order."""

import json
from typing import TYPE_CHECKING, Any

from datasette import NotFound, Response
from datasette.utils import tilde_decode

from receiver.browse import queries
from receiver.browse.pages import require_reader, rows
from receiver.store.sql import SELECT

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_JSON_COLUMNS = {
    "custom_analysis_data": "Analysis",
    "retell_llm_dynamic_variables": "Variables given",
    "collected_dynamic_variables": "Variables collected",
    "metadata": "Metadata",
    "custom_attributes": "Custom attributes",
}


async def chat_page(datasette: "Datasette", request: "Request") -> Response:
    """The page. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    chat_id = tilde_decode(request.url_vars["chat_id"])
    found = await rows(reader, SELECT["chats"], [chat_id])
    if not found:
        erased = await rows(reader, queries.ERASED, [chat_id])
        raise NotFound("This chat was erased." if erased else "No chat with this id is stored.")
    [chat] = found
    messages = await rows(reader, SELECT["chat_messages"], [chat_id])
    context = {
        "chat": chat,
        **_messages(messages, scrubbed=reader.is_masked or "scrubbed" in request.args),
        "fields": [
            (label, values)
            for column, label in _JSON_COLUMNS.items()
            if (values := json.loads(chat[column] or "null"))
        ],
        "costs": json.loads(chat["product_costs"] or "[]"),
        "database": reader.database,
    }
    return Response.html(await datasette.render_template("chat.html", context, request=request))


def _messages(messages: list[dict[str, Any]], *, scrubbed: bool) -> dict[str, Any]:
    """The messages of each part of the chat, as written or with personal data removed."""
    tracks: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(messages, key=lambda row: int(row["position"])):
        tracks.setdefault(row["track"], []).append(row)
    has = {name.startswith("scrubbed_") for name in tracks}
    is_scrubbed = True in has and (scrubbed or False not in has)
    prefix = "scrubbed_" if is_scrubbed else ""
    parts = {
        "Before the chat": tracks.get(f"{prefix}pre_session", []),
        "Messages": tracks.get(f"{prefix}session", []),
        "After the chat": tracks.get(f"{prefix}post_session", []),
    }
    return {"parts": parts, "is_scrubbed": is_scrubbed, "has_variants": len(has) == 2}
