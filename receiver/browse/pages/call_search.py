"""Words in transcripts: what people type -> a query of the full-text index, and what it finds.

People's words become an FTS5 query: each word is quoted, so that an apostrophe, hyphen or colon is
no syntax. "a phrase", prefix*, -excluded, OR, AND, NOT and parentheses mean what they mean to FTS5.
Source: https://www.sqlite.org/fts5.html#full_text_query_syntax
"""

import json
import re
from dataclasses import dataclass

from receiver.browse.pages import Reader, fetch_rows
from receiver.browse.pages.call_filters import (
    CALLS,
    NUMBER_END,
    Condition,
    Source,
    compact_number,
    number_ends,
)
from receiver.errors import QueryNotUnderstood
from receiver.store.connection import sqlite3

# More calls than this with the words: the calls are read in the order of the list, and each is
# looked up in the index, instead of the other way round.
_FEW = 5_000
_LIMIT_MS = 400

_COUNT_FEW = """
SELECT count(*) AS found FROM (
    SELECT 1 FROM transcripts_fts WHERE transcripts_fts MATCH :words LIMIT :few
)
"""
_AMONG_HITS = """c.call_id IN (
    SELECT t.call_id FROM transcripts_fts JOIN transcripts t ON t.rowid = transcripts_fts.rowid
    WHERE transcripts_fts MATCH :words
)"""
# CROSS JOIN fixes the order: look up each call in the index, not each index entry in the calls.
_HAS_HIT = """EXISTS (
    SELECT 1 FROM transcripts t CROSS JOIN transcripts_fts ON transcripts_fts.rowid = t.rowid
    WHERE t.call_id = c.call_id AND transcripts_fts MATCH :words
)"""
_IDS = "(SELECT value FROM json_each(:ids))"
_UTTERANCES = f"""
SELECT call_id, position, role, content, start_seconds FROM utterances
WHERE call_id IN {_IDS} AND track = 'session' ORDER BY call_id, position
"""
_HIGHLIGHTED = f"""
SELECT t.call_id, highlight(transcripts_fts, 0, char(2), char(3)) AS marked
FROM transcripts t CROSS JOIN transcripts_fts ON transcripts_fts.rowid = t.rowid
WHERE t.call_id IN {_IDS} AND transcripts_fts MATCH :words
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn that contains the words. `parts` are pieces of its text, each with whether it is one
    of the words."""

    position: int
    role: str | None
    seconds: float | None
    parts: list[tuple[str, bool]]


async def search_condition(reader: Reader, source: Source, text: str) -> Condition:
    """The condition for entries that a search finds. Raises QueryNotUnderstood and
    QueryInterrupted."""
    number = compact_number(text)
    if NUMBER_END.fullmatch(number) and source is CALLS:
        sql, params = number_ends(number)
        return Condition(sql.format(**source.columns), params)
    params = {"words": to_fts5(text)}
    count = params | {"few": _FEW + 1}
    try:
        [row] = await fetch_rows(reader, _COUNT_FEW, count, limit_ms=_LIMIT_MS)
    except sqlite3.OperationalError as error:
        raise QueryNotUnderstood("these words are not a valid query") from error
    return Condition(_AMONG_HITS if row["found"] <= _FEW else _HAS_HIT, params)


async def fetch_hits(reader: Reader, ids: list[str], words: str) -> dict[str, list[Hit]]:
    """The turns with the words, by call."""
    params = {"ids": json.dumps(ids), "words": words}
    turns: dict[str, list[tuple[int, str | None, str, float | None]]] = {}
    for row in await fetch_rows(reader, _UTTERANCES, params):
        turn = (row["position"], row["role"], row["content"] or "", row["start_seconds"])
        turns.setdefault(row["call_id"], []).append(turn)
    return {
        row["call_id"]: hits(row["marked"], turns.get(row["call_id"], []))
        for row in await fetch_rows(reader, _HIGHLIGHTED, params)
    }


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
