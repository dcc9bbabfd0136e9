"""What one NameServer knows: the tables of nameserver.md section 2, and the effects of requests.

Runs in: nameserver.
Owns: brokers, their liveness, topics and their queues; the KV table; the list of effects.
Fails: asserts that its tables agree.

Nothing here is shared between NameServers or with a broker. Times are milliseconds of a monotonic
clock, so that a jump of the wall clock takes no broker for dead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appliance.net.frame import Frame

from appliance.namesrv.settings import Settings

MASTER_ID = 0
INHERIT, WRITE, READ = 1, 2, 4
"""Permission bits of a topic's queues on one broker."""
UNIT, UNIT_SUBSCRIPTION = 1, 2
"""Bits of topicSysFlag."""
BROKER_TIMEOUT_MS = 120_000
"""A broker that says nothing else is forgotten after so long a silence."""


class DataVersion(NamedTuple):
    """How new a broker's topic table is. Here only equality counts, unless two claim one id."""

    counter: int = 0
    stateVersion: int = 0  # noqa: N815 - the name on the wire
    timestamp: int = 0


NO_VERSION = DataVersion()


class BrokerKey(NamedTuple):
    """What the live table is keyed by."""

    cluster: str
    address: str


@dataclass(slots=True)
class QueueData:
    """A topic's queues on one broker name; master and slaves share it."""

    broker_name: str
    read_queue_count: int
    write_queue_count: int
    perm: int
    sys_flag: int

    def body(self) -> dict[str, object]:
        """As in TopicRouteData."""
        return {
            "brokerName": self.broker_name,
            "perm": self.perm,
            "readQueueNums": self.read_queue_count,
            "topicSysFlag": self.sys_flag,
            "writeQueueNums": self.write_queue_count,
        }


@dataclass(slots=True)
class BrokerGroup:
    """A master and its slaves: Apache's BrokerData. The name is unique across clusters."""

    name: str
    cluster: str
    addresses: dict[int, str] = field(default_factory=dict)
    zone: str | None = None
    acting_master: bool = False
    """Whether its slaves may act for a lost master."""

    def body(self, addresses: dict[int, str] | None = None) -> dict[str, object]:
        """As in TopicRouteData and ClusterInfo; absent members are left out."""
        zone = {} if self.zone is None else {"zoneName": self.zone}
        return {
            "brokerAddrs": self.addresses if addresses is None else addresses,
            "brokerName": self.name,
            "cluster": self.cluster,
            "enableActingMaster": self.acting_master,
            **zone,
        }


@dataclass(slots=True)
class LiveBroker:
    """One broker process that is believed to run."""

    seen_ms: int
    timeout_ms: int
    version: DataVersion
    connection: int
    """The one that registered last; the broker is forgotten when it closes."""
    ha_address: str | None


class Close(NamedTuple):
    """Effect: close a connection."""

    connection: int
    reason: str


class Notify(NamedTuple):
    """Effect: send a one-way frame to a broker's own port."""

    address: str
    frame: Frame


class Save(NamedTuple):
    """Effect: replace a file; the answer waits for it."""

    path: str
    content: bytes


Effect = Close | Notify | Save


@dataclass(slots=True)
class State:
    """The tables, and what the handlers want done beside answering."""

    settings: Settings = field(default_factory=Settings)
    started_ms: int = 0
    clusters: dict[str, set[str]] = field(default_factory=dict)
    groups: dict[str, BrokerGroup] = field(default_factory=dict)
    live: dict[BrokerKey, LiveBroker] = field(default_factory=dict)
    topics: dict[str, dict[str, QueueData]] = field(default_factory=dict)
    """topic -> broker name -> queues."""
    filter_servers: dict[BrokerKey, list[str]] = field(default_factory=dict)
    mappings: dict[str, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Static topics: topic -> broker name -> TopicQueueMappingInfo as it came."""
    kv: dict[str, dict[str, str]] = field(default_factory=dict)
    """namespace -> key -> value; alone of all this it survives a restart."""
    effects: list[Effect] = field(default_factory=list)

    def take_effects(self) -> list[Effect]:
        """What the last handler wants done, once."""
        taken, self.effects = self.effects, []
        return taken

    def queues_of(self, broker_name: str) -> Iterator[tuple[str, QueueData]]:
        """Each topic of a broker name, with its queues there."""
        for topic, brokers in self.topics.items():
            if broker_name in brokers:
                yield topic, brokers[broker_name]

    def remove_topic(self, topic: str, broker_names: set[str]) -> None:
        """Take a topic from some broker names, and altogether when none is left."""
        brokers = self.topics.get(topic, {})
        for name in broker_names & brokers.keys():
            del brokers[name]
        if not brokers:
            self.topics.pop(topic, None)
