"""/-/chat/<chat_id>: one chat, its messages in their order."""

import json
from typing import TYPE_CHECKING, Any

from datasette import NotFound, Response
from datasette.utils import tilde_decode

from receiver.browse import queries
from receiver.browse.bounded import cut, first, number_in, page_of, weight_of_row
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
    messages = [cut(row) for row in await rows(reader, SELECT["chat_messages"], [chat_id])]
    scrubbed = reader.is_masked or "scrubbed" in request.args
    context = {
        "chat": cut(chat),
        **_messages(messages, scrubbed=scrubbed, number=number_in(request.args.get("page")) or 1),
        "fields": [
            (label, first(map(cut, values), weight_of_row))
            for column, label in _JSON_COLUMNS.items()
            if (values := _pairs(chat[column]))
        ],
        "costs": first(map(cut, json.loads(chat["product_costs"] or "[]")), weight_of_row),
        "database": reader.database,
    }
    return Response.html(await datasette.render_template("chat.html", context, request=request))


def _pairs(text: str | None) -> list[dict[str, str]]:
    """Name and value of each key of a JSON object."""
    values = json.loads(text or "{}")
    return [
        {"name": name, "value": "–" if value is None or value == "" else str(value)}
        for name, value in values.items()
    ]


def _messages(messages: list[dict[str, Any]], *, scrubbed: bool, number: int) -> dict[str, Any]:
    """The messages of each part of the chat, as written or with personal data removed."""
    tracks: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(messages, key=lambda row: int(row["position"])):
        tracks.setdefault(row["track"], []).append(row)
    has = {name.startswith("scrubbed_") for name in tracks}
    is_scrubbed = True in has and (scrubbed or False not in has)
    prefix = "scrubbed_" if is_scrubbed else ""
    page = page_of(tracks.get(f"{prefix}session", []), number, weight_of_row)
    parts = {
        "Before the chat": first(tracks.get(f"{prefix}pre_session", []), weight_of_row),
        "Messages": page.items,
        "After the chat": first(tracks.get(f"{prefix}post_session", []), weight_of_row),
    }
    return {
        "parts": parts, "page": page, "is_scrubbed": is_scrubbed, "has_variants": len(has) == 2,
    }  # fmt: skip
