"""One short history, made from a seed: requests in some processes, faults, recovery, the checks."""

import random
import sys
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from greenlet import greenlet

from receiver.errors import StoreUnavailable
from receiver.store import Store, receive
from receiver.store.connection import sqlite3
from tests.simulation import disk
from tests.simulation.disk import Inode
from tests.simulation.world import Cancelled, Killed, Process, World
from tests.support.histories import CALL_FIELDS, TOGETHER, again, blank_file, delivery
from tests.support.naive_model import Delivery, tables
from tests.support.tables import dump

BUSY_SECONDS = 0.1
# Columns of `observations` that depend on how often a body arrived: last_received_at, deliveries.
COUNTED = (8, 9)
COUNT = 9
FULL, IOERR = 13, 10
_numbers = count()
OPERATIONS = (
    *("write", "write", "sync", "truncate", "lock", "shmlock", "map", "read", "open", "delete"),
)


@dataclass(eq=False)
class Request:
    """A delivery to one of the processes, and what became of it."""

    delivery: Delivery
    process: int
    began: int | None = None
    outcome: Any = None
    attempts: int = 0
    waited: float = 0
    task: greenlet | None = None


@dataclass
class Report:
    """What happened, for the one who looks at a failure."""

    seed: int
    faults: list[str] = field(default_factory=list)
    steps: int = 0
    acknowledged: int = 0
    refused: int = 0
    is_void: bool = False

    def counts(self) -> Counter[str]:
        """For a sum over histories."""
        faults = [fault for fault in self.faults if not fault.startswith("at the end")]
        return Counter(
            {
                "histories": 1,
                "void": int(self.is_void),
                "faults": len(faults),
                "steps of the disk": self.steps,
                "acknowledged": self.acknowledged,
                "refused": self.refused,
            }
        )


@cache
def blank_content() -> bytes:
    """A migrated file without rows."""
    with blank_file() as path:
        return path.read_bytes()


class History:
    """Everything about one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.jumped = False
        self.report = Report(seed)
        self.chance = random.Random(seed)
        self.world = World(self.chance)
        disk.use(self.world.disk)
        # SQLite's paths are simulated; the turnstile is a real file.
        # No two histories share a name: Python may close a connection of one during the next.
        self.path = folder / f"{next(_numbers)}.db"
        self.name = str(self.path)
        self.world.disk.names[self.name] = Inode(blank_content())
        processes = self.chance.randint(2, 4)
        self.processes = [Process(self.world) for _ in range(processes)]
        self.stores = [self._store(process) for process in self.processes]
        self.requests = self._requests(processes)
        # Processes of other programs.
        self.others: list[Process] = []
        # At which step what was moved away.
        self.moved: list[tuple[int, dict[str, Inode]]] = []
        self.wal_lost_at: list[int] = []

    def _store(self, process: Process) -> Store:
        return Store(self.path, busy_seconds=BUSY_SECONDS, machine=process)

    def _requests(self, processes: int) -> list[Request]:
        chance = self.chance
        names = [name for _ in range(2) for name in chance.choice(TOGETHER) if name in CALL_FIELDS]
        names = sorted(set(names))
        fresh = [
            delivery(
                chance.choice, [n for n in sorted(set(names)) if chance.random() < 0.6], "call"
            )
            for _ in range(chance.randint(2, 6))
        ]
        repeated = [again(chance.choice, chance.choice(fresh)) for _ in range(chance.randint(0, 4))]
        return [Request(d, chance.randrange(processes)) for d in fresh + repeated]

    # -- faults

    def _plan(self) -> None:
        faults = [
            *(self._disk_fault, self._disk_fault, self._kill, self._kill, self._power_cut),
            *(self._hold_lock, self._jump, self._cancel, self._move_file, self._lose_wal),
        ]
        for _ in range(self.chance.choice((0, 1, 1, 2, 3))):
            at = int(2 ** self.chance.uniform(0, 9))
            self.world.plans.append((at, self.chance.choice(faults)))
        self.world.plans.sort(key=lambda plan: plan[0])

    def _say(self, fault: str) -> None:
        self.report.faults.append(f"{fault} at {self.world.steps}")

    def _disk_fault(self) -> None:
        operation = self.chance.choice(OPERATIONS)
        code = FULL if operation == "write" and self.chance.random() < 0.6 else IOERR
        duration = self.chance.choice((1, 1, 5, 40, 200))
        self._say(f"{'full' if code == FULL else 'I/O error'}: {operation} for {duration}")
        self.world.failing[operation] = (code, self.world.steps + duration)

    def _kill(self) -> None:
        number = self.chance.randrange(len(self.processes))
        if (self.wal_lost_at or self.moved) and self.processes[number].is_copying:
            # The log is no longer beside the database: see `World.is_half_copied`.
            return
        self._say("kill")
        self._end(number)

    def _end(self, number: int) -> None:
        process = self.processes[number]
        self.world.is_half_copied |= process.is_copying
        self.world.wake_process(process)
        disk.release(process)
        self.processes[number] = Process(self.world)
        self.stores[number] = self._store(self.processes[number])

    def _power_cut(self) -> None:
        is_copying = any(process.is_copying for process in (*self.processes, *self.others))
        if self.wal_lost_at or (self.moved and is_copying):
            # Between the loss and the next event, SQLite may copy pages out of the deleted log.
            # Without the log, half a copy cannot be repaired.
            return
        self._say("power cut")
        for number in range(len(self.processes)):
            self._end(number)
        for other in self.others:
            self.world.wake_process(other)
            disk.release(other)
        self.world.disk.power_cut(self.chance)

    def _hold_lock(self) -> None:
        seconds = self.chance.choice((0.002, 0.05, 0.5))
        kind = self.chance.choice(("BEGIN IMMEDIATE", "BEGIN", "BEGIN EXCLUSIVE"))
        self._say(f"{kind} of another process for {seconds} s")
        process = Process(self.world)
        self.others.append(process)

        def hold() -> None:
            for _ in range(100):
                # Somebody else may have the lock.
                process.sleep(0.0003)
                with suppress(sqlite3.Error), closing(process.connect(self.path)) as connection:
                    connection.execute(kind)
                    connection.execute("SELECT count(*) FROM observations").fetchall()
                    process.sleep(seconds)
                    return

        self.world.start(process, hold)

    def _jump(self) -> None:
        self._say("jump of the clock")
        self.jumped = True
        self.world.now += self.chance.choice((0.005, 1, 1e6))

    def _cancel(self) -> None:
        running = [r for r in self.requests if r.task and r.began is not None and not r.task.dead]
        if running:
            self._say("a request is cancelled")
            self.world.cancel(self.chance.choice(running).task)

    def _move_file(self) -> None:
        names = self.world.disk.names
        if self.name not in names or self.world.is_half_copied:
            return
        replaced = self.chance.random() < 0.5
        gone = {
            name: names.pop(name)
            for name in (self.name, self.name + "-wal")
            # A new file beside the old log is mixed with it, which is not promised.
            if name in names and (name == self.name or replaced or self.chance.random() < 0.5)
        }
        self.moved.append((self.world.steps, gone))
        self.world.is_log_apart = True
        self._say("file replaced" if replaced else "file removed")
        if replaced:
            names[self.name] = Inode(blank_content())

    def _lose_wal(self) -> None:
        if not self.world.is_half_copied and self.world.disk.unlink(self.name + "-wal"):
            self._say("-wal removed")
            self.wal_lost_at.append(self.world.steps)
            self.world.is_log_apart = True

    # -- the history

    def run(self) -> Report:
        """Raises AssertionError for a promise that was not kept."""
        missed: list[object] = []
        hook, sys.excepthook = sys.excepthook, lambda *error: missed.append(error)
        try:
            return self._run()
        except Exception:
            # Python closes cursors while it raises an error, and cannot call the disk from there:
            # the disk has missed an operation, and ctypes has told the hook.
            if not missed:
                raise
            self.report.is_void = True
            return self.report
        finally:
            self.world.end()
            sys.excepthook = hook
            disk.leave()

    def _run(self) -> Report:
        self._plan()
        for request in self.requests:
            self._start(request, after=self.chance.choice((0, 0, 0.0005, 0.002, 0.02)))
        self.world.run()
        self.world.plans.clear()
        self.world.failing.clear()
        self.report.steps = self.world.steps
        self.report.acknowledged = sum(r.outcome is not None for r in self.requests)
        self.report.refused = len(self.requests) - self.report.acknowledged
        self._check_waiting()
        if self.name in self.world.disk.names:
            self._check_healed()
        self._shut_down()
        self._check()
        return self.report

    def _start(self, request: Request, *, after: float = 0) -> None:
        def work() -> None:
            # Its process may have been killed and started again before.
            process, store = self.processes[request.process], self.stores[request.process]
            self.world.processes_of[request.task] = process
            request.began = self.world.steps
            request.attempts += 1
            since = self.world.now
            with suppress(StoreUnavailable, Killed, Cancelled):
                outcome = store.add(_received(request.delivery))
                if not process.is_dead:
                    request.outcome = outcome
            request.waited = self.world.now - since

        request.task = self.world.start(Process(self.world), work, after=after)

    def _shut_down(self) -> None:
        how = self.chance.choice(("power cut", "kill", "close"))
        self.report.faults.append(f"at the end: {how}")
        for number, store in enumerate(self.stores):
            if how == "close":
                self.world.processes_of[self.world._hub] = self.processes[number]
                with suppress(sqlite3.Error):
                    store.close()
            self._end(number)
        if how == "power cut":
            self.world.disk.power_cut(self.chance)
        self.world.run()

    # -- the checks

    def _check_waiting(self) -> None:
        """Nobody waits much longer than the deadline, and nothing is refused without a reason."""
        if not self.jumped:
            longest = max(r.waited for r in self.requests)
            assert longest < 2.5 * BUSY_SECONDS, f"a request waits for {longest} s"
        # A lock that is held briefly is waited for. Two of 0.05 s may take until the deadline.
        long = [fault for fault in self.report.faults if "0.002 s" not in fault]
        harmless = not long or (len(long) == 1 and "0.05 s" in long[0])
        assert not (harmless and self.report.refused), "an event is refused without a reason"

    def _check_healed(self) -> None:
        """Once the faults are over, the same processes store what they refused."""
        if self.wal_lost_at:
            # Only a process that has a deleted log can put it back, with its next event.
            asked = [Request(self.requests[0].delivery, n) for n in range(len(self.processes))]
            self.requests += asked
            for request in asked:
                self._start(request)
            self.world.run()
            if any(request.outcome is None for request in asked):
                # It was killed before. The others keep the index of its log until they end: the
                # error says to restart them.
                for number in range(len(self.processes)):
                    self._end(number)
        refused = [r for r in self.requests if r.outcome is None]
        # The first request after a replacement is refused, and opens the new file.
        for _ in range(2):
            for request in refused:
                if request.outcome is None:
                    self._start(request)
            self.world.run()
        assert all(r.outcome is not None for r in refused), "a store does not heal by itself"

    def _check(self) -> None:
        found: list[dict[str, list[tuple[Any, ...]]]] = []
        current = dict(self.world.disk.names)
        for _, gone in self.moved:
            self.world.disk.names = dict(gone)
            found.append(self._recovered())
        if self.name not in current:
            # The last one that was moved away is moved back, with what was beside it or left there.
            current = current | self.moved[-1][1]
            found.pop()
        self.world.disk.names = current
        last = self._recovered()
        self._check_acknowledged(last, found)
        self._retry()

    def _open(self) -> Store:
        process = Process(self.world)
        self.world.processes_of[self.world._hub] = process
        return self._store(process)

    def _recovered(self) -> dict[str, list[tuple[Any, ...]]]:
        """The tables of the file as it is, which must be sound and a fold of its observations."""
        store = self._open()
        with store.transaction() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            found = dump(connection)
        store.close()
        self._check_fold(found)
        return found

    def _check_fold(self, found: dict[str, list[tuple[Any, ...]]]) -> None:
        """Each table is what the plain model makes of the stored observations: no half event."""
        sent = {r.delivery.key: r.delivery for r in self.requests}
        stored = []
        for row in found["observations"]:
            assert row[:3] in sent, f"an observation that nobody sent: {row[:3]}"
            stored.append(replace(sent[row[:3]], at=row[6], received=row[7]))
        _compare(tables(stored), found)

    def _check_acknowledged(self, last, moved) -> None:
        counts = _counts(last)
        older = [_counts(found) for found in moved]
        for key in dict.fromkeys(r.delivery.key for r in self.requests):
            mine = [r for r in self.requests if r.delivery.key == key]
            total = counts.get(key, 0) + sum(some.get(key, 0) for some in older)
            assert total <= sum(r.attempts for r in mine), f"{key} is stored too often"
            acknowledged = [r for r in mine if r.outcome is not None and not self._excused(r)]
            assert total >= len(acknowledged), f"an acknowledged event is lost: {key}"
            if self.moved and len(older) == len(self.moved):
                after = [r for r in acknowledged if r.began > self.moved[-1][0]]
                assert counts.get(key, 0) >= len(after), f"stored in a file that was moved: {key}"

    def _excused(self, request: Request) -> bool:
        """Whether somebody deleted the log that held it, or may have."""
        return any(request.began <= at for at in self.wal_lost_at)

    def _retry(self) -> None:
        """What was not acknowledged is sent again: all as if there had been no fault."""
        store = self._open()
        lost = bool(self.moved or self.wal_lost_at)
        for request in self.requests:
            if lost or request.outcome is None:
                request.attempts += 1
                store.add(_received(request.delivery))
        with store.transaction() as connection:
            found = dump(connection)
        store.close()
        _compare(tables([r.delivery for r in self.requests]), found)


def _received(delivery: Delivery) -> Any:
    return receive(
        delivery.body,
        source=delivery.source,
        observed_at=delivery.at,
        received_at=delivery.received,
    )


def _counts(found: dict[str, list[tuple[Any, ...]]]) -> dict[tuple[Any, ...], int]:
    return {row[:3]: row[COUNT] for row in found["observations"]}


def _compare(expected, found) -> None:
    for table, rows in expected.items():
        stored = found[table]
        if table == "observations":
            rows, stored = _uncounted(rows), _uncounted(stored)
        assert rows == stored, f"{table} differs from the model"


def _uncounted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(v for n, v in enumerate(r) if n not in COUNTED) for r in rows), key=repr)
