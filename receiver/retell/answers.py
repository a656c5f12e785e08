"""HTTP requests whose answers are bounded: in time, headers included, and in length."""

import ssl
import threading
import time
from typing import Any

import httpcore
import httpx

# An answer may be so long once it is unpacked: a page of a thousand calls is some 20 MB.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
_ENCODINGS = ("gzip", "identity", "")
# What is true of an answer as it was sent, and not of its unpacked body.
_OF_THE_TRANSFER = ("content-encoding", "content-length", "transfer-encoding")
# Sent at once, so that a receiver that takes little by little meets the deadline.
_PIECE_BYTES = 64 * 1024


class UnusableAnswer(httpx.DecodingError):
    """An answer that is too long, or compressed in an unknown way."""

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
        # httpx restarts its timeout with each byte, and has no public way to set another backend.
        self._backend = _Backend()
        for transport in (self._client._transport, *self._client._mounts.values()):
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = self._backend

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The whole answer. Raises httpx.HTTPError, httpx.InvalidURL and UnusableAnswer."""
        self._backend.due.at = time.monotonic() + self._total_seconds
        with self._client.stream(method, url, **options) as streamed:
            # Compressed twice, a chunk of 64 kB can be gigabytes.
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
        headers = [(k, v) for k, v in streamed.headers.items() if k not in _OF_THE_TRANSFER]
        whole = httpx.Response(
            streamed.status_code,
            headers=headers,
            content=b"".join(chunks),
            request=streamed.request,
            extensions={"reason_phrase": streamed.extensions.get("reason_phrase", b"")},
        )
        whole.elapsed = streamed.elapsed
        return whole


class _Due(threading.local):
    """When this thread's request has to be answered, by the clock that only goes forward."""

    at = 0.0

    def within(self, timeout: float | None) -> float:
        left = max(self.at - time.monotonic(), 0.001)
        return left if timeout is None else min(left, timeout)

    def reached(self) -> bool:
        return time.monotonic() >= self.at


class _Backend(httpcore.SyncBackend):
    """Connections that give up at the deadline of the request that they are used for."""

    def __init__(self) -> None:
        self.due = _Due()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *rest: Any, **options: Any
    ) -> httpcore.NetworkStream:
        timeout = self.due.within(timeout)
        return _Stream(super().connect_tcp(host, port, timeout, *rest, **options), self.due)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, due: _Due) -> None:
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
