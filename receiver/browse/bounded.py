"""How much of a call or chat one page shows, whatever its size. Pure.

Texts are cut, lists end early, and a long conversation has several pages; the call object as JSON
has everything.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from receiver.browse.conversation import Entry, ToolCall, Turn

T = TypeVar("T")

# The longest conversations of people, of two hours and twenty thousand words, are a page.
MAX_ENTRIES = 2000
MAX_CHARACTERS = 2_000_000
MAX_TEXT = 50_000
# Of a list beside the conversation.
_MAX_ROWS = 500
_MAX_ROWS_CHARACTERS = 200_000
# What the markup of an entry and of a word takes.
_ENTRY, _WORD = 500, 60


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list: page `number` of `count`, whose first is the one of index `since`."""

    items: list[T]
    number: int
    count: int
    since: int
    total: int


def page_of(
    items: Sequence[T], number: int, weigh: Callable[[T], int], *, index: int | None = None
) -> Page[T]:
    """The page of that number, or the nearest there is; or the page of the item at `index`."""
    starts, weight = [0], 0
    for at, item in enumerate(items):
        weight += weigh(item)
        is_full = weight > MAX_CHARACTERS or at - starts[-1] >= MAX_ENTRIES
        if is_full and at > starts[-1]:
            starts.append(at)
            weight = weigh(item)
    if index is not None:
        number = bisect_right(starts, index)
    number = max(1, min(number, len(starts)))
    since, until = (*starts, len(items))[number - 1 : number + 1]
    return Page([*items[since:until]], number, len(starts), since, len(items))


def first(items: Iterable[T], weigh: Callable[[T], int]) -> list[T]:
    """As many from the start as a list beside the conversation may have."""
    found: list[T] = []
    weight = 0
    for item in items:
        weight += weigh(item)
        if len(found) == _MAX_ROWS or (found and weight > _MAX_ROWS_CHARACTERS):
            break
        found.append(item)
    return found


def cut(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose texts have a length to show. The words of an utterance are a list, not a text."""
    return {
        name: f"{value[:MAX_TEXT]}…"
        if isinstance(value, str) and len(value) > MAX_TEXT and name != "words"
        else value
        for name, value in row.items()
    }


def weight_of_row(row: Mapping[str, Any]) -> int:
    """How many characters a row has."""
    return _ENTRY + sum(len(value) for value in row.values() if isinstance(value, str))


def weight_of_entry(entry: Entry) -> int:
    """How many characters an entry of a conversation has, about."""
    if isinstance(entry, Turn):
        said = sum(len(text) + _WORD for text, _, _ in entry.words)
        return _ENTRY + said + sum(map(weight_of_entry, entry.tools))
    if isinstance(entry, ToolCall):
        # The name is shown several times.
        return _ENTRY + 4 * len(entry.name) + len(entry.arguments) + len(entry.result or "")
    return _ENTRY + len(entry.text) + 2 * len(entry.kind)


def number_in(text: str | None) -> int | None:
    """The number in an address; None if it makes no sense."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None
