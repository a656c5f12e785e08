"""/-/call/<call_id>: one call with all that is known of it, and the same as JSON."""

import json
import re
from typing import TYPE_CHECKING, Any

from datasette import NotFound, Response
from datasette.utils import tilde_decode

from receiver.browse import queries
from receiver.browse.bounded import MAX_CHARACTERS, number_in
from receiver.browse.call_object import call_object
from receiver.browse.call_view import CallView, call_view
from receiver.browse.pages import Reader, require_reader, rows
from receiver.store.sql import SELECT
from schema.tables import CALL_TABLES

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# What tells one caller from another: "anonymous" is many people.
_IS_NUMBER = re.compile(r"\+?[0-9]{6,}|.*@.*")


async def call_page(datasette: "Datasette", request: "Request") -> Response:
    """The page. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    call_id = tilde_decode(request.url_vars["call_id"])
    tables = await _tables(reader, call_id)
    scrubbed = reader.is_masked or "scrubbed" in request.args
    view = call_view(
        tables,
        scrubbed=scrubbed,
        number=number_in(request.args.get("page")) or 1,
        position=number_in(request.args.get("at")),
    )
    shown = json.dumps(call_object(tables, transcripts=False), indent=2, ensure_ascii=False)
    context = {
        "view": view,
        "reason": await _reason(reader, view),
        "neighbours": await _neighbours(reader, view),
        # The conversation is the page; here stands what goes around it.
        "object": shown if len(shown) <= MAX_CHARACTERS else f"{shown[:MAX_CHARACTERS]}…",
        "database": reader.database,
    }
    return Response.html(await datasette.render_template("call.html", context, request=request))


async def call_json(datasette: "Datasette", request: "Request") -> Response:
    """The call object. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    tables = await _tables(reader, tilde_decode(request.url_vars["call_id"]))
    return Response.json(call_object(tables))


async def _tables(reader: Reader, call_id: str) -> dict[str, list[dict[str, Any]]]:
    """Every table's rows of the call."""
    tables = {t.name: await rows(reader, SELECT[t.name], [call_id]) for t in CALL_TABLES}
    if not tables["calls"]:
        erased = await rows(reader, queries.ERASED, [call_id])
        raise NotFound("This call was erased." if erased else "No call with this id is stored.")
    return tables


async def _reason(reader: Reader, view: CallView) -> dict[str, Any]:
    found = await rows(reader, queries.REASON, [view.call["disconnection_reason"]])
    return next(iter(found), {})


async def _neighbours(reader: Reader, view: CallView) -> list[dict[str, Any]]:
    """Previous and next call of the number and of the agent, as far as there are any."""
    wanted = []
    if _IS_NUMBER.fullmatch(view.who or ""):
        wanted.append(("this number", queries.PREVIOUS_OF_NUMBER, queries.NEXT_OF_NUMBER, view.who))
    if view.call["agent_id"]:
        agent_id = view.call["agent_id"]
        wanted.append(("this agent", queries.PREVIOUS_OF_AGENT, queries.NEXT_OF_AGENT, agent_id))
    found = []
    for of, previous_sql, next_sql, value in wanted:
        params = {"value": value, "at": view.started_at, "call_id": view.call["call_id"]}
        before = await rows(reader, previous_sql, params)
        after = await rows(reader, next_sql, params)
        if before or after:
            pair = {"previous": next(iter(before), None), "next": next(iter(after), None)}
            found.append({"of": of, **pair})
    return found
