"""/-/search: words in transcripts, filters, and the turns where the words were said."""

import json
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from datasette import Response

from receiver.browse import queries
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.pages import Reader, require_reader, rows, timezone
from receiver.browse.search_query import Hit, hits, to_fts5
from receiver.errors import QueryNotUnderstood
from receiver.store.connection import sqlite3

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_PAGE_SIZE = 20
_MOST_HITS = 4
# Sorting by time what half of a million calls said takes longer than anybody waits.
_LIMIT_MS = 400
_FIELDS = ("agent", "outcome", "sentiment", "tool", "number", "since", "until")
_SENTIMENTS = ("Positive", "Neutral", "Negative", "Unknown")


@dataclass(slots=True)
class Found:
    """What the page shows. `line` is a row of call_log."""

    calls: list[tuple[dict[str, Any], list[Hit]]] = field(default_factory=list)
    more_url: str | None = None
    note: str = ""
    error: QueryNotUnderstood | None = None


async def search_page(datasette: "Datasette", request: "Request") -> Response:
    """The page, and on it a hint where the words are no query. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    asked = {name: (request.args.get(name) or "").strip() for name in ("q", *_FIELDS)}
    if reader.is_masked:
        # Neither words nor numbers are there to be found.
        asked |= {"q": "", "number": ""}
    found = Found()
    try:
        if any(asked.values()):
            page = _page(request.args.get("page"))
            found = await _search(reader, asked, page)
    except QueryNotUnderstood as error:
        found.error = error
    context = {
        "asked": asked,
        "is_filtered": any(asked[name] for name in _FIELDS),
        "found": found,
        "agents": await _values(reader, queries.AGENTS),
        "outcomes": await _values(reader, queries.OUTCOMES),
        "tools": await _values(reader, queries.TOOLS),
        "sentiments": _SENTIMENTS,
        "most_hits": _MOST_HITS,
        "timezone": timezone(datasette).key,
    }
    return Response.html(
        await datasette.render_template("search.html", context, request=request),
        status=found.error.status if found.error else 200,
    )


def _page(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 5 else 0


async def _values(reader: Reader, sql: str) -> list[str]:
    return [row["value"] for row in await rows(reader, sql)]


def parameters(asked: dict[str, str], zone: ZoneInfo) -> dict[str, Any]:
    """The filters that are set, as the queries name them. Days are those of the zone, both
    inclusive. Raises QueryNotUnderstood for what is no day."""
    params: dict[str, Any] = {
        name: asked[name] for name in ("agent", "outcome", "sentiment", "tool") if asked[name]
    }
    if asked["number"]:
        # As people write numbers: +1 (415) 555-0123.
        params["number"] = "".join(c for c in asked["number"] if c not in " ()-./")
    if asked["since"]:
        params["since"] = _midnight(asked["since"], zone)
    if asked["until"]:
        params["until"] = _midnight(asked["until"], zone, days_later=1)
    return params


def _midnight(text: str, zone: ZoneInfo, *, days_later: int = 0) -> int:
    try:
        day = date.fromisoformat(text) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        raise QueryNotUnderstood("a date is none", hint="Write it as 2026-05-12.") from None
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


async def _search(reader: Reader, asked: dict[str, str], page: int) -> Found:
    params = parameters(asked, timezone(reader.datasette))
    words = to_fts5(asked["q"])
    limits = {"size": _PAGE_SIZE + 1, "skip": page * _PAGE_SIZE, "words": words}
    found = Found()
    try:
        ids = await _ids(reader, params, limits, by_time=True)
    except QueryInterrupted:
        found.note = "Very many calls match: these are some, about the newest. Narrow it down."
        try:
            ids = await _ids(reader, params, limits, by_time=False)
        except QueryInterrupted:
            found.note = "This takes too long to look through. Add an agent, dates or a word."
            return found
    if len(ids) > _PAGE_SIZE:
        found.more_url = "?" + urlencode({k: v for k, v in asked.items() if v} | {"page": page + 1})
    found.calls = await _shown(reader, ids[:_PAGE_SIZE], words)
    return found


async def _ids(
    reader: Reader, params: dict[str, Any], limits: dict[str, Any], *, by_time: bool
) -> list[str]:
    sql = queries.found_calls(list(params), has_words=bool(limits["words"]), by_time=by_time)
    try:
        answer = await rows(reader, sql, params | limits, limit_ms=_LIMIT_MS)
    except sqlite3.OperationalError as error:
        raise QueryNotUnderstood("these words are no query") from error
    return [row["call_id"] for row in answer]


async def _shown(
    reader: Reader, ids: list[str], words: str
) -> list[tuple[dict[str, Any], list[Hit]]]:
    """Each call's line and the turns that hold the words, in the order of `ids`."""
    params = {"ids": json.dumps(ids), "words": words}
    lines = {row["call_id"]: row for row in await rows(reader, queries.CALL_LINES, params)}
    said: dict[str, list[Hit]] = {}
    if words:
        turns: dict[str, list[tuple[int, str | None, str, float | None]]] = {}
        for row in await rows(reader, queries.SESSION_UTTERANCES, params):
            turn = (row["position"], row["role"], row["content"] or "", row["start_seconds"])
            turns.setdefault(row["call_id"], []).append(turn)
        for row in await rows(reader, queries.HIGHLIGHTED, params):
            said[row["call_id"]] = hits(row["marked"], turns.get(row["call_id"], []))
    return [(lines[i], said.get(i, [])) for i in ids if i in lines]
