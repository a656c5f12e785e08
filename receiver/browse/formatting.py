"""Format values for people, and parse the values that they type into filters.

Pure. Only HTML pages are formatted; CSV and JSON stay exact.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from receiver.clock import format_duration
from receiver.transfer.formats import defused

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Raw names -> labels, if replacing underscores is not enough.
LABELS = {
    "user_hangup": "User hung up",
    "user_requested_dnc": "User asked not to be called again",
    "user_requested_callback": "User asked to be called back",
    "agent_hangup": "Agent hung up",
    "ivr_reached": "Phone menu reached",
    "manual_stopped": "Stopped by hand",
    "call_take_over": "Taken over by a person",
    "call_transfer": "Transferred",
    "transfer_bridged": "Transfer connected",
    "dial_busy": "Line busy",
    "dial_failed": "Dialling failed",
    "dial_no_answer": "No answer",
    "sip_routing_error": "SIP routing error",
    "max_duration_reached": "Maximum duration reached",
    "no_concurrency_fallback": "Fallback took the call",
    "error_llm_websocket_open": "LLM connection failed",
    "error_llm_websocket_lost_connection": "LLM connection lost",
    "error_llm_websocket_runtime": "LLM connection error",
    "error_llm_websocket_corrupt_payload": "LLM sent an invalid message",
    "error_no_audio_received": "No audio received",
    "error_asr": "Speech recognition failed",
    "error_retell": "Error at Retell",
    "error_unknown": "Unknown error",
    "error_user_not_joined": "User did not join",
    "error_inbound_webhook": "Inbound webhook failed",
    "error_frontend_corrupted_payload": "Web client sent invalid data",
    "error_twilio": "Error at Twilio",
    "e2e": "Whole answer",
    "llm": "LLM",
    "llm_websocket_network_rtt": "Network to the LLM",
    "asr": "Speech recognition",
    "tts": "Speech synthesis",
    "s2s": "Speech to speech",
    "sms_chat": "Chat by SMS",
    "api_chat": "Chat",
    "node_transition": "Node",
    "dtmf": "Key pressed",
    "sms": "SMS",
}


def label(name: str) -> str:
    """The label of a raw name: agent_hangup -> Agent hung up, voicemail_reached -> Voicemail
    reached.

    Unknown names are formatted in the same way.
    """
    return LABELS.get(name) or name[:1].upper() + name[1:].replace("_", " ")


def local_time(ms: int, zone: ZoneInfo) -> datetime:
    """The time in a zone. Raises OverflowError outside the years 1 to 9999."""
    return (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)


def local_day(ms: int, zone: ZoneInfo) -> date:
    """The local day of a time."""
    return local_time(ms, zone).date()


def zone_name(at: datetime) -> str:
    """CEST, or UTC-03 if the zone has no abbreviation."""
    name = at.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name


def format_time(
    ms: int | None, zone: ZoneInfo, form: str = "%Y-%m-%d %H:%M:%S", *, has_zone: bool = True
) -> Markup | None:
    """A time element: local time with its zone, the exact value on hover."""
    if ms is None:
        return None
    try:
        at = local_time(ms, zone)
    except OverflowError:
        return None
    iso = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0} = {1} ms">{2}</time>').format(
        iso, ms, f"{at.strftime(form)} {zone_name(at)}" if has_zone else at.strftime(form)
    )


def format_short_time(ms: int | None, zone: ZoneInfo) -> Markup | None:
    """The same to the minute, without the zone."""
    return format_time(ms, zone, "%-d %b %Y %H:%M", has_zone=False)


def format_milliseconds(ms: float | None) -> str:
    """840 ms, or 3.2 s for a second and more."""
    if ms is None:
        return ""
    return f"{ms:,.0f} ms" if abs(ms) < 1000 else f"{ms / 1000:,.1f} s"


def format_dollars(cents: float | None) -> str:
    """$1.23; below ten cents, two significant digits."""
    if cents is None:
        return ""
    amount = cents / 100
    if amount == 0 or abs(amount) >= 0.0995:
        return f"${amount:,.2f}" if amount >= 0 else f"-${-amount:,.2f}"
    places = 1 - int(f"{amount:e}".split("e")[1])
    return f"${amount:.{places}f}" if amount > 0 else f"-${-amount:.{places}f}"


def pretty_json(text: str | None) -> str:
    """JSON indented, any other text unchanged."""
    if not text or text[0] not in '{["':
        return text or ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else _indented(value, text)


def summarize_json(text: str) -> tuple[str, str] | None:
    """The size of a JSON object or list ("3 keys") and its indented text; None for other text."""
    if text[:1] not in ("{", "["):
        return None
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    what = "key" if isinstance(value, dict) else "item"
    count = f"{len(value):,} {what}{'' if len(value) == 1 else 's'}"
    return count, _indented(value, text)


def _indented(value: Any, text: str) -> str:
    """Indented JSON, or the text itself if it is so deep that most of it would be spaces."""
    lines = json.dumps(value, indent=2, ensure_ascii=False)
    return lines if len(lines) <= 1000 + 8 * len(text) else text


# Cells of Datasette's tables, by the name of their column.

# Milliseconds of the years 2001 to 2286: any other number in a column of times stays a number.
_TIMES_MS = range(10**12, 10**13)
_TIME_COLUMNS = frozenset({
    "observed_at", "updated_at", "first_received_at", "last_received_at", "erased_at",
})  # fmt: skip
_ISO_COLUMNS = frozenset({"started_at", "since", "first_seen"})
_FLAGS = frozenset({
    "success", "successful", "call_successful", "chat_successful", "in_voicemail", "cost_is_final",
    "opt_in_signed_url", "is_transfer_leg_cost",
})  # fmt: skip
_SENTIMENT_COLUMNS = frozenset({"user_sentiment", "sentiment"})
_SENTIMENTS = frozenset({"positive", "neutral", "negative"})
# JSON up to this length stays on its line.
_SHORT_JSON = 48

# "call" or "chat" -> a function from id to the address of its page.
Urls = Mapping[str, Callable[[str], str]]


def format_cell(
    value: Any, column: str, table: str | None, row: Any, zone: ZoneInfo, urls: Urls
) -> Any:
    """Markup for a cell, or None to leave it to Datasette."""
    if isinstance(value, dict):
        # A foreign key with its label.
        value = value.get("value")
    if isinstance(value, str):
        return _format_text(value, column, table, row, zone, urls)
    if type(value) in (int, float):
        return _format_number(value, column, table, zone)
    return None


def _format_text(
    value: str, column: str, table: str | None, row: Any, zone: ZoneInfo, urls: Urls
) -> Markup | None:
    if kind := _entity_type(value, column, row):
        return Markup('<a class="id" href="{0}" title="{1}">{1}</a>').format(
            urls[kind](value), value
        )
    if column in _ISO_COLUMNS:
        return _format_iso(value, zone)
    if column == "url" and table == "media" and row["kind"].endswith(("recording", "channel")):
        return _audio_player(value)
    if column in _SENTIMENT_COLUMNS:
        tone = value.strip().lower()
        known = tone if tone in _SENTIMENTS else "unknown"
        return Markup('<span class="tone {}">{}</span>').format(known, value)
    if len(value) > _SHORT_JSON and (summary := summarize_json(value)):
        return Markup("<details><summary>{}</summary><pre>{}</pre></details>").format(*summary)
    return None


def _entity_type(value: str, column: str, row: Any) -> str | None:
    """call or chat, if the value is the id of one."""
    if column in ("call_id", "chat_id"):
        return column.removesuffix("_id")
    if column == "entity_id":
        # Not `in row`, which searches the values of a row instead of its names.
        names = row.keys()
        kind = row["entity_type"] if "entity_type" in names else value.split("_")[0]
        return kind if kind in ("call", "chat") else None
    return None


def _format_iso(value: str, zone: ZoneInfo) -> Markup | None:
    """The local ISO time of a view, with the name of its zone; None for a day."""
    if "T" not in value:
        return None
    try:
        at = datetime.fromisoformat(value)
        name = zone_name(at.astimezone(zone))
    except (ValueError, OverflowError):
        return None
    return Markup('<time datetime="{0}" title="{0}">{1:%Y-%m-%d %H:%M:%S} {2}</time>').format(
        value, at, name
    )


def _audio_player(url: str) -> Markup | None:
    if not url.startswith(("https://", "http://", "/")):
        return None
    return Markup(
        '<audio controls preload="none" src="{0}"></audio> <a href="{0}" rel="noreferrer">file</a>'
    ).format(url)


def _format_number(value: float, column: str, table: str | None, zone: ZoneInfo) -> Markup | None:
    if column in _FLAGS and value in (0, 1):
        word = "yes" if value else "no"
        return Markup('<span class="flag {0}" title="{1}">{0}</span>').format(word, value)
    if (column.endswith("_timestamp") or column in _TIME_COLUMNS) and value in _TIMES_MS:
        return format_time(int(value), zone)
    if column.endswith("_cents"):
        return _with_exact(format_dollars(value), value, "cents")
    if column.endswith("_cents_per_second"):
        return _with_exact(f"{format_dollars(value * 60)} a minute", value, "cents per second")
    if column.endswith("_dollars"):
        return _with_exact(format_dollars(value * 100), value, "dollars")
    if column == "duration_ms":
        text = format_duration(value / 1000) if table == "calls" else format_milliseconds(value)
        return _with_exact(text, value, "ms")
    return None


def _with_exact(text: str, value: float, unit: str) -> Markup:
    return Markup('<span title="{1} {2}">{0}</span>').format(text, value, unit)


# Filters of Datasette's tables: yes, 2:05, $0.50 or a local day, as cells show them.

_COMPARISONS = frozenset({"exact", "not", "gt", "gte", "lt", "lte", "in", "notin"})
_FLAG_VALUES = {"yes": "1", "no": "0", "true": "1", "false": "0"}
_DURATION = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{2})")
# The time to match it grows with the length: [\d,]*\.?\d+ would take its square.
_DOLLARS = re.compile(r"(-?)\$(\d[\d,]*(?:\.\d+)?|\.\d+)")
# Larger ones are no integers of SQLite.
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?")
# A day, optionally with a time. The zone's name, which cells show, is ignored.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?))?(?: [A-Z][A-Z0-9+-]*)?")
# Lookup -> which bound to compare with, and whether it is the end: "> a day" is after that day.
_BOUNDS = {"gt": ("gte", True), "gte": ("gte", False), "lt": ("lt", False), "lte": ("lt", True)}
# A column of a view without a type, so that it can be sorted by an index: compare it as a number.
_UNTYPED_COLUMNS = frozenset({"started_at_ms"})


def parse_filter(column: str, lookup: str, shown: str, zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    """Yield the lookups and stored values for a filter by a value as a cell shows it."""
    is_ms = column.endswith("_timestamp") or column in _TIME_COLUMNS | _UNTYPED_COLUMNS
    if (column in _ISO_COLUMNS or is_ms) and (time := _TIME.fullmatch(shown.strip())):
        yield from _parse_time(lookup, time, zone, is_ms=is_ms)
        return
    if lookup not in _COMPARISONS:
        yield lookup, shown
    elif lookup in ("in", "notin") and not shown.startswith("["):
        yield lookup, ",".join(_parse_value(column, part.strip()) for part in shown.split(","))
    else:
        yield lookup, _parse_value(column, shown)


def _parse_value(column: str, shown: str) -> str:
    text = shown.strip().lower()
    if column in _FLAGS:
        return _FLAG_VALUES.get(text, shown)
    if column in _SENTIMENT_COLUMNS:
        return text.capitalize() if text in _SENTIMENTS or text == "unknown" else shown
    if column.startswith("duration") and (duration := _DURATION.fullmatch(text)):
        hours, minutes, seconds = (int(part or 0) for part in duration.groups())
        whole = hours * 3600 + minutes * 60 + seconds
        if column == "duration":
            return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        return str(whole * 1000 if column == "duration_ms" else whole)
    if money := _DOLLARS.fullmatch(text):
        amount = float(money[1] + money[2].replace(",", ""))
        if column.endswith("_dollars"):
            return str(amount)
        if column.endswith("_cents"):
            return str(round(amount * 100, 7))
    return shown


def _parse_time(
    lookup: str, time: re.Match[str], zone: ZoneInfo, *, is_ms: bool
) -> Iterator[tuple[str, str]]:
    """A local day, minute or second, for a column of milliseconds or of ISO text."""
    step = {10: "days", 16: "minutes", 19: "seconds"}[len(f"{time[1]} {time[2] or ''}".strip())]
    try:
        start = datetime.fromisoformat(f"{time[1]}T{time[2] or '00:00'}")
        bounds = start, start + timedelta(**{step: 1})
    except (ValueError, OverflowError):
        yield lookup, time[0]
        return
    since, until = (
        # ISO text of a view ends in an offset, so that it sorts after the text without one.
        str(int(at.replace(tzinfo=zone).timestamp() * 1000)) if is_ms else f"{at:%Y-%m-%dT%H:%M:%S}"
        for at in bounds
    )
    if lookup in ("exact", "date"):
        yield "gte", since
        yield "lt", until
    elif lookup in _BOUNDS:
        bound, is_end = _BOUNDS[lookup]
        yield bound, until if is_end else since
    else:
        yield lookup, time[0]


def filter_parameter(column: str, value: Any) -> Any:
    """The parameter of a filter, as a number for a column without a type."""
    is_number = isinstance(value, str) and _NUMBER.fullmatch(value)
    if column in _UNTYPED_COLUMNS and is_number:
        return float(value) if "." in value else int(value)
    return value


class CsvWriter:
    """Replaces `csv.writer` on Datasette's pages, where `out.write` is a coroutine.

    Escapes cells that a spreadsheet would run as formulas, as exports do.
    """

    def __init__(self, out: Any) -> None:
        self._writer = csv.writer(out)

    def writerow(self, row: Iterable[object]) -> Any:
        """Return the coroutine that writes a row."""
        return self._writer.writerow(list(map(defused, row)))


# Parts of Datasette's SQL editor: headings that skip a level, and a field without a label.
_EDITOR_HEADING = re.compile(r"<h3>((?:Custom SQL query|Query parameters).*?)</h3>", re.DOTALL)
_EDITOR_FIELD = '<textarea id="sql-editor"'


def with_editor_labels(page: str) -> Markup:
    """A rendered page of Datasette whose SQL editor has labels and headings in order."""
    found = _EDITOR_HEADING.sub(r"<h2>\1</h2>", str(page))
    return Markup(found.replace(_EDITOR_FIELD, f'{_EDITOR_FIELD} aria-label="SQL query"'))
