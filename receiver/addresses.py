"""Addresses to listen on."""

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address

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


def parse_bind(text: str) -> Bind:
    """HOST:PORT as an address. Raises ValueError."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):([0-9]{1,5})", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError("it must be HOST:PORT, such as 127.0.0.1:8000")
    return Bind(match[1].strip("[]"), int(match[2]))


def require_free(bind: Bind, setting: str) -> None:
    """Raise SettingsError if somebody listens on `bind` already, or it is not this machine's."""
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind.host, bind.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {bind}: {error.strerror}",
                hint=f"Stop what listens there, or set {setting} to another address.",
            ) from None
