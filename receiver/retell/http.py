"""HTTP requests with responses bounded in time and length, and posting signed webhook bodies."""

import json
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore
import httpx

from receiver import clock
from receiver.errors import NotAnEvent
from receiver.webhook.signature import sign

# The maximum size of a response's body, decompressed: a page of a thousand calls has about 20 MB.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_ENCODINGS = ("gzip", "identity", "")
# Headers that describe the compressed body.
_TRANSFER_HEADERS = ("content-encoding", "content-length", "transfer-encoding")
# Bytes per write, so that a slow receiver cannot delay beyond the deadline.
_PIECE_BYTES = 64 * 1024


class UnusableAnswer(httpx.DecodingError):
    """A response that is too long, or compressed in an unknown way."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """An HTTP client. A request takes `total_seconds` at most, from connecting to the last byte.

    `options` are httpx.Client's.
    """

    def __init__(self, *, total_seconds: float, **options: Any) -> None:
        self._total_seconds = total_seconds
        self._client = httpx.Client(**options)
        self._client.headers["Accept-Encoding"] = "gzip"
        self._backend = DeadlineBackend()
        use_backend(self._client, self._backend)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The complete response. Raises httpx.HTTPError, httpx.InvalidURL and UnusableAnswer."""
        try:
            return self._request(method, url, **options)
        except UnicodeError:
            # A label of the host's name is empty, too long or no valid IDNA.
            raise httpx.InvalidURL("the name of the host is not valid") from None

    def _request(self, method: str, url: str, **options: Any) -> httpx.Response:
        self._backend.due.at = time.monotonic() + self._total_seconds
        with self._client.stream(method, url, **options) as streamed:
            # If it is compressed twice, 64 kB can become gigabytes.
            if streamed.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
                raise UnusableAnswer("compressed in an unknown way", streamed.status_code)
            chunks, size = [], 0
            for chunk in streamed.iter_bytes():
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise UnusableAnswer(
                        f"longer than {MAX_ANSWER_BYTES:,} bytes", streamed.status_code
                    )
                chunks.append(chunk)
        headers = [(k, v) for k, v in streamed.headers.items() if k not in _TRANSFER_HEADERS]
        whole = httpx.Response(
            streamed.status_code,
            headers=headers,
            content=b"".join(chunks),
            request=streamed.request,
            extensions={"reason_phrase": streamed.extensions.get("reason_phrase", b"")},
        )
        whole.elapsed = streamed.elapsed
        return whole


def use_backend(client: httpx.Client, backend: httpcore.NetworkBackend) -> None:
    """Make a client use this backend: httpx restarts its timeout with each byte, and has no public
    way to set a backend."""
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = backend


class _Deadline(threading.local):
    """The deadline of this thread's request, on the monotonic clock."""

    at = 0.0

    def within(self, timeout: float | None) -> float:
        left = max(self.at - time.monotonic(), 0.001)
        return left if timeout is None else min(left, timeout)

    def reached(self) -> bool:
        return time.monotonic() >= self.at


class DeadlineBackend(httpcore.SyncBackend):
    """Connections that time out at their request's deadline."""

    def __init__(self) -> None:
        self.due = _Deadline()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *rest: Any, **options: Any
    ) -> httpcore.NetworkStream:
        """A connection with this thread's deadline."""
        timeout = self.due.within(timeout)
        return _Stream(super().connect_tcp(host, port, timeout, *rest, **options), self.due)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, due: _Deadline) -> None:
        self._stream, self._due = stream, due

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._due.reached():
            raise httpcore.ReadTimeout
        return self._stream.read(max_bytes, self._due.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE_BYTES):
            if self._due.reached():
                raise httpcore.WriteTimeout
            piece = buffer[start : start + _PIECE_BYTES]
            self._stream.write(piece, self._due.within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "_Stream":
        timeout = self._due.within(timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._due)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


TIMEOUT_SECONDS = 30.0
# Characters printed of a receiver's error response.
_MAX_ERROR = 300


@dataclass(frozen=True, slots=True)
class Sent:
    """The response to a file: the HTTP status and how long it took, in milliseconds."""

    event: str
    entity_id: str
    status: int
    milliseconds: float
    error: str


def body_of(
    path: Path, event: str | None = None, *, max_bytes: int = 16 * 1024 * 1024
) -> tuple[bytes, str, str]:
    """Return (body, event, entity_id) of a file: a webhook body unchanged; a call or chat object as
    the event call_analyzed or chat_analyzed, or `event`. Raises NotAnEvent."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise NotAnEvent(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > max_bytes:
        raise NotAnEvent(f"{path} is longer than CALLHOUSE_MAX_BODY_BYTES, {max_bytes:,}")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise NotAnEvent(f"{path} is not JSON") from None
    if not isinstance(value, dict):
        raise NotAnEvent(f"{path} is not a JSON object")
    if "event" in value:
        if event is not None:
            value["event"] = event
            raw = compact(value)
        payload: Any = next((value[k] for k in ("call", "data", "chat") if k in value), {})
        return raw, str(value["event"]), _id(payload)
    for kind in ("call", "chat"):
        if f"{kind}_id" in value:
            name = event or f"{kind}_analyzed"
            return compact({"event": name, kind: value}), name, _id(value)
    raise NotAnEvent(f"{path} is neither a webhook body nor a call or chat object")


def compact(value: Any) -> bytes:
    """JSON in Retell's format: no spaces, non-ASCII unescaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def post(client: Client, url: str, body: bytes, *, key: str, at_ms: int) -> httpx.Response:
    """Post one body signed at `at_ms`."""
    headers = {
        "Content-Type": "application/json",
        "X-Retell-Signature": sign(body, key=key, now_ms=at_ms),
    }
    return client.request("POST", url, content=body, headers=headers)


def send(
    client: Client, url: str, path: Path, *, key: str, event: str | None, max_bytes: int
) -> Sent:
    """Sign and post one file. Raises NotAnEvent, httpx.HTTPError."""
    body, name, entity_id = body_of(path, event, max_bytes=max_bytes)
    response = post(client, url, body, key=key, at_ms=clock.now_ms())
    milliseconds = response.elapsed.total_seconds() * 1000
    return Sent(name, entity_id, response.status_code, milliseconds, _error(response))


def _error(response: httpx.Response) -> str:
    if response.is_success:
        return ""
    try:
        answer = response.json()
        text = f"{answer['error']}. {answer['hint']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        text = response.reason_phrase or "refused"
    # Unprintable characters could control the terminal.
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_ERROR])


def _id(payload: Any) -> str:
    if not isinstance(payload, dict):
        return ""
    return str(payload.get("call_id") or payload.get("chat_id") or "")
