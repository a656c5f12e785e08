"""Users and tokens that may browse, in a file beside the database that only its owner can read.

The file is JSON: {"users": {name: {"role", "password_hash", "limits"}}, "tokens": {name: {"role",
"token_sha256", "limits"}}, "ended": {name: text}}. Passwords have a slow hash; tokens are long and
random, so SHA-256 is enough. `ended` has a random text for each user whose sessions were ended.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasette_auth_passwords.utils import hash_password as hash_password
from datasette_auth_passwords.utils import verify_password

from receiver.browse.limits import Limits, stored_limits
from receiver.errors import SettingsError
from receiver.files import atomic_write, locked

# Each role reads its database (DATABASE_OF_ROLE).
ROLES = {
    "admin": "everything a reviewer may, and removes annotations of others",
    "reviewer": "everything a reader may, and reviews and shares calls",
    "reader": "everything but raw bodies",
    "masked": "no personal data",
}
_NO_LIMITS = Limits()
# The login of CALLHOUSE_BROWSE_PASSWORD.
ADMIN = "admin"
# Matches no password. An unknown name takes as long to check as a known one.
_UNKNOWN_USER_HASH = "pbkdf2_sha256$480000$salt$none"


@dataclass(frozen=True, slots=True)
class User:
    """A person with a password."""

    role: str
    password_hash: str
    limits: Limits = _NO_LIMITS


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a program."""

    role: str
    token_sha256: str
    limits: Limits = _NO_LIMITS


@dataclass(slots=True)
class AccessList:
    """All users and tokens, by name; `ended` by the name of a user, or admin."""

    users: dict[str, User] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def session(self, name: str, password_hash: str) -> str:
        """The text that a login cookie must contain. It changes with the password, which ends all
        sessions."""
        return _sha256(password_hash + self.ended.get(name, ""))[:16]

    def end_sessions(self, name: str) -> None:
        """End all sessions of a user or of admin."""
        self.ended[name] = secrets.token_hex(8)


def path_beside(database: Path) -> Path:
    """The file of a database: retell.access beside retell.db."""
    return database.with_suffix(".access")


def load(path: Path) -> AccessList:
    """Load the list, which is empty without a file. Raises SettingsError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return AccessList(
            users={name: User(**_entry(user)) for name, user in content["users"].items()},
            tokens={name: Token(**_entry(token)) for name, token in content["tokens"].items()},
            ended=dict(content.get("ended", {})),
        )
    except FileNotFoundError:
        return AccessList()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SettingsError(
            f"{path} is damaged", hint="Delete it, then add users and tokens again."
        ) from None


def _entry(stored: dict[str, Any]) -> dict[str, Any]:
    return stored | {"limits": stored_limits(stored.get("limits"))}


def save(path: Path, known: AccessList) -> None:
    """Replace the file atomically."""
    content = asdict(known)
    # Without limits and ended sessions, an older version can read the file.
    for entry in (*content["users"].values(), *content["tokens"].values()):
        if not any(entry["limits"].values()):
            del entry["limits"]
    if not known.ended:
        del content["ended"]
    with atomic_write(path) as new:
        new.write_text(json.dumps(content, indent=2), encoding="utf-8")


@contextmanager
def edit(path: Path) -> Iterator[AccessList]:
    """Yield the list for changes, then save it; one process at a time. Raises SettingsError."""
    with locked(path):
        known = load(path)
        yield known
        save(path, known)


def require_name(name: str) -> str:
    """Validate and return a name. Raises SettingsError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise SettingsError(
            "not a valid name", hint="Use lower-case letters, digits, dots and hyphens."
        )
    if name == ADMIN:
        raise SettingsError(
            "the name admin belongs to CALLHOUSE_BROWSE_PASSWORD", hint="Choose another name."
        )
    return name


def new_password() -> str:
    """A random password."""
    return secrets.token_urlsafe(12)


def new_user(role: str, password: str, limits: Limits = _NO_LIMITS) -> User:
    """A user with this password."""
    return User(role, hash_password(password), limits)


def new_token(role: str, limits: Limits = _NO_LIMITS) -> tuple[Token, str]:
    """A token to store, and its text, which is shown once."""
    token = f"callhouse_{secrets.token_urlsafe(32)}"
    return Token(role, _sha256(token), limits), token


class Access:
    """Checks logins against the file. Changes apply from the next request."""

    def __init__(self, path: Path, *, admin_password_hash: str | None) -> None:
        self._path = path
        self._admin_password_hash = admin_password_hash
        self._stamp: tuple[int, int] | None = None
        self._known = AccessList()

    @property
    def known(self) -> AccessList:
        """The current users and tokens. Raises SettingsError if the file is damaged."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns)
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp:
            self._known, self._stamp = load(self._path), stamp
        return self._known

    def role(self, actor: dict[str, Any] | None) -> str | None:
        """The role of an actor of Datasette; None for nobody and for removed users."""
        found = self._entry(actor)
        return found.role if found else None

    def limits(self, actor: dict[str, Any] | None) -> Limits:
        """The limits of an actor with a role."""
        found = self._entry(actor)
        return found.limits if found else _NO_LIMITS

    def _entry(self, actor: dict[str, Any] | None) -> User | Token | None:
        """The token, or the user of a session that is valid."""
        name = str((actor or {}).get("id"))
        if name.startswith("token:"):
            return self.known.tokens.get(name.removeprefix("token:"))
        user = self._user(name)
        is_current = user and (actor or {}).get("session") == self._session(name, user)
        return user if is_current else None

    def _user(self, name: str) -> User | None:
        if name != ADMIN:
            return self.known.users.get(name)
        return User(ADMIN, self._admin_password_hash) if self._admin_password_hash else None

    def _session(self, name: str, user: User) -> str:
        return self.known.session(name, user.password_hash)

    def end_sessions(self, actor: dict[str, Any]) -> None:
        """End all sessions of an actor with a password. Raises SettingsError, OSError."""
        with edit(self._path) as known:
            known.end_sessions(str(actor["id"]))

    def log_in(self, name: str, password: str) -> dict[str, str] | None:
        """The actor for a login cookie; None if the password is wrong."""
        user = self._user(name)
        is_right = verify_password(password, user.password_hash if user else _UNKNOWN_USER_HASH)
        return {"id": name, "session": self._session(name, user)} if user and is_right else None

    @property
    def admin_actor(self) -> dict[str, str] | None:
        """The actor of the login `admin`; None if there is no such login."""
        admin = self._user(ADMIN)
        return {"id": ADMIN, "session": self._session(ADMIN, admin)} if admin else None

    def actor_of_token(self, token: str) -> dict[str, str] | None:
        """The actor of this token, or None."""
        digest = _sha256(token)
        for name, stored in self.known.tokens.items():
            if secrets.compare_digest(stored.token_sha256, digest):
                return {"id": f"token:{name}"}
        return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
