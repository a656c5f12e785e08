"""Simulated processes, their clock, their scheduler and the faults that meet them.

Every request is a greenlet. It can lose its turn at each lock, each sleep and each operation of the
disk; a seeded choice says who runs next. The clock moves when all sleep, and a little by chance.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from greenlet import getcurrent, greenlet

from receiver.store.connection import Connection, Log, connect, sqlite3
from receiver.store.store import Machine
from tests.simulation.disk import IOERR, NAME, OK, Disk, Inode

SWITCH = 0.04
TICK = 0.2
SOON = 0.001
MOST_TURNS = 60_000


class Killed(BaseException):
    """The process has gone: no statement of it may have an effect any more."""


class Cancelled(BaseException):
    """One request is ended by its server, as a time-out of gevent does."""


class Stuck(AssertionError):
    """Somebody waits for ever."""


class Lock:
    """A lock between the requests of one process."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._is_held = False

    def acquire(self) -> bool:
        world = self._process.world
        self._process.check()
        if world.chance.random() < SWITCH:
            world.pause()
            self._process.check()
        while self._is_held:
            world.wait_for(self)
            self._process.check()
        self._is_held = True
        return True

    def release(self) -> None:
        if self._process.is_dead:
            return
        assert self._is_held, "an unlocked lock is released"
        self._is_held = False
        self._process.world.wake(self)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Process(Machine):
    """A process, as the store sees its machine."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.is_dead = False
        # Whether it is copying pages out of the log: its last write was to the database.
        self.is_copying = False

    def check(self) -> None:
        if self.is_dead:
            raise Killed
        task = getcurrent()
        if task in self.world.cancelled:
            self.world.cancelled.discard(task)
            raise Cancelled

    def monotonic(self) -> float:
        self.check()
        return self.world.now

    def sleep(self, seconds: float) -> None:
        self.check()
        self.world.sleep(seconds)
        self.check()

    def lock(self) -> Any:
        self.check()
        return Lock(self)

    def connect(self, path: Path) -> Connection:
        self.check()
        self.world.processes_of[getcurrent()] = self
        connection = connect(path, busy_timeout_ms=0, vfs=NAME)
        self.world.connections.append(connection)
        try:
            connection.execute(f"PRAGMA wal_autocheckpoint = {self.world.checkpoint_pages}")
        except BaseException:
            connection.close()
            raise
        return connection

    def log(self, path: Path) -> Log:
        self.check()
        return DiskLog(self.world.disk, str(path))

    def identity(self, path: Path) -> tuple[int, int] | None:
        self.check()
        self.world.pause()
        self.check()
        return self.world.disk.identity(str(path))


class DiskLog(Log):
    """The log of a file on the simulated disk."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk, self._name = disk, f"{path}-wal"
        if self._name not in disk.names:
            raise FileNotFoundError
        self._inode, self._database = disk.names[self._name], disk.names[path]

    def read(self, count: int, offset: int) -> bytes:
        return bytes(self._inode.content[offset : offset + count])

    def read_present(self, count: int, offset: int) -> bytes:
        inode = self._disk.names.get(self._name)
        return bytes(inode.content[offset : offset + count]) if inode else b""

    def read_index(self, count: int) -> bytes:
        regions = self._database.regions
        return bytes(regions[0][:count]) if regions else b""

    def copy_back(self) -> None:
        self._disk.names[self._name] = Inode(bytes(self._inode.content))

    @property
    def identity(self) -> tuple[int, int]:
        return (1, self._inode.number)

    @property
    def is_gone(self) -> bool:
        return self._disk.names.get(self._name) is not self._inode


class World:
    """All of it: `chance` decides everything."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = 1000.0
        self.disk = Disk(self)
        self.checkpoint_pages = chance.choice((1, 4, 16, 1000))
        self.processes_of: dict[greenlet, Process] = {}
        self.cancelled: set[greenlet] = set()
        self.connections: list[Connection] = []
        self.steps = 0
        # At which step something happens, and what.
        self.plans: list[tuple[int, Callable[[], None]]] = []
        # Whether a process ended or failed while it was copying pages out of the log: without that
        # log, half a copy cannot be repaired, so from then on nobody takes the log away. And while
        # the log is not beside the database, nothing interrupts the copying.
        self.is_half_copied = False
        self.is_log_apart = False
        # Operation -> code, until a step.
        self.failing: dict[str, tuple[int, int]] = {}
        self._hub = getcurrent()
        self._nobody = Process(self)
        self._nobody.is_dead = True
        self._ready: list[greenlet] = []
        self._sleeping: list[tuple[float, int, greenlet]] = []
        self._waiting: dict[greenlet, Lock] = {}
        self._count = 0

    # -- what the disk asks

    def owner(self) -> Any:
        return self.processes_of.get(getcurrent(), self._nobody)

    def fault(self, operation: str) -> int:
        if not self.failing or operation not in self.failing:
            return OK
        code, until = self.failing[operation]
        if self.steps >= until:
            del self.failing[operation]
            return OK
        return code

    def step(self, operation: str, handle: Any) -> int:
        """Before each operation: maybe somebody else runs, maybe it fails."""
        if handle is None and operation not in ("open", "delete"):
            return IOERR
        owner = handle.owner if handle is not None else self.owner()
        if owner.is_dead:
            return IOERR
        self.steps += 1
        while self.plans and self.steps >= self.plans[0][0]:
            self.plans.pop(0)[1]()
        if self.chance.random() < SWITCH:
            self.pause()
        if operation in ("write", "sync"):
            owner.is_copying = operation == "write" and not handle.name.endswith("-wal")
        if owner.is_dead:
            return IOERR
        code = self.fault(operation)
        if code and owner.is_copying:
            if self.is_log_apart:
                return OK
            self.is_half_copied = True
        return code

    # -- the scheduler

    def start(self, process: Process, work: Callable[[], None], *, after: float = 0) -> greenlet:
        task = greenlet(work, parent=self._hub)
        self.processes_of[task] = process
        self._count += 1
        self._sleeping.append((self.now + after, self._count, task))
        return task

    def pause(self) -> None:
        """Let somebody else run."""
        if (task := getcurrent()) is not self._hub:
            self._ready.append(task)
            self._hub.switch()

    def sleep(self, seconds: float) -> None:
        if (task := getcurrent()) is self._hub:
            self.now += seconds
            return
        self._count += 1
        self._sleeping.append((self.now + seconds, self._count, task))
        self._hub.switch()

    def wait_for(self, lock: Lock) -> None:
        if (task := getcurrent()) is self._hub:
            raise Stuck("a lock is held although nobody runs")
        self._waiting[task] = lock
        self._hub.switch()

    def wake(self, lock: Lock) -> None:
        for task in [task for task, awaited in self._waiting.items() if awaited is lock]:
            del self._waiting[task]
            self._ready.append(task)

    def wake_process(self, process: Process) -> None:
        """Let all tasks of a process that has gone come to their end, at once."""
        process.is_dead = True
        self._wake_if(lambda task: self.processes_of[task] is process)

    def cancel(self, task: greenlet) -> None:
        if not task.dead and task is not getcurrent():
            self.cancelled.add(task)
            self._wake_if(lambda other: other is task)

    def end(self) -> None:
        """Kill every process, let its tasks end and close its connections.

        Later the garbage collector would do it: it resumes a task in the middle of an operation of
        the disk, and a connection with an open transaction writes to memory that was freed.
        """
        self.plans.clear()
        for process in self.processes_of.values():
            process.is_dead = True
        self._wake_if(lambda _: True)
        while self._ready:
            with suppress(Killed, Cancelled, Exception):
                self._ready.pop().switch()
        for connection in self.connections:
            with suppress(sqlite3.Error):
                connection.close()

    def _wake_if(self, chosen: Callable[[greenlet], bool]) -> None:
        woken = [entry for entry in self._sleeping if chosen(entry[2])]
        self._sleeping = [entry for entry in self._sleeping if entry not in woken]
        self._ready += [task for _, _, task in woken if task]
        for task in [task for task in self._waiting if chosen(task)]:
            del self._waiting[task]
            self._ready.append(task)

    def run(self) -> None:
        """Until nobody has anything to do. Raises Stuck."""
        for _ in range(MOST_TURNS):
            entry = min(self._sleeping, default=None)
            # Somebody who is able to run is not left for long.
            is_soon = entry is not None and entry[0] < self.now + SOON
            if entry and (not self._ready or (is_soon and self.chance.random() < TICK)):
                self._sleeping.remove(entry)
                self.now = max(self.now, entry[0])
                task = entry[2]
            elif self._ready:
                task = self._ready.pop(self.chance.randrange(len(self._ready)))
            elif self._waiting:
                raise Stuck(f"{len(self._waiting)} requests wait for ever")
            else:
                return
            with suppress(Killed):
                task.switch()
        raise Stuck(f"no end after {MOST_TURNS} turns")
