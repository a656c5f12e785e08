"""Deliveries from eight processes at once."""

import multiprocessing
import random

from receiver.errors import StoreUnavailable
from receiver.store import open_store
from receiver.store.postgres.store import PostgresStore
from tests.support.histories import deliver

PROCESSES = 8


def deliver_shares(where, shares, barrier, unlocked) -> None:
    """One process: its share of each round, begun together with the others."""
    if unlocked:
        PostgresStore.lock = lambda *_: None
    store = open_store(where, busy_seconds=60)
    for share in shares:
        barrier.wait(timeout=60)
        for delivery in share:
            try:
                deliver(store, [delivery])
            except StoreUnavailable:
                # Without the lock, two can insert the same.
                assert unlocked
    store.close()


def by_processes(where, rounds, *, unlocked=False) -> None:
    """Deliver each round's deliveries, shuffled, from eight processes at a time."""
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(PROCESSES)
    chance = random.Random(1)
    rounds = [chance.sample(history, len(history)) for history in rounds]
    processes = [
        fork.Process(
            target=deliver_shares,
            args=(where, [history[n::PROCESSES] for history in rounds], barrier, unlocked),
        )
        for n in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
