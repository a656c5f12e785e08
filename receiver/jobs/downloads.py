"""Fetch a file from the web into a local file: bounded, resumable, and from public addresses only.

In: a link. Out: the complete file with its SHA-256 and content type. Bytes that were received
before a failure stay in the file, and the next attempt continues after them if the ETag shows that
the content is the same.
"""

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any, BinaryIO

import httpcore
import httpx

from receiver.config import Media
from receiver.errors import DiskReserved, LinkDead, LinkRefused, RecordingNotKept
from receiver.jobs.storage import EXTENSIONS, free_bytes, make_private
from receiver.retell.http import DeadlineBackend, use_backend

# Time for one request, from connecting to the last byte. The next attempt continues.
TOTAL_SECONDS = 900.0
TIMEOUT = httpx.Timeout(30, connect=10)
MAX_REDIRECTS = 5
_PIECE_BYTES = 64 * 1024
# Bytes written between two checks of the free space.
_SPACE_BYTES = 8 * 1024 * 1024
_DEAD = (401, 403, 404, 410)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
# A weak ETag does not guarantee equal bytes, and only ASCII can be sent back.
_STRONG_ETAG = re.compile(r'"[!#-~]{0,1000}"')
# Addresses of IPv4 within IPv6, for a gateway to translate. Source: RFC 6052
_TRANSLATED = IPv6Network("64:ff9b::/96")

_OTHER_NAMES = {
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-m4a": "audio/mp4",
}
# The first bytes of files by type. Source:
# https://mimesniff.spec.whatwg.org/#matching-an-audio-or-video-type-pattern
_BEGINNINGS = (
    (rb"RIFF....WAVE", "audio/wav"),
    (rb"ID3|\xff[\xe2-\xff]", "audio/mpeg"),
    (rb"OggS\0", "audio/ogg"),
    (rb"fLaC", "audio/flac"),
    (rb"....ftyp", "audio/mp4"),
    (rb"\x1a\x45\xdf\xa3", "audio/webm"),
)
_LOOKED_AT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete file."""

    bytes: int
    sha256: str
    content_type: str


class Downloader:
    """Fetches files; several threads may use it. `check` is called between two pieces and may
    raise, `sleep` waits."""

    def __init__(
        self,
        limits: Media,
        *,
        check: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits, self._check = limits, check
        self._throttle = Throttle(limits.bytes_per_second, sleep)
        # Without the environment's proxies: a proxy would connect to any address.
        self._client = httpx.Client(timeout=TIMEOUT, trust_env=False, follow_redirects=False)
        self._backend = CheckedBackend(allow_private=limits.allow_private)
        use_backend(self._client, self._backend)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def fetch(self, url: str, part: Path, *, is_audio: bool) -> Fetched:
        """Download the rest of the file `part`.

        Until it is complete, a file with the ETag is beside it. Raises RecordingNotKept, and
        OSError if the file cannot be written.
        """
        make_private(part.parent)
        self._require_space(part, 0)
        state = ResumeState(part)
        self._backend.due.at = time.monotonic() + TOTAL_SECONDS
        for _ in range(MAX_REDIRECTS + 1):
            with self._request(url, state) as response:
                if "Location" not in response.headers or not 300 < response.status_code < 400:
                    return self._receive(response, state, is_audio=is_audio)
                url = _redirected(response)
        raise LinkRefused("the link redirects too often", hint="")

    @contextmanager
    def _request(self, url: str, state: "ResumeState") -> Iterator[httpx.Response]:
        if not url.startswith(("https://", "http://")):
            raise LinkRefused("the link is neither http nor https", hint="")
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        if state.etag and state.size:
            headers |= {"Range": f"bytes={state.next_byte}-", "If-Range": state.etag}
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                yield response
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise LinkRefused("the link is not a valid URL", hint="") from None
        except httpx.HTTPError as error:
            # Only the class: the message can contain the URL.
            raise RecordingNotKept(f"no complete response: {type(error).__name__}") from None
        finally:
            # A link must not receive cookies of another.
            self._client.cookies.clear()

    def _receive(
        self, response: httpx.Response, state: "ResumeState", *, is_audio: bool
    ) -> Fetched:
        offset, total = _span(response, state)
        if total is not None:
            self._require_length(total, state)
            self._require_space(state.part, total - offset)
        digest = hashlib.sha256()
        with state.open(offset, response.headers.get("ETag", ""), digest.update) as file:
            size = offset
            for piece in response.iter_raw(_PIECE_BYTES):
                self._check()
                self._throttle.take(len(piece))
                size += len(piece)
                self._require_length(size, state)
                if size // _SPACE_BYTES != (size - len(piece)) // _SPACE_BYTES:
                    self._require_space(state.part, 0)
                file.write(piece)
                digest.update(piece)
        if total is not None and size != total:
            raise RecordingNotKept("the response ended early")
        declared = response.headers.get("Content-Type", "")
        try:
            content_type = content_type_of(state.part, declared, is_audio=is_audio)
        except RecordingNotKept:
            state.discard()
            raise
        return Fetched(size, digest.hexdigest(), content_type)

    def _require_length(self, size: int, state: "ResumeState") -> None:
        if size > self._limits.max_bytes:
            state.discard()
            raise LinkRefused(
                "the file is longer than CALLHOUSE_MEDIA_MAX_BYTES",
                hint="Raise CALLHOUSE_MEDIA_MAX_BYTES, then: callhouse recordings --retry",
            )

    def _require_space(self, part: Path, size: int) -> None:
        if free_bytes(part.parent) - size < self._limits.reserve_bytes:
            raise DiskReserved("the disk has less free space than CALLHOUSE_MEDIA_RESERVE_BYTES")


class ResumeState:
    """An unfinished file, and the ETag of its content in a file beside it."""

    def __init__(self, part: Path) -> None:
        self.part, self._etag_path = part, part.with_suffix(".etag")
        self.etag = ""
        with suppress(OSError, ValueError):
            etag = str(json.loads(self._etag_path.read_text(encoding="utf-8"))["etag"])
            self.etag = etag if _STRONG_ETAG.fullmatch(etag) else ""

    @property
    def size(self) -> int:
        """The bytes received so far."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def next_byte(self) -> int:
        """Where to continue: at the last byte, because a complete file has no bytes after it."""
        return max(0, self.size - 1)

    @contextmanager
    def open(self, offset: int, etag: str, update: Callable[[bytes], None]) -> Iterator[BinaryIO]:
        """Open the file at `offset`; `update` is called with the bytes before it."""
        if not offset:
            self.discard()
            self.part.touch(mode=0o600)
            if _STRONG_ETAG.fullmatch(etag):
                self._etag_path.touch(mode=0o600)
                self._etag_path.write_text(json.dumps({"etag": etag}), encoding="utf-8")
        with self.part.open("r+b") as file:
            file.truncate(offset)
            while piece := file.read(_PIECE_BYTES):
                update(piece)
            yield file

    def discard(self) -> None:
        """Delete the received bytes. The ETag is deleted first, so that it never belongs to other
        content."""
        self._etag_path.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)


class Throttle:
    """Limits the bytes per second of all threads together."""

    def __init__(self, bytes_per_second: int, sleep: Callable[[float], None]) -> None:
        self._seconds_each = 1 / bytes_per_second
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        with self._lock:
            now = time.monotonic()
            # Unused bytes can be used a little later.
            self._free_at = max(self._free_at, now - 0.1) + size * self._seconds_each
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)


class CheckedBackend(DeadlineBackend):
    """Connects to public addresses only. A name is resolved once, and the connection goes to the
    address that was checked."""

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *rest: Any, **options: Any
    ) -> httpcore.NetworkStream:
        """A connection to one of the host's addresses. Raises LinkRefused."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("name not resolved") from None
        addresses = list(dict.fromkeys(str(address[4][0]) for address in found))
        if not self._allow_private and not all(map(is_public, addresses)):
            raise LinkRefused("the link is to an address that is not public")
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                return super().connect_tcp(address, port, timeout, *rest, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def is_public(address: str) -> bool:
    """Whether an address is public, including an IPv4 address within it."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped or ip in _TRANSLATED:
            return is_public(str(IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.sixtofour or ip.teredo or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def content_type_of(path: Path, declared: str, *, is_audio: bool) -> str:
    """The type of a file, one of EXTENSIONS: by its beginning, else as declared.

    Raises RecordingNotKept for a recording that is empty or a web page.
    """
    with path.open("rb") as file:
        beginning = file.read(_LOOKED_AT_BYTES)
    declared = declared.partition(";")[0].strip().lower()
    declared = _OTHER_NAMES.get(declared, declared)
    if not is_audio:
        return "application/octet-stream" if b"\0" in beginning else "text/plain"
    for pattern, content_type in _BEGINNINGS:
        if re.match(pattern, beginning, re.DOTALL):
            return content_type
    if not beginning:
        raise RecordingNotKept("the recording is empty")
    if beginning.lstrip().startswith(b"<") or declared.startswith("text/"):
        raise RecordingNotKept("the response is a text, not a recording")
    return declared if declared in EXTENSIONS else "application/octet-stream"


def _span(response: httpx.Response, state: ResumeState) -> tuple[int, int | None]:
    """The offset of the response's body in the file, and the file's length if known.

    Raises RecordingNotKept if the response is neither the file nor the rest of it.
    """
    status, headers = response.status_code, response.headers
    if status in _DEAD:
        raise LinkDead(f"the link no longer works ({status})")
    if status == 416:
        # The file has become shorter.
        state.discard()
    if status not in (200, 206):
        raise RecordingNotKept(f"the server answered {status}")
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise RecordingNotKept("the response is compressed")
    if status == 200:
        length = headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch("[0-9]{1,18}", length) else None
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None or int(found[1]) != state.next_byte or not state.size:
        state.discard()
        raise RecordingNotKept("the server sent another range")
    return state.next_byte, None if found[2] == "*" else int(found[2])


def _redirected(response: httpx.Response) -> str:
    """The URL that a response redirects to. Raises LinkRefused, httpx.InvalidURL."""
    url = response.url.join(response.headers["Location"])
    if response.url.scheme == "https" and url.scheme != "https":
        raise LinkRefused("the link redirects from https to another scheme", hint="")
    return str(url)
