"""/-/calls.csv, .xlsx and .json: all calls that the page of calls lists.

A file is written completely before its first byte is sent, so that no download is truncated
silently.
"""

import asyncio
import io
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import xlsxwriter
from datasette import Response

from receiver import clock
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.formatting import local_time
from receiver.browse.pages import Reader, fetch_rows, message_page, require_reader, timezone
from receiver.browse.pages.call_filters import (
    parse_filters,
)
from receiver.browse.pages.call_list import CallList, prepare
from receiver.browse.pages.call_sources import (
    CHATS,
)
from receiver.errors import CallhouseError, DownloadRefused, QueryNotUnderstood
from receiver.transfer.formats import csv_row_writer, iso
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

Send = Callable[[dict[str, Any]], Awaitable[None]]

# Proxies wait a minute for the first byte.
SECONDS = 50.0
# A sheet of Excel has a million rows, one of them the names.
MAX_XLSX_ROWS = 1_048_575
# Maximum length of lists that are not ordered by time: all their ids are in memory.
MAX_SORTED_ROWS = 500_000
_BATCH = 1_000
# Maximum size of a file in memory; a larger one is a temporary file without a name.
_IN_MEMORY_BYTES = 4_000_000
_PIECE_BYTES = 64 * 1024
# Excel rejects longer cells.
_MAX_CELL = 32_767
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_ANNOTATED = """(
    SELECT group_concat(DISTINCT n.{column}) FROM annotations n
    WHERE n.entity_id = {key} AND +n.kind = '{kind}' AND n.removed_at IS NULL
        AND n.author NOT GLOB 'model:*'
)"""


def _annotations(key: str) -> dict[str, str]:
    return {
        "tags": _ANNOTATED.format(key=key, kind="tag", column="name"),
        "verdicts": _ANNOTATED.format(key=key, kind="verdict", column="value"),
    }


# Kind -> name of a column -> its expression.
_COLUMNS = {
    "call": {
        "call_id": "c.call_id",
        "account": "c.account",
        "started_at": plain("call_time(c)"),
        "call_type": "c.call_type",
        "direction": "c.direction",
        "from_number": "c.from_number",
        "to_number": "c.to_number",
        "agent_id": "c.agent_id",
        "agent_name": "c.agent_name",
        "agent_version": "c.agent_version",
        "call_status": "c.call_status",
        "disconnection_reason": "c.disconnection_reason",
        "duration_seconds": "c.duration_ms / 1000.0",
        "cost_dollars": "c.combined_cost_cents / 100.0",
        "user_sentiment": "a.user_sentiment",
        "call_successful": "a.call_successful",
        "in_voicemail": "a.in_voicemail",
        "call_summary": "a.call_summary",
        **_annotations("c.call_id"),
    },
    "chat": {
        "chat_id": "c.chat_id",
        "account": "c.account",
        "started_at": plain("call_time(c)"),
        "chat_type": "c.chat_type",
        "direction": "c.direction",
        "user_number": "c.user_number",
        "agent_number": "c.agent_number",
        "agent_id": "c.agent_id",
        "agent_name": CHATS.columns["agent_name"],
        "agent_version": "c.version",
        "chat_status": "c.chat_status",
        "disconnection_reason": "c.disconnection_reason",
        "duration_seconds": f"{CHATS.columns['duration_ms']} / 1000.0",
        "cost_dollars": "c.combined_cost_cents / 100.0",
        "user_sentiment": "c.user_sentiment",
        "chat_successful": "c.chat_successful",
        "chat_summary": "c.chat_summary",
        **_annotations("c.chat_id"),
    },
}
_FROM = {
    "call": "calls c LEFT JOIN analyses a ON a.call_id = c.call_id",
    "chat": "chats c",
}
_FLAGS = frozenset({"call_successful", "chat_successful", "in_voicemail"})

Row = dict[str, Any]
# Adds rows to a file. Its context ends the file, unless there was an error.
Writer = AbstractContextManager[Callable[[list[Row]], None]]


async def download_calls(datasette: "Datasette", request: "Request", send: Send) -> Response | None:
    """Send the file, or a page with the reason why there is none. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    kind = request.url_vars["format"]
    filters = parse_filters(request.args.get)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        try:
            found = await prepare(reader, filters, clock.now_ms())
            await _write(found, kind, file)
        except QueryInterrupted:
            return await _refused(request, reader, _too_slow())
        except (DownloadRefused, QueryNotUnderstood) as error:
            return await _refused(request, reader, error)
        await _send_file(send, file, _headers(found, kind))
    return None


def _too_slow() -> DownloadRefused:
    return DownloadRefused(f"it would take longer than {SECONDS:.0f} seconds")


async def _write(found: CallList, kind: str, file: IO[bytes]) -> None:
    """Write every row of the list. Raises DownloadRefused and QueryInterrupted."""
    deadline = time.monotonic() + SECONDS
    names = list(_COLUMNS[found.source.kind])
    zone, count = timezone(found.reader.datasette), 0
    with ExitStack() as writer:
        write = writer.enter_context(_WRITERS[kind](file, names, zone))
        async for ids in _batches(found):
            count += len(ids)
            if kind == "xlsx" and count > MAX_XLSX_ROWS:
                raise DownloadRefused(
                    f"an Excel sheet has at most {MAX_XLSX_ROWS:,} rows",
                    hint="Download CSV, or add a filter.",
                )
            await asyncio.to_thread(write, await _fetch(found, ids))
            if time.monotonic() > deadline:
                raise _too_slow()
        await asyncio.to_thread(writer.close)


async def _batches(found: CallList) -> AsyncIterator[list[str]]:
    """The ids of the list in order, in batches."""
    if found.order.is_by_time:
        after = ""
        while ids := await found.fetch_ids(_BATCH, after=after):
            yield ids
            after = ids[-1]
        return
    # With another order, each batch would sort all calls.
    ids = await found.fetch_ids(MAX_SORTED_ROWS + 1)
    if len(ids) > MAX_SORTED_ROWS:
        raise DownloadRefused(
            f"the list has more than {MAX_SORTED_ROWS:,} calls and is not sorted by time",
            hint="Sort by time, or add a filter.",
        )
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


async def _fetch(found: CallList, ids: list[str]) -> list[Row]:
    kind = found.source.kind
    columns = ", ".join(f"{sql} AS {name}" for name, sql in _COLUMNS[kind].items())
    key = found.source.columns["key"]
    sql = f"SELECT {columns} FROM {_FROM[kind]} WHERE {key} IN (SELECT value FROM json_each(:ids))"
    rows = await fetch_rows(found.reader, sql, {"ids": json.dumps(ids)})
    by_id = {row[f"{kind}_id"]: row for row in rows}
    return [by_id[id_] for id_ in ids if id_ in by_id]


@contextmanager
def _csv(
    file: IO[bytes], names: list[str], zone: ZoneInfo
) -> Iterator[Callable[[list[Row]], None]]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_row = csv_row_writer(text)
    write_row(names)

    def write(rows: list[Row]) -> None:
        for row in rows:
            write_row(_with_time(row, zone).values())

    try:
        yield write
    finally:
        text.detach()


@contextmanager
def _json(
    file: IO[bytes], _names: list[str], zone: ZoneInfo
) -> Iterator[Callable[[list[Row]], None]]:
    between = b"[\n"

    def write(rows: list[Row]) -> None:
        nonlocal between
        for row in rows:
            file.write(between)
            file.write(json.dumps(_with_time(row, zone), ensure_ascii=False).encode())
            between = b",\n"

    yield write
    file.write(b"[]\n" if between == b"[\n" else b"\n]\n")


def _with_time(row: Row, zone: ZoneInfo) -> Row:
    at = row["started_at"]
    return row | {"started_at": None if at is None else iso(at, zone)}


@contextmanager
def _xlsx(
    file: IO[bytes], names: list[str], zone: ZoneInfo
) -> Iterator[Callable[[list[Row]], None]]:
    folder = tempfile.TemporaryDirectory()
    options = {
        "tmpdir": folder.name,
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    book = xlsxwriter.Workbook(file, options)
    sheet = book.add_worksheet("Calls")
    bold = book.add_format({"bold": True})
    time_format = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    sheet.freeze_panes(1, 0)
    for column, name in enumerate(names):
        sheet.write_string(0, column, name, bold)
    line = 1

    def write(rows: list[Row]) -> None:
        nonlocal line
        for row in rows:
            for column, (name, value) in enumerate(row.items()):
                if isinstance(value, str):
                    sheet.write_string(line, column, _cell_text(value))
                elif name == "started_at" and (at := _sheet_time(value, zone)):
                    sheet.write_datetime(line, column, at, time_format)
                elif value is not None and name in _FLAGS:
                    sheet.write_boolean(line, column, bool(value))
                elif value is not None:
                    sheet.write_number(line, column, value)
            line += 1

    with folder:
        try:
            yield write
        except BaseException:
            # Otherwise the library keeps all written rows in memory.
            sheet.row_data_fh.close()
            raise
        book.close()


def _cell_text(text: str) -> str:
    """Remove characters that XML cannot contain."""
    return _NOT_IN_XML.sub("\ufffd", text)[:_MAX_CELL]


def _sheet_time(at_ms: int | None, zone: ZoneInfo) -> datetime | None:
    """The local time as sheets have it, without a zone; None outside of their calendar."""
    try:
        at = local_time(at_ms, zone).replace(tzinfo=None) if at_ms is not None else None
    except OverflowError:
        return None
    return at if at and at.year >= 1900 else None


_WRITERS: dict[str, Callable[[IO[bytes], list[str], ZoneInfo], Writer]] = {
    "csv": _csv,
    "json": _json,
    "xlsx": _xlsx,
}
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def _headers(found: CallList, kind: str) -> dict[str, str]:
    return {
        "content-type": _TYPES[kind],
        "content-disposition": f'attachment; filename="{found.source.table}.{kind}"',
        "cache-control": "no-store",
    }


async def _send_file(send: Send, file: IO[bytes], headers: dict[str, str]) -> None:
    headers["content-length"] = str(file.seek(0, io.SEEK_END))
    file.seek(0)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    while piece := file.read(_PIECE_BYTES):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _refused(request: "Request", reader: Reader, error: CallhouseError) -> Response:
    message = f"There is no file: {error}. {error.hint}"
    return await message_page(reader.datasette, request, error.status, "Not downloaded", message)
