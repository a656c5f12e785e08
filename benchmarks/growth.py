"""`python -m benchmarks.growth`: the cost of an event by the number of events that its call has."""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from receiver.store import Received, Store, migrate, receive
from receiver.store.ingest import observe

# The measured events in order: the event, how often, and whether it is older than others.
_STEPS = [
    ("transcript_updated", 20, False),
    ("transcript_updated", 20, True),
    ("transfer_started", 5, False),
    ("call_ended", 1, False),
    ("transcript_updated", 20, True),
    ("call_analyzed", 1, False),
    ("transcript_updated", 20, True),
    ("call_analyzed", 20, False),
]
# Milliseconds between two events of a call, with room for one that comes late.
_APART = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retell.db"
        migrate(path, timezone="UTC")
        store = Store(path)
        calls = {"few": 100, "many": events}
        for call_id, count in calls.items():
            with store.transaction() as connection:
                for number in range(count):
                    observe(connection, update(call_id, number * _APART))
        for event, times, is_late in _STEPS:
            few, many = measure(store, calls, event, times, is_late=is_late)
            name = f"{event}{', late' if is_late else ''}"
            print(f"{name:24} at 100: {few}, at {events:,}: {many}")
        store.close()


def measure(
    store: Store, calls: dict[str, int], event: str, times: int, *, is_late: bool
) -> list[str]:
    """The duration of an event of each call, in turn, including commits; medians."""
    taken: dict[str, list[tuple[float, float]]] = {call_id: [] for call_id in calls}
    for number in range(times):
        for call_id, found in taken.items():
            at = (calls[call_id] + number) * _APART
            if is_late:
                at -= 2 * times * _APART + 1
            status = "ongoing" if event.startswith("trans") else "ended"
            found.append(timed(store, update(call_id, at, event, status)))
    for call_id in calls:
        calls[call_id] += times
    return [said(found) for found in taken.values()]


def said(found: list[tuple[float, float]]) -> str:
    """Medians of elapsed time and of processor time."""
    elapsed, worked = (statistics.median(times) for times in zip(*found, strict=True))
    return f"{elapsed:6.2f} ms ({worked:5.2f} of processor)"


def update(
    call_id: str, at: int, event: str = "transcript_updated", status: str = "ongoing"
) -> Received:
    """One more turn of a call."""
    call = {"call_id": call_id, "call_status": status, "agent_id": "a", "transcript": f"{at}"}
    body = json.dumps({"event": event, "call": call}).encode()
    return receive(body, source="webhook", observed_at=at, received_at=at)


def timed(store: Store, event: Received) -> tuple[float, float]:
    """Elapsed milliseconds of an event, and its processor time."""
    began, worked = time.perf_counter(), time.process_time()
    store.add(event)
    return (time.perf_counter() - began) * 1000, (time.process_time() - worked) * 1000


if __name__ == "__main__":
    main()
