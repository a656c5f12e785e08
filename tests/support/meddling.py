"""A real HTTP server between the client and the sandbox, which may answer instead of it."""

from collections.abc import Callable

import httpx

from tests.support.loopback import Handler, Loopback

# (method, path, body) -> (status, body) to answer with, or None to let the request through.
Meddle = Callable[[str, str, bytes], tuple[int, bytes] | None]


class Meddler(Loopback):
    """`requests` are all that came: (method, path)."""

    def __init__(self, target: str, meddle: Meddle = lambda *_: None) -> None:
        self.meddle = meddle
        self.requests: list[tuple[str, str]] = []
        outer, client = self, httpx.Client(base_url=target, trust_env=False)

        class Answering(Handler):
            protocol_version = "HTTP/1.1"

            def _answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append((self.command, self.path))
                instead = outer.meddle(self.command, self.path, body)
                limits = {}
                if instead is None:
                    headers = {
                        name: self.headers[name]
                        for name in ("Authorization", "Content-Type")
                        if name in self.headers
                    }
                    answer = client.request(self.command, self.path, content=body, headers=headers)
                    instead = answer.status_code, answer.content
                    limits = {n: v for n, v in answer.headers.items() if "ratelimit" in n}
                self.send_response(instead[0])
                for name, value in limits.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(instead[1])))
                self.end_headers()
                self.wfile.write(instead[1])

            do_GET = do_POST = do_DELETE = _answer

        self._client = client
        super().__init__(Answering)

    def __exit__(self, *_):
        super().__exit__()
        self._client.close()

    def gets(self) -> list[str]:
        """The call_ids that were asked for, in order."""
        prefix = "/v2/get-call/"
        return [path.removeprefix(prefix) for _, path in self.requests if path.startswith(prefix)]
