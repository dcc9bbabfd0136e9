"""The NameServer's settings under Apache's names, changeable at run time by request 318.

Runs in: nameserver.
Owns: names, types and defaults of the settings (nameserver.md section 1).
Fails: never on what a peer sent; a value that does not parse is left as it was, as in Apache.

Apache's thread pools and queues have no counterpart here, so their settings are not listed.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from appliance.net import fields as header


@dataclass(slots=True)
class Settings:
    """One field a setting; on the wire its name is in camel case."""

    listen_port: int = 9876
    scan_not_active_broker_interval: int = 5_000
    """Milliseconds between two looks for brokers that are overdue."""
    server_channel_max_idle_time_seconds: int = 120
    need_wait_for_service: bool = False
    wait_seconds_for_service: int = 45
    """So long after its start a NameServer refuses to tell routes, if it is to wait."""
    order_message_enable: bool = False
    """Add the queues of ordered topics to routes."""
    return_order_topic_config_to_broker: bool = True
    support_acting_master: bool = False
    """Show the slave that acts for a lost master as the master."""
    notify_min_broker_id_changed: bool = False
    delete_topic_with_broker_registration: bool = False
    """A registration removes the broker's topics that it does not list."""
    enable_all_topic_list: bool = True
    enable_topic_list: bool = True
    kv_config_path: str = ""
    """Where the KV table is kept; nowhere if empty."""
    config_store_path: str = ""
    """Where changed settings are kept; nowhere if empty."""
    config_black_list: str = "configBlackList;configStorePath;kvConfigPath"

    @classmethod
    def kept_in(cls, folder: str, port: int) -> "Settings":
        """The defaults, with the files that are kept in a folder (Apache: ~/namesrv)."""
        return cls(
            listen_port=port,
            kv_config_path=os.path.join(folder, "kvConfig.json"),
            config_store_path=os.path.join(folder, "namesrv.properties"),
        )

    def allowed(self, changes: Mapping[str, str]) -> dict[str, str]:
        """The changes without those that no request may make."""
        refused = {*self.config_black_list.split(";"), "rocketmqHome"}
        return {name: value for name, value in changes.items() if name not in refused}

    def apply(self, changes: Mapping[str, str]) -> None:
        """Take over known settings; the port stays, since the socket is open already."""
        for name, kind in _KINDS.items():
            text = changes.get(_wire(name))
            value = None if text is None or name == "listen_port" else _READERS[kind](text)
            if value is not None:
                setattr(self, name, value)

    def text(self) -> str:
        """All settings as `key=value` lines, sorted."""
        return format_properties({_wire(name): header.text(getattr(self, name)) for name in _KINDS})


def parse_properties(text: str) -> dict[str, str]:
    """Java's `Properties`, without its escapes, which Apache does not write either.

    Raises:
        ValueError: a line has no name.
    """
    pairs = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        if not line.strip() or name.startswith(("#", "!")):
            continue
        if not name.strip():
            raise ValueError(f"no name in {line!r}")
        pairs[name.strip()] = value.strip()
    return pairs


def format_properties(pairs: Mapping[str, str]) -> str:
    """`key=value` lines, sorted by key (remoting.md section 13.4)."""
    return "".join(f"{name}={value}\n" for name, value in sorted(pairs.items()))


def _wire(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_KINDS: dict[str, Any] = {field.name: field.type for field in fields(Settings)}
_READERS: dict[Any, Any] = {
    int: header.parse("x:i64")[0].read,
    bool: header.parse("x:bool")[0].read,
    str: str,
}
