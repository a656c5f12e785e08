"""Data files, and templates in them."""

import importlib.resources
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any

import yaml

from receiver.sandbox.wire import compact

# Values of a template's placeholders: names, times, amounts.
Slots = Mapping[str, Any]


@cache
def read_data(path: str) -> Any:
    """Return the content of a YAML file of this package."""
    text = (importlib.resources.files(__package__) / path).read_text("utf-8")
    return yaml.load(text, Loader=yaml.CSafeLoader)


def fill(template: Any, slots: Slots) -> Any:
    """Return a copy of a JSON-like template with its slots filled."""
    if isinstance(template, str):
        # A template that is a single slot keeps the type of its value.
        if template[:1] == "{" and template[1:-1] in slots:
            return slots[template[1:-1]]
        return template.format_map(slots)
    if isinstance(template, Mapping):
        return {key: fill(value, slots) for key, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [fill(value, slots) for value in template]
    return template


def tool_arguments(tool: Mapping[str, Any], slots: Slots) -> str:
    """Return the arguments of a tool call as JSON; "" if the tool has none."""
    given = tool.get("arguments")
    return "" if given is None else compact(fill(given, slots))


def spoken(texts: str | Sequence[str], rng: Random, slots: Slots) -> str:
    """Return one of the texts of a turn with its slots filled."""
    options = [texts] if isinstance(texts, str) else texts
    return rng.choice(options).format_map(slots)
