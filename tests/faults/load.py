"""Clients that post under load and remember what became of each event."""

import threading
import time
from collections import Counter

import httpx

from tests.faults.harness import Server, pair, sha256


class Load:
    """Clients that post pairs until told to stop; per event: sent, acked, refused or unknown."""

    def __init__(self, server: Server, *, clients=4, pairs=10_000, padding=0, name="call") -> None:
        self.server = server
        self.sent: set[str] = set()
        self.acked: set[str] = set()
        self.statuses: Counter[int | str] = Counter()
        self.seconds: list[float] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._calls = [f"{name}_{c}_{{}}" for c in range(clients)]
        self._pairs, self._padding = pairs, padding
        self._threads = [threading.Thread(target=self._run, args=(c,)) for c in self._calls]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self.join()

    def join(self) -> "Load":
        """Wait until every pair is posted."""
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs"
        return self

    def run(self) -> "Load":
        """Post all pairs and return when every one was answered."""
        with self:
            self.join()
        return self

    def _run(self, call_id: str) -> None:
        with httpx.Client() as client:
            for n in range(self._pairs):
                for body in pair(call_id.format(n), padding=self._padding):
                    if self._stop.is_set():
                        return
                    self._post(body, client)

    def _post(self, body: bytes, client: httpx.Client) -> None:
        with self._lock:
            self.sent.add(sha256(body))
        began = time.monotonic()
        try:
            status: int | str = self.server.post(body, client=client).status_code
        except httpx.ConnectError:
            status = "not sent"
            # Pairs should last however long a busy machine takes to start a server.
            time.sleep(0.2)
        except httpx.TransportError:
            status = "unknown"
        with self._lock:
            self.statuses[status] += 1
            self.seconds.append(time.monotonic() - began)
            if status == 204:
                self.acked.add(sha256(body))
