"""Kept recordings and logs: /-/media/<call_id>/<kind>, in ranges, for readers of personal data."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from datasette import NotFound, Response
from datasette.utils import tilde_decode, tilde_encode

from receiver.browse.pages import Reader, fetch_rows, require_reader
from receiver.errors import StorageUnavailable
from receiver.jobs.storage import EXTENSIONS, folder_of

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

Send = Callable[[dict[str, Any]], Awaitable[None]]

_KEPT = """
SELECT kind, location, bytes, sha256, content_type FROM media_files
WHERE call_id = :call_id AND state = 'kept'
"""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# Maximum length of the answer to a range without an end, which players request: a paused player
# would not read the rest, and the connection would wait.
_PLAYED_BYTES = 4 * 1024 * 1024
_UNKNOWN_TYPE = "application/octet-stream"


async def kept_files(reader: Reader, call_id: str) -> dict[str, dict[str, Any]]:
    """The kept files of a call by kind; none without personal data, or if none are served."""
    if reader.is_masked or storage_of(reader.datasette) is None:
        return {}
    rows = await fetch_rows(reader, _KEPT, {"call_id": call_id})
    return {row["kind"]: row for row in rows if row["location"] and row["bytes"] is not None}


def storage_of(datasette: "Datasette") -> Any:
    """The storage of recordings, which `serving` sets; None without one."""
    return getattr(datasette, "callhouse_storage", None)


def media_url(datasette: "Datasette", call_id: str, kind: str) -> str:
    """The address of a kept file."""
    return str(datasette.urls.path(f"/-/media/{tilde_encode(call_id)}/{tilde_encode(kind)}"))


async def media(datasette: "Datasette", request: "Request", send: Send) -> Response | None:
    """A kept file, or the range of it that is asked for. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    call_id, kind = (tilde_decode(request.url_vars[name]) for name in ("call_id", "kind"))
    return await send_kept(reader, call_id, kind, request, send)


async def send_kept(
    reader: Reader, call_id: str, kind: str, request: "Request", send: Send
) -> Response | None:
    """The same, for a reader who may see the call. Raises NotFound."""
    file = (await kept_files(reader, call_id)).get(kind)
    if file is None:
        raise NotFound("This recording is not stored.")
    size, etag = int(file["bytes"]), f'"{file["sha256"]}"'
    headers = _headers(call_id, file, etag, is_download="download" in request.args)
    if etag in request.headers.get("if-none-match", ""):
        return Response("", 304, headers, headers["content-type"])
    status, start, end = _span(request.headers, size, etag, is_download="download" in request.args)
    if status == 416:
        headers["content-range"] = f"bytes */{size}"
        return Response("", status, headers, "text/plain")
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        end = start
    pieces = storage_of(reader.datasette).read(file["location"], start, end)
    try:
        first = await anext(pieces, b"")
    except (StorageUnavailable, ValueError):
        return Response.text("The recording cannot be read now.", 503)
    await _stream(send, status, headers, first, pieces)
    return None


def _headers(call_id: str, file: dict[str, Any], etag: str, *, is_download: bool) -> dict[str, str]:
    content_type = file["content_type"]
    if content_type not in EXTENSIONS:
        content_type = _UNKNOWN_TYPE
    name = f"{folder_of(call_id)}-{file['kind']}.{EXTENSIONS[content_type]}"
    is_inline = not is_download and content_type != _UNKNOWN_TYPE
    return {
        "content-type": f"{content_type}; charset=utf-8"
        if content_type.startswith("text/")
        else content_type,
        "content-disposition": f'{"inline" if is_inline else "attachment"}; filename="{name}"',
        "accept-ranges": "bytes",
        "etag": etag,
    }


def _span(
    headers: dict[str, str], size: int, etag: str, *, is_download: bool
) -> tuple[int, int, int]:
    """The status, and from and up to where to send.

    Several ranges, and what is no range, are answered with the whole file. Source: RFC 9110, 14.2
    """
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or headers.get("if-range", etag) != etag or found.group(1, 2) == ("", ""):
        return 200, 0, size
    start = int(found[1]) if found[1] else max(0, size - int(found[2]))
    end = size
    if found[1] and found[2]:
        end = min(size, int(found[2]) + 1)
        if int(found[2]) < start:
            return 200, 0, size
    elif found[1] and not is_download:
        end = min(size, start + _PLAYED_BYTES)
    return (206, start, end) if start < size else (416, 0, 0)


async def _stream(
    send: Send, status: int, headers: dict[str, str], first: bytes, rest: AsyncIterator[bytes]
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    try:
        async for piece in rest:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except StorageUnavailable:
        # The connection is closed before the announced length, so the browser requests the rest.
        return
    await send({"type": "http.response.body", "body": b""})
