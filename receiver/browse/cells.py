"""A cell of a table as people read it, by the name of its column. CSV and JSON stay exact."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from receiver.browse.text import clock, dollars, json_outline, length, when, words_of, zone_name

# Milliseconds of the years 2001 to 2286: a number of another kind in such a column stays a number.
_TIMES = range(10**12, 10**13)
TIME_COLUMNS = frozenset({
    "observed_at", "updated_at", "first_received_at", "last_received_at", "erased_at",
})  # fmt: skip
ISO_COLUMNS = frozenset({"started_at", "since", "first_seen"})
FLAGS = frozenset({
    "success", "successful", "call_successful", "chat_successful", "in_voicemail", "cost_is_final",
    "opt_in_signed_url", "is_transfer_leg_cost",
})  # fmt: skip
TONES = frozenset({"positive", "neutral", "negative"})
# JSON that fits on a line stays on it.
_SHORT = 48

Urls = Mapping[str, Callable[[str], str]]


def cell(value: Any, column: str, table: str | None, row: Any, zone: ZoneInfo, urls: Urls) -> Any:
    """Markup for the cell, or None to leave it to Datasette.

    `urls` has a function from id to page for "call" and "chat"; `row` answers to column names.
    """
    if isinstance(value, dict):
        # A foreign key with its label.
        value = value.get("value")
    if isinstance(value, str):
        return _text(value, column, table, row, zone, urls)
    if type(value) in (int, float):
        return _number(value, column, table, zone)
    return None


def _text(
    value: str, column: str, table: str | None, row: Any, zone: ZoneInfo, urls: Urls
) -> Markup | None:
    if kind := _entity(value, column, row):
        return Markup('<a class="id" href="{0}" title="{1}">{1}</a>').format(
            urls[kind](value), value
        )
    if column in ISO_COLUMNS:
        return _iso(value, zone)
    if column == "url" and table == "media" and row["kind"].endswith(("recording", "channel")):
        return _audio(value)
    if column in ("user_sentiment", "sentiment"):
        tone = value.strip().lower()
        known = tone if tone in TONES else "unknown"
        return Markup('<span class="tone {}">{}</span>').format(known, value)
    if len(value) > _SHORT and (outline := json_outline(value)):
        return Markup("<details><summary>{}</summary><pre>{}</pre></details>").format(*outline)
    return None


def _entity(value: str, column: str, row: Any) -> str | None:
    """call or chat, if the value is the id of one."""
    if column in ("call_id", "chat_id"):
        return column.removesuffix("_id")
    if column == "entity_id":
        # A row itself is searched for values, not for names.
        names = row.keys()
        kind = row["entity_type"] if "entity_type" in names else value.split("_")[0]
        return kind if kind in ("call", "chat") else None
    return None


def _iso(value: str, zone: ZoneInfo) -> Markup | None:
    """A view's local ISO time, its zone by name."""
    try:
        at = datetime.fromisoformat(value)
        name = zone_name(at.astimezone(zone))
    except (ValueError, OverflowError):
        return None
    return Markup('<time datetime="{0}" title="{0}">{1:%Y-%m-%d %H:%M:%S} {2}</time>').format(
        value, at, name
    )


def _audio(url: str) -> Markup | None:
    if not url.startswith(("https://", "http://", "/")):
        return None
    return Markup(
        '<audio controls preload="none" src="{0}"></audio> <a href="{0}" rel="noreferrer">file</a>'
    ).format(url)


def _number(value: float, column: str, table: str | None, zone: ZoneInfo) -> Markup | None:
    if column in FLAGS and value in (0, 1):
        word = "yes" if value else "no"
        return Markup('<span class="flag {0}" title="{1}">{0}</span>').format(word, value)
    if (column.endswith("_timestamp") or column in TIME_COLUMNS) and value in _TIMES:
        return when(int(value), zone)
    if column.endswith("_cents"):
        return _exact(dollars(value), value, "cents")
    if column.endswith("_cents_per_second"):
        return _exact(f"{dollars(value * 60)} a minute", value, "cents per second")
    if column.endswith("_dollars"):
        return _exact(dollars(value * 100), value, "dollars")
    if column == "duration_ms":
        text = clock(value / 1000) if table == "calls" else length(value)
        return _exact(text, value, "ms")
    return None


def _exact(text: str, value: float, unit: str) -> Markup:
    return Markup('<span title="{1} {2}">{0}</span>').format(text, value, words_of(unit))
