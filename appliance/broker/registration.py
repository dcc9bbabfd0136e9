"""The broker tells every NameServer which topics it serves.

Runs in: coordinator.
Owns: one connection to each configured NameServer.
Fails: never; a NameServer that cannot be reached is tried again and holds up no other.

Whole at start, every 30 s, and whenever a connection has come up again; a topic that was created or
changed is announced at once (nameserver.md section 9). To one NameServer there is one request under
way at a time, since a NameServer may reorder two. The whole table comes first: it refuses a new
broker's table of a single topic.
"""

import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.clock import Now
from appliance.config import Broker
from appliance.net import json_text, requests
from appliance.net.frame import Frame
from appliance.net.json_text import JsonError
from appliance.net.link import Connect, Link, connect_tcp
from appliance.net.responses import SUCCESS

from appliance.broker.kept.topics import TopicConfig, Topics

logger = logging.getLogger(__name__)

PERIOD_NS = 30_000_000_000
RETRY_NS = 1_000_000_000
TIMEOUT_NS = 6_000_000_000
FAREWELL_NS = 1_000_000_000
"""How long a NameServer may take to hear that we leave."""


@dataclass(slots=True)
class _Tie:
    """What one NameServer knows of us."""

    link: Link
    known_connection: int = 0
    """The connection on which it was told the whole table; it forgets us when that breaks."""
    due_ns: int = 0
    """When it is told the whole table again."""
    asking: bool = False
    changed: dict[str, None] = field(default_factory=dict)
    """Topics that it has not heard of yet."""
    failed: bool = False
    silent: bool = False
    """It has not answered in time: the connection may be dead without a word having come."""
    left: bool = False

    @property
    def whole_due(self) -> bool:
        """Whether this connection has not carried the whole table."""
        return self.known_connection != self.link.connections


class Registration:
    """The ties to all NameServers."""

    def __init__(self, broker: Broker, topics: Topics, connect: Connect = connect_tcp) -> None:
        self._broker = broker
        self._topics = topics
        self._ties = [_Tie(Link(address, connect)) for address in broker.nameservers]
        self._leaving_ns = 0
        self._ordered: set[str] = set()

    @property
    def links(self) -> list[Link]:
        """To wait on."""
        return [tie.link for tie in self._ties]

    @property
    def busy(self) -> bool:
        """Whether an answer or a connection on its way is awaited."""
        links = (tie.link for tie in self._ties)
        coming = any(link.fileno() >= 0 and not link.connected for link in links)
        return coming or any(tie.asking for tie in self._ties)

    @property
    def cut_off(self) -> bool:
        """Whether a NameServer is to be tried again in a moment."""
        return any(not tie.link.connected for tie in self._ties)

    def announce(self, changed: Iterable[TopicConfig]) -> None:
        """Topics that every NameServer must hear of now."""
        names = dict.fromkeys(config.name for config in changed)
        for tie in self._ties:
            tie.changed |= names

    def step(self, now: Now) -> int:
        """Send and receive what can be; how much was done."""
        work = 0
        for tie in self._ties:
            work += tie.link.step(now)
            if tie.silent:
                tie.link.close()
                tie.silent = False
            if tie.link.connected and not tie.asking and not self._leaving_ns:
                work += self._tell(tie, now)
        return work

    def take_ordered(self) -> set[str]:
        """Topics that a NameServer declares ordered (namespace ORDER_TOPIC_CONFIG)."""
        ordered, self._ordered = self._ordered, set()
        return ordered

    def leave(self, now: Now) -> bool:
        """Tell every NameServer that we go; True when all know or had their time."""
        if not self._leaving_ns:
            self._leaving_ns = now.monotonic_ns + FAREWELL_NS
            for tie in self._ties:
                self._bid_farewell(tie)
        self.step(now)
        return now.monotonic_ns >= self._leaving_ns or all(tie.left for tie in self._ties)

    def close(self) -> None:
        """End the connections."""
        for tie in self._ties:
            tie.link.close()

    # One NameServer ------------------------------------------------------------------------------

    def _tell(self, tie: _Tie, now: Now) -> int:
        if now.monotonic_ns < tie.due_ns and tie.failed:
            return 0
        if tie.whole_due or now.monotonic_ns >= tie.due_ns:
            self._register(tie, self._topics, now)
        elif tie.changed:
            changed = (self._topics.get(name) for name in tie.changed)
            self._register(tie, [config for config in changed if config is not None], now)
        else:
            return 0
        return 1

    def _register(self, tie: _Tie, topics: Iterable[TopicConfig], now: Now) -> None:
        connection, whole = tie.link.connections, topics is self._topics
        tie.asking, tie.changed = True, {}

        def done(response: Frame | None) -> None:
            tie.asking, tie.silent = False, response is None
            self._hear(tie, response)
            if tie.failed:
                tie.due_ns = now.monotonic_ns + RETRY_NS
                tie.known_connection = 0
            elif whole:
                tie.due_ns = now.monotonic_ns + PERIOD_NS
                tie.known_connection = connection

        frame = registration(self._broker, self._topics, topics)
        tie.link.request(frame, done, deadline_ns=now.monotonic_ns + TIMEOUT_NS)

    def _hear(self, tie: _Tie, response: Frame | None) -> None:
        """Takes over what the answer says; logs only what is news."""
        code = None if response is None else response.code
        was_failed, tie.failed = tie.failed, code != SUCCESS
        if response is not None and tie.failed and not was_failed:
            logger.warning("%s refuses: %s %s", tie.link.address, code, response.remark)
        if response is not None and response.body and not tie.failed:
            self._ordered |= _ordered_topics(response.body)

    def _bid_farewell(self, tie: _Tie) -> None:
        if not tie.link.connected:
            tie.left = True
            return

        def done(_: Frame | None) -> None:
            tie.left = True

        header = _identity(self._broker)
        frame = requests.ask("UNREGISTER_BROKER", header)
        tie.link.request(frame, done, deadline_ns=self._leaving_ns)


def _identity(broker: Broker) -> dict[str, object]:
    return {
        "brokerName": broker.name,
        "brokerAddr": broker.address,
        "clusterName": broker.cluster,
        "brokerId": broker.id,
    }


def registration(broker: Broker, topics: Topics, chosen: Iterable[TopicConfig]) -> Frame:
    """REGISTER_BROKER with some or all topics; plain JSON, as real brokers send it."""
    wrapper = {
        "mappingDataVersion": topics.version.to_json(),
        "topicQueueMappingDetailMap": {},
        "topicQueueMappingInfoMap": {},
    }
    body = json_text.dumps(
        {"filterServerList": [], "topicConfigSerializeWrapper": topics.to_json(chosen) | wrapper}
    )
    header = _identity(broker) | {
        "haServerAddr": broker.ha_address,
        "enableActingMaster": False,
        "compressed": False,
        "bodyCrc32": zlib.crc32(body) & 0x7FFFFFFF,
    }
    return requests.ask("REGISTER_BROKER", header, body)


def _ordered_topics(body: bytes) -> set[str]:
    """The keys of a KVTable."""
    try:
        value = json_text.loads(body)
    except JsonError:
        return set()
    table = value.get("table") if isinstance(value, dict) else None
    return set(table) if isinstance(table, dict) else set()
