"""The SQL functions, table-valued functions and pragmas that browsing may use.

All others are denied, including those that a later SQLite or a plugin adds: some access memory
(`fts3_tokenizer` installs a pointer), load code or have unbounded cost. Functions that SQLite
computes in one step of quadratic cost are replaced by linear ones in Python, which check the
deadline of the query: SQLite checks the time only between steps. Results are limited too.
"""

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from receiver.store.connection import sqlite3

_TEXT = """
    char concat concat_ws format glob hex instr length like lower ltrim match octet_length printf
    quote replace rtrim substr substring trim unicode unistr upper
"""
_VALUES = """
    coalesce if ifnull iif likelihood likely nullif typeof unlikely
"""
_NUMBERS = """
    abs acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10
    log2 mod pi pow power radians random round sign sin sinh sqrt tan tanh trunc
"""
_TIMES = """
    current_date current_time current_timestamp date datetime julianday strftime time timediff
    unixepoch
"""
_AGGREGATES_AND_WINDOWS = """
    avg count cume_dist dense_rank first_value group_concat lag last_value lead max min nth_value
    ntile percent_rank rank row_number string_agg sum total
"""
# Without json_patch, whose cost is the product of both objects' keys, and without jsonb_..., whose
# results are binary.
_JSON = """
    -> ->> json json_array json_array_insert json_array_length json_error_position json_extract
    json_group_array json_group_object json_insert json_object json_pretty json_quote json_remove
    json_replace json_set json_type json_valid
"""
# For the full-text index.
_FULL_TEXT = "bm25 highlight snippet"
# Used by Datasette's page of versions and its search in a table.
_DATASETTE = "escape_fts sqlite_version"

FUNCTIONS = frozenset(
    name
    for group in (
        *(_TEXT, _VALUES, _NUMBERS, _TIMES, _AGGREGATES_AND_WINDOWS, _JSON),
        *(_FULL_TEXT, _DATASETTE),
    )
    for name in group.split()
)
# Used by Datasette to read the schema and by the full-text index. SQL of people may use fewer, by
# Datasette's own list.
PRAGMAS = frozenset(
    {
        "data_version",
        *("database_list", "foreign_key_list", "function_list", "index_info", "index_list"),
        *("index_xinfo", "max_page_count", "page_count", "page_size", "schema_version"),
        *("table_info", "table_list", "table_xinfo", "module_list", "compile_options"),
    }
)
TABLE_FUNCTIONS = frozenset({"json_each", "json_tree", *(f"pragma_{name}" for name in PRAGMAS)})

# A body of 16 MiB fits into a value.
MAX_VALUE_BYTES = 20_000_000
# Four bytes per character: the maximum size of a value in memory.
MAX_RESULT_BYTES = 4 * MAX_VALUE_BYTES
# Values on a page, which takes 10 microseconds for each, while nobody else is served.
MAX_VALUES = 50_000
MAX_PATTERN = 1_000
_MAX_TRIMMED = 1_000
# Limit of steps for matching a pattern with single wildcards.
_MAX_STEPS = 50_000_000

_query = threading.local()


class DeadlineExceeded(Exception):
    """A function noticed that its query is past its deadline."""


def set_deadline(at: float | None) -> None:
    """Set when this thread's query must end, by time.perf_counter()."""
    _query.deadline = at


def is_past_deadline() -> bool:
    """Whether this thread's query is past its deadline."""
    deadline = getattr(_query, "deadline", None)
    return deadline is not None and time.perf_counter() >= deadline


def set_own_sql(is_own: bool) -> None:
    """Set whether this thread's query is SQL of callhouse and not of a reader."""
    _query.is_own = is_own


def is_own_sql() -> bool:
    """Whether this thread's query is SQL of callhouse."""
    return getattr(_query, "is_own", False)


def read_rows(rows: Iterable[tuple[Any, ...]], max_rows: int | None) -> tuple[list[Any], bool]:
    """The rows of a result, at most `max_rows`, and whether there are more.

    Raises OperationalError for a result that is too large.
    """
    found, size = [], 0
    for row in rows:
        size += sum(map(_size, row))
        if size > MAX_RESULT_BYTES:
            raise sqlite3.OperationalError(
                f"the result is larger than {MAX_RESULT_BYTES // 1_000_000} MB: "
                "select fewer rows or columns"
            )
        found.append(row)
        if max_rows is not None and len(found) > max_rows:
            return found[:max_rows], True
    return found, False


def _size(value: object) -> int:
    """Bytes of a value in memory or as JSON, which writes up to twelve for a character."""
    if isinstance(value, str):
        return max(sys.getsizeof(value), len(encode_basestring_ascii(value)))
    if isinstance(value, bytes):
        return max(sys.getsizeof(value), 4 * len(value) // 3)
    return sys.getsizeof(value)


def replace_slow_functions(connection: sqlite3.Connection) -> None:
    """Replace SQLite's quadratic functions by linear ones."""
    for name, arguments, function in (
        ("instr", 2, _instr),
        ("replace", 3, _replace),
        ("trim", 2, _trim(str.strip)),
        ("ltrim", 2, _trim(str.lstrip)),
        ("rtrim", 2, _trim(str.rstrip)),
        ("like", 2, _like),
        ("like", 3, _like),
        ("glob", 2, _glob),
    ):
        checked = _with_deadline(function)
        # Deterministic: indexes and views use some of them.
        connection.create_function(name, arguments, checked, deterministic=True)


def _with_deadline(function: Callable[..., Any]) -> Callable[..., Any]:
    def check(*values: Any) -> Any:
        if is_past_deadline():
            raise DeadlineExceeded
        return function(*values)

    return check


def _text(value: Any) -> str:
    """A value as SQLite casts it to text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        mantissa, exponent, power = f"{value:.15g}".partition("e")
        is_number = mantissa.lstrip("-").isdigit()
        return (f"{mantissa}.0" if is_number else mantissa) + exponent + power
    return str(value)


def _instr(value: Any, part: Any) -> int | None:
    if value is None or part is None:
        return None
    if isinstance(value, bytes) and isinstance(part, bytes):
        return value.find(part) + 1
    return _text(value).find(_text(part)) + 1


def _replace(value: Any, old: Any, new: Any) -> str | None:
    if value is None or old is None:
        return None
    text, part = _text(value), _text(old)
    if not part:
        return text
    if new is None:
        return None
    instead = _text(new)
    if len(text) + text.count(part) * (len(instead) - len(part)) > MAX_VALUE_BYTES:
        raise ValueError("string or blob too big")
    return text.replace(part, instead)


def _trim(strip: Callable[[str, str], str]) -> Callable[[Any, Any], str | None]:
    def trim(value: Any, characters: Any) -> str | None:
        if value is None or characters is None:
            return None
        unwanted = "".join(set(_text(characters)))
        if len(unwanted) > _MAX_TRIMMED:
            raise ValueError("too many characters to trim")
        return strip(_text(value), unwanted) if unwanted else _text(value)

    return trim


def _like(pattern: Any, value: Any, escape: Any = "") -> bool | None:
    if pattern is None or value is None or escape is None:
        return None
    parts = _like_parts(_text(pattern), _text(escape))
    return _matches(_folded(_text(value)), parts)


def _glob(pattern: Any, value: Any) -> bool | None:
    if pattern is None or value is None:
        return None
    return _matches(_text(value), _glob_parts(_text(pattern)))


def _folded(text: str) -> str:
    """Lower case as in SQLite's LIKE: only ASCII."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


# The text between two % or *: a literal, or a regular expression, and its length in characters.
_Part = tuple[str, re.Pattern[str] | None, int]
# One character of a part: its expression, and the character itself unless it is a wildcard.
_Element = tuple[str, str | None]
_ANY: _Element = (".", None)
_NEVER: _Element = ("(?!)", None)


@lru_cache(maxsize=256)
def _like_parts(pattern: str, escape: str) -> list[_Part]:
    _require_short(pattern)
    if escape and len(escape) != 1:
        raise ValueError("ESCAPE expression must be a single character")
    parts: list[list[_Element]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if escape and character == escape:
            escaped = next(characters, None)
            parts[-1].append(_folded_element(escaped) if escaped else _NEVER)
        elif character == "%":
            parts.append([])
        else:
            parts[-1].append(_ANY if character == "_" else _folded_element(character))
    return [_part(part) for part in parts]


def _folded_element(character: str) -> _Element:
    character = _folded(character)
    return re.escape(character), character


@lru_cache(maxsize=256)
def _glob_parts(pattern: str) -> list[_Part]:
    _require_short(pattern)
    parts: list[list[_Element]] = [[]]
    at = 0
    while at < len(pattern):
        character = pattern[at]
        end = pattern.find("]", at + (3 if pattern[at + 1 : at + 2] == "^" else 2))
        if character == "[" and end > 0:
            parts[-1].append((_set(pattern[at + 1 : end]), None))
            at = end
        elif character == "[":
            parts[-1].append(_NEVER)
        elif character == "*":
            parts.append([])
        elif character == "?":
            parts[-1].append(_ANY)
        else:
            parts[-1].append((re.escape(character), character))
        at += 1
    return [_part(part) for part in parts]


def _set(text: str) -> str:
    """A character set of GLOB as a regular expression."""
    negation, members = ("^", text[1:]) if text.startswith("^") else ("", text)
    ranges, at = [], 0
    while at < len(members):
        first = last = members[at]
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            last = members[at + 2]
            at += 2
        if first <= last:
            ranges.append(f"{re.escape(first)}-{re.escape(last)}")
        at += 1
    if not ranges:
        return "." if negation else "(?!)"
    return f"[{negation}{''.join(ranges)}]"


def _part(elements: list[_Element]) -> _Part:
    literal = "".join(character or "" for _, character in elements)
    if len(literal) < len(elements):
        expression = re.compile("".join(e for e, _ in elements), re.DOTALL)
        return "", expression, len(elements)
    return literal, None, len(elements)


def _require_short(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise ValueError("LIKE or GLOB pattern too complex")


def _matches(text: str, parts: list[_Part]) -> bool:
    """Match the first part at the start, the last at the end, and each other part at its first
    occurrence after the one before: no backtracking."""
    steps = sum(length for _, expression, length in parts if expression) * len(text)
    if steps > _MAX_STEPS:
        raise ValueError("LIKE or GLOB pattern too complex for a text of this length")
    if len(parts) == 1:
        return len(text) == parts[0][2] and _find(text, parts[0], 0, len(text)) == 0
    first, last = parts[0], parts[-1]
    at, end = first[2], len(text) - last[2]
    if at > end or _find(text, first, 0, at) != 0 or _find(text, last, end, len(text)) != end:
        return False
    for part in parts[1:-1]:
        found = _find(text, part, at, end)
        if found < 0:
            return False
        at = found + part[2]
    return True


def _find(text: str, part: _Part, at: int, end: int) -> int:
    literal, expression, _ = part
    if expression is None:
        return text.find(literal, at, end)
    found = expression.search(text, at, end)
    return found.start() if found else -1
