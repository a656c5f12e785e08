"""`python -m benchmarks.growth`: what an event costs by how many its call has already."""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from receiver.store import Received, Store, migrate, receive
from receiver.store.observing import observe

_SAMPLE = 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retell.db"
        migrate(path, timezone="UTC")
        store = Store(path)
        few, ended_few = measure(store, "few", 1)
        many, ended_many = measure(store, "many", events)
        store.close()
    print(f"transcript_updated at 1: {few:.2f} ms, at {events:,}: {many:.2f} ms, {many / few:.1f}x")
    print(
        f"call_ended at 1: {ended_few:.2f} ms, at {events:,}: {ended_many:.2f} ms, "
        f"{ended_many / ended_few:.1f}x"
    )


def measure(store: Store, call_id: str, events: int) -> tuple[float, float]:
    """Milliseconds of a transcript_updated after `events` of them, the median of several, and of
    the call_ended after these; commits included."""
    with store.transaction() as connection:
        for number in range(events):
            observe(connection, update(call_id, number))
    times = [timed(store, call_id, events + number) for number in range(_SAMPLE)]
    ended = timed(store, call_id, events + _SAMPLE, event="call_ended", status="ended")
    return statistics.median(times), ended


def update(
    call_id: str, number: int, event: str = "transcript_updated", status: str = "ongoing"
) -> Received:
    """One more turn of a call."""
    call = {"call_id": call_id, "call_status": status, "agent_id": "a", "transcript": f"{number}"}
    body = json.dumps({"event": event, "call": call}).encode()
    at = 1_000 + number
    return receive(body, source="webhook", observed_at=at, received_at=at)


def timed(store: Store, call_id: str, number: int, **said: str) -> float:
    """Milliseconds that an event takes."""
    event = update(call_id, number, **said)
    began = time.perf_counter()
    store.add(event)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
