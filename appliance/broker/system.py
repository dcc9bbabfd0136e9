"""The topics that every broker has.

Runs in: coordinator.
Owns: nothing.
Fails: `OSError` and `TableFull` where `kept.topics` does.

Peer: TopicConfigManager.init (nameserver.md section 10).
"""

from appliance.config import Broker

from appliance.broker import names
from appliance.broker.kept.delays import LEVELS_MS
from appliance.broker.kept.topics import PERM_INHERIT, PERM_READ_WRITE, TopicConfig, Topics

_TEMPLATE = PERM_READ_WRITE | PERM_INHERIT
_REVIVE_QUEUES = 8


def system_topics(broker: Broker) -> list[TopicConfig]:
    """Created at start where they are missing."""
    topics = [
        TopicConfig(broker.cluster, 16, 16, _TEMPLATE),
        TopicConfig(broker.name, 1, 1, _TEMPLATE),
        TopicConfig(names.SELF_TEST_TOPIC, 1, 1),
        TopicConfig(names.OFFSET_MOVED_TOPIC, 1, 1),
        TopicConfig(names.BENCHMARK_TOPIC, 1024, 1024),
        TopicConfig(names.SCHEDULE_TOPIC, len(LEVELS_MS), len(LEVELS_MS)),
        TopicConfig(f"{broker.cluster}_REPLY_TOPIC", 1, 1),
        TopicConfig(f"rmq_sys_REVIVE_LOG_{broker.cluster}", _REVIVE_QUEUES, _REVIVE_QUEUES),
        TopicConfig(f"rmq_sys_SYNC_BROKER_MEMBER_{broker.name}", 1, 1, PERM_INHERIT),
        TopicConfig(names.HALF_TOPIC, 1, 1),
        TopicConfig(names.OP_HALF_TOPIC, 1, 1),
        TopicConfig(names.TIMER_TOPIC, 1, 1),
    ]
    if broker.auto_create_topics:
        queues = broker.default_topic_queues
        topics.append(TopicConfig(names.AUTO_CREATE_TOPIC, queues, queues, _TEMPLATE))
    return topics


def load_topics(topics: Topics, broker: Broker, *, now_ms: int) -> None:
    """Load what is kept, create what is missing, and show all of it."""
    topics.load()
    wanted = [config for config in system_topics(broker) if not _suits(topics, config)]
    if wanted:
        topics.put(*wanted, now_ms=now_ms)
    topics.publish_all()
    topics.take_changed()  # The first registration lists them all.


def _suits(topics: Topics, wanted: TopicConfig) -> bool:
    """A broker with fewer delay levels than ours may have left a queue for each of its own."""
    kept = topics.get(wanted.name)
    if kept is None or wanted.name != names.SCHEDULE_TOPIC:
        return kept is not None
    return min(kept.read_queues, kept.write_queues) >= wanted.write_queues
