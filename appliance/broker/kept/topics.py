"""Topics: their configuration, kept in topics.json and mirrored in the shared topic table.

Runs in: coordinator.
Owns: config/topics.json; the shared tables of topics and of queue places.
Fails: `OSError` from the disk, before anybody saw the change; `TableFull` of the shared tables.

A change is on disk before it is published: a client that was told of a topic finds it after any
crash. Which topic changed since the last registration with the NameServers is remembered here too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from appliance.ring.tables import TOPIC_PULL, TOPIC_SEND, QueueTable, TopicTable

from appliance.broker import names
from appliance.broker.kept.file import DataVersion, StateFile

PERM_READ, PERM_WRITE, PERM_INHERIT = 4, 2, 1
PERM_READ_WRITE = PERM_READ | PERM_WRITE

QUEUES_MAX = 65_536
"""Queues of one topic."""

SYSTEM_FLAG_UNIT, SYSTEM_FLAG_UNIT_SUBSCRIBED = 1, 2
"""Bits of topicSysFlag (TopicSysFlag)."""


_FLAGS = (1 << 31) - 1
"""What the shared table and the answers to pulls can hold of an int."""


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """One topic, as Apache's TopicConfig."""

    name: str
    read_queues: int = 16
    write_queues: int = 16
    perm: int = PERM_READ_WRITE
    filter_type: str = "SINGLE_TAG"
    system_flag: int = 0
    order: bool = False
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def queue_count(self) -> int:
        """Queues that may hold messages."""
        return max(self.read_queues, self.write_queues)

    @property
    def readable(self) -> bool:
        """Whether its perm lets consumers pull."""
        return bool(self.perm & PERM_READ)

    @property
    def compacted(self) -> bool:
        """Whether only the last message of a key is kept, so that each needs one."""
        return self.attributes.get("cleanup.policy") == "COMPACTION"

    @property
    def plain(self) -> bool:
        """Whether a send to it is stored as it comes: the frontends need nobody's advice.

        Its own perm is not looked at, as in Apache's broker: routes hide what is not writable.
        """
        special = self.name in names.FORBIDDEN_TOPICS or self.name.startswith(names.RETRY_PREFIX)
        return not special and not self.compacted and self.filter_type == "SINGLE_TAG"

    def to_json(self) -> dict[str, Any]:
        """As it stands in files and bodies, in Java's order."""
        return {
            "attributes": self.attributes,
            "order": self.order,
            "perm": self.perm,
            "readQueueNums": self.read_queues,
            "topicFilterType": self.filter_type,
            "topicName": self.name,
            "topicSysFlag": self.system_flag,
            "writeQueueNums": self.write_queues,
        }

    @staticmethod
    def from_json(name: str, value: dict[str, Any]) -> "TopicConfig":
        """From a file or body; what is absent is as in a fresh Java object."""
        return TopicConfig(
            name=name,
            read_queues=int(value.get("readQueueNums", 16)),
            write_queues=int(value.get("writeQueueNums", 16)),
            perm=int(value.get("perm", PERM_READ_WRITE)) & _FLAGS,
            filter_type=str(value.get("topicFilterType") or "SINGLE_TAG"),
            system_flag=int(value.get("topicSysFlag") or 0) & _FLAGS,
            order=bool(value.get("order", False)),
            attributes=dict(value.get("attributes") or {}),
        )

    def __str__(self) -> str:
        """As Java's toString, which clients find in remarks."""
        attributes = ", ".join(f"{key}={value}" for key, value in self.attributes.items())
        return (
            f"TopicConfig [topicName={self.name}, readQueueNums={self.read_queues}, "
            f"writeQueueNums={self.write_queues}, perm={_perm_text(self.perm)}, "
            f"topicFilterType={self.filter_type}, topicSysFlag={self.system_flag}, "
            f"order={str(self.order).lower()}, attributes={{{attributes}}}]"
        )


def _perm_text(perm: int) -> str:
    """PermName.perm2String."""
    bits = ((PERM_READ, "R"), (PERM_WRITE, "W"), (PERM_INHERIT, "X"))
    return "".join(letter if perm & bit else "-" for bit, letter in bits)


class Topics:
    """All topics of this broker."""

    def __init__(self, file: StateFile, topics: TopicTable, queues: QueueTable) -> None:
        self._file = file
        self._topics = topics
        self._queues = queues
        self._configs: dict[str, TopicConfig] = {}
        self._changed: dict[str, None] = {}
        self._unbound: list[tuple[int, int]] = []
        self.version = DataVersion()

    def load(self) -> None:
        """Read the file. Nothing is published before `publish_all`."""
        self._file.load(self._read)

    def _read(self, value: dict[str, Any]) -> None:
        table = value["topicConfigTable"]
        self._configs = {name: TopicConfig.from_json(name, item) for name, item in table.items()}
        self.version = DataVersion.from_json(value.get("dataVersion"))

    def publish_all(self) -> None:
        """Show every topic to the other processes; harmless when they see it already."""
        for config in self._configs.values():
            self._publish(config, self._reserve(config))

    def get(self, name: str) -> TopicConfig | None:
        """A topic's configuration."""
        return self._configs.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._configs

    def __iter__(self) -> Iterator[TopicConfig]:
        return iter(self._configs.values())

    def __len__(self) -> int:
        return len(self._configs)

    def row(self, name: str) -> int:
        """Its row in the shared table, or -1."""
        return self._topics.find(name) if name in self._configs else -1

    def name(self, row: int) -> str:
        """The name of a row, of a deleted topic too."""
        return self._topics.name(row)

    def queue_row(self, name: str, queue_id: int) -> int:
        """The row of one of its queues in the shared queue table, or -1."""
        config = self._configs.get(name)
        if config is None or not 0 <= queue_id < config.queue_count:
            return -1
        return int(self._topics.rows["queue_base"][self._topics.find(name)]) + queue_id

    def put(self, *configs: TopicConfig, now_ms: int) -> None:
        """Create or change topics: on disk first, then for all to see."""
        free = self._queues.used
        bases = [self._reserve(config) for config in configs]
        try:
            self._save({**self._configs, **{config.name: config for config in configs}}, now_ms)
        except OSError:
            self._queues.give_back(free)
            raise
        for config, base in zip(configs, bases, strict=True):
            self._publish(config, base)
            self._changed[config.name] = None

    def ensure(self, config: TopicConfig, *, now_ms: int) -> TopicConfig:
        """The topic of that name, created as given if there is none."""
        if config.name not in self._configs:
            self.put(config, now_ms=now_ms)
        return self._configs[config.name]

    def remove(self, name: str, *, now_ms: int) -> None:
        """Forget a topic."""
        rest = {key: config for key, config in self._configs.items() if key != name}
        self._save(rest, now_ms)
        self._topics.remove(name)

    def take_changed(self) -> list[TopicConfig]:
        """Topics that were put since the last call, for the NameServers."""
        names, self._changed = self._changed, {}
        return [self._configs[name] for name in names if name in self._configs]

    @property
    def bound(self) -> bool:
        """Whether the writer has filled in the offsets of every queue.

        Rows that no topic refers to are left out: a predecessor reserved them, and died.
        """
        return all(self._bound(config) for config in self._configs.values())

    def _bound(self, config: TopicConfig) -> bool:
        base = int(self._topics.rows["queue_base"][self._topics.find(config.name)])
        return bool(self._queues.offsets["bound"][base : base + config.queue_count].all())

    def take_unbound(self) -> list[tuple[int, int]]:
        """(first queue row, count) of ranges whose offsets the writer has yet to fill in."""
        unbound, self._unbound = self._unbound, []
        return unbound

    def to_json(self, configs: Iterable[TopicConfig] | None = None) -> dict[str, Any]:
        """As in topics.json, whole or with some topics only."""
        chosen = self._configs.values() if configs is None else configs
        return {
            "dataVersion": self.version.to_json(),
            "topicConfigTable": {config.name: config.to_json() for config in chosen},
        }

    def _save(self, configs: dict[str, TopicConfig], now_ms: int) -> None:
        kept = self._configs, self.version
        self._configs, self.version = configs, self.version.next(now_ms)
        try:
            self._file.save(self.to_json())
        except OSError:
            self._configs, self.version = kept
            raise

    def _reserve(self, config: TopicConfig) -> int:
        """Rows for all of a topic's queues; the first one's number.

        A new topic gets its own row without queues first: nobody sends to it or reads from it yet.
        """
        row = self._topics.find(config.name)
        if row < 0:
            return self._queues.allocate(self._show(config.name), config.queue_count)
        base, size = self._range(row)
        return (
            base if size >= config.queue_count else self._queues.allocate(row, config.queue_count)
        )

    def _range(self, row: int) -> tuple[int, int]:
        """Where a topic's queue rows begin, and how many they are, whatever its configuration says.

        A predecessor may have moved them and died before the topic's row said so.
        """
        base = int(self._topics.rows["queue_base"][row])
        first = self._queues.places[base]
        if first["topic_row"] == row and first["used"] and first["moved_to"] >= 0:
            base = int(first["moved_to"])
        places = self._queues.places[base : base + QUEUES_MAX]
        mine = (places["topic_row"] == row) & (places["used"] == 1) & (places["moved_to"] < 0)
        mine &= places["queue_id"] == np.arange(len(places))
        return base, int(len(mine) if mine.all() else mine.argmin())

    def _publish(self, config: TopicConfig, base: int) -> None:
        """A topic that grew has new rows together, to which its old ones point from now on."""
        old, size = self._range(self._topics.find(config.name))
        if size and old != base:
            self._queues.move(old, size, base)
        flags = (TOPIC_SEND if config.plain else 0) | (TOPIC_PULL if config.readable else 0)
        self._show(
            config.name,
            queue_base=base,
            read_queues=config.read_queues,
            write_queues=config.write_queues,
            perm=config.perm,
            flags=flags,
            system_flag=config.system_flag,
        )
        if config.queue_count:
            self._unbound.append((base, config.queue_count))

    def _show(self, name: str, **fields: int) -> int:
        unset = dict.fromkeys(
            ("queue_base", "read_queues", "write_queues", "perm", "flags", "system_flag"), 0
        )
        return self._topics.publish(name, **{**unset, **fields})
