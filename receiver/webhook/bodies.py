"""Reading a request's body within bounds of time and memory.

Whoever sends it is not known yet: the signature can be checked only once the body is complete.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Protocol

import gevent
from gunicorn.http.errors import ParseException

from receiver.errors import BodyTooSlow, BodyUnreadable, Overloaded

# Retell gives up after 10 s; a slow line may take longer for the largest body.
BODY_SECONDS = 30.0
# The minimum rate: a piece of at most 256 KiB in this time.
PIECE_SECONDS = 5.0
_FIRST_PIECE, _LARGEST_PIECE = 16 * 1024, 256 * 1024
# Bodies that one worker has in memory at a moment; a quarter of it is for small ones.
BUDGET_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 1024 * 1024
# What is read of a refused body after the answer, so that the sender gets to read the answer.
_DRAIN_BYTES, _DRAIN_SECONDS = 256 * 1024, 1.0


class Stream(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""


class Bodies:
    """The bodies that one worker is reading or working on, and the memory that they may take."""

    def __init__(self, *, max_body_bytes: int, budget_bytes: int = BUDGET_BYTES) -> None:
        # One body of the greatest length always fits beside others.
        self._budget = max(budget_bytes, 4 * max_body_bytes)
        self._used = 0
        self._lock = threading.Lock()

    @contextmanager
    def read(self, stream: Stream, *, is_timed: bool) -> Iterator[bytes]:
        """Read a body to its end, and count it until the block ends.

        `is_timed` says that gevent runs the server, whose reads can be interrupted. Raises
        BodyTooSlow, Overloaded, BodyUnreadable, and werkzeug's errors of the stream.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            with _deadline(BODY_SECONDS, is_timed=is_timed):
                while piece := _piece(stream, size, is_timed=is_timed):
                    self._take(len(piece), size)
                    size += len(piece)
                    pieces.append(piece)
            body = b"".join(pieces)
            pieces.clear()
            yield body
        finally:
            with self._lock:
                self._used -= size

    def _take(self, count: int, before: int) -> None:
        is_small = before + count <= SMALL_BYTES
        limit = self._budget if is_small else self._budget * 3 // 4
        with self._lock:
            if self._used + count > limit:
                raise Overloaded("too many bodies are being received at once")
            self._used += count


def drain(stream: Stream, *, is_timed: bool) -> None:
    """Read what follows of a refused body, for a moment.

    A socket that is closed with unread bytes resets the connection, and the answer is lost.
    """
    left = _DRAIN_BYTES
    with suppress(Exception), _deadline(_DRAIN_SECONDS, is_timed=is_timed):
        while left > 0 and (piece := stream.read(_FIRST_PIECE)):
            left -= len(piece)


def _piece(stream: Stream, so_far: int, *, is_timed: bool) -> bytes:
    # What the server has read ahead of a piece is not counted: never more than what is.
    wanted = min(max(so_far, _FIRST_PIECE), _LARGEST_PIECE)
    with _deadline(PIECE_SECONDS, is_timed=is_timed):
        try:
            return stream.read(wanted)
        except (OSError, ValueError, ParseException) as error:
            # Chunks that are none, or a sender that is gone.
            raise BodyUnreadable("the body could not be read to its end") from error


def _deadline(seconds: float, *, is_timed: bool) -> AbstractContextManager[object]:
    if not is_timed:
        return nullcontext()
    timeout: AbstractContextManager[object] = gevent.Timeout(
        seconds, BodyTooSlow("the body did not arrive in time")
    )
    return timeout
