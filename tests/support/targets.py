"""A server that receives forwarded events and records them."""

import json
import threading

from tests.support.loopback import Handler, Loopback


class TargetServer(Loopback):
    """A target: `status` answers all, or is called with each body. `got` are (headers, body)."""

    def __init__(self, status=200):
        self.status = status
        self.got = []
        outer, lock = self, threading.Lock()

        class Answering(Handler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    # The sender was killed.
                    return
                with lock:
                    status = outer.status(body) if callable(outer.status) else outer.status
                    outer.got.append((self.headers, body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        super().__init__(Answering)

    def accepted(self, call_id=None):
        """The events that came, of a call."""
        events = [json.loads(body) for _, body in self.got]
        return [e["event"] for e in events if call_id in (None, e["call"]["call_id"])]
