"""Threads that run queries: a few for each login, so that no login takes those of the others.

SQLite looks at a query's time limit between its steps, and one step can take long. A thread that is
still in one well past the limit is given up: another takes its place for the other logins, while
the login that asked has one fewer. Threads are daemons: none keeps the process from ending.
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
    """A login has as many queries waiting as it may."""


@dataclass(slots=True)
class _Task:
    login: str
    work: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)
    started: float = 0.0


def _let_go(error: BaseException) -> None:
    """Free what the failed functions still refer to, here in their thread.

    A cursor that Python's garbage collector found in another thread would wait there for the
    connection, which by then runs the next query: the whole server would wait for it.
    """
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__


class QueryPool:
    """Runs functions in threads, for each login in the order they came."""

    def __init__(self, *, given_up_after: float) -> None:
        self._given_up_after = given_up_after
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[_Task]] = {}
        self._running: Counter[str] = Counter()
        self._workers: dict[threading.Thread, _Task | None] = {}
        self._is_closed = False

    def submit(self, login: str, work: Callable[[], Any]) -> "Future[Any]":
        """Run `work` as soon as the login has a thread for it. Raises TooManyQueries."""
        task = _Task(login, work)
        with self._changed:
            waiting = self._waiting.setdefault(login, deque())
            if len(waiting) >= MAX_WAITING_PER_LOGIN:
                raise TooManyQueries
            waiting.append(task)
            self._give_up_stuck()
            idle = sum(task is None for task in self._workers.values())
            if len(self._workers) < THREADS and idle < sum(map(len, self._waiting.values())):
                worker = threading.Thread(target=self._work, daemon=True, name="query")
                self._workers[worker] = None
                worker.start()
            self._changed.notify()
        return task.future

    def close(self) -> None:
        """Let idle threads end."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _give_up_stuck(self) -> None:
        latest = time.monotonic() - self._given_up_after
        for worker, task in list(self._workers.items()):
            if task is not None and task.started < latest:
                del self._workers[worker]
                _log.warning("a query does not stop; its login has one thread fewer until it does")

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
                    _let_go(error)
                    task.future.set_exception(error)
            with self._changed:
                self._running[task.login] -= 1
                self._changed.notify_all()
                if me not in self._workers:
                    return
                self._workers[me] = None

    def _next(self) -> _Task | None:
        """The first waiting task of the first login with a thread left; that login goes last."""
        for login, tasks in self._waiting.items():
            if self._running[login] < THREADS_PER_LOGIN:
                task = tasks.popleft()
                del self._waiting[login]
                if tasks:
                    self._waiting[login] = tasks
                self._running[login] += 1
                return task
        return None
