"""What the coordinator keeps, handed to every handler beside the request.

Runs in: coordinator.
Owns: what its parts own; each says so.
Fails: `StateFileError` at start, when a file and its backup are unreadable.
"""

from dataclasses import dataclass, field
from random import Random

from appliance.clock import Now
from appliance.config import Config

from appliance.broker.effects import Connection, Push
from appliance.broker.kept.clients import Clients, ConsumerGroup
from appliance.broker.kept.delays import Delays
from appliance.broker.kept.groups import Groups
from appliance.broker.kept.locks import QueueLocks
from appliance.broker.kept.offsets import ConsumeOffsets
from appliance.broker.kept.subscriptions import SharedSubscriptions
from appliance.broker.kept.topics import Topics
from appliance.broker.store import StoreView

REGION = "DefaultRegion"
"""Told to producers with every answer (regionId)."""


@dataclass(slots=True)
class State:
    """Everything a handler may read or change."""

    config: Config
    topics: Topics
    groups: Groups
    offsets: ConsumeOffsets
    subscriptions: SharedSubscriptions
    delays: Delays
    store: StoreView
    store_host: bytes
    """Address and port under which this broker's records are stored, 8 or 20 bytes."""
    random: Random
    clients: Clients = field(default_factory=Clients)
    locks: QueueLocks = field(default_factory=QueueLocks)
    now: Now = field(default_factory=lambda: Now(0, 0))
    """Of the present step. Handlers measure intervals by its monotonic part."""
    started_ms: int = 0
    recovering: bool = False
    """A predecessor died: the frontends are still telling who is connected."""

    def begin(self, *, first: bool) -> bool:
        """Whether requests can be served: the writer has said how far every queue goes.

        `first`: nobody was served before us. A power cut may have taken what a group had read.
        """
        if not self.topics.bound:
            return False
        if first:
            self.offsets.cap(self._end_of)
        return True

    def _end_of(self, topic: str, queue: int) -> int | None:
        """Behind a queue's last message; None when there is no such queue."""
        if self.topics.queue_row(topic, queue) < 0:
            return None
        return self.store.bounds(topic, queue)[1]

    def notices(self, group: ConsumerGroup) -> list[Push]:
        """Tell a group's members that it changed, if it likes to know.

        While a registry is filled again nobody is told: everybody will be, once it is whole.
        """
        config = self.groups.get(group.name)
        quiet = self.recovering or (config is not None and not config.notify_enabled)
        return [] if quiet else group.notices()

    def left(self, group: ConsumerGroup) -> list[Push]:
        """What follows when a consumer has left a group."""
        if not group.members:
            self.subscriptions.hide(group.name)
        return self.notices(group)

    def disconnected(self, connection: Connection) -> list[Push]:
        """What follows when a connection is gone (ConsumerManager.doChannelCloseEvent)."""
        return [push for group in self.clients.forget(connection) for push in self.left(group)]
