"""How one value of broker.toml is written: sizes, durations, names, addresses.

Runs in: every process that prints or splits an address; the rest while a configuration is read.
Owns: nothing.
Fails: ValueError for a value that its kind does not allow.
"""

import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

NAME_PATTERN = re.compile(r"[%|a-zA-Z0-9_-]+")
"""What every character of a topic, group, cluster or broker must match (TopicValidator)."""

VIP_PORT_DISTANCE = 2
"""The VIP port is this far below the port (remoting.md, "Ports")."""


class Kind(NamedTuple):
    """How one kind of value is read. `read` raises ValueError for what is not `allowed`."""

    allowed: str
    read: Callable[[Any], Any]


def number(low: int, high: int) -> Kind:
    """A whole number, ends included."""

    def read(value: Any) -> int:
        return _within(_typed(value, int), low, high)

    return Kind(f"a whole number from {low} to {high}", read)


def size(low: int, high: int) -> Kind:
    """Bytes, as a number or with a unit: `"64KiB"`."""

    def read(value: Any) -> int:
        if type(value) is not int:
            value = _scaled(value, {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB})
        return _within(value, low, high)

    return Kind(f'a size from "{size_text(low)}" to "{size_text(high)}"', read)


def choice(words: Any) -> Kind:
    """One of the words of a Literal type."""
    allowed = tuple(get_args(words))

    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError(value)
        return str(value)

    quoted = [f'"{word}"' for word in allowed]
    return Kind(f"{', '.join(quoted[:-1])} or {quoted[-1]}", read)


def _read_duration(value: Any) -> int:
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    return _within(_scaled(value, units), 1, 36_500 * units["d"])


def _read_name(value: Any) -> str:
    name = _typed(value, str)
    if len(name) > 127 or not NAME_PATTERN.fullmatch(name):
        raise ValueError(name)
    return str(name)


def _read_address(value: Any) -> str:
    address = _typed(value, str)
    host, port = split_address(address)
    _read_host(f"[{host}]" if address.startswith("[") else host)
    _within(port, 1, 65535)
    return str(address)


def _read_addresses(value: Any) -> tuple[str, ...]:
    return tuple(_read_address(item) for item in _typed(value, list))


def _read_broker_address(value: Any) -> str:
    address = _read_address(value)
    _within(split_address(address)[1], VIP_PORT_DISTANCE + 1, 65534)
    return address


def _read_host(value: Any) -> str:
    """An address or a name; an IPv6 address may stand in brackets, and is returned without."""
    host = str(_typed(value, str))
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(value)
    if ":" in host:
        return _ip(socket.AF_INET6, host)
    if re.fullmatch(r"[0-9.]+", host):
        return _ip(socket.AF_INET, host)
    label = r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
    if len(host) > 253 or not re.fullmatch(rf"{label}(\.{label})*\.?", host):
        raise ValueError(host)
    return host


def _read_advertised(value: Any) -> str:
    host = _read_host(value)
    if host in ("0.0.0.0", "::"):
        raise ValueError(host)
    return host


def _read_text(value: Any) -> str:
    text = str(_typed(value, str))
    if not text.strip() or "\0" in text:
        raise ValueError(text)
    return text


def _read_flag(value: Any) -> bool:
    return bool(_typed(value, bool))


FLAG = Kind("true or false", _read_flag)
DURATION = Kind('a duration such as "48h", in ms, s, m, h or d', _read_duration)
NAME = Kind("1 to 127 of the characters a-z A-Z 0-9 % | - _", _read_name)
ADDRESS = Kind('an address such as "127.0.0.1:9876" or "[::1]:9876"', _read_address)
ADDRESSES = Kind('a list of addresses such as ["127.0.0.1:9876"]', _read_addresses)
LISTEN = Kind(
    'an address such as "127.0.0.1:10911", with a port from 3 to 65534 (VIP is two below it, '
    "replication one above)",
    _read_broker_address,
)
ADVERTISED = Kind("an IPv4 or IPv6 address or a host name that clients can reach", _read_advertised)
FOLDER = Kind("the path of a directory", _read_text)


def _typed(value: Any, kind: type) -> Any:
    # Not isinstance: to Python, and not to TOML, true is a number.
    if type(value) is not kind:
        raise ValueError(value)
    return value


def _within(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(value)
    return value


def _scaled(value: Any, units: dict[str, int]) -> int:
    match = re.fullmatch(r"([0-9]{1,15}) ?([a-zA-Z]+)", _typed(value, str))
    if match is None or match[2] not in units:
        raise ValueError(value)
    return int(match[1]) * units[match[2]]


def _ip(family: socket.AddressFamily, host: str) -> str:
    try:
        socket.inet_pton(family, host)
    except OSError as error:
        raise ValueError(host) from error
    return host


def size_text(value: int) -> str:
    """The shortest exact way to write a number of bytes: 1073741824 is `1GiB`."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value % scale == 0:
            return f"{value // scale}{unit}"
    return f"{value}B"


def split_address(address: str) -> tuple[str, int]:
    """Host without brackets, and port, of `host:port` or `[ipv6]:port`. Raises ValueError."""
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+)\]:([0-9]{1,5})|([^:\[\]]+):([0-9]{1,5})", address)
    if match is None:
        raise ValueError(address)
    return match[1] or match[3], int(match[2] or match[4])


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
