"""Things that happen at their time: a few threads, each with a queue in order of time."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable
from zlib import crc32

from receiver.errors import CallhouseError

Action = Callable[[], None]


class Schedule:
    """Runs actions when they are due. Everything about one call has one lane, so that its actions
    never overlap; the lanes run beside one another.

    `speed` is how many times faster than life time passes; with 0 nothing waits, and the order
    alone is kept.
    """

    def __init__(self, *, speed: float, now_ms: Callable[[], int], lanes: int) -> None:
        self._speed, self._now_ms = speed, now_ms
        self._changed = threading.Condition()
        self._queues: list[list[tuple[float, int, int, Action]]] = [[] for _ in range(lanes)]
        self._count, self._pending, self._closed = 0, 0, False
        self._failures: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._run, args=(queue,), daemon=True) for queue in self._queues
        ]
        for thread in self._threads:
            thread.start()

    def add(
        self, key: str, actions: Iterable[tuple[int, Action]], *, at_once: bool = False
    ) -> None:
        """Plan actions about `key` for their life time in milliseconds; all of them together, so
        that none runs before an earlier one is known. With `at_once` none of them waits."""
        now_ms, waits = self._now_ms(), self.paced and not at_once
        queue = self._queues[crc32(key.encode()) % len(self._queues)]
        with self._changed:
            for due_ms, action in actions:
                run_ms = now_ms + (due_ms - now_ms) / self._speed if waits else 0
                self._count += 1
                self._pending += 1
                heapq.heappush(queue, (run_ms, due_ms, self._count, action))
            self._changed.notify_all()

    @property
    def paced(self) -> bool:
        """Whether things wait for their time."""
        return self._speed > 0

    def settle(self, timeout_seconds: float | None) -> None:
        """Wait until nothing is planned. Raises CallhouseError if that takes too long, and what an
        action raised meanwhile."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pending, timeout_seconds):
                raise CallhouseError(f"{self._pending} things have still not happened")
            if self._failures:
                raise self._failures.pop()

    def wake(self) -> None:
        """Look at the clock again, after it was set."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; what is planned does not happen any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, queue: list[tuple[float, int, int, Action]]) -> None:
        while action := self._next(queue):
            try:
                action()
            except Exception as failure:
                # A thread has nobody to tell, so that whoever waits for it is told.
                self._failures.append(failure)
            with self._changed:
                self._pending -= 1
                self._changed.notify_all()

    def _next(self, queue: list[tuple[float, int, int, Action]]) -> Action | None:
        with self._changed:
            while not self._closed:
                if not queue:
                    self._changed.wait()
                elif (wait_ms := queue[0][0] - self._now_ms()) > 0:
                    self._changed.wait(wait_ms / 1000)
                else:
                    return heapq.heappop(queue)[3]
        return None
