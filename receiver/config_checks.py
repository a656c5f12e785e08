"""Checks of values from a TOML file. Messages name what is wrong and never repeat a value: it may
be a secret."""

import difflib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


def table(value: Any, name: str) -> dict[str, Any]:
    """A table. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table")
    return value


def url(value: Any, what: str) -> str:
    """An http or https URL. Raises ValueError."""
    parts = urlsplit(value) if isinstance(value, str) else None
    if not parts or parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
        raise ValueError(f"{what} must be a URL, such as https://calls.example.com/webhook")
    return str(value)


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


def name(value: Any, where: str) -> str:
    """A name of letters, digits, - and _. Raises ValueError."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"each {where} needs a name of letters, digits, - and _")
    return value
