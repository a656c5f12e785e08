"""callhouse.toml: settings that do not fit an environment variable, parsed strictly and once.

A table for each subject, each parsed by one function of `_TABLES`. Messages name the key that is
wrong and never repeat a value: it may be a secret.
"""

import base64
import binascii
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from receiver.config_checks import named_tables, require_int, require_known, table, url
from receiver.grading_settings import GradingSettings, parse_grading
from receiver.inbound_rules import InboundRule, parse_inbound
from receiver.jobs.alert_rules import AlertSettings, parse_alerts

# The jobs of `callhouse work`, and how many seconds are between two runs of each.
INTERVALS = MappingProxyType(
    {
        "roll_up": 60,
        "recordings": 30,
        "forward": 1,
        "alerts": 60,
        "digest": 900,
        "grade": 3_600,
        "sync": 3_600,
        "coverage": 86_400,
        "prune": 86_400,
        "backup": 86_400,
    }
)
_MAX_SECONDS = 366 * 86_400
_MAX_KEPT = 10_000
# By Standard Webhooks: 24 to 64 bytes, in base64, after this prefix. Source:
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = (24, 64)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that events are forwarded to. `events` None is all of them.

    With a `secret`, requests are signed in the Standard Webhooks format; without one, they have
    the signature that Retell made.
    """

    name: str
    url: str
    events: frozenset[str] | None = None
    secret: bytes | None = field(default=None, repr=False)

    def wants(self, event: str | None) -> bool:
        """Whether an event is forwarded to it."""
        return self.events is None or event in self.events


@dataclass(frozen=True, slots=True)
class Backup:
    """Where the backup job writes, and how many backups are kept.

    `to` is empty if it is disabled. `elsewhere`: another program makes backups.
    """

    to: str = ""
    keep: int = 7
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The parsed file. `intervals` has the seconds of every job; 0 is never."""

    public_url: str | None = None
    intervals: Mapping[str, int] = field(default_factory=lambda: dict(INTERVALS))
    backup: Backup = Backup()
    forward: tuple[Target, ...] = ()
    alerts: AlertSettings = field(default_factory=AlertSettings)
    inbound: tuple[InboundRule, ...] = ()
    grading: GradingSettings = field(default_factory=GradingSettings)


def load_config_file(path: Path, *, is_required: bool) -> ConfigFile:
    """Parse the file; the defaults if there is none and none is required.

    Raises ValueError with a message for a person.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if is_required:
            raise ValueError(f"there is no file {path}") from None
        return ConfigFile()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The end of the message is the position; the text before it could repeat a value.
        place = re.search(r"\(.*\)$", str(error))
        raise ValueError(f"{path} is not TOML {place[0] if place else ''}".strip()) from None
    try:
        require_known(values, _TABLES, "the file")
        parsed = {name: parse(values[name]) for name, parse in _TABLES.items() if name in values}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return ConfigFile(**{_FIELDS.get(name, name): value for name, value in parsed.items()})


def _intervals(value: Any) -> Mapping[str, int]:
    found = table(value, "jobs")
    require_known(found, INTERVALS, "[jobs]")
    for name, seconds in found.items():
        require_int(seconds, 0, _MAX_SECONDS, f"jobs.{name}, in seconds,")
    return dict(INTERVALS) | found


def _backup(value: Any) -> Backup:
    require_known(table(value, "backup"), ("to", "keep", "elsewhere"), "[backup]")
    found = Backup(**value)
    if not isinstance(found.to, str):
        raise ValueError("backup.to must be text")
    if not isinstance(found.elsewhere, bool):
        raise ValueError("backup.elsewhere must be true or false")
    require_int(found.keep, 1, _MAX_KEPT, "backup.keep")
    return found


def _targets(value: Any) -> tuple[Target, ...]:
    found = named_tables(value, "[[forward]]", "targets")
    return tuple(_target(name, each) for name, each in found.items())


def _target(name: str, value: dict[str, Any]) -> Target:
    require_known(value, ("name", "url", "events", "sign", "secret"), "[[forward]]")
    where = f"the target {name}"
    events = value.get("events")
    if events is not None and (
        not isinstance(events, list) or not all(isinstance(event, str) for event in events)
    ):
        raise ValueError(f"events of {where} must be a list of names")
    sign = value.get("sign", "retell")
    if sign not in ("retell", "standard"):
        raise ValueError(f'sign of {where} must be "retell" or "standard"')
    if (sign == "standard") != ("secret" in value):
        raise ValueError(f'{where}: a secret belongs to sign = "standard", and only to it')
    return Target(
        name=name,
        url=url(value.get("url"), f"url of {where}"),
        events=None if events is None else frozenset(events),
        secret=_secret(value["secret"], where) if sign == "standard" else None,
    )


def _secret(value: Any, where: str) -> bytes:
    message = (
        f"secret of {where} must be {_SECRET_PREFIX} and "
        f"{_SECRET_BYTES[0]} to {_SECRET_BYTES[1]} bytes in base64"
    )
    if not isinstance(value, str) or not value.startswith(_SECRET_PREFIX):
        raise ValueError(message)
    try:
        secret = base64.b64decode(value.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(message) from None
    if not _SECRET_BYTES[0] <= len(secret) <= _SECRET_BYTES[1]:
        raise ValueError(message)
    return secret


def _public_url(value: Any) -> str:
    return url(value, "public_url")


# Name in the file -> its parser.
_TABLES: dict[str, Callable[[Any], Any]] = {
    "public_url": _public_url,
    "jobs": _intervals,
    "backup": _backup,
    "forward": _targets,
    "alerts": parse_alerts,
    "inbound": parse_inbound,
    "grading": parse_grading,
}
_FIELDS = {"jobs": "intervals"}
