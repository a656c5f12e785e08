"""A webhook endpoint for tests, which records every request."""

import json
import threading
from dataclasses import dataclass

from tests.support.loopback import Handler, Loopback


@dataclass(frozen=True)
class Mail:
    path: str
    body: bytes
    signature: str

    @property
    def event(self):
        return json.loads(self.body).get("event", "")

    @property
    def call(self):
        return json.loads(self.body)["call"]

    @property
    def signed_ms(self):
        return int(self.signature[2:].split(",")[0])


class Inbox(Loopback):
    """`answer(mail, number)` returns the status of the request with that number, from 0 on, or
    the status and the body."""

    def __init__(self, answer=lambda *_: 204):
        self.mails = []
        lock = threading.Lock()
        inbox = self

        class Answering(Handler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mail = Mail(self.path, body, self.headers["X-Retell-Signature"])
                with lock:
                    inbox.mails.append(mail)
                    number = len(inbox.mails) - 1
                response = answer(mail, number)
                status, content = response if isinstance(response, tuple) else (response, b"")
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        super().__init__(Answering, waits=False)

    @property
    def events(self):
        return [mail.event for mail in self.mails]
