"""/-/search: words in transcripts, filters, and the turns that contain the words.

People's words become an FTS5 query: each word is quoted, so that an apostrophe, hyphen or colon is
no syntax. "a phrase", prefix*, -excluded, OR, AND, NOT and parentheses mean what they mean to FTS5.
Source: https://www.sqlite.org/fts5.html#full_text_query_syntax
"""

import json
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from datasette import Response

from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.formatting import midnight_ms
from receiver.browse.pages import Reader, fetch_rows, require_reader, timezone
from receiver.errors import QueryNotUnderstood
from receiver.store.connection import sqlite3

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_PAGE_SIZE = 20
_MAX_HITS = 4
# Sorting half of a million calls by time takes longer than anybody waits.
_LIMIT_MS = 400
_FIELDS = ("agent", "outcome", "sentiment", "tool", "number", "since", "until")
_SENTIMENTS = ("Positive", "Neutral", "Negative", "Unknown")

# Filter of the page -> its condition on a row c of call_log.
_CONDITIONS = {
    "agent": "c.agent = :agent",
    "outcome": "c.outcome = :outcome",
    "sentiment": "lower(trim(c.sentiment)) = lower(:sentiment)",
    "number": "c.who = :number",
    "since": "c.started_at_ms >= :since",
    "until": "c.started_at_ms < :until",
    "tool": "EXISTS (SELECT 1 FROM tool_calls t WHERE t.call_id = c.call_id AND t.name = :tool)",
}


def _distinct(table: str, column: str) -> str:
    """The distinct values of an indexed column, without a scan of the table."""
    return f"""
WITH RECURSIVE found (value) AS (
    SELECT min({column}) FROM {table}
    UNION ALL
    SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.value)
    FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""


_AGENTS = _distinct("calls", "agent_name")
_OUTCOMES = _distinct("calls", "disconnection_reason")
_TOOLS = _distinct("tool_calls", "name")

_IDS = "(SELECT value FROM json_each(:ids))"
_CALLS = f"SELECT * FROM call_log WHERE call_id IN {_IDS}"
_UTTERANCES = f"""
SELECT call_id, position, role, content, start_seconds FROM utterances
WHERE call_id IN {_IDS} AND track = 'session' ORDER BY call_id, position
"""
# CROSS JOIN fixes the order: look up each call in the index, not each index entry in the calls.
_HIGHLIGHTED = f"""
SELECT t.call_id, highlight(transcripts_fts, 0, char(2), char(3)) AS marked
FROM transcripts t CROSS JOIN transcripts_fts ON transcripts_fts.rowid = t.rowid
WHERE t.call_id IN {_IDS} AND transcripts_fts MATCH :words
"""


def _matching_calls(filters: list[str], *, has_words: bool, by_time: bool) -> str:
    """The ids of the calls to show, newest first; without `by_time`, in the order of the full-text
    index, which is about the order of arrival and reads only the calls that are shown."""
    source = (
        "transcripts_fts JOIN transcripts t ON t.rowid = transcripts_fts.rowid "
        "JOIN call_log c ON c.call_id = t.call_id"
        if has_words
        else "call_log c"
    )
    conditions = ["transcripts_fts MATCH :words"] * has_words + [_CONDITIONS[n] for n in filters]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    order = "c.started_at_ms" if by_time or not has_words else "transcripts_fts.rowid"
    return f"SELECT c.call_id FROM {source} {where}ORDER BY {order} DESC LIMIT :size OFFSET :skip"


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn that contains the words. `parts` are pieces of its text, each with whether it is one
    of the words."""

    position: int
    role: str | None
    seconds: float | None
    parts: list[tuple[str, bool]]


@dataclass(slots=True)
class Found:
    """What the page shows: rows of call_log, each with its hits."""

    calls: list[tuple[dict[str, Any], list[Hit]]] = field(default_factory=list)
    more_url: str | None = None
    note: str = ""
    error: QueryNotUnderstood | None = None


async def search_page(datasette: "Datasette", request: "Request") -> Response:
    """The page, with a hint if the words are not a valid query. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    asked = {name: (request.args.get(name) or "").strip() for name in ("q", *_FIELDS)}
    if reader.is_masked:
        # Masked readers have no full-text search and no numbers.
        asked |= {"q": "", "number": ""}
    found = Found()
    try:
        if any(asked.values()):
            found = await _search(reader, asked, _page_number(request.args.get("page")))
    except QueryNotUnderstood as error:
        found.error = error
    context = {
        "asked": asked,
        "is_filtered": any(asked[name] for name in _FIELDS),
        "found": found,
        "agents": await _fetch_values(reader, _AGENTS),
        "outcomes": await _fetch_values(reader, _OUTCOMES),
        "tools": await _fetch_values(reader, _TOOLS),
        "sentiments": _SENTIMENTS,
        "max_hits": _MAX_HITS,
        "timezone": timezone(datasette).key,
    }
    return Response.html(
        await datasette.render_template("search.html", context, request=request),
        status=found.error.status if found.error else 200,
    )


def _page_number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 5 else 0


async def _fetch_values(reader: Reader, sql: str) -> list[str]:
    return [row["value"] for row in await fetch_rows(reader, sql)]


def parameters(asked: dict[str, str], zone: ZoneInfo) -> dict[str, Any]:
    """The filters that are set, as the queries name them. Days are local, both ends inclusive.

    Raises QueryNotUnderstood for an invalid day.
    """
    params: dict[str, Any] = {
        name: asked[name] for name in ("agent", "outcome", "sentiment", "tool") if asked[name]
    }
    if asked["number"]:
        # As people write numbers: +1 (415) 555-0123.
        params["number"] = "".join(c for c in asked["number"] if c not in " ()-./")
    if asked["since"]:
        params["since"] = _parse_day(asked["since"], zone)
    if asked["until"]:
        params["until"] = _parse_day(asked["until"], zone, days_later=1)
    return params


def _parse_day(text: str, zone: ZoneInfo, *, days_later: int = 0) -> int:
    try:
        day = date.fromisoformat(text) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        raise QueryNotUnderstood("not a valid date", hint="Write it as 2026-05-12.") from None
    return midnight_ms(day, zone)


async def _search(reader: Reader, asked: dict[str, str], page: int) -> Found:
    params = parameters(asked, timezone(reader.datasette))
    words = to_fts5(asked["q"])
    limits = {"size": _PAGE_SIZE + 1, "skip": page * _PAGE_SIZE, "words": words}
    found = Found()
    try:
        ids = await _fetch_ids(reader, params, limits, by_time=True)
    except QueryInterrupted:
        found.note = "Too many calls match: these are some of the newest. Narrow the search."
        try:
            ids = await _fetch_ids(reader, params, limits, by_time=False)
        except QueryInterrupted:
            found.note = "This search takes too long. Add an agent, dates or a word."
            return found
    if len(ids) > _PAGE_SIZE:
        found.more_url = "?" + urlencode({k: v for k, v in asked.items() if v} | {"page": page + 1})
    found.calls = await _fetch_calls(reader, ids[:_PAGE_SIZE], words)
    return found


async def _fetch_ids(
    reader: Reader, params: dict[str, Any], limits: dict[str, Any], *, by_time: bool
) -> list[str]:
    sql = _matching_calls(list(params), has_words=bool(limits["words"]), by_time=by_time)
    try:
        found = await fetch_rows(reader, sql, params | limits, limit_ms=_LIMIT_MS)
    except sqlite3.OperationalError as error:
        raise QueryNotUnderstood("these words are not a valid query") from error
    return [row["call_id"] for row in found]


async def _fetch_calls(
    reader: Reader, ids: list[str], words: str
) -> list[tuple[dict[str, Any], list[Hit]]]:
    """Each call's row and its hits, in the order of `ids`."""
    params = {"ids": json.dumps(ids), "words": words}
    calls = {row["call_id"]: row for row in await fetch_rows(reader, _CALLS, params)}
    found: dict[str, list[Hit]] = {}
    if words:
        turns: dict[str, list[tuple[int, str | None, str, float | None]]] = {}
        for row in await fetch_rows(reader, _UTTERANCES, params):
            turn = (row["position"], row["role"], row["content"] or "", row["start_seconds"])
            turns.setdefault(row["call_id"], []).append(turn)
        for row in await fetch_rows(reader, _HIGHLIGHTED, params):
            found[row["call_id"]] = hits(row["marked"], turns.get(row["call_id"], []))
    return [(calls[i], found.get(i, [])) for i in ids if i in calls]


_TOKEN = re.compile(
    r'(?P<minus>-?)"(?P<phrase>[^"]*)"(?P<star>\*?)'
    r"|(?P<operator>[()]|(?:AND|OR|NOT)(?=[\s()]|$))"
    r'|(?P<minus2>-?)(?P<word>[^\s"()]+)'
)
_STRAIGHT_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})


def to_fts5(text: str) -> str:
    """The query for MATCH; empty for a text without words. Raises QueryNotUnderstood."""
    text = text.translate(_STRAIGHT_QUOTES).replace("\0", " ")
    if text.count('"') % 2:
        raise QueryNotUnderstood("a phrase has no closing quotation mark")
    wanted: list[str] = []
    unwanted: list[str] = []
    for token in _TOKEN.finditer(text):
        if token["operator"]:
            wanted.append(token["operator"])
            continue
        word = token["phrase"] if token["phrase"] is not None else token["word"]
        is_prefix = bool(token["star"]) or (token["phrase"] is None and word.endswith("*"))
        # The index has no punctuation: a token of punctuation alone would match nothing.
        if re.search(r"\w", word):
            quoted = f'"{word.rstrip("*")}"{"*" if is_prefix else ""}'
            (unwanted if token["minus"] or token["minus2"] else wanted).append(quoted)
    if unwanted and not wanted:
        raise QueryNotUnderstood("there are only words to exclude")
    query = " ".join(wanted)
    return " NOT ".join([f"({query})", *unwanted]) if unwanted else query


# Around a hit in the result of highlight(): characters that no transcript contains.
OPEN, CLOSE = "\x02", "\x03"
_MARK = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
# Characters shown before and after the first hit of a turn.
_BEFORE, _AFTER = 70, 130


def hits(marked: str, utterances: list[tuple[int, str | None, str, float | None]]) -> list[Hit]:
    """The turns that contain marks of a highlighted transcript.

    `utterances` are (position, role, content, start), ordered; the transcript joins them, with the
    speakers' names between.
    """
    plain, marks = _split_marks(marked)
    found, at = [], 0
    for position, role, text, start in utterances:
        # The transcript lacks the spaces that recognition leaves at the ends.
        content = text.strip()
        begin = plain.find(content, at) if content else -1
        if begin < 0:
            continue
        at = begin + len(content)
        inside = [(a - begin, b - begin) for a, b in marks if begin <= a < at]
        if inside:
            found.append(Hit(position, role, start, _snippet(content, inside)))
    return found


def _split_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and the range of each mark in it."""
    plain, marks, at, length = [], [], 0, 0
    for mark in _MARK.finditer(marked):
        before = marked[at : mark.start()]
        length += len(before)
        marks.append((length, length + len(mark[1])))
        plain += [before, mark[1]]
        length += len(mark[1])
        at = mark.end()
    return "".join([*plain, marked[at:]]), marks


def _snippet(content: str, marks: list[tuple[int, int]]) -> list[tuple[str, bool]]:
    """The text around the first mark, cut between words."""
    begin, end = max(0, marks[0][0] - _BEFORE), min(len(content), marks[0][1] + _AFTER)
    if begin:
        begin = content.find(" ", begin, marks[0][0]) + 1 or begin
    if end < len(content):
        end = max(content.rfind(" ", marks[0][1], end), marks[0][1])
    parts, at = [("…", False)] if begin else [], begin
    for a, b in marks:
        if b <= end:
            parts += [(content[at:a], False), (content[a:b], True)]
            at = b
    parts.append((content[at:end] + ("…" if end < len(content) else ""), False))
    return [(text, is_hit) for text, is_hit in parts if text]
