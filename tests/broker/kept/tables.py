"""Shared tables in the test's own memory, and what is kept in them."""

from dataclasses import dataclass, field

from appliance.broker.kept.file import StateFile
from appliance.broker.kept.groups import Groups
from appliance.broker.kept.offsets import ConsumeOffsets
from appliance.broker.kept.subscriptions import SharedSubscriptions
from appliance.broker.kept.topics import Topics
from appliance.ring import tables
from appliance.ring.region import PrivateSegments, Region
from appliance.ring.tables import GroupTable, OffsetTable, QueueTable, SubscriptionTable, TopicTable
from tests.fakes.disk import FakeDisk

NOW_MS = 1_800_000_000_000


@dataclass
class Shared:
    """What outlives a coordinator."""

    disk: FakeDisk = field(default_factory=FakeDisk)
    topics: TopicTable = field(init=False)
    groups: GroupTable = field(init=False)
    offsets: OffsetTable = field(init=False)
    queues: Region = field(init=False)
    subscriptions: SubscriptionTable = field(init=False)

    def __post_init__(self) -> None:
        self.disk.make_directories("/store/config")
        self.forget_memory()

    def forget_memory(self) -> None:
        """As after a start of the whole appliance: only the disk is left."""
        make = PrivateSegments()
        self.topics = TopicTable(tables.create_named(make, "topics", "ap_topic", 64))
        self.groups = GroupTable(tables.create_named(make, "groups", "ap_group", 32))
        self.offsets = OffsetTable(tables.create_keyed(make, "offsets", "ap_offset", 64))
        self.subscriptions = SubscriptionTable(
            tables.create_keyed(make, "subscriptions", "ap_subscription", 64)
        )
        self.queues = tables.create_queues(make, 2048)


@dataclass
class Kept:
    """What a coordinator keeps there; making another one is a restart."""

    shared: Shared
    topics: Topics = field(init=False)
    groups: Groups = field(init=False)
    offsets: ConsumeOffsets = field(init=False)
    subscriptions: SharedSubscriptions = field(init=False)

    def __post_init__(self) -> None:
        shared = self.shared
        self.topics = Topics(self.file("topics"), shared.topics, QueueTable(shared.queues))
        self.topics.load()
        self.topics.publish_all()
        self.groups = Groups(self.file("subscriptionGroup"), shared.groups)
        self.groups.load()
        self.groups.publish_all()
        self.offsets = ConsumeOffsets(
            self.file("consumerOffset"), shared.offsets, self.groups, self.topics
        )
        self.offsets.load()
        self.subscriptions = SharedSubscriptions(shared.subscriptions, self.groups, self.topics)

    def file(self, name: str) -> StateFile:
        return StateFile(self.shared.disk, f"/store/config/{name}.json")
