"""Logging in: signed cookies, ended sessions, the limit on failed logins, the login page.

A login cookie contains the user's name, a fingerprint of the password hash, a random session id
and its expiry. Ended sessions are listed in a file beside the database until they would have
expired, so that a copied cookie is invalid after the logout, also after a restart. Another
fingerprint ends all sessions of a user.
"""

import asyncio
import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasette import Response
from itsdangerous import BadData, URLSafeSerializer

from receiver.browse.access import ADMIN, Access
from receiver.browse.pages import authentication
from receiver.files import atomic_write

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_log = logging.getLogger("callhouse.login")

COOKIE = "ds_actor"
SESSION_SECONDS = 7 * 86_400
# A path of this server. Browsers ignore tabs and line ends and read a backslash as a slash, so
# none of them is allowed, and the second character is not a slash.
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")
_LOGIN_PATH = re.compile(r"/-/log(in|out)(?![^/?#])")


class Sessions:
    """Creates and verifies login cookies, and ends sessions."""

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
        """The actor of a valid session whose user still exists, else None."""
        session = self._session(cookie)
        if session is None or _digest(session["id"]) in self._read_ended():
            return None
        actor: dict[str, Any] = session["actor"]
        return actor if self._access.role(actor) else None

    def end(self, cookie: str) -> None:
        """End a session. Raises OSError if the file cannot be written."""
        session = self._session(cookie)
        if session is None:
            return
        ended = self._read_ended()
        if _digest(session["id"]) not in ended:
            self._write(ended | {_digest(session["id"]): session["expires"]})

    def _session(self, cookie: str) -> dict[str, Any] | None:
        """The content of a cookie with a valid signature that has not expired."""
        try:
            session: dict[str, Any] = self._signer.loads(cookie)
        except BadData:
            return None
        return session if self._now() < session["expires"] else None

    def _read_ended(self) -> dict[str, int]:
        """Digest and expiry of ended sessions; reads the file again when it changed."""
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
        """Replace the file atomically, without sessions that have expired since."""
        kept = {digest: until for digest, until in ended.items() if until > self._now()}
        text = "".join(f"{digest} {until}\n" for digest, until in kept.items())
        with atomic_write(self._path) as new:
            new.write_text(text, "utf-8")


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()[:32]


@dataclass(slots=True)
class _Bucket:
    """A token bucket: attempts left, refilled over time."""

    left: float
    refilled_at: float


class Attempts:
    """Limits failed logins, per user name and overall.

    A name may fail 10 times at once and once more every 6 seconds; all names together 30 times at
    once and once more each second. An attempt counts before its password is checked, and no longer
    once the password was right. Names share 1,024 buckets by hash, so that memory stays bounded.
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
        """Count an attempt. Returns 0, or the seconds until the next attempt is allowed."""
        buckets = self._buckets(name)
        wait = max((1 - bucket.left) / rate for bucket, rate in buckets)
        if wait > 0:
            return wait
        for bucket, _ in buckets:
            bucket.left -= 1
        return 0.0

    def succeeded(self, name: str) -> None:
        """Uncount the attempt: the password was right."""
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


@dataclass(frozen=True, slots=True)
class Authentication:
    """Decides who may log in and who is logged in."""

    access: Access
    sessions: Sessions
    attempts: Attempts


async def login(datasette: "Datasette", request: "Request") -> Response:
    """`/-/login?next=/path`: the form; after a login, the page in `next`."""
    known = authentication(datasette)
    target = local_path(request.args.get("next"))
    if known is None or known.access.role(request.actor):
        return Response.redirect(target)
    if request.method == "POST":
        return await _check_password(datasette, request, known, target)
    # Without users, admin is the only possible name.
    return await _login_form(datasette, request, "" if known.access.known.users else ADMIN)


def local_path(text: str | None) -> str:
    """The path if it is one of this server's pages, else the home page."""
    is_local = text and _LOCAL_PATH.fullmatch(text) and not _LOGIN_PATH.match(text)
    return str(text) if is_local else "/"


async def _check_password(
    datasette: "Datasette", request: "Request", known: Authentication, target: str
) -> Response:
    posted = await request.post_vars()
    name, password = (posted.get("username") or "").strip(), posted.get("password") or ""
    wait = known.attempts.begin(name)
    if wait:
        _log.warning("too many failed logins: one refused without checking its password")
        return await _login_form(datasette, request, name, wait=wait)
    # The hash is slow on purpose: compute it in a thread.
    actor = await asyncio.to_thread(known.access.log_in, name, password)
    if actor is None:
        # An unknown name may be a password typed into the wrong field: do not log it.
        is_known = name == ADMIN or name in known.access.known.users
        client = (request.scope.get("client") or ("an unknown address",))[0]
        logged = name if is_known else "an unknown name"
        _log.warning("failed login as %s from %s", logged, client)
        return await _login_form(datasette, request, name, error="Invalid username or password")
    known.attempts.succeeded(name)
    response = Response.redirect(target)
    response.set_cookie(
        COOKIE,
        known.sessions.start(actor),
        max_age=SESSION_SECONDS,
        httponly=True,
        secure=request.scheme == "https",
    )
    return response


async def _login_form(
    datasette: "Datasette", request: "Request", name: str, *, error: str = "", wait: float = 0
) -> Response:
    seconds = math.ceil(wait)
    if wait:
        error = f"Too many failed logins. Try again in {seconds} s."
    context = {"error": error, "username": name[:64]}
    page = await datasette.render_template("login.html", context, request=request)
    if wait:
        return Response.html(page, 429, {"Retry-After": str(seconds)})
    return Response.html(page, 403 if error else 200)


async def logout(datasette: "Datasette", request: "Request") -> Response:
    """`/-/logout`: GET shows buttons; POST ends the session, or with `everywhere` all sessions of
    the user, and deletes the cookie."""
    if request.method != "POST" and request.actor:
        context: dict[str, Any] = {"actor": request.actor}
        page = await datasette.render_template("logout.html", context, request=request)
        return Response.html(page)
    response = Response.redirect(datasette.urls.path("/-/login"))
    known = authentication(datasette)
    if request.method == "POST" and known is not None:
        known.sessions.end(request.cookies.get(COOKIE, ""))
        if request.actor and "everywhere" in await request.post_vars():
            known.access.end_sessions(request.actor)
        response.set_cookie(COOKIE, "", expires=0, max_age=0)
    return response
