"""What people type -> an FTS5 query. Pure.

Words are quoted, so that an apostrophe, a hyphen or a colon is no syntax. A phrase stands in
quotation marks, a prefix ends in *, an exclusion begins with -; OR, AND, NOT and parentheses mean
what they mean to FTS5. Source: https://www.sqlite.org/fts5.html#full_text_query_syntax
"""

import re
from dataclasses import dataclass

from receiver.errors import QueryNotUnderstood

_TOKEN = re.compile(
    r'(?P<minus>-?)"(?P<phrase>[^"]*)"(?P<star>\*?)'
    r"|(?P<operator>[()]|(?:AND|OR|NOT)(?=[\s()]|$))"
    r'|(?P<minus2>-?)(?P<word>[^\s"()]+)'
)
_STRAIGHT = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})


def to_fts5(text: str) -> str:
    """The query for MATCH; empty for a text without words. Raises QueryNotUnderstood."""
    text = text.translate(_STRAIGHT).replace("\0", " ")
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
        # Punctuation alone is no token of the index: it would match nothing.
        if re.search(r"\w", word):
            quoted = f'"{word.rstrip("*")}"{"*" if is_prefix else ""}'
            (unwanted if token["minus"] or token["minus2"] else wanted).append(quoted)
    if unwanted and not wanted:
        raise QueryNotUnderstood("there are only words to leave out")
    query = " ".join(wanted)
    return " NOT ".join([f"({query})", *unwanted]) if unwanted else query


# Around a hit in what highlight() returns: characters that no transcript holds.
OPEN, CLOSE = "\x02", "\x03"
_MARK = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
_BEFORE, _AFTER = 70, 130


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn in which words were found. `parts` are pieces of its text, and whether each is one
    of the words."""

    position: int
    role: str | None
    seconds: float | None
    parts: list[tuple[str, bool]]


def hits(marked: str, utterances: list[tuple[int, str | None, str, float | None]]) -> list[Hit]:
    """The turns that hold the marks of a highlighted transcript.

    `utterances` are (position, role, content, start) in their order; the transcript has them one
    after another, with the speakers' names between.
    """
    plain, marks = _unmarked(marked)
    found, at = [], 0
    for position, role, text, start in utterances:
        # Recognition leaves spaces at its ends that the transcript does not have.
        content = text.strip()
        begin = plain.find(content, at) if content else -1
        if begin < 0:
            continue
        at = begin + len(content)
        inside = [(a - begin, b - begin) for a, b in marks if begin <= a < at]
        if inside:
            found.append(Hit(position, role, start, _snippet(content, inside)))
    return found


def _unmarked(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and where they stood in it."""
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
    """The words around the first mark, cut between words."""
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
