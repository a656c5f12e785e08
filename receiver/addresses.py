"""Parse addresses to listen on, URLs, database URLs and locations of recordings."""

import os
import re
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from receiver.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Bind:
    """An address to listen on."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# As libpq parses it: user and password may contain ? and #, at which urlsplit would cut.
# Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
_POSTGRES = re.compile(
    r"postgres(ql)?://(?=.)([^@/\s]*@)?(?P<host>[^@/?&\s]*)(?P<path>/[^@?\s]*)?(\?\S*)?"
)


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The URL of a PostgreSQL database. `str()` omits user, password and parameters."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = _POSTGRES.fullmatch(self.url)
        return f"postgresql://{parts['host']}{parts['path'] or ''}" if parts else "postgresql://"


# A SQLite file, or a database on a server.
Location = Path | PostgresUrl


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3-compatible bucket, and a prefix of names in it."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


# The location of recordings.
MediaLocation = Path | Bucket

# Suffixes of the files beside a database: appended to its name, or replacing its suffix.
_APPENDED = ("-wal", "-shm", "-journal", ".lock", ".turn", ".partitions")
_ENDINGS = (".counters", ".secret", ".access", ".sessions", ".media")


def files_beside(database: Path) -> list[Path]:
    """The files that SQLite and callhouse create beside a database file."""
    return [
        *(database.with_name(database.name + end) for end in _APPENDED),
        *(database.with_suffix(end) for end in _ENDINGS),
    ]


def parse_database(url: str) -> Location:
    """Parse CALLHOUSE_DATABASE_URL. Raises ValueError."""
    if _POSTGRES.fullmatch(url):
        return PostgresUrl(url)
    prefix = "sqlite:///"
    if not url.startswith(prefix) or len(url) == len(prefix):
        raise ValueError(
            "it must be sqlite:///relative/path.db, sqlite:////absolute/path.db, "
            "or postgresql://user@host/database (in a password, write @ as %40, / as %2F and a "
            "space as %20)"
        )
    path = Path(url.removeprefix(prefix))
    require_database_file(path)
    return path


def parse_media(url: str) -> MediaLocation | None:
    """Parse CALLHOUSE_MEDIA_URL; None if it is empty. Raises ValueError."""
    if not url:
        return None
    if match := re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[\w!.*'()/-]*)?", url):
        return Bucket(match[1], (match[2] or "").strip("/"))
    match = re.fullmatch(r"file:(?://(?=/))?(?!//)([^?#\0]+)", url)
    if match is None:
        raise ValueError(
            "it must be file:relative/directory, file:///absolute/directory or s3://bucket/prefix"
        )
    path = Path(match[1])
    if path.exists() and not path.is_dir():
        raise ValueError("it must be a directory, and a file has this name")
    return path


def require_database_file(path: Path) -> None:
    """Raise ValueError unless `path` can be a database file: not a device or folder, and not named
    as a file beside a database."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError("it must be a regular file, not a folder, a device or a pipe")
    if end := next((end for end in (*_APPENDED, *_ENDINGS) if path.name.endswith(end)), None):
        raise ValueError(
            f"its name must not end in {end}, which is reserved for files beside a database"
        )


def is_http_url(text: str) -> bool:
    """Whether it is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(is_address) and text.isprintable() and " " not in text


def parse_base_url(url: str) -> str:
    """Parse RETELL_BASE_URL; the result has no trailing slash. Raises ValueError."""
    if not is_http_url(url) or re.search("[@?#]", url):
        raise ValueError("it must be a URL, such as https://api.retellai.com")
    return url.rstrip("/")


def parse_bind(text: str) -> Bind:
    """Parse HOST:PORT. Raises ValueError."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError("it must be HOST:PORT, such as 127.0.0.1:8000")
    return Bind(match[1].strip("[]"), int(match[2]))


def require_free(bind: Bind, setting: str) -> None:
    """Raise SettingsError if `bind` is in use or not an address of this machine."""
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind.host, bind.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {bind}: {error.strerror}",
                hint=f"Stop the program that listens there, or set {setting} to another address.",
            ) from None
