"""Who is connected: consumers with their subscriptions, and producers, by group.

Runs in: coordinator.
Owns: the registry, in memory only. After a restart the frontends replay each connection's last
    heartbeat, so it is whole again before any client notices.
Fails: never.

Peers: ConsumerManager, ConsumerGroupInfo, ProducerManager. Time is the monotonic clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appliance.net import requests
from appliance.net.frame import ONEWAY

from appliance.broker.effects import Connection, Push

EXPIRY_NS = 120_000_000_000
"""A client that sent no heartbeat for so long is gone (channelExpiredTimeout)."""


class Member(NamedTuple):
    """One client on one connection."""

    connection: Connection
    client_id: str
    language: int
    version: int
    peer: str
    """The other side's "ip:port"."""
    seen_ns: int
    """Its last heartbeat."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a group reads of a topic, as Apache's SubscriptionData."""

    topic: str
    expression: str = "*"
    version: int = 0
    kind: str = "TAG"
    tags: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    class_filter: bool = False

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Subscription":
        """From a heartbeat; what is absent is as in a fresh Java object."""
        return Subscription(
            topic=str(value.get("topic") or ""),
            expression=str(value.get("subString") or ""),
            version=int(value.get("subVersion") or 0),
            kind=str(value.get("expressionType") or "TAG"),
            tags=tuple(map(str, value.get("tagsSet") or ())),
            codes=tuple(map(int, value.get("codeSet") or ())),
            class_filter=bool(value.get("classFilterMode", False)),
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in bodies, in Java's order."""
        return {
            "classFilterMode": self.class_filter,
            "codeSet": list(self.codes),
            "expressionType": self.kind,
            "subString": self.expression,
            "subVersion": self.version,
            "tagsSet": list(self.tags),
            "topic": self.topic,
        }

    @property
    def by_tags(self) -> bool:
        """Whether tags alone decide (ExpressionType.isTagType)."""
        return self.kind in ("TAG", "")


_CONSUME_TYPES = ("CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP")
_MESSAGE_MODELS = ("BROADCASTING", "CLUSTERING")
_CONSUME_FROM = (
    *("CONSUME_FROM_LAST_OFFSET", "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST"),
    *("CONSUME_FROM_MIN_OFFSET", "CONSUME_FROM_MAX_OFFSET"),
    *("CONSUME_FROM_FIRST_OFFSET", "CONSUME_FROM_TIMESTAMP"),
)


def _enum(value: object, names: tuple[str, ...]) -> str | None:
    """An enum's name as fastjson reads it: in any case, or its ordinal; unknown is null."""
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    name = value.upper() if isinstance(value, str) else ""
    return name if name in names else None


@dataclass(frozen=True, slots=True)
class ConsumerBeat:
    """What a heartbeat says about one group (ConsumerData)."""

    group: str
    consume_type: str | None = None
    message_model: str | None = None
    consume_from: str | None = None
    unit_mode: bool = False
    subscriptions: tuple[Subscription, ...] = ()

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ConsumerBeat":
        """From a heartbeat's body."""
        beats = value.get("subscriptionDataSet") or ()
        return ConsumerBeat(
            group=str(value.get("groupName") or ""),
            consume_type=_enum(value.get("consumeType"), _CONSUME_TYPES),
            message_model=_enum(value.get("messageModel"), _MESSAGE_MODELS),
            consume_from=_enum(value.get("consumeFromWhere"), _CONSUME_FROM),
            unit_mode=bool(value.get("unitMode", False)),
            subscriptions=tuple(map(Subscription.from_json, beats)),
        )


@dataclass(slots=True)
class ConsumerGroup:
    """The live members of a group and what they subscribed to."""

    name: str
    beat: ConsumerBeat
    """The latest one: types and models of members that differ are not reconciled."""
    members: dict[Connection, Member] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    fingerprint: int = 0
    """Of the last heartbeat V2, 0: none."""

    @property
    def broadcasting(self) -> bool:
        """Whether every member reads everything."""
        return self.beat.message_model == "BROADCASTING"

    def notices(self) -> list[Push]:
        """One for every member: clients divide the queues anew."""
        frame = requests.ask(
            "NOTIFY_CONSUMER_IDS_CHANGED", {"consumerGroup": self.name}, flag=ONEWAY
        )
        return [Push(connection, frame) for connection in self.members]

    def subscribe(self, wanted: Iterable[Subscription]) -> bool:
        """Take over a heartbeat's subscriptions; whether topics came or went.

        Peer: ConsumerGroupInfo.updateSubscription: a newer version replaces, an older is ignored.
        """
        beat = {subscription.topic: subscription for subscription in wanted}
        changed = beat.keys() != self.subscriptions.keys()
        for topic, subscription in beat.items():
            old = self.subscriptions.get(topic)
            if old is not None and old.version >= subscription.version:
                beat[topic] = old
        self.subscriptions = beat
        return changed


class Clients:
    """The registry."""

    def __init__(self) -> None:
        self._consumers: dict[str, ConsumerGroup] = {}
        self._producers: dict[str, dict[Connection, Member]] = {}

    def consumers(self, group: str | None) -> ConsumerGroup | None:
        """A group's live consumers."""
        return None if group is None else self._consumers.get(group)

    def consumer_groups(self) -> Iterator[ConsumerGroup]:
        """All groups that have live consumers."""
        return iter(self._consumers.values())

    def producers(self, group: str | None) -> list[Member]:
        """A group's live producers."""
        return [] if group is None else list(self._producers.get(group, {}).values())

    def register_consumer(self, member: Member, beat: ConsumerBeat, *, keep: bool = False) -> bool:
        """Enter a consumer or renew it; whether its group's members or topics changed.

        `keep` leaves the subscriptions as they are: the heartbeat came without them.
        """
        group = self._consumers.setdefault(beat.group, ConsumerGroup(beat.group, beat))
        group.beat = beat
        changed = member.connection not in group.members
        group.members[member.connection] = member
        if not keep:
            changed |= group.subscribe(beat.subscriptions)
        return changed

    def register_producer(self, member: Member, group: str) -> None:
        """Enter a producer or renew it."""
        self._producers.setdefault(group, {})[member.connection] = member

    def unregister_consumer(self, connection: Connection, group: str) -> ConsumerGroup | None:
        """Remove a consumer; its group as it is now, maybe empty, or None if it was no member."""
        registered = self._consumers.get(group)
        if registered is None or registered.members.pop(connection, None) is None:
            return None
        if not registered.members:
            del self._consumers[group]
        return registered

    def unregister_producer(self, connection: Connection, group: str) -> None:
        """Remove a producer."""
        members = self._producers.get(group, {})
        if members.pop(connection, None) is not None and not members:
            del self._producers[group]

    def forget(self, connection: Connection) -> list[ConsumerGroup]:
        """Remove a connection from everywhere; the consumer groups that it left."""
        for name in [k for k, members in self._producers.items() if connection in members]:
            self.unregister_producer(connection, name)
        names = [k for k, group in self._consumers.items() if connection in group.members]
        left = (self.unregister_consumer(connection, name) for name in names)
        return [group for group in left if group is not None]

    def expired(self, *, now_ns: int) -> set[Connection]:
        """Connections of clients that were silent for too long."""
        return {m.connection for m in self._members() if now_ns - m.seen_ns > EXPIRY_NS}

    def connections(self) -> set[Connection]:
        """Every connection with a client on it."""
        return {member.connection for member in self._members()}

    def _members(self) -> Iterator[Member]:
        for group in self._consumers.values():
            yield from group.members.values()
        for members in self._producers.values():
            yield from members.values()
