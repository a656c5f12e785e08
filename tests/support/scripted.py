"""A real HTTP server with prepared answers."""

import ssl
from dataclasses import dataclass, field

from tests.support.loopback import Handler, Loopback


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted(Loopback):
    """Answers each request with the next of `answers`, the last one for ever: (status, headers,
    body), or None to close the connection without a word."""

    answers: list[tuple[int, dict[str, str], bytes] | None]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self):
        outer = self

        class Answering(Handler):
            def _answer(self):
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                outer.requests.append(Request(self.command, self.path, dict(self.headers), body))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response_only(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = _answer

        super().__init__(Answering)
        if self.tls:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.handle_error = lambda *_: None  # a client that trusts nobody hangs up
