"""Static files: scripts and styles of Datasette, its plugins and callhouse.

Addresses in pages have a hash of the file, and the answer may then be cached for ever. Files are
compressed once and stay in memory; they are a few megabytes. `compressed` compresses pages.
"""

import hashlib
import mimetypes
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from receiver.browse.datasette_compat import static_folders

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

HASH = "_hash"
PREFIXES = ("/-/static/", "/-/static-plugins/")
_FOR_EVER = b"public, max-age=31536000, immutable"
# With its validator, so that a changed file is noticed.
_CHECKED = b"no-cache"
_TEXT = re.compile(rb"text/(?!event-stream)|application/(json|javascript|xml|manifest\+json)")
_ACCEPTS = re.compile(
    r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)"
)
# Below, compressing saves nothing; above, it would stop other requests for too long.
_MIN_BYTES, _MAX_BYTES = 1_000, 4_000_000
# File systems refuse longer paths with an error.
_MAX_PATH = 200
_PAGE_LEVEL, _FILE_LEVEL = 5, 9


_NOT_FOUND: tuple[int, Headers, bytes] = (
    404,
    [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")],
    b"There is no such file.",
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file, as it is sent."""

    content: bytes
    compressed: bytes
    hash: str
    content_type: str


def find_file(path: str) -> StaticFile | None:
    """The file of an address without its query; None if there is none."""
    if "\0" in path or len(path) > _MAX_PATH:
        return None
    for prefix, folder in static_folders().items():
        if path.startswith(prefix):
            file = (folder / path.removeprefix(prefix)).resolve()
            if file.is_relative_to(folder.resolve()) and file.is_file():
                return _read(file, file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=200)
def _read(file: Path, _changed_ns: int) -> StaticFile:
    content = file.read_bytes()
    content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    digest = hashlib.sha256(content).hexdigest()[:12]
    return StaticFile(content, _gzip(content, _FILE_LEVEL), digest, content_type)


def hashed(url: str) -> str:
    """The address of a static file with its hash; other addresses stay."""
    path = url if url.startswith("/") else f"/{url}"
    if not path.startswith(PREFIXES) or "?" in url:
        return url
    file = find_file(path)
    return f"{url}?{HASH}={file.hash}" if file else url


def with_static_files(app: App) -> App:
    """Answer requests for static files; all others go to `app`. None of them reaches Datasette,
    whose answers tell which folders the machine has."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not (is_read and scope["path"].startswith(PREFIXES)):
            await app(scope, receive, send)
            return
        file = find_file(scope["path"])
        status, headers, body = _answer(file, scope) if file else _NOT_FOUND
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body})

    return wrapped


def _answer(file: StaticFile, scope: dict[str, Any]) -> tuple[int, Headers, bytes]:
    """Status, headers and body."""
    asked = dict(scope["headers"])
    etag = f'"{file.hash}"'.encode()
    is_hashed = f"{HASH}={file.hash}".encode() == scope.get("query_string", b"")
    headers: Headers = [
        (b"cache-control", _FOR_EVER if is_hashed else _CHECKED),
        (b"etag", etag),
        (b"vary", b"Accept-Encoding"),
    ]
    if etag in asked.get(b"if-none-match", b""):
        return 304, headers, b""
    body, is_smaller = file.content, len(file.compressed) < len(file.content)
    if is_smaller and accepts_gzip(asked):
        body = file.compressed
        headers.append((b"content-encoding", b"gzip"))
    headers.append((b"content-type", file.content_type.encode()))
    headers.append((b"content-length", str(len(body)).encode()))
    return 200, headers, body


def accepts_gzip(headers: dict[bytes, bytes]) -> bool:
    """Whether a request's Accept-Encoding has gzip. Source: RFC 9110, 12.5.3"""
    return bool(_ACCEPTS.search(headers.get(b"accept-encoding", b"").decode("latin-1").lower()))


def _gzip(content: bytes, level: int) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, 31)
    return compressor.compress(content) + compressor.flush()


def compressed(app: App) -> App:
    """Compress pages, JSON and CSV."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not accepts_gzip(dict(scope["headers"])):
            await app(scope, receive, send)
            return
        await app(scope, receive, _Compressing(scope["method"] == "HEAD", send).send)

    return wrapped


class _Compressing:
    """Compresses one answer, where that is of use."""

    def __init__(self, is_head: bool, send: Send) -> None:
        self._send, self._is_head = send, is_head
        self._start: dict[str, Any] | None = None
        self._compressor: Any = None

    async def send(self, message: dict[str, Any]) -> None:
        """Called by the application with each message."""
        if message["type"] == "http.response.start" and self._is_text(message):
            # Whether to compress depends on the body.
            self._start = message
            return
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            if more or _MIN_BYTES <= len(body) <= _MAX_BYTES:
                self._compressor = zlib.compressobj(_PAGE_LEVEL, zlib.DEFLATED, 31)
            await self._send(self._headed(start))
        if self._compressor is not None:
            end = zlib.Z_SYNC_FLUSH if more else zlib.Z_FINISH
            message = message | {
                "body": self._compressor.compress(body) + self._compressor.flush(end)
            }
        await self._send(message)

    def _is_text(self, start: dict[str, Any]) -> bool:
        headers = {name.lower(): value for name, value in start.get("headers", ())}
        is_text = _TEXT.match(headers.get(b"content-type", b""))
        is_whole = start["status"] not in (204, 206, 304) and not self._is_head
        return bool(is_text and is_whole and b"content-encoding" not in headers)

    def _headed(self, start: dict[str, Any]) -> dict[str, Any]:
        headers = [(n, v) for n, v in start.get("headers", ()) if n.lower() != b"vary"]
        headers.append((b"vary", b"Accept-Encoding, Cookie, Authorization"))
        if self._compressor is not None:
            headers = [(n, v) for n, v in headers if n.lower() != b"content-length"]
            headers.append((b"content-encoding", b"gzip"))
        return start | {"headers": headers}
