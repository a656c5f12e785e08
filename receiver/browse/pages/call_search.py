"""Search words -> conditions on calls and chats, and the turns with the words.

Words become a query of FTS5. Each is quoted, so that apostrophes, hyphens and colons have no
special meaning. "a phrase", prefix*, -excluded, OR, AND, NOT and parentheses work as in FTS5. Words
of scripts without spaces, such as Japanese, are found anywhere in a text with an index of
characters. Source: https://www.sqlite.org/fts5.html#full_text_query_syntax
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from receiver.browse.pages import Reader, fetch_rows
from receiver.browse.pages.call_conditions import (
    NUMBER_END,
    Condition,
    compact_number,
    number_ends,
)
from receiver.browse.pages.call_sources import (
    Source,
    row_columns,
)
from receiver.errors import QueryNotUnderstood
from receiver.store.connection import sqlite3

# If more texts than this have the words, the calls are read in the order of the list and looked up
# in the indexes, instead of the other way round.
_FEW = 20_000
# More searches for single texts take longer than one search for all.
_FEW_SEARCHES = 2_000
_LIMIT_MS = 400
# Numbers with fewer digits may also be words.
_NUMBER_DIGITS = 7
# Terms of three characters that begin with a word of one or two.
_MAX_TERMS = 500


@dataclass(frozen=True, slots=True)
class _Part:
    """Texts of one table in an index: `multiple` times their rowid, plus `offset`."""

    index: str
    table: str
    key: str
    multiple: int = 1
    offset: int = 0

    def count(self, match: str) -> str:
        """The SELECT that counts the matches, up to a few."""
        return (
            "SELECT count(*) AS found FROM "
            f"(SELECT 1 FROM {self.index} WHERE {self.index} MATCH :{match} LIMIT :few)"
        )

    def matching_ids(self, match: str) -> str:
        """The SELECT of the ids of calls or chats that match a parameter."""
        of_part = (
            ""
            if self.multiple == 1
            else (f" AND {self.index}.rowid % {self.multiple} = {self.offset}")
        )
        return (
            f"SELECT t.{self.key} FROM {self.index} JOIN {self.table} t "
            f"ON t.rowid = {self.index}.rowid / {self.multiple} "
            f"WHERE {self.index} MATCH :{match}{of_part}"
        )

    def has_match(self, match: str, key: str, *, of_all: bool) -> str:
        """The condition that the text of the call or chat `key` matches; `of_all`: by one search
        for all texts, in place of one for each."""
        if of_all:
            return (
                f"EXISTS (SELECT 1 FROM {self.table} t WHERE t.{self.key} = {key} "
                f"AND t.rowid * {self.multiple} + {self.offset} IN "
                f"(SELECT rowid FROM {self.index} WHERE {self.index} MATCH :{match}))"
            )
        # CROSS JOIN fixes the order: the text's row, then its place in the index.
        return (
            f"EXISTS (SELECT 1 FROM {self.table} t CROSS JOIN {self.index} "
            f"ON {self.index}.rowid = t.rowid * {self.multiple} + {self.offset} "
            f"WHERE t.{self.key} = {key} AND {self.index} MATCH :{match})"
        )


_TRANSCRIPTS = _Part("transcripts_fts", "transcripts", "call_id")
# Source and kind of index -> its texts, as schema/sql/migrations/0008 numbers them.
_PARTS = {
    ("call", "words"): (_TRANSCRIPTS, _Part("summaries_fts", "analyses", "call_id", 2, 0)),
    ("call", "characters"): (
        _Part("characters_fts", "transcripts", "call_id", 3, 0),
        _Part("characters_fts", "analyses", "call_id", 3, 1),
    ),
    ("chat", "words"): (_Part("summaries_fts", "chats", "chat_id", 2, 1),),
    ("chat", "characters"): (_Part("characters_fts", "chats", "chat_id", 3, 2),),
}
_CONTAINS = {
    "call": (
        "c.call_id IN (SELECT t.call_id FROM transcripts t WHERE instr(lower(t.transcript), :{}))"
    ),
    "chat": "instr(lower(coalesce(c.chat_summary, '') || ' ' || coalesce(c.transcript, '')), :{})",
}
_TERMS = """
SELECT term FROM characters_terms WHERE term >= :word AND term < :word || char(1114111) LIMIT :few
"""
_IDS = "(SELECT value FROM json_each(:ids))"
_UTTERANCES = f"""
SELECT call_id, position, role, content, start_seconds FROM utterances
WHERE call_id IN {_IDS} AND track = 'session' ORDER BY call_id, position
"""
_MESSAGES = f"""
SELECT chat_id, position, role, content FROM chat_messages
WHERE chat_id IN {_IDS} AND track = 'session' AND role IN ('agent', 'user')
    AND content IS NOT NULL ORDER BY chat_id, position
"""
_HIGHLIGHTED = f"""
SELECT t.call_id, highlight(transcripts_fts, 0, char(2), char(3)) AS marked
FROM transcripts t CROSS JOIN transcripts_fts ON transcripts_fts.rowid = t.rowid
WHERE t.call_id IN {_IDS} AND transcripts_fts MATCH :words
"""
# The same with one search for all texts: the plus sign prevents a search by rowid.
_HIGHLIGHTED_ONCE = f"""
SELECT t.call_id, highlight(transcripts_fts, 0, char(2), char(3)) AS marked
FROM transcripts_fts CROSS JOIN transcripts t ON t.rowid = transcripts_fts.rowid
WHERE transcripts_fts MATCH :words
    AND +transcripts_fts.rowid IN (SELECT t.rowid FROM transcripts t WHERE t.call_id IN {_IDS})
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn that contains the words. `parts` are pieces of its text, each with whether it is one
    of the words."""

    position: int
    role: str | None
    seconds: float | None
    parts: list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class _Token:
    """A word or phrase, or an operator of FTS5."""

    text: str
    is_prefix: bool = False
    is_unwanted: bool = False
    is_operator: bool = False

    @property
    def is_of_characters(self) -> bool:
        """Whether its script does not separate words by spaces."""
        return bool(_CHARACTERS.search(self.text))

    @property
    def quoted(self) -> str:
        """The token as FTS5 reads it."""
        if self.is_operator:
            return self.text
        return f'"{self.text}"{"*" if self.is_prefix and not self.is_of_characters else ""}'


@dataclass(frozen=True, slots=True)
class Query:
    """A search: words and characters with operators, and excluded words."""

    words: tuple[_Token, ...] = ()
    characters: tuple[_Token, ...] = ()
    without_words: tuple[_Token, ...] = ()
    without_characters: tuple[_Token, ...] = ()

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds the words in a text that the index of words does not highlight.

        Punctuation in a phrase is left out: a pattern with it could match in so many ways that it
        takes minutes."""
        found = []
        for token in (*self.words, *self.characters):
            text = r"\W+".join(re.findall(r"\w+", token.text))
            if token.is_of_characters:
                found.append(text)
            elif not token.is_operator:
                end = r"\w*" if token.is_prefix else r"(?!\w)"
                found.append(rf"(?<!\w){text}{end}")
        return re.compile("|".join(found) or "(?!)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Search:
    """A condition on calls or chats, and the query behind it; none for a number."""

    condition: Condition
    query: Query = field(default_factory=Query)


async def search(reader: Reader, source: Source, text: str) -> Search:
    """Raises QueryNotUnderstood and QueryInterrupted."""
    number = compact_number(text)
    is_number = bool(NUMBER_END.fullmatch(number))
    sql, params = number_ends(number, "q_number") if is_number else ("", {})
    with_number = sql.format(**row_columns(source, has_rowid=not reader.is_limited))
    if is_number and len(number) >= _NUMBER_DIGITS:
        return Search(Condition(with_number, params))
    query = parse_query(text)
    clauses, of_all, candidates = list[str](), list[str](), None
    for kind, tokens, without in (
        ("words", query.words, query.without_words),
        ("characters", query.characters, query.without_characters),
    ):
        if tokens:
            matches = await _matching(reader, source, kind, kind, tokens, without=without)
            params |= matches.params
            clauses.append(matches.clause)
            of_all.append(matches.of_all)
            if matches.count is not None:
                candidates = min(matches.count, candidates or matches.count)
    for kind, tokens in (
        ("words", query.without_words),
        ("characters", query.without_characters),
    ):
        if tokens:
            name = f"without_{kind}"
            matches = await _matching(reader, source, kind, name, tokens, candidates=candidates)
            params |= matches.params
            clauses.append(f"NOT ({matches.clause})")
            of_all.append(f"NOT ({matches.of_all if candidates is None else matches.clause})")
    found, found_of_all = (
        " AND ".join(f"({clause})" for clause in each) or "true" for each in (clauses, of_all)
    )
    if is_number:
        found, found_of_all = (f"({f}) OR ({with_number})" for f in (found, found_of_all))
    if found == found_of_all:
        found_of_all = ""
    return Search(Condition(found, params, found_of_all, is_common=candidates is None), query)


async def _match(reader: Reader, kind: str, tokens: tuple[_Token, ...]) -> str:
    """The parameter of MATCH."""
    if kind == "words":
        return " ".join(token.quoted for token in tokens)
    return " ".join([await _match_characters(reader, token) for token in tokens])


async def _match_characters(reader: Reader, token: _Token) -> str:
    """A word of one or two characters is any term that begins so."""
    if token.is_operator or len(token.text) > 2:
        return token.quoted
    asked = {"word": token.text.lower(), "few": _MAX_TERMS + 1}
    terms = [row["term"] for row in await fetch_rows(reader, _TERMS, asked, limit_ms=_LIMIT_MS)]
    if len(terms) > _MAX_TERMS:
        raise QueryNotUnderstood("this word is too short", hint="Write one more character.")
    quoted = ['"{}"'.format(term.replace('"', '""')) for term in terms]
    return f"({' OR '.join(quoted or [_NO_TERM])})"


@dataclass(frozen=True, slots=True)
class _Matches:
    """The condition that a text of the call or chat matches, the same for all of them, and its
    parameters. `count` is the number of texts, if it is small."""

    clause: str
    of_all: str
    params: Mapping[str, Any]
    count: int | None = None


async def _matching(
    reader: Reader,
    source: Source,
    kind: str,
    name: str,
    tokens: tuple[_Token, ...],
    *,
    without: tuple[_Token, ...] = (),
    candidates: int | None = None,
) -> _Matches:
    """The texts with `tokens`; `name` begins the names of parameters.

    A text with `without` may be left out: such a call does not match. `candidates` is the number of
    calls to check, if it is small.
    """
    parts: tuple[_Part, ...] = _PARTS[source.kind, kind]
    if reader.is_limited:
        # The only index that a limited login has.
        parts = tuple(part for part in parts if part is _TRANSCRIPTS)
        if not parts:
            clause, params = _containing(source, name, tokens)
            return _Matches(clause, clause, params)
    match = await _match(reader, kind, tokens)
    if without:
        match = f"({match}) NOT ({await _match(reader, kind, without)})"
    params = {name: match}
    few = params | {"few": _FEW + 1}
    try:
        counts = [
            (await fetch_rows(reader, part.count(name), few, limit_ms=_LIMIT_MS))[0]["found"]
            for part in parts
        ]
    except sqlite3.OperationalError as error:
        raise QueryNotUnderstood("these words are not a valid query") from error
    key = source.columns["key"]
    of_all = f"{key} IN ({' UNION '.join(part.matching_ids(name) for part in parts)})"
    if max(counts) <= _FEW:
        return _Matches(of_all, of_all, params, sum(counts))
    # Each search for a prefix reads all texts with it.
    is_once = any(token.is_prefix for token in (*tokens, *without))
    is_once |= candidates is not None and candidates > _FEW_SEARCHES
    clause = " OR ".join(part.has_match(name, key, of_all=is_once) for part in parts)
    return _Matches(clause, clause if is_once else of_all, params)


def _containing(
    source: Source, name: str, tokens: tuple[_Token, ...]
) -> tuple[str, dict[str, Any]]:
    """The condition that a text contains every word, without an index."""
    words = [token.text.lower() for token in tokens if not token.is_operator]
    params = {f"{name}_{n}": word for n, word in enumerate(words)}
    return " AND ".join(_CONTAINS[source.kind].format(name) for name in params), params


async def fetch_hits(reader: Reader, ids: list[str], query: Query) -> dict[str, list[Hit]]:
    """The turns with the words, by call."""
    params: dict[str, Any] = {"ids": json.dumps(ids)}
    turns: dict[str, list[_Turn]] = {}
    for row in await fetch_rows(reader, _UTTERANCES, params):
        turn = (row["position"], row["role"], row["content"] or "", row["start_seconds"])
        turns.setdefault(row["call_id"], []).append(turn)
    found: dict[str, list[Hit]] = {}
    if query.words:
        params["words"] = await _match(reader, "words", query.words)
        has_prefix = any(token.is_prefix for token in query.words)
        highlighted = _HIGHLIGHTED_ONCE if has_prefix else _HIGHLIGHTED
        for row in await fetch_rows(reader, highlighted, params):
            found[row["call_id"]] = hits(row["marked"], turns.get(row["call_id"], []))
    if query.characters:
        for call_id, those in turns.items():
            found.setdefault(call_id, []).extend(_hits_of_characters(query, those))
    return found


async def fetch_chat_hits(reader: Reader, ids: list[str], query: Query) -> dict[str, list[Hit]]:
    """The messages with the words, by chat."""
    found: dict[str, list[Hit]] = {}
    for row in await fetch_rows(reader, _MESSAGES, {"ids": json.dumps(ids)}):
        marks = [match.span() for match in query.pattern.finditer(row["content"])]
        if marks:
            hit = Hit(row["position"], row["role"], None, _snippet(row["content"], marks))
            found.setdefault(row["chat_id"], []).append(hit)
    return found


def _hits_of_characters(query: Query, turns: "list[_Turn]") -> Iterator[Hit]:
    for position, role, content, start in turns:
        marks = [match.span() for match in query.pattern.finditer(content)]
        if marks:
            yield Hit(position, role, start, _snippet(content, marks))


def marked_text(text: str, query: Query) -> list[tuple[str, bool]]:
    """Pieces of a text from a little before the first of the words, each with whether it is one."""
    marks = [match.span() for match in query.pattern.finditer(text)]
    return _snippet(text, marks) if marks else [(text, False)]


_Turn = tuple[int, str | None, str, float | None]
# Scripts without spaces between words, as in schema/sql/migrations/0008.
_CHARACTERS = re.compile("[\u0e00-\u17ff\u3040-\uffdc\U00020000-\U0003ffff]")
# A character that no text has.
_NO_TERM = '"\x01\x01\x01"'
_TOKEN = re.compile(
    r'(?P<minus>-?)"(?P<phrase>[^"]*)"(?P<star>\*?)'
    r"|(?P<operator>[()]|(?:AND|OR|NOT)(?=[\s()]|$))"
    r'|(?P<minus2>-?)(?P<word>[^\s"()]+)'
)
_STRAIGHT_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "　": " "})
_AND = _Token("AND", is_operator=True)
_OR = _Token("OR", is_operator=True)


def parse_query(text: str) -> Query:
    """Parse the text of a search. Raises QueryNotUnderstood."""
    tokens = list(_tokens(text))
    wanted = [token for token in tokens if not token.is_unwanted]
    unwanted = [token for token in tokens if token.is_unwanted]
    kinds = {token.is_of_characters for token in wanted if not token.is_operator}
    if unwanted and not kinds:
        raise QueryNotUnderstood("there are only words to exclude")
    has_operators = any(token.is_operator for token in wanted)
    if len(kinds) == 2 and has_operators:
        raise QueryNotUnderstood(
            "OR cannot combine these scripts", hint="Search for each separately."
        )
    of = {
        kind: [t for t in wanted if has_operators or t.is_of_characters is kind] for kind in kinds
    }
    return Query(
        tuple(_joined(of.get(False, []))),
        tuple(_joined(of.get(True, []))),
        tuple(_joined([t for t in unwanted if not t.is_of_characters], _OR)),
        tuple(_joined([t for t in unwanted if t.is_of_characters], _OR)),
    )


def _tokens(text: str) -> Iterator[_Token]:
    text = text.translate(_STRAIGHT_QUOTES).replace("\0", " ")
    if text.count('"') % 2:
        raise QueryNotUnderstood("a phrase has no closing quotation mark")
    for token in _TOKEN.finditer(text):
        if token["operator"]:
            yield _Token(token["operator"], is_operator=True)
            continue
        word = token["phrase"] if token["phrase"] is not None else token["word"]
        is_prefix = bool(token["star"]) or (token["phrase"] is None and word.endswith("*"))
        # The index has no punctuation: a token of punctuation alone would match nothing.
        if re.search(r"\w", word):
            yield _Token(word.rstrip("*"), is_prefix, bool(token["minus"] or token["minus2"]))


def _joined(tokens: list[_Token], by: _Token = _AND) -> Iterator[_Token]:
    """Insert an operator between two operands without one."""
    before = None
    for token in tokens:
        begins = not token.is_operator or token.text == "("
        ended = before is not None and (not before.is_operator or before.text == ")")
        if begins and ended:
            yield by
        yield token
        before = token


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
