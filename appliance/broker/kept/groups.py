"""Subscription groups: their configuration, kept in subscriptionGroup.json, and the shared table.

Runs in: coordinator.
Owns: config/subscriptionGroup.json; the shared table of groups.
Fails: `OSError` from the disk, before anybody saw the change; `TableFull` of the shared table.
"""

from collections.abc import Iterator
from typing import Any

from appliance.ring.tables import GROUP_BROADCAST_ENABLE, GROUP_CONSUME_ENABLE, GroupTable

from appliance.broker import names
from appliance.broker.kept.file import DataVersion, StateFile

_DEFAULTS: dict[str, Any] = {
    "attributes": {},
    "brokerId": 0,
    "consumeBroadcastEnable": True,
    "consumeEnable": True,
    "consumeFromMinEnable": True,
    "consumeMessageOrderly": False,
    "consumeTimeoutMinute": 15,
    "groupName": "",
    "groupRetryPolicy": {"type": "CUSTOMIZED"},
    "groupSysFlag": 0,
    "notifyConsumerIdsChangedEnable": True,
    "retryMaxTimes": 16,
    "retryQueueNums": 1,
    "whichBrokerWhenConsumeSlowly": 1,
}
"""A fresh SubscriptionGroupConfig in Java's order (remoting.md section 13.2)."""

_FORBIDDEN_READ = 1 << 2
"""In the forbidden table: the bit PermName.INDEX_PERM_READ."""


class GroupConfig:
    """One group, as Apache's SubscriptionGroupConfig. Never changed, only replaced."""

    __slots__ = ("_values",)

    def __init__(self, **values: Any) -> None:
        """Values by Java's names; those not given are Java's defaults."""
        self._values = {**_DEFAULTS, **values}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "GroupConfig":
        """From a file or body: unknown members are ignored, null is as if it were absent."""
        known = {k: v for k, v in value.items() if k in _DEFAULTS and v is not None}
        typed = {k: _like(_DEFAULTS[k], v) for k, v in known.items()}
        if subscriptions := value.get("subscriptionDataSet"):
            typed["subscriptionDataSet"] = subscriptions
        return GroupConfig(**typed)

    def to_json(self) -> dict[str, Any]:
        """As it stands in files and bodies."""
        return self._values

    def with_attributes(self, attributes: dict[str, str]) -> "GroupConfig":
        """The same with other attributes."""
        return GroupConfig(**{**self._values, "attributes": attributes})

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self._values["groupName"])

    @property
    def attributes(self) -> dict[str, str]:
        """Its attributes, to be changed at will."""
        return dict(self._values["attributes"])

    @property
    def consume_enabled(self) -> bool:
        """Whether its members may pull."""
        return bool(self._values["consumeEnable"])

    @property
    def broadcast_enabled(self) -> bool:
        """Whether every member may read everything."""
        return bool(self._values["consumeBroadcastEnable"])

    @property
    def notify_enabled(self) -> bool:
        """Whether members are told when other members come and go."""
        return bool(self._values["notifyConsumerIdsChangedEnable"])

    @property
    def retry_queues(self) -> int:
        """Queues of its %RETRY% topic; 0 drops what is sent back."""
        return int(self._values["retryQueueNums"])

    @property
    def retry_times_max(self) -> int:
        """How often a message is tried before it is a dead letter."""
        return int(self._values["retryMaxTimes"])

    @property
    def system_flag(self) -> int:
        """Told to consumers with every pull."""
        return int(self._values["groupSysFlag"])

    @property
    def broker_id(self) -> int:
        """From which broker id to read."""
        return int(self._values["brokerId"])

    @property
    def slow_broker_id(self) -> int:
        """From which broker id to read when far behind."""
        return int(self._values["whichBrokerWhenConsumeSlowly"])


def _like(default: object, value: Any) -> Any:
    """A value in the type of its default, as fastjson converts it."""
    if isinstance(default, bool):
        return value.lower() == "true" if isinstance(value, str) else bool(value)
    if isinstance(default, int):
        return int(value)
    return dict(value) if isinstance(default, dict) else str(value)


class Groups:
    """All subscription groups of this broker."""

    def __init__(self, file: StateFile, groups: GroupTable, *, auto_create: bool = True) -> None:
        self._file = file
        self._groups = groups
        self._auto_create = auto_create
        self._configs: dict[str, GroupConfig] = {}
        self._forbidden: dict[str, dict[str, int]] = {}
        self.version = DataVersion()

    def load(self) -> None:
        """Read the file and add the groups that every broker has."""
        self._file.load(self._read)
        for name in names.SYSTEM_GROUPS:
            self._configs.setdefault(name, GroupConfig(groupName=name))

    def _read(self, value: dict[str, Any]) -> None:
        table = value["subscriptionGroupTable"]
        self._configs = {
            name: GroupConfig.from_json({**item, "groupName": name}) for name, item in table.items()
        }
        self._forbidden = {k: dict(v) for k, v in (value.get("forbiddenTable") or {}).items()}
        self.version = DataVersion.from_json(value.get("dataVersion"))

    def publish_all(self) -> None:
        """Show every group to the other processes; harmless when they see it already."""
        for config in self._configs.values():
            self._publish(config)

    def get(self, name: str | None) -> GroupConfig | None:
        """A group's configuration, if it exists."""
        return None if name is None else self._configs.get(name)

    def find(self, name: str | None, *, now_ms: int) -> GroupConfig | None:
        """A group's configuration; a legal name is created when that is allowed.

        Peer: SubscriptionGroupManager.findSubscriptionGroupConfig, whose every caller creates.
        """
        config = self.get(name)
        if config is None and name is not None and self._may_create(name):
            config = GroupConfig(groupName=name)
            self.put(config, now_ms=now_ms)
        return config

    def _may_create(self, name: str) -> bool:
        wanted = self._auto_create or names.is_system_group(name)
        return wanted and names.group_fault(name) is None

    def __contains__(self, name: str) -> bool:
        return name in self._configs

    def __iter__(self) -> Iterator[GroupConfig]:
        return iter(self._configs.values())

    def row(self, name: str) -> int:
        """Its row in the shared table, or -1."""
        return self._groups.find(name) if name in self._configs else -1

    def name(self, row: int) -> str:
        """The name of a row, of a deleted group too."""
        return self._groups.name(row)

    def forbidden(self, group: str, topic: str) -> bool:
        """Whether an administrator forbade the group to read the topic."""
        return bool(self._forbidden.get(group, {}).get(topic, 0) & _FORBIDDEN_READ)

    def put(self, config: GroupConfig, *, now_ms: int) -> None:
        """Create or change a group: on disk first, then for all to see."""
        self._save({**self._configs, config.name: config}, now_ms)
        self._publish(config)

    def remove(self, name: str, *, now_ms: int) -> None:
        """Forget a group."""
        self._save({k: v for k, v in self._configs.items() if k != name}, now_ms)
        self._groups.remove(name)

    def to_json(self) -> dict[str, Any]:
        """As in subscriptionGroup.json."""
        return {
            "dataVersion": self.version.to_json(),
            "forbiddenTable": self._forbidden,
            "subscriptionGroupTable": {k: v.to_json() for k, v in self._configs.items()},
        }

    def _save(self, configs: dict[str, GroupConfig], now_ms: int) -> None:
        kept = self._configs, self.version
        self._configs, self.version = configs, self.version.next(now_ms)
        try:
            self._file.save(self.to_json())
        except OSError:
            self._configs, self.version = kept
            raise

    def _publish(self, config: GroupConfig) -> None:
        flags = GROUP_CONSUME_ENABLE if config.consume_enabled else 0
        flags |= GROUP_BROADCAST_ENABLE if config.broadcast_enabled else 0
        self._groups.publish(
            config.name,
            flags=flags,
            slow_broker_id=config.slow_broker_id,
            broker_id=config.broker_id,
            system_flag=config.system_flag,
        )
