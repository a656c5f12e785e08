"""The page of one chat: /-/chat/<chat_id>."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from datasette import Response
from datasette.utils import tilde_decode

from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.formatting import pretty_json
from receiver.browse.pages import Reader, chat_url, fetch_rows, require_reader
from receiver.browse.pages.call_filters import calls_url
from receiver.browse.pages.call_list import place_in_list
from receiver.browse.pages.calls import ANALYSIS, IS_NUMBER, MOST, QUARANTINED, REASON, not_found
from receiver.browse.pages.conversation import (
    answered_no,
    limited,
    page_of,
    parse_number,
    row_weight,
    shorten,
)
from receiver.browse.pages.reviewing import fetch_review
from receiver.browse.pages.sharing import fetch_links
from receiver.store.sql import SELECT
from schema.merge import began_at
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# Retell's chats have no agent name; calls of the same agent have.
_AGENT_NAME = plain("SELECT name_of_agent(:agent) AS agent_name")
_NEIGHBOUR = """
SELECT c.chat_id, c.start_timestamp AS at FROM chats c
WHERE {column} = :value AND (c.start_timestamp, c.chat_id) {than} (:at, :chat_id)
ORDER BY c.start_timestamp {order}, c.chat_id {order} LIMIT 1
"""
_COUNT = "SELECT count(*) AS chats FROM (SELECT 1 FROM chats c WHERE {column} = :value LIMIT :most)"
_COUNT_OF_CALLS = plain("""
SELECT count(*) AS calls FROM (SELECT 1 FROM calls c WHERE customer(c) = :value LIMIT :most)
""")
_NEIGHBOURS_LIMIT_MS = 300
_NOT_TEXT = (bool, int, float, list, dict)
_TRANSITIONS = ("node_transition", "state_transition")
# JSON columns of chats.
_CHAT_ATTRIBUTES = {
    "custom_analysis_data": ANALYSIS,
    "retell_llm_dynamic_variables": "Variables given",
    "collected_dynamic_variables": "Variables collected",
    "metadata": "Metadata",
    "custom_attributes": "Custom attributes",
}


async def chat_page(datasette: "Datasette", request: "Request") -> Response:
    """The page of a chat. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    chat_id = tilde_decode(request.url_vars["chat_id"])
    [quarantined] = await fetch_rows(reader, QUARANTINED, [chat_id])
    context = await chat_context(reader, request, chat_id)
    context |= {
        "quarantined": quarantined,
        "review": await fetch_review(reader, request, chat_id),
        "links": await fetch_links(reader, request, chat_id),
        "listed": await place_in_list(reader, request, chat_id),
        "neighbours": await _fetch_neighbours(reader, context["chat"]),
        "here": chat_url(datasette, chat_id),
    }
    return Response.html(await datasette.render_template("chat.html", context, request=request))


async def chat_context(reader: Reader, request: "Request", chat_id: str) -> dict[str, Any]:
    """The template's context of the chat. Raises NotFound."""
    found = await fetch_rows(reader, SELECT["chats"], [chat_id])
    if not found:
        raise await not_found(reader, "chat", chat_id)
    [chat] = found
    messages = [
        shorten(row) for row in await fetch_rows(reader, SELECT["chat_messages"], [chat_id])
    ]
    if not chat["agent_name"] and chat["agent_id"]:
        [named] = await fetch_rows(reader, _AGENT_NAME, {"agent": chat["agent_id"]})
        chat |= named
    scrubbed = reader.is_masked or "scrubbed" in request.args
    costs = [
        {name: each.get(name) for name in ("product", "cost")}
        for each in json.loads(chat["product_costs"] or "[]")
    ]
    reasons = await fetch_rows(reader, REASON, [chat["disconnection_reason"]])
    return {
        "chat": shorten(chat),
        "started_at": began_at(chat["start_timestamp"], chat["observed_at"]),
        "duration_ms": _duration_ms(chat),
        "reason": next(iter(reasons), {}),
        **_messages(
            messages,
            scrubbed=scrubbed,
            number=parse_number(request.args.get("page")) or 1,
            position=parse_number(request.args.get("at")),
        ),
        "fields": [
            (name, limited(map(shorten, values), row_weight))
            for column, name in _CHAT_ATTRIBUTES.items()
            if (values := _pairs(chat[column]))
        ],
        "costs": limited(map(shorten, costs), row_weight),
        "database": reader.database,
    }


def _duration_ms(chat: Mapping[str, Any]) -> int | None:
    start, end, duration = (
        chat[name] for name in ("start_timestamp", "end_timestamp", "duration_ms")
    )
    if duration is None and start is not None and end is not None and end >= start:
        return int(end - start)
    return None if duration is None else int(duration)


async def _fetch_neighbours(reader: Reader, chat: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Previous and next chat of the person's number and of the agent, how many there are, and the
    calls of the number; without those that take too long to find."""
    found = []
    number = chat["user_number"] if IS_NUMBER.fullmatch(chat["user_number"] or "") else None
    for name, column, value in (
        ("number", "c.user_number", number),
        ("agent", "c.agent_id", chat["agent_id"]),
    ):
        if value and chat["start_timestamp"] is not None:
            with suppress(QueryInterrupted):
                found += await _fetch_pair(reader, chat, name, column, value)
    return found


async def _fetch_pair(
    reader: Reader, chat: Mapping[str, Any], name: str, column: str, value: str
) -> list[dict[str, Any]]:
    async def fetch(sql: str, **more: Any) -> list[dict[str, Any]]:
        bound = {"value": value, "at": chat["start_timestamp"], "chat_id": chat["chat_id"]}
        return await fetch_rows(reader, sql, bound | more, limit_ms=_NEIGHBOURS_LIMIT_MS)

    sides = {
        side: next(
            iter(await fetch(_NEIGHBOUR.format(column=column, than=than, order=order))), None
        )
        for side, than, order in (("previous", "<", "DESC"), ("next", ">", "ASC"))
    }
    [calls] = await fetch(_COUNT_OF_CALLS, most=MOST + 1) if name == "number" else [{"calls": 0}]
    if not any(sides.values()) and not calls["calls"]:
        return []
    [counted] = await fetch(_COUNT.format(column=column), most=MOST + 1)
    return [
        {
            "of": f"This {name}",
            "count": counted["chats"] if counted["chats"] <= MOST else None,
            "url": calls_url(reader.datasette, kind="chat", **{name: value}),
            "calls": calls["calls"] if calls["calls"] <= MOST else f"{MOST:,} or more",
            "calls_url": calls_url(reader.datasette, **{name: value}),
            **sides,
        }
    ]


def _pairs(text: str | None) -> list[dict[str, str | None]]:
    """Name and value of each key of a JSON object."""
    values = json.loads(text or "{}")
    return [
        {"name": name, "value": json.dumps(value) if isinstance(value, _NOT_TEXT) else value}
        for name, value in values.items()
    ]


def _messages(
    messages: list[dict[str, Any]], *, scrubbed: bool, number: int, position: int | None
) -> dict[str, Any]:
    """The messages of each part of a chat, as written or with personal data removed: page `number`,
    or the page of the message at `position`."""
    tracks: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(messages, key=lambda row: int(row["position"])):
        tracks.setdefault(row["track"], []).append(row)
    has = {name.startswith("scrubbed_") for name in tracks}
    is_scrubbed = True in has and (scrubbed or False not in has)
    prefix = "scrubbed_" if is_scrubbed else ""
    before, session, after = (
        paired(tracks.get(f"{prefix}{name}", []))
        for name in ("pre_session", "session", "post_session")
    )
    index = None
    if position is not None:
        index = bisect_left([row["position"] for row in session], position)
    page = page_of(session, number, row_weight, index=index)
    parts = {
        "Before the chat": limited(before, row_weight),
        "Messages": page.items,
        "After the chat": limited(after, row_weight),
    }
    return {
        "parts": parts, "page": page, "is_scrubbed": is_scrubbed, "has_variants": len(has) == 2,
    }  # fmt: skip


def paired(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a track, each tool with its result, and steps in words.

    A result belongs to the first invocation with its id that has none yet. One without such an
    invocation is shown where it arrived.
    """
    found: list[dict[str, Any]] = []
    waiting: dict[str, list[dict[str, Any]]] = {}
    for row in messages:
        role, id = row["role"], row["tool_call_id"]
        if role == "tool_call_invocation":
            found.append(_tool(row, result=None))
            waiting.setdefault(id or "", []).append(found[-1])
        elif role == "tool_call_result" and id and waiting.get(id):
            use = waiting[id].pop(0)
            use |= _tool({**use, "successful": row["successful"]}, result=row)
        elif role == "tool_call_result":
            found.append(_tool(row, result=row))
        elif role in _TRANSITIONS:
            found.append({**row, "kind": "node_transition", "text": _step(row), "seconds": None})
        else:
            found.append(dict(row))
    return found


def _tool(row: Mapping[str, Any], *, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """A tool as the macro of calls shows it."""
    content: str | None = result["content"] if result else None
    no = answered_no(content)
    if result and row["successful"] == 0:
        outcome = "failed"
    elif no:
        outcome = "unsuccessful"
    else:
        outcome = "no result" if result is None else "done"
    took = None
    times = [row["created_timestamp"], result and result["created_timestamp"]]
    if result is not None and None not in times and times[1] > times[0]:
        took = times[1] - times[0]
    return {
        **row,
        "role": "tool",
        "name": row["name"] or "unnamed",
        "arguments": pretty_json(row["arguments"]),
        "result": None if content is None else pretty_json(content),
        "answered_no": no,
        "outcome": outcome,
        "duration_ms": took,
        "seconds": None,
    }


def _step(row: Mapping[str, Any]) -> str:
    """The text of a step between nodes or states."""
    try:
        said = json.loads(row["extra"] or "{}")
    except ValueError:
        # Truncated.
        said = {}
    names = [
        next((str(said[key]) for key in _names_of(end) if said.get(key) is not None), "?")
        for end in ("former", "new")
    ]
    return " → ".join(names)


def _names_of(end: str) -> Sequence[str]:
    return [f"{end}_{of}_{what}" for what in ("name", "id") for of in ("node", "state")]
