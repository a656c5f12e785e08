"""Strangers who hold sockets and memory, while a good client posts events."""

import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from receiver.webhook.signature import PROBE_EVENT
from tests.faults.checking import check
from tests.faults.harness import pair, sha256
from tests.faults.load import Load
from tests.faults.sockets import CHUNKED, connect_to, request, status, talk
from tests.support.running import wait_until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
# Whose signature cannot be checked before the body is complete.
FORGED = b"v=1,d=" + b"a" * 64
# What docs/explanation/reliability.md promises of two workers.
MAX_RSS = 500 * MIB


@pytest.fixture
def _many_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(6000, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def rss(server) -> int:
    """Bytes of memory of the server's processes."""
    total = 0
    for pid in (server.master, *server.workers()):
        with open(f"/proc/{pid}/status") as lines:
            total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return total * 1024


def report(name: str, load: Load) -> None:
    seconds = sorted(load.seconds)
    p99 = seconds[int(len(seconds) * 0.99)]
    print(f"{name}: {dict(load.statuses)}, p99 {p99 * 1000:.0f} ms, max {seconds[-1]:.2f} s")


_GREEDY = """
import socket, sys, threading, time
end = time.monotonic() + 30
def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30)
def run(connection):
    while time.monotonic() < end:
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: callhouse\\r\\n\\r\\n")
            if connection.recv(4096):
                continue
        except OSError:
            pass
        connection.close()
        connection = connect()
connections = [connect() for _ in range(100)]
for connection in connections:
    threading.Thread(target=run, args=(connection,)).start()
print("connected", flush=True)
"""


def test_greedy_keep_alive_clients_hinder_no_new_webhook(server, db_path, capsys):
    command = [sys.executable, "-c", _GREEDY, server.address[10:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as greedy:
        greedy.stdout.readline()
        # The first one connects right behind all of them.
        behind = Load(server, clients=1, pairs=1, name="behind").run()
        load = Load(server, clients=2, pairs=3).run()
        is_still_greedy = greedy.poll() is None
        greedy.kill()
    with capsys.disabled():
        print(f"the first event behind 100 connections: {behind.seconds[0]:.2f} s")
        report("100 keep-alive clients of /healthz", load)
    assert load.statuses == {204: 12}
    assert is_still_greedy, "the events waited for the greedy clients to end"
    check(db_path, load.acked | behind.acked, load.sent | behind.sent)


@pytest.mark.parametrize("path", [b"/healthz", b"/metrics", b"/nowhere"])
def test_only_signed_events_keep_their_connection(server, path):
    """Others would take turns with new connections, of which a worker accepts one in each."""
    get = b"GET " + path + b" HTTP/1.1\r\nHost: callhouse\r\n\r\n"
    body, other = pair("call")
    kept = [request(each, connection=b"keep-alive") + each for each in (body, other)]
    forged = request(b"", header=FORGED, connection=b"keep-alive")
    for last in (get, forged):
        response = talk(server, *kept, last)
        assert response.count(b"HTTP/1.1 204") == 2
        assert response.lower().count(b"connection: close") == 1
        with connect_to(server) as connection:
            connection.sendall(last)
            while connection.recv(4096):
                pass  # The server closes: without it, this times out.


@pytest.mark.usefixtures("_many_files")
def test_stalled_bodies_hinder_no_good_client(server, db_path, capsys):
    head = request(b"x" * 100_000, header=FORGED)
    sockets = []
    try:
        for _ in range(2100):
            sockets.append(connect_to(server))
            sockets[-1].sendall(head)
        load = Load(server, clients=2, pairs=100).run()
        wait_until(lambda: server.health()[0] == 200)
        answers = Counter(status(connection.recv(4096)) for connection in sockets[:50])
    finally:
        for connection in sockets:
            connection.close()
    with capsys.disabled():
        report("2,100 stalled bodies", load)
    assert load.statuses == {204: 400}
    assert answers == {408: 50}
    check(db_path, load.acked, load.sent)


def test_body_that_trickles_is_408(server):
    body, _ = pair("call")
    with connect_to(server) as connection:
        connection.sendall(request(body, header=FORGED))
        began = time.monotonic()
        connection.settimeout(20)
        try:
            for byte in body:
                connection.sendall(bytes([byte]))
                time.sleep(0.5)
                if time.monotonic() - began > 15:
                    break
        except OSError:
            pass
        assert status(connection.recv(4096)) == 408


@pytest.mark.usefixtures("_many_files")
@pytest.mark.parametrize("header", [FORGED, b"malformed"], ids=["forged", "malformed"])
def test_large_unsigned_bodies_stay_within_the_memory_bound(server, db_path, capsys, header):
    large = b"x" * (9 * MIB)
    statuses: Counter[int | None] = Counter()
    peak, is_over = [0], threading.Event()

    def post() -> None:
        try:
            statuses[status(talk(server, request(large, header=header), large))] += 1
        except OSError:
            statuses[None] += 1

    def watch() -> None:
        while not is_over.is_set():
            peak[0] = max(peak[0], rss(server))
            time.sleep(0.02)

    threads = [threading.Thread(target=post) for _ in range(200)]
    watching = threading.Thread(target=watch)
    for thread in (watching, *threads):
        thread.start()
    load = Load(server, clients=2, pairs=25).run()
    for thread in threads:
        thread.join(60)
    is_over.set()
    watching.join()
    with capsys.disabled():
        report(f"200 bodies of 9 MiB, peak {peak[0] // MIB} MiB, {dict(statuses)}", load)
    assert load.statuses == {204: 100}
    assert peak[0] < MAX_RSS
    check(db_path, load.acked, load.sent)


def test_request_after_an_unread_body_is_not_answered(server, db_path):
    hidden = request(b"", header=b"junk") + b"GET /healthz HTTP/1.1\r\nHost: callhouse\r\n\r\n"
    body, _ = pair("call")
    for extra, parts in ((b"X-A: b", [hidden]), (CHUNKED, [b"%x\r\n" % len(hidden), hidden])):
        head = request(
            hidden, extra, header=b"junk", length=not parts[1:], connection=b"keep-alive"
        )
        response = talk(server, head, *parts, request(body) + body)
        assert response.count(b"HTTP/1.1 ") == 1
        assert status(response) == 401
        assert b"connection: close" in response.lower()
    # A body that was read is not taken for a request either.
    forged = request(hidden, header=FORGED, connection=b"keep-alive") + hidden
    response = talk(server, forged)
    assert [int(part[:3]) for part in response.split(b"HTTP/1.1 ")[1:]] == [401]
    response = talk(server, request(body) + body)
    assert status(response) == 204
    check(db_path, {sha256(body)}, {sha256(body)})


@pytest.mark.parametrize("size", [b"xyz", b"-1", b"1" * 9000, b"5\r\nabc"])
def test_malformed_chunk_is_400(server, size):
    head = request(b"", CHUNKED, header=FORGED, length=False)
    response = talk(server, head, size + b"\r\nhello", half_close=True)
    assert status(response) == 400
    assert b"Traceback" not in server.text().encode()


def test_log_lines_are_no_longer_than_their_values(server):
    long = b"x" * 7000
    talk(server, b"GET /" + long + b" HTTP/9.9\r\n\r\n")
    talk(server, b"GET / HTTP/1.1\r\nHost: a\r\nX Y" + long + b": b\r\n\r\n")
    talk(server, b"POST /webhook HTTP/1.1\r\nHost: a\r\n" + long + b"\r\n\r\n")
    assert server.text()
    assert all(len(line) < 400 for line in server.text().splitlines())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(server.address[10:]))) == 0


def test_answers_that_nobody_reads_hold_no_connection(server, db_path):
    body = json.dumps({"event": PROBE_EVENT, "nonce": "1", "text": ""}).encode()
    asked = (request(body, connection=b"keep-alive") + body) * 100
    sockets = [socket.socket() for _ in range(4)]
    try:
        for connection in sockets:
            # Else the kernels take the answers of many thousand requests.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            connection.connect(("127.0.0.1", int(server.address[10:])))
            connection.settimeout(0.2)
            with suppress(OSError):
                for _ in range(500):
                    connection.sendall(asked)
        assert server.connections() == 4
        wait_until(lambda: server.connections() == 0, seconds=90)
        load = Load(server, clients=1, pairs=5).run()
    finally:
        for connection in sockets:
            connection.close()
    assert load.statuses == {204: 10}
    assert "Traceback" not in server.text()
    check(db_path, load.acked, load.sent)
