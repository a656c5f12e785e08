"""A sandbox whose recordings are served by a store that can fail, and runs of the job that
downloads them."""

import hashlib
import json
import threading

import httpx

from receiver import config
from receiver.jobs.recordings import Counts, keep_pass
from receiver.jobs.storage import storage_of
from receiver.jobs.worker import Run
from receiver.sandbox.server import Sandbox
from receiver.store import media, receive
from tests.support.engines import url_of
from tests.support.loopback import Handler, Loopback
from tests.support.webhooks import KEY

NOW_MS = 1_778_760_000_000
HOUR_MS = 3_600_000


class Clock:
    """The clock of both sides."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class Between(Handler):
    """Passes requests on to the sandbox; `fails` says which number of request fails, and every
    second of these responses is cut short. `before` is called with each path."""

    protocol_version = "HTTP/1.1"
    before = staticmethod(lambda _path: None)

    def do_GET(self):
        with self.lock:
            self.seen.append(self.path.partition("?")[0])
            number = len(self.seen)
        self.before(self.path)
        if self.fails(number) and number % 2:
            return self.answer(503, {}, b"")
        wanted = ("Authorization", "Range", "If-Range")
        headers = {name: self.headers[name] for name in wanted if name in self.headers}
        response = self.client.get(self.upstream + self.path, headers=headers)
        body = response.content
        if self.path.startswith("/v2/"):
            body = body.replace(self.upstream.encode(), self.url.encode())
        kept = ("ETag", "Content-Type", "Content-Range", "Accept-Ranges")
        headers = {name: response.headers[name] for name in kept if name in response.headers}
        return self.answer(response.status_code, headers, body, is_cut=self.fails(number))

    def answer(self, status, headers, body, *, is_cut=False):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if is_cut else body)
        self.close_connection = self.close_connection or is_cut


class Unhurried(Run):
    """A run without pauses."""

    def sleep(self, _seconds: float) -> None:
        self.check()


class Recordings:
    """Calls of a sandbox with recordings, and a job that keeps them. A context manager."""

    def __init__(self, store, database, folder, *, fails=lambda _: False, **environ) -> None:
        self.store, self.now_ms = store, Clock()
        self.folder = folder / "media"
        self.box = Sandbox(api_key=KEY, limits=None, now_ms=self.now_ms, signs_all_urls=True)
        self.client = httpx.Client()
        self.seen: list[str] = []
        self.memory: dict = {}
        names = {
            "seen": self.seen, "lock": threading.Lock(), "fails": staticmethod(fails),
            "client": self.client, "upstream": self.box.url,
        }  # fmt: skip
        self.handler = type("Between", (Between,), names)
        self.between = Loopback(self.handler)
        self.handler.url = self.between.url
        self.environ = {
            "RETELL_API_KEY": KEY,
            "RETELL_BASE_URL": self.between.url,
            "CALLHOUSE_DATABASE_URL": url_of(database),
            "CALLHOUSE_MEDIA_URL": f"file:{self.folder}",
            "CALLHOUSE_MEDIA_ALLOW_PRIVATE": "1",
            "CALLHOUSE_MEDIA_RESERVE_BYTES": "1",
        } | environ

    def __enter__(self):
        self.box.__enter__()
        self.between.__enter__()
        return self

    def __exit__(self, *_):
        self.between.__exit__()
        self.box.__exit__()
        self.client.close()

    def populate(self, calls, *, kinds=None) -> list[dict]:
        """Store calls of yesterday with recordings; of `kinds`, if they are given."""
        wanted = {f"{kind}_url" for kind in kinds or ("recording",)}
        known = set(self.box.calls)
        self.box.populate(calls=10 * calls + 50, days=len(known) + 1)
        new = [c for i, c in self.box.calls.items() if i not in known and wanted <= c.keys()]
        assert len(new) >= calls
        return [self.tell(self.get_call(c["call_id"]), kinds=kinds) for c in new[:calls]]

    def get_call(self, call_id) -> dict:
        """The call with links that work from now on."""
        headers = {"Authorization": f"Bearer {KEY}"}
        return self.client.get(f"{self.box.url}/v2/get-call/{call_id}", headers=headers).json()

    def tell(self, call, *, kinds=None, event="call_analyzed") -> dict:
        """Store a call as its webhook would."""
        call = {
            name: value
            for name, value in call.items()
            if kinds is None or not name.endswith("_url") or name.removesuffix("_url") in kinds
        }
        text = json.dumps({"event": event, "call": call})
        body = text.replace(self.box.url, self.between.url).encode()
        now_ms = self.now_ms()
        self.store.add(receive(body, source="webhook", observed_at=now_ms, received_at=now_ms))
        return call

    @property
    def settings(self):
        return config.load(self.environ)

    def run(self) -> Run:
        return Unhurried(self.settings, self.store, now_ms=self.now_ms, memory=self.memory)

    def keep(self, **options) -> Counts:
        options = {"limit": 100_000} | options
        self.memory.clear()
        return keep_pass(self.run(), storage_of(self.settings), **options)

    def keep_until_done(self) -> Counts:
        """Run the job until nothing is to be retried, like the worker over days."""
        total = Counts()
        for _ in range(50):
            counts = self.keep()
            total.kept += counts.kept
            total.gone += counts.gone
            if not self.waiting():
                return total
            self.now_ms.now_ms += 6 * HOUR_MS
        raise AssertionError("it does not end")

    def waiting(self) -> int:
        """Files that are to be tried, now or later."""
        return media.count_due(self.store, now_ms=2**62)

    def files(self) -> dict[str, bytes]:
        """What is in the directory, by name."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


# A kept recording for the pages.
PASSWORD = "a password for the test"
LINKS = {
    "recording_url": "https://recordings.example/a.wav",
    "recording_multi_channel_url": "https://recordings.example/b.wav",
    "public_log_url": "https://recordings.example/log",
}


def kept_environ(path, root) -> dict:
    """Variables of a database whose recordings are kept below `root`."""
    return {
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}",
        "CALLHOUSE_MEDIA_URL": f"file:{root}/media",
        "CALLHOUSE_BROWSE_PASSWORD": PASSWORD,
    }


def keep_file(store, settings, content, *, kind="recording", content_type="audio/wav"):
    """Keep a file of call_1 as the job does."""
    storage = storage_of(settings)
    storage.partial.mkdir(parents=True, exist_ok=True)
    source = storage.partial / "source"
    source.write_bytes(content)
    name = f"call_1/{kind}.wav"
    storage.put(name, source)
    media.find_new(store, since=0, now_ms=1)
    [file] = [f for f in media.due_files(store, now_ms=1, limit=9) if f.kind == kind]
    outcome = media.Outcome(
        "kept", location=name, bytes=len(content), content_type=content_type,
        sha256=hashlib.sha256(content).hexdigest(),
    )  # fmt: skip
    assert media.write_outcome(store, file, outcome, now_ms=1)
