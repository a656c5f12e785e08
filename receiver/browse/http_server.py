"""uvicorn with deadlines for connections, a limit on log lines, and a limit on shutdown time.

By itself, uvicorn closes only connections that are idle after a response. It waits without limit
for a client that sends nothing, sends its request slowly, or does not read the response.
"""

import asyncio
import atexit
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_log = logging.getLogger("callhouse.browse")

HEAD_SECONDS = 10.0
BODY_SECONDS = 20.0
# A client must read at least this many bytes of a waiting response within this time.
ANSWER_SECONDS, ANSWER_BYTES = 30.0, 300_000
# Responses that wait for their clients, over all connections.
MAX_BUFFERED_BYTES = 200_000_000
MAX_CONNECTIONS = 2_000
# Files beside connections: database, templates, log, and connections about to be closed.
_OTHER_FILES = 300
_BACKLOG = 128
# From a signal to the exit, even if queries are running.
GRACE_SECONDS = 3.0
_LINES_A_MINUTE = 10


def run(app: Any, host: str, port: int, *, is_querying: Callable[[], bool]) -> None:
    """Serve until a signal. Exits the process if something does not stop in time."""
    max_connections = min(MAX_CONNECTIONS, max(50, _raise_file_limit() - _OTHER_FILES))
    for name in ("uvicorn.error", "callhouse.browse", "callhouse.login", "asyncio"):
        logging.getLogger(name).addFilter(LineLimit())
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Connection,
        ws="none",
        lifespan="on",
        log_level="warning",
        backlog=_BACKLOG,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=64 * 1024,
    )
    _Server(config, max_connections, is_querying).run()


def _raise_file_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


class LineLimit(logging.Filter):
    """Passes ten log lines a minute of each kind, so that clients cannot fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the line; the last one says that more are left out."""
        kind = str(record.msg)[:200]
        since, count = self._counts.get(kind, (record.created, 0))
        if record.created - since >= 60:
            since, count = record.created, 0
        if len(self._counts) > 100:
            self._counts.clear()
        self._counts[kind] = (since, count + 1)
        if count == _LINES_A_MINUTE - 1:
            record.msg = f"{record.msg} (more of these in this minute are left out)"
        return count < _LINES_A_MINUTE


@dataclass(slots=True)
class _Phase:
    """What a connection is waiting for, and since when."""

    name: str
    cycle: Any
    since: float
    buffered: int = 0


class _Connection(H11Protocol):
    """A connection that reports itself to the server."""

    def connection_made(self, transport: Any) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        self.server_state.connected(self)

    def phase(self) -> str:
        """What the connection waits for: head or body of a request, work, or a read answer."""
        if self.transport.get_write_buffer_size():
            return "answer"
        if self.cycle is None or self.cycle.response_complete:
            return "head"
        return "body" if self.cycle.more_body else "work"


class _Server(uvicorn.Server):
    """uvicorn's server with deadlines for clients."""

    def __init__(
        self, config: uvicorn.Config, max_connections: int, is_querying: Callable[[], bool]
    ) -> None:
        super().__init__(config)
        self._max_connections = max_connections
        self._is_querying = is_querying
        self._phases: WeakKeyDictionary[_Connection, _Phase] = WeakKeyDictionary()
        self.server_state.connected = self._connected

    async def startup(self, sockets: Any = None) -> None:
        """Start, and log failed connections in one line instead of a traceback."""
        asyncio.get_running_loop().set_exception_handler(_log_briefly)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 5 == 0:
            self._close_late(time.monotonic())
        stop: bool = await super().on_tick(counter)
        return stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and exit the process after the grace period."""
        if not self.should_exit:
            end = threading.Timer(GRACE_SECONDS, _end, (sig,))
            end.daemon = True
            end.start()
            atexit.register(self._end_if_querying, sig)
        super().handle_exit(sig, frame)

    def _end_if_querying(self, sig: int) -> None:
        """End here: Python would free the cursors of running queries, which waits for these."""
        if self._is_querying():
            _end(sig)

    def _close_late(self, now: float) -> None:
        buffers = []
        for connection in list(self.server_state.connections):
            name = connection.phase()
            known = self._phases.get(connection)
            if known is None or (known.name, known.cycle) != (name, connection.cycle):
                buffered = connection.transport.get_write_buffer_size()
                known = _Phase(name, connection.cycle, now, buffered)
                self._phases[connection] = known
            if name == "answer":
                buffers.append((connection.transport.get_write_buffer_size(), connection))
            if self._is_late(connection, known, now):
                connection.transport.abort()
        waiting = sum(size for size, _ in buffers)
        for size, connection in sorted(buffers, key=lambda pair: -pair[0]):
            if waiting <= MAX_BUFFERED_BYTES:
                break
            waiting -= size
            connection.transport.abort()

    def _is_late(self, connection: _Connection, phase: _Phase, now: float) -> bool:
        if phase.name == "head":
            return now - phase.since > HEAD_SECONDS
        if phase.name == "body":
            return now - phase.since > BODY_SECONDS
        if phase.name != "answer" or now - phase.since < ANSWER_SECONDS:
            return False
        left = connection.transport.get_write_buffer_size()
        is_late: bool = phase.buffered - left < min(ANSWER_BYTES, phase.buffered)
        phase.since, phase.buffered = now, left
        return is_late

    def _connected(self, connection: _Connection) -> None:
        """Over the limit, close the connection that has been silent for longest."""
        self._phases[connection] = _Phase("head", None, time.monotonic())
        connections = self.server_state.connections
        if len(connections) <= self._max_connections:
            return
        silent = [c for c in connections if c.phase() == "head" and not c.transport.is_closing()]
        if silent:
            min(silent, key=lambda c: self._phases[c].since).transport.abort()


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Whether to write a line: uvicorn writes a traceback for each request that a stop cancels."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _log_briefly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError):
        _log.warning("a connection failed: %s", os.strerror(error.errno or 0))
    else:
        loop.default_exception_handler(context)


def _end(sig: int) -> None:
    _log.warning("ended while a query was still running")
    # As without a query: SIGTERM is the normal end of a service.
    os._exit(128 + sig if sig == signal.SIGINT else 0)
