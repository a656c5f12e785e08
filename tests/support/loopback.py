"""The base of the tests' own HTTP servers: real servers, each on its own port."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Says nothing on stderr."""

    # Headers and body are sent apart: the second would wait 40 ms for the first's acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    # Many clients may connect at one moment of a busy machine.
    request_queue_size = 128


class Loopback:
    """Serves while its block runs. With `waits`, the end of it waits for every request."""

    def __init__(self, handler: type[Handler], *, waits: bool = True) -> None:
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = not waits
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=not waits
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
