"""Environment -> one frozen Settings object, parsed strictly and once."""

import difflib
import io
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream

from receiver.addresses import (
    Bind,
    Location,
    MediaLocation,
    parse_base_url,
    parse_bind,
    parse_database,
    parse_media,
)
from receiver.config_file import ConfigFile, load_config_file
from receiver.errors import SettingsError, docs
from schema.retention import KEEP

T = TypeVar("T")
_KEY_HINT = "Set it to the API key with the webhook badge in Retell's dashboard."
# The format of `datasette hash-password`: algorithm, iterations, salt, 32 bytes in base64.
_PASSWORD_HASH = re.compile(r"pbkdf2_sha256\$[1-9][0-9]{0,8}\$[^$\s]+\$[A-Za-z0-9+/]{43}=")
# A key of an account; that of `default` has no suffix.
_KEY_NAME = re.compile(r"RETELL_(?:API_KEY|WEBHOOK_KEYS)(_[A-Z0-9]+(?:_[A-Z0-9]+)*)?")
# Settings of Retell's own client for Python, which may share an environment with callhouse.
_OF_THE_SDK = frozenset({"RETELL_LOG", "RETELL_CUSTOM_HEADERS"})
# Kubernetes sets these for each service, after the service's name in capitals.
# Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_OF_A_SERVICE = re.compile(
    r"SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT(_[0-9]{1,5}_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable: its default as text, and its meaning."""

    name: str
    default: str | None
    meaning: str


SETTINGS = (
    Setting(
        "RETELL_API_KEY",
        None,
        "The account's key with the webhook badge: verifies events and calls the API. "
        "Required by serve, call, webhook, sync and coverage.",
    ),
    Setting(
        "RETELL_API_KEY_<NAME>",
        None,
        "The same for a further account, whose name is <NAME> in lower case. RETELL_API_KEY is the "
        "account `default`.",
    ),
    Setting(
        "RETELL_WEBHOOK_KEYS",
        "",
        "Further accepted webhook keys of the account `default`, comma-separated: for a rotation.",
    ),
    Setting(
        "RETELL_WEBHOOK_KEYS_<NAME>", "", "Further accepted webhook keys of the account <NAME>."
    ),
    Setting("RETELL_BASE_URL", "https://api.retellai.com", "The Retell API to talk to."),
    Setting(
        "CALLHOUSE_DATABASE_URL",
        "sqlite:///data/retell.db",
        "Where calls are stored: a SQLite file, or a PostgreSQL database as postgresql://user@host/name.",
    ),
    Setting(
        "CALLHOUSE_BIND", "127.0.0.1:8000", "Address of the receiver; PORT overrides the port."
    ),
    Setting(
        "CALLHOUSE_HEALTH_BIND",
        "",
        "Separate address for /healthz and /metrics, with another port; the receiver's address "
        "answers 404 for both then. Empty: the receiver's address.",
    ),
    Setting("CALLHOUSE_BROWSE_BIND", "127.0.0.1:8001", "Address of Datasette; PORT sets the port."),
    Setting("CALLHOUSE_WORKERS", "", "Receiver processes; one per core when empty."),
    Setting(
        "CALLHOUSE_CONNECTIONS", "8", "Connections to PostgreSQL that each receiver process has."
    ),
    Setting("CALLHOUSE_MAX_BODY_BYTES", "16777216", "A longer body is answered 413."),
    Setting(
        "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS",
        "300",
        "How far a signature's time may be from this clock, both ways.",
    ),
    Setting(
        "CALLHOUSE_BROWSE_PASSWORD",
        None,
        "Password of the login `admin`. Without one and without users (`callhouse user`), browse "
        "generates and prints one on a loopback address, and does not start on any other.",
    ),
    Setting(
        "CALLHOUSE_BROWSE_PASSWORD_HASH",
        None,
        "Its hash, from `datasette hash-password`; overrides the password.",
    ),
    Setting(
        "CALLHOUSE_SECRET",
        None,
        "Signs the login cookies and shared links. Without one, it is generated in a file beside "
        "the database.",
    ),
    Setting(
        "CALLHOUSE_MEDIA_URL",
        "file:data/media",
        "Where recordings are kept: a directory as file:PATH, or an S3-compatible bucket as "
        "s3://bucket/prefix. Set to nothing, none are kept.",
    ),
    Setting("CALLHOUSE_MEDIA_MAX_BYTES", "1073741824", "A longer recording is not kept."),
    Setting(
        "CALLHOUSE_MEDIA_RESERVE_BYTES",
        "2147483648",
        "No recordings are fetched while the disk has less free space.",
    ),
    Setting(
        "CALLHOUSE_MEDIA_BYTES_PER_SECOND",
        "50000000",
        "All downloads of recordings together are at most so fast.",
    ),
    Setting("CALLHOUSE_MEDIA_DOWNLOADS", "4", "Recordings that are fetched at a time."),
    Setting(
        "CALLHOUSE_MEDIA_ALLOW_PRIVATE",
        "0",
        "1 lets recordings be fetched from private and loopback addresses, as of the sandbox.",
    ),
    *(
        Setting(
            f"CALLHOUSE_KEEP_{name}_DAYS",
            "",
            f"{what} of calls and chats older than so many days are removed by `callhouse prune`. "
            "Empty: kept for ever.",
        )
        for name, (_, what) in KEEP.items()
    ),
    Setting("CALLHOUSE_TIMEZONE", "UTC", "IANA time zone in which views show times and cut days."),
    Setting(
        "CALLHOUSE_CONFIG",
        "callhouse.toml",
        "File with what does not fit a variable: jobs, backups, forwarding, alerts, inbound rules "
        "and questions ([callhouse.toml](config-file.md)). The default file may be missing.",
    ),
)


DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Account:
    """A workspace at Retell. `webhook_keys` verify its events; `api_key`, one of them, calls the
    API."""

    name: str
    api_key: str | None
    webhook_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Media:
    """The location of recordings (None: not stored), and the limits of fetching them."""

    location: MediaLocation | None
    max_bytes: int
    reserve_bytes: int
    bytes_per_second: int
    downloads: int
    allow_private: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """The parsed values of SETTINGS."""

    accounts: tuple[Account, ...]
    base_url: str
    database: Location
    bind: Bind
    health_bind: Bind | None
    browse_bind: Bind
    workers: int
    connections: int
    max_body_bytes: int
    signature_tolerance_ms: int
    browse_password: str | None
    browse_password_hash: str | None
    secret: str | None
    media: Media
    # Scope of schema/retention.py -> days after which it is removed.
    keep: Mapping[str, int]
    timezone: str
    file_path: Path
    file: ConfigFile

    @property
    def database_path(self) -> Path:
        """The SQLite file. Raises SettingsError if the database is on a server."""
        if not isinstance(self.database, Path):
            raise SettingsError(
                "this needs a SQLite file, but CALLHOUSE_DATABASE_URL names a server",
                hint="`callhouse mirror` keeps such a file current. "
                f"See {docs('how-to/postgres.md')}",
            )
        return self.database

    @property
    def counters_path(self) -> Path:
        """The file with this machine's counters: beside the database file, else in data/."""
        beside = self.database if isinstance(self.database, Path) else Path("data/retell.db")
        return beside.with_suffix(".counters")

    @property
    def media_partial_path(self) -> Path:
        """The directory for unfinished downloads of recordings that are kept in a bucket."""
        return self.counters_path.with_suffix(".media")

    @property
    def webhook_keys(self) -> tuple[str, ...]:
        """The keys that verify events, of all accounts."""
        return tuple(key for account in self.accounts for key in account.webhook_keys)

    @property
    def account_keys(self) -> dict[str, str]:
        """The account of each key, by the key's id."""
        # Imported here, because most commands do not verify signatures.
        from receiver.webhook.signature import key_id

        return {key_id(key): a.name for a in self.accounts for key in a.webhook_keys}

    def require_keys(self) -> tuple[str, ...]:
        """The keys that verify events. Raises SettingsError if there is none."""
        if not self.webhook_keys:
            raise SettingsError("RETELL_API_KEY is not set", hint=_KEY_HINT)
        return self.webhook_keys

    def require_accounts(self, name: str | None = None) -> list[Account]:
        """The accounts whose API can be called, or the one with a name. Raises SettingsError."""
        found = [a for a in self.accounts if a.api_key and name in (None, a.name)]
        if found:
            return found
        if name is None:
            raise SettingsError("RETELL_API_KEY is not set", hint=_KEY_HINT)
        names = ", ".join(a.name for a in self.accounts if a.api_key)
        raise SettingsError(
            f"there is no account {name}",
            hint=f"The accounts with an API key are: {names or 'none'}.",
        )

    def require_api_key(self, name: str | None = None) -> str:
        """The key that calls the API of an account, or of the only one.

        Raises SettingsError if there is none, or several without a name.
        """
        first, *others = self.require_accounts(name)
        if others:
            names = ", ".join(a.name for a in (first, *others))
            raise SettingsError(
                "there are several accounts", hint=f"Say which one with --account: {names}."
            )
        assert first.api_key
        return first.api_key


def load(environ: Mapping[str, str] | None = None, *, dotenv: Path | None = None) -> Settings:
    """Parse `environ` over the .env file. Raises SettingsError naming the variable."""
    values = _from_file(Path(".env") if dotenv is None else dotenv)
    values |= os.environ if environ is None else environ
    _refuse_unknown(values)
    _refuse_undecodable(values)

    def value(name: str) -> str:
        text = values.get(name, "").strip()
        return text or next(s.default for s in SETTINGS if s.name == name) or ""

    port = values.get("PORT", "").strip()
    bind = _with_port(_parse("CALLHOUSE_BIND", value, parse_bind), port)
    return Settings(
        accounts=_accounts(values),
        base_url=_parse("RETELL_BASE_URL", value, parse_base_url),
        database=_parse("CALLHOUSE_DATABASE_URL", value, parse_database),
        bind=bind,
        health_bind=_health_bind(value, bind),
        browse_bind=_with_port(_parse("CALLHOUSE_BROWSE_BIND", value, parse_bind), port),
        workers=_parse("CALLHOUSE_WORKERS", value, _workers),
        connections=_parse("CALLHOUSE_CONNECTIONS", value, _positive),
        max_body_bytes=_parse("CALLHOUSE_MAX_BODY_BYTES", value, _positive),
        signature_tolerance_ms=1000
        * _parse("CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS", value, _positive),
        browse_password=value("CALLHOUSE_BROWSE_PASSWORD") or None,
        browse_password_hash=_parse("CALLHOUSE_BROWSE_PASSWORD_HASH", value, _password_hash),
        secret=value("CALLHOUSE_SECRET") or None,
        media=_media(values, value),
        keep={
            scope: _parse(f"CALLHOUSE_KEEP_{name}_DAYS", value, _positive)
            for name, (scope, _) in KEEP.items()
            if value(f"CALLHOUSE_KEEP_{name}_DAYS")
        },
        timezone=_parse("CALLHOUSE_TIMEZONE", value, timezone_name),
        file_path=Path(value("CALLHOUSE_CONFIG")),
        file=_config_file(value, is_named=bool(values.get("CALLHOUSE_CONFIG", "").strip())),
    )


def _accounts(values: Mapping[str, str]) -> tuple[Account, ...]:
    """The accounts, `default` first. Raises SettingsError for a key of two accounts."""
    found: list[Account] = []
    owners: dict[str, str] = {}
    suffixes = {m[1] or "" for name in values if (m := _KEY_NAME.fullmatch(name))}
    # `default` has no suffix and comes first.
    for suffix in sorted(suffixes):
        name = suffix.removeprefix("_").lower() or DEFAULT_ACCOUNT
        if suffix and name == DEFAULT_ACCOUNT:
            raise SettingsError(
                "RETELL_API_KEY is the account `default`", hint="Give the other one another name."
            )
        api_key = values.get(f"RETELL_API_KEY{suffix}", "").strip() or None
        listed = values.get(f"RETELL_WEBHOOK_KEYS{suffix}", "").split(",")
        keys = dict.fromkeys(k for k in (api_key, *(k.strip() for k in listed)) if k)
        for key in keys:
            if owners.setdefault(key, name) != name:
                raise SettingsError(f"the accounts {owners[key]} and {name} have the same key")
        if keys:
            found.append(Account(name, api_key, tuple(keys)))
    return tuple(found)


def shipped(name: str) -> Path:
    """Path of a file that is at the top of a checkout, and in the package of a wheel."""
    package = Path(__file__).parent
    return next(p for p in (package / name, package.parent / name) if p.exists())


def _from_file(dotenv: Path) -> dict[str, str]:
    """The values of the file, without expansion: a password may contain ${…}."""
    try:
        text = dotenv.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise SettingsError(f"{dotenv} is not UTF-8") from None
    except OSError as error:
        raise SettingsError(
            f"{dotenv} cannot be read: {error.strerror}",
            hint="callhouse reads settings from this file: make it readable, or move it.",
        ) from None
    found = {}
    for binding in parse_stream(io.StringIO(text, newline="")):
        is_wrong = binding.error or (binding.key is not None and binding.value is None)
        if is_wrong:
            written = binding.original.string
            blank = written[: len(written) - len(written.lstrip())]
            # The line is not repeated: it may contain a key.
            raise SettingsError(
                f"{dotenv}, line {binding.original.line + blank.count(chr(10))}, is not NAME=value",
                hint="Write one setting per line, and close quotation marks.",
            )
        if binding.key is not None:
            found[binding.key] = binding.value or ""
    return found


def _media(values: Mapping[str, str], value: Callable[[str], str]) -> Media:
    # The default applies to an unset variable; with an empty one, nothing is stored.
    url = values.get("CALLHOUSE_MEDIA_URL", value("CALLHOUSE_MEDIA_URL")).strip()
    return Media(
        location=_parse("CALLHOUSE_MEDIA_URL", lambda _: url, parse_media),
        max_bytes=_parse("CALLHOUSE_MEDIA_MAX_BYTES", value, _positive),
        reserve_bytes=_parse("CALLHOUSE_MEDIA_RESERVE_BYTES", value, _positive),
        bytes_per_second=_parse("CALLHOUSE_MEDIA_BYTES_PER_SECOND", value, _positive),
        downloads=_parse("CALLHOUSE_MEDIA_DOWNLOADS", value, _downloads),
        allow_private=_parse("CALLHOUSE_MEDIA_ALLOW_PRIVATE", value, _flag),
    )


def _downloads(text: str) -> int:
    number = _positive(text)
    if number > 64:
        raise ValueError("it must be at most 64")
    return number


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("it must be 0 or 1")
    return text == "1"


def _config_file(value: Callable[[str], str], *, is_named: bool) -> ConfigFile:
    try:
        return load_config_file(Path(value("CALLHOUSE_CONFIG")), is_required=is_named)
    except ValueError as error:
        raise SettingsError(
            str(error), hint=f"{docs('reference/config-file.md')} lists what it can have."
        ) from None


def _refuse_undecodable(values: Mapping[str, str]) -> None:
    """Raise SettingsError here for a key that is not UTF-8, not at each event."""
    for name, text in values.items():
        is_ours = any(name == setting.name for setting in SETTINGS) or _KEY_NAME.fullmatch(name)
        if is_ours and re.search("[\ud800-\udfff]", text):
            raise SettingsError(f"{name} is not UTF-8")


def _refuse_unknown(values: Mapping[str, str]) -> None:
    known = [setting.name for setting in SETTINGS]
    services = _services(values)
    for name in sorted(values):
        if not name.startswith(("CALLHOUSE_", "RETELL_")) or name in {*known, *_OF_THE_SDK}:
            continue
        if _KEY_NAME.fullmatch(name):
            continue
        if not any(
            name.startswith(service) and _OF_A_SERVICE.fullmatch(name.removeprefix(service))
            for service in services
        ):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise SettingsError(f"{name} is not a setting", hint=f"Did you mean {nearest}?")


def _services(values: Mapping[str, str]) -> list[str]:
    """The prefixes of Kubernetes' variables: each service has one with its address."""
    found = []
    for name, value in values.items():
        if name.endswith("_SERVICE_HOST"):
            with suppress(ValueError):
                ip_address(value)
                found.append(name.removesuffix("SERVICE_HOST"))
    return found


def _parse(name: str, value: Callable[[str], str], parse: Callable[[str], T]) -> T:
    try:
        return parse(value(name))
    except ValueError as error:
        # The value is not repeated: it may contain a password.
        raise SettingsError(f"{name} is not valid: {error}") from None


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) == 0:
        raise ValueError("it must be a whole number above 0")
    return int(text)


def _password_hash(text: str) -> str | None:
    if text and not _PASSWORD_HASH.fullmatch(text):
        raise ValueError("it must be a hash printed by `datasette hash-password`")
    return text or None


def _with_port(bind: Bind, port: str) -> Bind:
    if not port:
        return bind
    try:
        return parse_bind(f"[{bind.host}]:{port}" if ":" in bind.host else f"{bind.host}:{port}")
    except ValueError:
        raise SettingsError("PORT is not valid: it must be a port number") from None


def timezone_name(name: str) -> str:
    """Return the name. Raises ValueError if it is not an IANA time zone."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError("it must be an IANA time zone, such as Europe/Berlin") from None
    return name


def _health_bind(value: Callable[[str], str], receiver: Bind) -> Bind | None:
    if not value("CALLHOUSE_HEALTH_BIND"):
        return None
    bind = _parse("CALLHOUSE_HEALTH_BIND", value, parse_bind)
    if bind.port == receiver.port:
        raise SettingsError(
            "CALLHOUSE_HEALTH_BIND is not valid: it must be another port than CALLHOUSE_BIND"
        )
    return bind


def _workers(text: str) -> int:
    if text:
        return _positive(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
