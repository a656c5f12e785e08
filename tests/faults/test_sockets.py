"""What comes over a socket that no HTTP client would send, and clients that are slow on purpose."""

import gzip

import pytest

from tests.faults.checking import check, stored
from tests.faults.harness import pair, sha256, signed
from tests.faults.load import Load
from tests.faults.sockets import CHUNKED, chunks, connect_to, request, status, talk

pytestmark = pytest.mark.slow

LIMIT = 16 * 1024 * 1024


def test_only_signed_bytes_from_a_socket_are_stored(server, db_path):
    body, other = pair("call")
    stored_bodies = set()

    # Chunked: as good as with a length, and bounded.
    response = talk(server, request(body, CHUNKED, length=False), *chunks(body, 100))
    assert status(response) == 204
    stored_bodies.add(sha256(body))
    # The answer arrives although the rest is not read as a body.
    for extra in (1, 200_000):
        long = b" " * (LIMIT + extra)
        response = talk(server, request(long, CHUNKED, length=False), *chunks(long))
        assert status(response) == 413
    # With a length, it need not even be sent.
    response = talk(server, request(long + b" "))
    assert status(response) == 413

    # Two opinions about where the body ends.
    response = talk(server, request(other, CHUNKED), *chunks(other))
    assert status(response) == 400
    response = talk(server, request(other, b"Content-Length: 3"), other)
    assert status(response) == 400
    response = talk(
        server, request(other, b"Content-Length: +%d" % len(other), length=False), other
    )
    assert status(response) == 400

    # Headers.
    response = talk(server, request(other, b"X-Long: " + b"x" * 100_000), other)
    assert status(response) in (400, 431)
    response = talk(server, request(other, header="v=١٢٣,d=é".encode()), other)
    assert status(response) == 401
    response = talk(server, request(other, header=b"v=1,d=\xff\x00\x7f"), other)
    assert status(response) in (400, 401)
    right = signed(other)["X-Retell-Signature"].encode()
    response = talk(server, request(other, b"X-Retell-Signature: " + right, header=b"v=1"), other)
    assert status(response) == 401
    response = talk(server, request(other, b"X_Retell_Signature: " + right, header=b"v=1"), other)
    assert status(response) == 401

    # A body that ends early, by silence of the sender.
    for half_close in (False, True):
        response = talk(server, request(other), other[:-10], half_close=half_close)
        assert status(response) in (400, 401, None)

    # Compressed bytes are the bytes that were signed, or nothing at all.
    packed = gzip.compress(other)
    gzipped = b"Content-Encoding: gzip"
    assert status(talk(server, request(packed, gzipped), packed)) == 204
    stored_bodies.add(sha256(packed))
    header = signed(other)["X-Retell-Signature"].encode()
    assert status(talk(server, request(packed, gzipped, header=header), packed)) == 401

    assert set(stored(db_path)) == stored_bodies
    check(db_path, stored_bodies, stored_bodies)


def test_pipelined_requests_are_all_answered_in_order(server, db_path):
    bodies = [body for n in range(10) for body in pair(f"call_{n}")]
    breath = b"".join(request(body, connection=b"keep-alive") + body for body in bodies)
    last = b"GET /nowhere HTTP/1.1\r\nHost: callhouse\r\nConnection: close\r\n\r\n"
    response = talk(server, breath + last)
    assert response.count(b"HTTP/1.1 204") == len(bodies)
    assert response.count(b"HTTP/1.1 404") == 1
    hashes = {sha256(body) for body in bodies}
    check(db_path, hashes, hashes)


def test_slow_sockets_do_not_hinder_a_good_client(server, db_path):
    body, _ = pair("slow")
    silent, slow_header, slow_body = b"", request(body)[:40], request(body) + body[:20]
    sockets = [connect_to(server) for _ in range(200)]
    try:
        for n, connection in enumerate(sockets):
            connection.sendall((silent, slow_header, slow_body)[n % 3])
        load = Load(server, clients=2, pairs=50).run()
    finally:
        for connection in sockets:
            connection.close()
    assert load.statuses == {204: 200}
    assert sorted(load.seconds)[197] < 2
    check(db_path, load.acked, load.sent)
