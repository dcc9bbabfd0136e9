"""Queue locks: one owner, a lease, and nobody frees another's."""

from appliance.broker.kept.locks import LEASE_NS, QueueLocks
from appliance.net.json_text import MessageQueue

QUEUES = [MessageQueue("T", "broker-a", number) for number in range(3)]


def test_a_queue_has_one_owner() -> None:
    locks = QueueLocks()
    assert locks.lock("G", "a", QUEUES[:2], now_ns=0) == QUEUES[:2]
    assert locks.lock("G", "b", QUEUES, now_ns=1) == QUEUES[2:]
    assert locks.lock("H", "b", QUEUES, now_ns=1) == QUEUES


def test_a_lease_ends_unless_it_is_renewed() -> None:
    locks = QueueLocks()
    locks.lock("G", "a", QUEUES[:2], now_ns=0)
    locks.lock("G", "a", QUEUES[:1], now_ns=LEASE_NS)
    assert locks.lock("G", "b", QUEUES[:2], now_ns=LEASE_NS + 1) == QUEUES[1:2]


def test_only_the_owner_unlocks() -> None:
    locks = QueueLocks()
    locks.lock("G", "a", QUEUES, now_ns=0)
    locks.unlock("G", "b", QUEUES)
    assert locks.lock("G", "b", QUEUES, now_ns=1) == []
    locks.unlock("G", "a", QUEUES[:1])
    assert locks.lock("G", "b", QUEUES, now_ns=1) == QUEUES[:1]
    locks.unlock("nobody", "a", QUEUES)


def test_a_group_is_ordered_while_any_lease_lives() -> None:
    locks = QueueLocks()
    assert not locks.any_live("G", now_ns=0)
    locks.lock("G", "a", QUEUES[:1], now_ns=0)
    assert locks.any_live("G", now_ns=LEASE_NS)
    assert not locks.any_live("G", now_ns=LEASE_NS + 1)
