"""Write rows as CSV, newline JSON and Parquet.

In: an open file and a result, a table's or a query's rows. Out: the written file.
"""

import base64
import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, TextIO
from zoneinfo import ZoneInfo

import msgspec

from receiver.errors import SettingsError
from receiver.store import Result, Row
from schema.tables import TIMESTAMPS

Writer = Callable[[BinaryIO, Result], None]

# Spreadsheets run a cell that begins like this as a formula.
# Source: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
# Numbers and phone numbers: spreadsheets read these as values.
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
# Size of a row group in rows and bytes: its rows are in memory at once.
_GROUP_ROWS = 50_000
_GROUP_BYTES = 16 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def in_zone(result: Result, zone: ZoneInfo) -> Result:
    """The result with milliseconds since the epoch as ISO text with the zone's offset."""
    are_times = [name in TIMESTAMPS for name in result.names]
    types = ["TEXT" if is_time else of for is_time, of in zip(are_times, result.types, strict=True)]

    def rows() -> Iterator[Row]:
        for row in result.rows:
            yield tuple(
                iso(value, zone) if is_time and isinstance(value, int) else value
                for value, is_time in zip(row, are_times, strict=True)
            )

    return Result(result.names, types, rows())


def iso(at_ms: int, zone: ZoneInfo) -> str:
    """2026-05-09T14:52:42.120+02:00; a number outside of the calendar stays a number."""
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
        return at.astimezone(zone).isoformat(timespec="milliseconds")
    except OverflowError:
        return str(at_ms)


def defused(value: object) -> object:
    """A CSV cell. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def csv_row_writer(text: TextIO) -> Callable[[Iterable[object]], None]:
    """A function that writes a row of CSV, its cells `defused`."""
    writer = csv.writer(text, lineterminator="\n")
    # In spreadsheets, an unquoted carriage return begins a row, whose first cell may be a formula.
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Iterable[object]) -> None:
        cells = [defused(cell) for cell in row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if has_return else writer).writerow(cells)

    return write


def csv_writer(out: BinaryIO, result: Result) -> None:
    """A line of names, then the rows, in UTF-8; null and empty text are both an empty cell."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    try:
        write = csv_row_writer(text)
        write(result.names)
        for row in result.rows:
            write(row)
    finally:
        text.detach()


def ndjson_writer(out: BinaryIO, result: Result) -> None:
    """An object for each row, in UTF-8; bytes are base64."""
    encode = msgspec.json.Encoder().encode
    for row in result.rows:
        out.write(encode(dict(zip(result.names, row, strict=True))) + b"\n")


def parquet_writer() -> Writer:
    """The writer of Parquet. Raises SettingsError if pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SettingsError(
            "Parquet needs pyarrow, which is not installed",
            hint="pip install 'callhouse[parquet]'",
        ) from None
    kinds: dict[str, tuple[Any, Callable[[Any], object]]] = {
        "INTEGER": (pyarrow.int64(), int),
        "REAL": (pyarrow.float64(), float),
        "TEXT": (pyarrow.string(), _text),
        "BLOB": (pyarrow.binary(), bytes),
    }

    def write(out: BinaryIO, result: Result) -> None:
        columns = [kinds[of] for of in result.types]
        fields = zip(result.names, (kind for kind, _ in columns), strict=True)
        schema = pyarrow.schema([pyarrow.field(name, kind) for name, kind in fields])
        with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
            for group in _groups(result.rows):
                arrays = [
                    pyarrow.array((None if v is None else to(v) for v in values), type=kind)
                    for values, (kind, to) in zip(zip(*group, strict=True), columns, strict=True)
                ]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))

    return write


def _text(value: object) -> str:
    return str(base64.b64encode(value).decode() if isinstance(value, bytes) else value)


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(group) >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
