"""Groups: who is in one, who is told, how far it has read, and who holds a queue.

Played on the real broker as well (INTEROP_PEER=1). Where ours differs, the scene says so.
"""

import json
from typing import Any

import pytest

from appliance.net.frame import Frame
from tests.interop.brokers import Apache, Appliance, await_until
from tests.scenes.client import (
    Client,
    connected,
    create_topic,
    heartbeat,
    members,
    pull,
    read_queue,
    send,
    subscription,
)

NOTIFY = 40


@pytest.fixture
def group(topic: str) -> str:
    """A name that no other scene uses."""
    return f"G-{topic}"


def beat(client: Client, name: str, group: str, topic: str, **keywords: Any) -> Frame:
    answer = client.ask("HEART_BEAT", body=heartbeat(name, group, subscription(topic), **keywords))
    assert answer.code == 0, answer
    return answer


def notified(client: Client, group: str) -> None:
    """The next thing that the client is told unasked: its group has changed."""
    notice = client.push(NOTIFY)
    assert notice.fields["consumerGroup"] == group
    assert notice.oneway


# Who is in a group -------------------------------------------------------------------------------


def test_a_heartbeat_is_answered(client: Client, made: str, group: str) -> None:
    answer = beat(client, "one", group, made)
    assert answer.fields == {"IS_SUPPORT_HEART_BEAT_V2": "true", "IS_SUB_CHANGE": "true"}
    assert answer.version == 479, "clients learn from it what the broker can do"


def test_members_are_listed(client: Client, other: Client, made: str, group: str) -> None:
    beat(client, "one", group, made)
    beat(other, "two", group, made)
    assert members(client, group) == ["one", "two"]
    assert members(other, group) == ["one", "two"]


def test_a_group_without_members(client: Client, group: str) -> None:
    answer = client.ask("GET_CONSUMER_LIST_BY_GROUP", {"consumerGroup": group})
    assert (answer.code, answer.remark) == (1, f"no consumer for this group, {group}")


def test_everybody_is_told_who_comes_and_goes(
    broker: Appliance | Apache, client: Client, other: Client, made: str, group: str
) -> None:
    beat(client, "one", group, made)
    notified(client, group)
    beat(other, "two", group, made)
    notified(client, group)
    notified(other, group)
    with connected(broker.ports.broker) as third:
        beat(third, "three", group, made)
        notified(client, group)
        notified(other, group)
        assert members(client, group) == ["one", "three", "two"]
    notified(client, group)  # the third one's connection is gone
    notified(other, group)
    assert members(client, group) == ["one", "two"]
    fields = {"clientID": "two", "consumerGroup": group, "producerGroup": f"P{group}"}
    assert other.ask("UNREGISTER_CLIENT", fields).code == 0
    notified(client, group)
    assert members(client, group) == ["one"]


def test_nobody_is_told_of_a_beat_like_the_last(client: Client, made: str, group: str) -> None:
    beat(client, "one", group, made)
    notified(client, group)
    for _ in range(3):
        beat(client, "one", group, made)
    assert members(client, group) == ["one"]
    assert client.pushed == []


def test_members_of_a_broadcast_group_are_not_told_who_comes(
    client: Client, other: Client, made: str, group: str
) -> None:
    beat(client, "one", group, made, model="BROADCASTING")
    beat(other, "two", group, made, model="BROADCASTING")
    assert members(client, group) == ["one", "two"]
    assert client.pushed == other.pushed == []


def test_who_is_connected(client: Client, made: str, group: str) -> None:
    body = heartbeat("one", group, subscription(made, "TagA || TagB", version=7))
    client.ask("HEART_BEAT", body=body, language=9, version=317)
    found = json.loads(client.ask("GET_CONSUMER_CONNECTION_LIST", {"consumerGroup": group}).body)
    connection = {"clientAddr": client.address, "clientId": "one", "language": "GO", "version": 317}
    assert found["connectionSet"] == [connection]
    assert found["subscriptionTable"][made]["subString"] == "TagA || TagB"
    assert found["subscriptionTable"][made]["subVersion"] == 7
    answer = client.ask("GET_PRODUCER_CONNECTION_LIST", {"producerGroup": f"P{group}"})
    assert json.loads(answer.body) == {"connectionSet": [connection]}


def test_a_heartbeat_creates_the_retry_topic(client: Client, made: str, group: str) -> None:
    beat(client, "one", group, made)
    answer = client.ask("GET_TOPIC_CONFIG", {"topic": f"%RETRY%{group}"})
    config = json.loads(answer.body)
    assert (config["readQueueNums"], config["writeQueueNums"], config["perm"]) == (1, 1, 6)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"consumerDataSet":[{"groupName":', b"\xff"])
def test_a_heartbeat_that_is_none(client: Client, body: bytes) -> None:
    answer = client.ask("HEART_BEAT", {}, body)
    assert answer.code == 1
    assert answer.remark


def test_a_heartbeat_without_its_subscriptions(client: Client, made: str, group: str) -> None:
    """Heartbeats V2 (remoting.md section 7.1): the answer says when to send them again."""
    body = heartbeat("one", group, subscription(made))
    whole = client.ask("HEART_BEAT", body={**body, "heartbeatFingerprint": 5, "withoutSub": False})
    assert whole.fields["IS_SUPPORT_HEART_BEAT_V2"] == "true"
    short = {**heartbeat("one", group), "heartbeatFingerprint": 5, "withoutSub": True}
    assert client.ask("HEART_BEAT", body=short).fields["IS_SUB_CHANGE"] == "false"
    assert pull(client, made, consumerGroup=group, sysFlag=0, subVersion=1).code == 19
    changed = {**short, "heartbeatFingerprint": 6}
    assert client.ask("HEART_BEAT", body=changed).fields["IS_SUB_CHANGE"] == "true"


def test_a_topic_that_is_not_in_the_beat_any_more(
    client: Client, other: Client, made: str, group: str
) -> None:
    create_topic(client, f"{made}-2")
    told: dict[str, Any] = {"consumerGroup": group, "sysFlag": 0, "subVersion": 1}
    both = heartbeat("one", group, subscription(made), subscription(f"{made}-2"))
    client.ask("HEART_BEAT", body=both)
    assert pull(client, f"{made}-2", **told).code == 19
    client.ask("HEART_BEAT", body=heartbeat("one", group, subscription(made)))
    assert pull(client, f"{made}-2", **told).code == 24
    assert pull(other, made, **told).code == 19, "whoever pulls: the group counts"


def test_a_group_whose_last_member_is_gone(
    broker: Appliance | Apache, client: Client, made: str, group: str
) -> None:
    told: dict[str, Any] = {"consumerGroup": group, "sysFlag": 0, "subVersion": 1}
    with connected(broker.ports.broker) as member:
        beat(member, "one", group, made)
        assert pull(client, made, **told).code == 19
    await_until("the end of the group", lambda: members(client, group) == [])
    assert pull(client, made, **told).code == 24


def test_a_client_may_check_its_filter(client: Client, group: str) -> None:
    body = {"clientId": "one", "group": group, "subscriptionData": subscription("T", "TagA")}
    assert client.ask("CHECK_CLIENT_CONFIG", body=body).code == 0


# How far a group has read ------------------------------------------------------------------------


def committed(client: Client, group: str, topic: str, **fields: Any) -> Frame:
    asked = {"consumerGroup": group, "topic": topic, "queueId": 0, **fields}
    return client.ask("QUERY_CONSUMER_OFFSET", asked)


def commit(client: Client, group: str, topic: str, offset: int, queue: int = 0) -> Frame:
    fields = {"consumerGroup": group, "topic": topic, "queueId": queue, "commitOffset": offset}
    return client.ask("UPDATE_CONSUMER_OFFSET", fields)


def test_a_new_group(client: Client, made: str, group: str) -> None:
    """It reads a young queue from its begin; of an empty one, or if it likes, it decides."""
    beat(client, "one", group, made)
    answer = committed(client, group, made)
    assert answer.code == 22
    assert (answer.remark or "").startswith("Not found, V3_0_6_SNAPSHOT maybe this group")
    send(client, made)
    read_queue(client, made, 1)
    assert committed(client, group, made).fields == {"offset": "0"}
    answer = committed(client, group, made, setZeroIfNotFound=False)
    assert (answer.code, answer.remark) == (
        22,
        "Not found, do not set to zero, maybe this group boot first",
    )


@pytest.mark.parametrize("offset", [0, 1, 5, (1 << 62) - 1])
def test_a_commit_is_kept(
    client: Client, other: Client, made: str, group: str, offset: int
) -> None:
    beat(client, "one", group, made)
    assert commit(client, group, made, 3).code == 0
    assert commit(client, group, made, offset).code == 0
    assert committed(other, group, made).fields == {"offset": str(offset)}


def test_a_oneway_commit_is_kept(client: Client, made: str, group: str) -> None:
    """As clients send them."""
    beat(client, "one", group, made)
    fields = {"consumerGroup": group, "topic": made, "queueId": 1, "commitOffset": 9}
    client.tell("UPDATE_CONSUMER_OFFSET", fields)
    await_until(
        "the commit", lambda: committed(client, group, made, queueId=1).fields == {"offset": "9"}
    )


def test_a_commit_for_nobody(client: Client, made: str, group: str) -> None:
    answer = commit(client, group, made, 1)
    assert (answer.code, answer.remark) == (26, f"Group {group} not exist!")
    beat(client, "one", group, made)
    answer = commit(client, group, "NoSuchTopic", 1)
    assert (answer.code, answer.remark) == (17, "Topic NoSuchTopic not exist!")
    assert commit(client, group, made, 1, queue=99).code == 0, "the queue is nobody's business"


def test_how_far_a_queue_goes(client: Client, made: str) -> None:
    queue = {"topic": made, "queueId": 0}
    for name in ("GET_MAX_OFFSET", "GET_MIN_OFFSET"):
        assert client.ask(name, queue).fields == {"offset": "0"}
    assert client.ask("GET_EARLIEST_MSG_STORETIME", queue).fields == {"timestamp": "-1"}
    for _ in range(3):
        send(client, made)
    times = [one.store_timestamp for one in read_queue(client, made, 3)]
    assert client.ask("GET_MAX_OFFSET", queue).fields == {"offset": "3"}
    assert client.ask("GET_MIN_OFFSET", queue).fields == {"offset": "0"}
    answer = client.ask("GET_EARLIEST_MSG_STORETIME", queue)
    assert answer.fields == {"timestamp": str(times[0])}
    for boundary, offset in (("LOWER", "3"), ("UPPER", "2")):
        future = {**queue, "timestamp": times[-1] + 10_000_000, "boundaryType": boundary}
        assert client.ask("SEARCH_OFFSET_BY_TIMESTAMP", future).fields == {"offset": offset}
    past = {**queue, "timestamp": times[0] - 1000}
    assert client.ask("SEARCH_OFFSET_BY_TIMESTAMP", past).fields == {"offset": "0"}


@pytest.mark.parametrize("name", ["GET_MAX_OFFSET", "GET_MIN_OFFSET"])
def test_a_queue_that_is_not_there_has_nothing(client: Client, name: str) -> None:
    assert client.ask(name, {"topic": "NoSuchTopic", "queueId": 5}).fields == {"offset": "0"}


# Who holds a queue -------------------------------------------------------------------------------


def queues(topic: str, *numbers: int) -> list[dict[str, object]]:
    return [{"topic": topic, "brokerName": "broker-a", "queueId": number} for number in numbers]


def lock(client: Client, name: str, group: str, topic: str, *numbers: int) -> list[int]:
    """Which of the queues the client holds now."""
    body = {"consumerGroup": group, "clientId": name, "mqSet": queues(topic, *numbers)}
    answer = client.ask("LOCK_BATCH_MQ", body=body)
    assert answer.code == 0
    return sorted(queue["queueId"] for queue in json.loads(answer.body)["lockOKMQSet"])


def unlock(client: Client, name: str, group: str, topic: str, *numbers: int) -> None:
    body = {"consumerGroup": group, "clientId": name, "mqSet": queues(topic, *numbers)}
    assert client.ask("UNLOCK_BATCH_MQ", body=body).code == 0


def test_a_queue_has_one_holder(client: Client, other: Client, made: str, group: str) -> None:
    assert lock(client, "one", group, made, 0, 1) == [0, 1]
    assert lock(other, "two", group, made, 1, 2) == [2]
    assert lock(client, "one", group, made, 0, 1, 2) == [0, 1], "again by its holder"
    unlock(other, "two", group, made, 0, 1, 2)
    assert lock(client, "three", group, made, 0, 1, 2) == [2], "what is another's stays so"
    unlock(client, "one", group, made, 1)
    assert lock(other, "two", group, made, 0, 1) == [1]
    assert lock(other, "two", f"{group}-2", made, 0) == [0], "another group, other locks"


def test_what_an_orderly_consumer_gives_up(client: Client, made: str, group: str) -> None:
    """It holds a queue, so what it sends to its retry topic goes to the dead letters."""
    beat(client, "one", group, made)
    lock(client, "one", group, made, 0)
    send(client, f"%RETRY%{group}", b"given up")
    assert [one.body for one in read_queue(client, f"%DLQ%{group}", 1)] == [b"given up"]
    unlock(client, "one", group, made, 0)
    send(client, f"%RETRY%{group}", b"once more")
    assert [one.body for one in read_queue(client, f"%RETRY%{group}", 1)] == [b"once more"]
