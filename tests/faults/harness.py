"""Start, stop and kill the real server, and post events to it.

Every wait is bounded, and everything a server says is searched for what must never be said.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from receiver.addresses import Location
from receiver.webhook.signature import sign
from tests.support.running import wait_until
from tests.support.webhooks import KEY, payload

# In every event posted here, and never in anything the server says.
PHONE = "+15555550142"
WORD = "xylophonist"
TOKEN = "token_c4n4ry"
CANARIES = (PHONE, PHONE[1:], WORD, TOKEN, KEY)

# What `callhouse serve` becomes, after a fault has been planted in it.
_PATCHED = """\
import sys
{patch}
from gunicorn.app.wsgiapp import run
from receiver import config
sys.argv = ["gunicorn", "-c", str(config.shipped("gunicorn.conf.py"))]
run()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def signed(body: bytes, *, at_ms: int | None = None) -> dict[str, str]:
    return {"X-Retell-Signature": sign(body, key=KEY, now_ms=at_ms or clock_ms())}


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pair(call_id: str, *, padding: int = 0) -> list[bytes]:
    """A call_ended and a call_analyzed of one call, `padding` bytes longer than needed."""
    bodies = []
    for name in ("event-call_ended", "event-call_analyzed"):
        event = payload(name)
        event["call"] |= {
            "call_id": call_id,
            "from_number": PHONE,
            "transcript": f"User: {WORD} {call_id}.\n" + "Agent: yes. " * (padding // 12),
            "access_token": TOKEN,
            "metadata": {"customer": WORD},
        }
        bodies.append(json.dumps(event, ensure_ascii=False).encode())
    return bodies


class Server:
    """`callhouse serve` on a free port, its output in a file."""

    def __init__(self, database: Location, *, patch="", workers=2, prefix=(), preexec=None) -> None:
        self.database = database
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.output = Path.cwd() / f"server-{self.address[10:]}.log"
        self.responses: list[str] = []
        command = ["-c", _PATCHED.format(patch=patch)] if patch else ["-m", "receiver", "serve"]
        self._command = [*prefix, sys.executable, *command]
        self._is_wrapped = bool(prefix)
        self._preexec = preexec
        self._environ = os.environ | {
            "RETELL_API_KEY": KEY,
            "CALLHOUSE_DATABASE_URL": (
                f"sqlite:///{database}" if isinstance(database, Path) else database.url
            ),
            "CALLHOUSE_BIND": self.address,
            "CALLHOUSE_WORKERS": str(workers),
        }
        self.process: subprocess.Popen | None = None

    def launch(self) -> "Server":
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                env=self._environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._preexec,
            )
        return self

    def start(self) -> "Server":
        # Workers whose master was killed hold the port for about a second.
        wait_until(lambda: not self._is_listening(), seconds=10)
        self.launch()
        wait_until(self._answers, seconds=30)
        return self

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.address[10:]))) == 0

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.text()
        try:
            # A page that is not there: nothing is opened or read for it.
            return httpx.get(self.url, timeout=2).status_code == 404
        except httpx.TransportError:
            return False

    @property
    def master(self) -> int:
        return _children(self.process.pid)[0] if self._is_wrapped else self.process.pid

    def workers(self) -> list[int]:
        return _children(self.master)

    def connections(self) -> int:
        """How many clients are connected to it."""
        port = f":{int(self.address.rsplit(':', 1)[1]):04X}"
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        # Local address and state, in which 01 is an established connection.
        found = [(line.split()[1], line.split()[3]) for line in lines]
        return sum(local.endswith(port) and state == "01" for local, state in found)

    def signal(self, number: int) -> None:
        os.kill(self.master, number)

    def kill_tree(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """End it however it is, and search what it said."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill_tree()
                raise
        assert_nothing_private("\n".join([self.text(), *self.responses]))

    def text(self) -> str:
        return self.output.read_text("utf-8", "replace") if self.output.exists() else ""

    def get(self, path: str, *, timeout: float = 5) -> httpx.Response:
        answer = httpx.get(self.url + path, timeout=timeout)
        self.responses.append(answer.text)
        return answer

    def health(self) -> tuple[int, dict]:
        answer = self.get("/healthz")
        return answer.status_code, answer.json()

    def post(self, body: bytes, *, at_ms=None, client=httpx, signed_as=None) -> httpx.Response:
        url = f"{self.url}/webhook"
        headers = {**signed(signed_as or body, at_ms=at_ms), "X-Trace": sha256(body)}
        answer = client.post(url, content=body, headers=headers, timeout=15)
        self.responses.append(answer.text)
        return answer


def _children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def assert_nothing_private(text: str) -> None:
    found = [canary for canary in CANARIES if canary in text]
    assert not found, f"the server said {found}"
