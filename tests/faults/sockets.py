"""Bytes sent over a socket as no HTTP client would send them."""

import socket

from tests.faults.harness import signed


def connect_to(server):
    return socket.create_connection(("127.0.0.1", int(server.address[10:])), timeout=10)


def request(body, *extra, header=None, length=True, connection=b"close"):
    lines = [
        b"POST /webhook HTTP/1.1",
        b"Host: callhouse",
        b"Connection: " + connection,
        b"X-Retell-Signature: " + (header or signed(body)["X-Retell-Signature"].encode()),
        *extra,
    ]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def talk(server, *pieces, half_close=False):
    """Send the pieces and return all that comes back until the server closes or is silent."""
    response = b""
    with connect_to(server) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # Refused before it was read to the end.
        connection.settimeout(1)
        try:
            while piece := connection.recv(65536):
                response += piece
        except (TimeoutError, ConnectionResetError):
            pass
    server.responses.append(response.decode("latin-1"))
    return response


def status(response):
    return int(response.split(b" ", 2)[1]) if response else None


def chunks(body, size=65536):
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
