"""A real HTTP proxy that changes requests and answers like real ones."""

from collections.abc import Callable

import httpx

from tests.support.loopback import Handler, Loopback

# (method, path, headers, body) -> (headers, body) to forward; (method, path, status) of an answer.
Before = Callable[[str, str, dict[str, str], bytes], tuple[dict[str, str], bytes]]
After = Callable[[str, str, int], None]
_HOP = {"connection", "content-length", "transfer-encoding", "host", "date", "server"}


class Lost(Exception):
    """Raised by `before` or `after`: the client gets no answer."""


class Proxy(Loopback):
    """Forwards to `target`. `before` changes each request, `after` sees each answer's status."""

    def __init__(self, target: str, *, before: Before | None = None, after: After | None = None):
        client = httpx.Client(timeout=30)

        class Answering(Handler):
            def _forward(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP}
                try:
                    if before:
                        headers, body = before(self.command, self.path, headers, body)
                    answer = client.request(
                        self.command, target + self.path, headers=headers, content=body
                    )
                    if after:
                        after(self.command, self.path, answer.status_code)
                except Lost:
                    self.close_connection = True
                    return
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_PATCH = _forward

        self._client = client
        super().__init__(Answering)

    def __exit__(self, *_):
        super().__exit__()
        self._client.close()
