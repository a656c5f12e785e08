"""Attacks on `callhouse browse`, each from a process of its own: NAME ADDRESS SECONDS TOKEN...

They run at the lowest priority, in a session of their own: strangers do not use the processors of
the machine they attack.
"""

import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

# One row, and work for minutes in it: SQLite looks at the clock between rows.
UNSTOPPABLE = (
    f"select {' + '.join(['length(hex(x))'] * 900)} from (select printf('%.*c', 9000000, 'a') x)"
)
HUNGRY = (
    "with recursive n(i) as (select 1 union all select i + 1 from n) "
    "select printf('%.*c', 100000, 'a') || i * 7919 % 10007 from n order by 1"
)
PAGES = (
    *("/", "/retell", "/retell/calls", "/retell/call_log", "/retell/utterances?_facet=role"),
    *("/-/dashboards/volume", "/-/dashboards/speed", "/-/calls?q=yes", "/retell/agent_scorecard"),
    *("/retell/utterances.csv?_stream=on", "/retell/daily_summary", "/retell/transcripts"),
)


def queries(sql: str) -> Callable[[str, str, float], None]:
    """Three logins' worth of one query, asked again and again."""

    def ask(address: str, token: str, end: float) -> None:
        while time.monotonic() < end:
            _get(address, f"/retell.json?{httpx.QueryParams(sql=sql)}", token, end)

    return ask


def silent(address: str, _token: str, end: float) -> None:
    """1,024 sockets of which none sends anything, over four threads; what is closed comes back."""
    host, _, port = address.partition(":")
    sockets: list[socket.socket] = []
    while time.monotonic() < end:
        with suppress(OSError):
            while len(sockets) < 256 and time.monotonic() < end:
                sockets.append(socket.create_connection((host, int(port)), timeout=1))
                sockets[-1].setblocking(False)
        time.sleep(0.5)
        for one in list(sockets):
            with suppress(BlockingIOError):
                one.recv(1)
                sockets.remove(one)
    for one in sockets:
        one.close()


def logins(address: str, _token: str, end: float) -> None:
    """Wrong passwords, as fast as they are answered."""
    with httpx.Client(base_url=f"http://{address}", timeout=10) as client:
        while time.monotonic() < end:
            with suppress(httpx.TransportError):
                client.post("/-/login", data={"username": "admin", "password": "wrong"})


def large(address: str, _token: str, end: float) -> None:
    """Bodies of up to 200 MB to the login page."""

    def body() -> object:
        for _ in range(3200):
            yield b"a" * 65_536

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            httpx.post(f"http://{address}/-/login", content=body(), headers=headers, timeout=10)


def crawl(address: str, token: str, end: float) -> None:
    """Every kind of page, one after the other."""
    while time.monotonic() < end:
        for path in PAGES:
            if time.monotonic() < end:
                _get(address, path, token, end)


def _get(address: str, path: str, token: str, end: float) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with suppress(httpx.TransportError):
        left = max(0.1, end - time.monotonic())
        httpx.get(f"http://{address}{path}", headers=headers, timeout=left)


ATTACKS = {
    "three unstoppable queries": (queries(UNSTOPPABLE), 3),
    "memory-hungry SQL": (queries(HUNGRY), 3),
    "1,024 silent sockets": (silent, 4),
    "login flood": (logins, 8),
    "large POSTs": (large, 4),
    "crawl": (crawl, 4),
}


def main() -> None:
    """Attack for so many seconds."""
    name, address, seconds, *tokens = sys.argv[1:]
    os.nice(19)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2000)), hard))
    attack, clients = ATTACKS[name]
    end = time.monotonic() + float(seconds)
    for number in range(clients):
        work = (address, tokens[number % len(tokens)], end)
        threading.Thread(target=attack, args=work, daemon=True).start()
    time.sleep(float(seconds))


if __name__ == "__main__":
    main()
