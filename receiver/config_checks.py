"""Checks of values from a TOML file. Messages name what is wrong and never repeat a value: it may
be a secret."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from receiver.addresses import is_http_url

_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


def table(value: Any, name: str) -> dict[str, Any]:
    """A table. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table")
    return value


def url(value: Any, what: str) -> str:
    """An http or https URL. Raises ValueError."""
    if not isinstance(value, str) or not is_http_url(value):
        raise ValueError(f"{what} must be a URL, such as https://calls.example.com/webhook")
    return value


def require_int(value: Any, least: int, most: int, what: str) -> None:
    """Raise ValueError for anything but a whole number within limits."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} must be a whole number from {least} to {most}")


def require_known(found: Mapping[str, Any], known: Any, where: str) -> None:
    """Raise ValueError for a name that is not known; it names the nearest."""
    for name in found:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ValueError(f"{where} has no setting {name}; did you mean {nearest}?")


def named_tables(value: Any, where: str, what: str) -> dict[str, dict[str, Any]]:
    """The tables of an array, such as [[forward]], by their names. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f"{what} are written under {where}, with two brackets")
    found: dict[str, dict[str, Any]] = {}
    for each in value:
        name = table(each, where.strip("[]")).get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"each {where} needs a name of letters, digits, - and _")
        if name in found:
            raise ValueError(f"two {what} of {where} have the name {name}")
        found[name] = each
    return found
