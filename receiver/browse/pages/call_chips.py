"""The filters that are set on the page of calls, in words, each with the list without it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.browse.formatting import label
from receiver.browse.pages.call_filters import CATEGORY, Filters
from receiver.browse.pages.call_sources import FIELDS, Source


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set: what it is, in words, and the query string without it."""

    name: str
    text: str
    query: str


def chips(filters: Filters, agents: Mapping[str, str]) -> list[Chip]:
    """The filters that are set, except the kind; `agents` has names by id."""
    return [
        Chip(name, _in_words(filters.source, name, text, agents), filters.query(without=name))
        for name, text in filters.used.items()
        if name != "kind"
    ]


def _in_words(source: Source, name: str, text: str, agents: Mapping[str, str]) -> str:
    known = source.choices.get(name, {})
    if name in ("period", "success", "connected", "direction", "reviewed") and text in known:
        return known[text]
    if name == "agent":
        return agents.get(text, text)
    if name == "outcome":
        category = text.removeprefix(CATEGORY)
        return label(text) if category == text else f"Outcome: {label(category)}"
    if name == "grade":
        question, _, answer = text.partition(":")
        return f"{label(question)}: {label(answer) if answer else 'answered'}"
    unit = {"min_duration": "long", "max_duration": "long"}.get(name, "")
    shown = known.get(text) or text
    if name.endswith("_cost"):
        shown = f"${shown.lstrip('$')}"
    return f"{FIELDS[name]} {shown} {unit}".strip()
