"""A thread pool for queries with a limit per login, so that no login blocks the others.

SQLite checks a query's time limit between its steps, and one step can take long. A thread that is
stuck far beyond the limit is replaced for the other logins; the login that started it has one
thread fewer until it ends. Threads are daemons, so that the process can exit at any time.
"""

import logging
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger("callhouse.browse")

THREADS = 6
THREADS_PER_LOGIN = 3
MAX_WAITING_PER_LOGIN = 200


class TooManyQueries(Exception):
    """A login has too many waiting queries."""


@dataclass(slots=True)
class _Task:
    login: str
    work: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)
    started: float = 0.0


def _clear_frames(error: BaseException) -> None:
    """Free the local variables of the failed functions, in their own thread.

    If the garbage collector freed a cursor in another thread, that thread would wait for the
    connection, which may run the next query by then: the whole server would stall.
    """
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__


class QueryPool:
    """Runs functions in threads, in order for each login."""

    def __init__(self, *, stuck_after_seconds: float) -> None:
        self._stuck_after_seconds = stuck_after_seconds
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[_Task]] = {}
        self._running: Counter[str] = Counter()
        self._workers: dict[threading.Thread, _Task | None] = {}
        self._is_closed = False

    def submit(self, login: str, work: Callable[[], Any]) -> "Future[Any]":
        """Run `work` when the login has a free thread. Raises TooManyQueries."""
        task = _Task(login, work)
        with self._changed:
            waiting = self._waiting.setdefault(login, deque())
            if len(waiting) >= MAX_WAITING_PER_LOGIN:
                raise TooManyQueries
            waiting.append(task)
            self._replace_stuck_threads()
            idle = sum(task is None for task in self._workers.values())
            if len(self._workers) < THREADS and idle < sum(map(len, self._waiting.values())):
                worker = threading.Thread(target=self._work, daemon=True, name="query")
                self._workers[worker] = None
                worker.start()
            self._changed.notify()
        return task.future

    def is_querying(self) -> bool:
        """Whether a query is running."""
        with self._changed:
            return any(self._running.values())

    def close(self) -> None:
        """End the idle threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _replace_stuck_threads(self) -> None:
        latest = time.monotonic() - self._stuck_after_seconds
        for worker, task in list(self._workers.items()):
            if task is not None and task.started < latest:
                del self._workers[worker]
                _log.warning("a query does not stop: its login has one thread fewer until it does")

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                while (task := self._next()) is None:
                    if self._is_closed:
                        return
                    self._changed.wait()
                task.started = time.monotonic()
                self._workers[me] = task
            if task.future.set_running_or_notify_cancel():
                try:
                    task.future.set_result(task.work())
                except BaseException as error:
                    _clear_frames(error)
                    task.future.set_exception(error)
            with self._changed:
                self._running[task.login] -= 1
                self._changed.notify_all()
                if me not in self._workers:
                    return
                self._workers[me] = None

    def _next(self) -> _Task | None:
        """The oldest task of the first login with a free thread; that login becomes the last."""
        for login, tasks in self._waiting.items():
            if self._running[login] < THREADS_PER_LOGIN:
                task = tasks.popleft()
                del self._waiting[login]
                if tasks:
                    self._waiting[login] = tasks
                self._running[login] += 1
                return task
        return None
