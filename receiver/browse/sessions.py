"""Who is logged in: signed cookies that expire, sessions that were ended, and failed logins.

A login cookie carries the account's name, a fingerprint of its password hash, a random session id
and its expiry. Ended sessions are listed in a file beside the database until they would have
expired, so that a copied cookie is dead after the logout, also after a restart.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from receiver.browse.access import Access
from receiver.files import atomic_write

COOKIE = "ds_actor"
SESSION_SECONDS = 7 * 86_400


class Sessions:
    """Issues, reads and ends login cookies."""

    def __init__(
        self, path: Path, *, secret: str, access: Access, now: Callable[[], float] = time.time
    ) -> None:
        self._path, self._access, self._now = path, access, now
        self._signer = URLSafeSerializer(secret, "callhouse-session")
        self._ended: dict[str, int] = {}
        self._stamp: tuple[int, int] | None = None

    def start(self, actor: dict[str, str]) -> str:
        """The cookie of a new session."""
        expires = int(self._now()) + SESSION_SECONDS
        value = {"actor": actor, "id": secrets.token_urlsafe(16), "expires": expires}
        return str(self._signer.dumps(value))

    def actor(self, cookie: str) -> dict[str, Any] | None:
        """The actor of a session that is valid now, with an account that still exists."""
        session = self._session(cookie)
        if session is None or _digest(session["id"]) in self._read_ended():
            return None
        actor: dict[str, Any] = session["actor"]
        return actor if self._access.role(actor) else None

    def end(self, cookie: str) -> None:
        """End a session. Raises OSError if that cannot be written down."""
        session = self._session(cookie)
        if session is None:
            return
        ended = self._read_ended()
        if _digest(session["id"]) not in ended:
            self._write(ended | {_digest(session["id"]): session["expires"]})

    def _session(self, cookie: str) -> dict[str, Any] | None:
        """What the cookie says, if it is ours and has not expired."""
        try:
            session: dict[str, Any] = self._signer.loads(cookie)
        except BadData:
            return None
        return session if self._now() < session["expires"] else None

    def _read_ended(self) -> dict[str, int]:
        """Digests of ended sessions with their expiry; the file is read again when it changed."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._ended, self._stamp = {}, None
            return self._ended
        stamp = (stat.st_ino, stat.st_mtime_ns)
        if stamp != self._stamp:
            lines = [line.split() for line in self._path.read_text("utf-8").splitlines()]
            self._ended = {digest: int(expires) for digest, expires in lines}
            self._stamp = stamp
        return self._ended

    def _write(self, ended: dict[str, int]) -> None:
        """Replace the file atomically, without sessions that have expired anyway."""
        kept = {digest: until for digest, until in ended.items() if until > self._now()}
        text = "".join(f"{digest} {until}\n" for digest, until in kept.items())
        with atomic_write(self._path) as new:
            new.write_text(text, "utf-8")


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()[:32]


@dataclass(slots=True)
class _Bucket:
    """Attempts that are left, refilled over time."""

    left: float
    refilled_at: float


class Attempts:
    """Limits failed logins, per account name and over all of them.

    An account has 10 failures at once and one more every 6 seconds; all accounts together have 30
    at once and one more each second. An attempt takes its place before the password is checked, and
    gives it back if the password is right. Names share 1,024 buckets by their hash, so that the
    state does not grow.
    """

    _BUCKETS = 1024
    _NAME = (10, 1 / 6)
    _OVERALL = (30, 1.0)

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._salt = secrets.token_bytes(16)
        self._names: dict[int, _Bucket] = {}
        self._overall = _Bucket(self._OVERALL[0], now())

    def begin(self, name: str) -> float:
        """Take an attempt: 0, or for how many seconds none is left."""
        buckets = self._buckets(name)
        wait = max((1 - bucket.left) / rate for bucket, rate in buckets)
        if wait > 0:
            return wait
        for bucket, _ in buckets:
            bucket.left -= 1
        return 0.0

    def succeeded(self, name: str) -> None:
        """Give the attempt back: the password was right."""
        for bucket, _ in self._buckets(name):
            bucket.left += 1

    def _buckets(self, name: str) -> list[tuple[_Bucket, float]]:
        digest = hashlib.blake2b(name.encode("utf-8", "replace"), key=self._salt, digest_size=4)
        index = int.from_bytes(digest.digest(), "big") % self._BUCKETS
        own = self._names.setdefault(index, _Bucket(self._NAME[0], self._now()))
        for bucket, (most, rate) in ((own, self._NAME), (self._overall, self._OVERALL)):
            now = self._now()
            bucket.left = min(most, bucket.left + (now - bucket.refilled_at) * rate)
            bucket.refilled_at = now
        return [(own, self._NAME[1]), (self._overall, self._OVERALL[1])]
