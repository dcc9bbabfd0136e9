"""The registry: who is in a group, what it subscribes to, who was silent for too long."""

from typing import Any

import pytest

from appliance.broker.kept.clients import (
    EXPIRY_NS,
    Clients,
    ConsumerBeat,
    Member,
    Subscription,
)


def member(connection: int, seen_ns: int = 0) -> Member:
    return Member(connection, f"client-{connection}", 0, 479, "127.0.0.1:1", seen_ns)


def beat(*subscriptions: Subscription, group: str = "G") -> ConsumerBeat:
    return ConsumerBeat(group, "CONSUME_PASSIVELY", "CLUSTERING", subscriptions=subscriptions)


def topics_of(clients: Clients) -> dict[str, int]:
    group = clients.consumers("G")
    assert group is not None
    return {topic: one.version for topic, one in group.subscriptions.items()}


def test_a_new_member_or_topic_is_a_change() -> None:
    clients = Clients()
    assert clients.register_consumer(member(1), beat(Subscription("T", version=1)))
    assert not clients.register_consumer(member(1), beat(Subscription("T", version=1)))
    assert clients.register_consumer(member(2), beat(Subscription("T", version=1)))
    assert clients.register_consumer(
        member(1), beat(Subscription("T", version=1), Subscription("U", version=1))
    )
    assert clients.register_consumer(member(1), beat(Subscription("T", version=1)))


def test_a_newer_version_replaces_and_is_no_change() -> None:
    clients = Clients()
    clients.register_consumer(member(1), beat(Subscription("T", version=5)))
    assert not clients.register_consumer(member(1), beat(Subscription("T", version=4)))
    assert topics_of(clients) == {"T": 5}
    assert not clients.register_consumer(member(1), beat(Subscription("T", version=6)))
    assert topics_of(clients) == {"T": 6}


def test_topics_that_are_not_listed_any_more_are_dropped() -> None:
    clients = Clients()
    clients.register_consumer(member(1), beat(Subscription("T"), Subscription("U")))
    clients.register_consumer(member(1), beat(Subscription("U")))
    assert topics_of(clients) == {"U": 0}


def test_subscriptions_can_be_left_as_they_are() -> None:
    clients = Clients()
    clients.register_consumer(member(1), beat(Subscription("T")))
    assert not clients.register_consumer(member(1), beat(), keep=True)
    assert topics_of(clients) == {"T": 0}


def test_an_empty_group_is_gone() -> None:
    clients = Clients()
    clients.register_consumer(member(1), beat())
    left = clients.unregister_consumer(1, "G")
    assert left is not None
    assert not left.members
    assert clients.consumers("G") is None
    assert clients.unregister_consumer(1, "G") is None


def test_a_connection_is_forgotten_everywhere() -> None:
    clients = Clients()
    for group in ("G", "H"):
        for connection in (1, 2):
            clients.register_consumer(member(connection), beat(group=group))
    clients.register_producer(member(1), "P")
    assert {group.name for group in clients.forget(1)} == {"G", "H"}
    assert clients.producers("P") == []
    assert clients.connections() == {2}
    assert clients.forget(1) == []


def test_silence_expires() -> None:
    clients = Clients()
    clients.register_consumer(member(1, seen_ns=0), beat())
    clients.register_producer(member(2, seen_ns=5), "P")
    assert clients.expired(now_ns=EXPIRY_NS) == set()
    assert clients.expired(now_ns=EXPIRY_NS + 1) == {1}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("CLUSTERING", "CLUSTERING"),
        ("clustering", "CLUSTERING"),
        (0, "BROADCASTING"),
        (7, None),
        ("strange", None),
        (None, None),
    ],
)
def test_enums_are_read_as_fastjson_reads_them(sent: Any, read: str | None) -> None:
    assert ConsumerBeat.from_json({"messageModel": sent}).message_model == read


def test_every_member_is_notified() -> None:
    clients = Clients()
    for connection in (1, 2):
        clients.register_consumer(member(connection), beat())
    group = clients.consumers("G")
    assert group is not None
    assert [push.connection for push in group.notices()] == [1, 2]
    frame = group.notices()[0].frame
    assert (frame.code, frame.flag, frame.fields) == (40, 2, {"consumerGroup": "G"})
