"""One log line per webhook: ids and numbers, never the content of a call.

JSON for machines; on a terminal, columns for people.
"""

import json
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO, TypeVar

T = TypeVar("T")

# Longer values are cut.
MAX_CHARACTERS = 200

# name -> width on a terminal.
_COLUMNS = {
    "outcome": 11,
    "event": 18,
    "entity_id": 34,
    "level": 1,
    "bytes": 7,
    "ms": 6,
    "error": 0,
}


def log(*, now_ms: int, stream: TextIO | None = None, **fields: str | int | float | None) -> None:
    """Write one line: the time and the fields that are not None."""
    stream = stream or sys.stderr
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    values = {name: _cut(value) for name, value in fields.items() if value is not None}
    line = _columns(at, values) if stream.isatty() else json.dumps({"at": at, **values})
    # One write per line, so that lines of several processes do not mix. The event is stored even if
    # the log's disk is full.
    with suppress(OSError):
        stream.write(line + "\n")
        stream.flush()


class ShortMessages(logging.Filter):
    """Cuts messages of other loggers, which may contain a header of 8 KB."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept every record, cut, and without the traceback of a failed connection."""
        message = record.getMessage()
        if record.exc_info and isinstance(record.exc_info[1], OSError):
            message = f"{message} {type(record.exc_info[1]).__name__}"
            record.exc_info = None
        record.msg, record.args = _cut(message), None
        return True


def _cut(value: T) -> T | str:
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        return value[: MAX_CHARACTERS - 1] + "…"
    return value


def _columns(at: str, values: dict[str, str | int | float]) -> str:
    cells = []
    for name, width in _COLUMNS.items():
        value = values.get(name, "")
        align = "<" if isinstance(value, str) else ">"
        cells.append(f"{value:{align}{width}}")
    # Ids come from the sender: no control characters may reach the terminal.
    text = "  ".join([at[11:23], *cells]).rstrip()
    return "".join(c if c.isprintable() else "?" for c in text)
