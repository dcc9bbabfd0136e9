"""Pulls: what is read, what is refused, and who waits until when.

Played on the real broker as well (INTEROP_PEER=1). Where ours differs, the scene says so.
"""

import time
from typing import Any

import pytest

from appliance.net.frame import Frame
from tests.interop.brokers import Apache, Appliance, await_until
from tests.scenes.client import (
    COMMIT,
    SUBSCRIPTION,
    SUSPEND,
    Client,
    bodies,
    connected,
    create_group,
    create_topic,
    heartbeat,
    properties,
    pull,
    pull_fields,
    read_queue,
    records,
    send,
    subscription,
)

# Pulls that are refused --------------------------------------------------------------------------


def test_a_group_that_may_not_consume(client: Client, made: str) -> None:
    create_group(client, "Disabled", consumeEnable=False)
    answer = pull(client, made, consumerGroup="Disabled", queue=99)
    assert (answer.code, answer.remark) == (16, "subscription group no permission, Disabled")


def test_a_topic_that_is_not_there(client: Client) -> None:
    answer = pull(client, "NoSuchTopic", queue=99)
    assert answer.code == 17
    assert (answer.remark or "").startswith("topic[NoSuchTopic] not exist, apply first please!")


def test_a_topic_that_may_not_be_read(client: Client, topic: str) -> None:
    create_topic(client, topic, perm=2)
    answer = pull(client, topic, queue=99)
    assert (answer.code, answer.remark) == (16, f"the topic[{topic}] pulling message is forbidden")


@pytest.mark.parametrize("queue", [-1, 2, 99])
def test_a_queue_that_is_not_read(client: Client, topic: str, queue: int) -> None:
    """The number of read queues counts, not that of write queues."""
    create_topic(client, topic, readQueueNums=2, writeQueueNums=4)
    answer = pull(client, topic, queue=queue)
    assert (answer.code, answer.remark) == (
        29,
        f"queueId[{queue}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[2] "
        f"consumer:[/{client.address}]",
    )


def test_a_filter_that_does_not_parse(client: Client, made: str) -> None:
    answer = pull(client, made, subscription="||")
    assert (answer.code, answer.remark) == (23, "parse the consumer's subscription failed")


def test_nobody_has_said_what_the_group_reads(client: Client, made: str) -> None:
    answer = pull(client, made, consumerGroup="Silent", sysFlag=0)
    assert answer.code == 24
    assert (answer.remark or "").startswith("the consumer's group info not exist")


def test_a_heartbeat_says_what_the_group_reads(client: Client, made: str, topic: str) -> None:
    for tags in ("TagA", "TagB", "TagA"):
        send(client, made, tags.encode(), i=properties(TAGS=tags))
    read_queue(client, made, 3)
    group = f"G-{topic}"
    client.ask("HEART_BEAT", body=heartbeat("c", group, subscription(made, "TagA", version=100)))
    told: dict[str, Any] = {"consumerGroup": group, "sysFlag": 0, "subVersion": 100}
    assert bodies(pull(client, made, **told)) == [b"TagA", b"TagA"]

    answer = pull(client, made, **{**told, "subVersion": 101})
    assert (answer.code, answer.remark) == (25, "the consumer's subscription not latest")
    answer = pull(client, f"%RETRY%{group}", **told)
    assert answer.code == 24
    assert (answer.remark or "").startswith("the consumer's subscription not exist")

    client.ask("HEART_BEAT", body=heartbeat("c", group, subscription(made, "TagB", version=101)))
    assert bodies(pull(client, made, **{**told, "subVersion": 101})) == [b"TagB"]


def test_a_group_that_may_not_broadcast(client: Client, made: str) -> None:
    create_group(client, "NoBroadcast", consumeBroadcastEnable=False)
    beat = heartbeat("c", "NoBroadcast", subscription(made), model="BROADCASTING")
    assert client.ask("HEART_BEAT", body=beat).code == 0
    answer = pull(client, made, consumerGroup="NoBroadcast", sysFlag=0)
    assert answer.code == 16
    assert answer.remark == "the consumer group[NoBroadcast] can not consume by broadcast way"


# Pulls that are answered -------------------------------------------------------------------------


def status(answer: Frame) -> tuple[int, str | None, int, int, int]:
    """Code, remark, and the next, least and greatest offset."""
    following, least, greatest = (
        int(answer.fields[f"{name}Offset"]) for name in ("nextBegin", "min", "max")
    )
    return answer.code, answer.remark, following, least, greatest


@pytest.fixture
def three(client: Client, made: str) -> str:
    """A topic with three messages in queue 0, which can be read."""
    for body in (b"0", b"1", b"2"):
        send(client, made, body)
    read_queue(client, made, 3)
    return made


@pytest.mark.parametrize(
    ("offset", "queue", "expected"),
    [
        (0, 0, (0, "FOUND", 3, 0, 3)),
        (2, 0, (0, "FOUND", 3, 0, 3)),
        (3, 0, (19, "OFFSET_OVERFLOW_ONE", 3, 0, 3)),
        (4, 0, (21, "OFFSET_OVERFLOW_BADLY", 3, 0, 3)),
        (1 << 62, 0, (21, "OFFSET_OVERFLOW_BADLY", 3, 0, 3)),
        (-1, 0, (21, "OFFSET_TOO_SMALL", 0, 0, 3)),
        (-(1 << 62), 0, (21, "OFFSET_TOO_SMALL", 0, 0, 3)),
    ],
)
def test_where_a_pull_begins(
    client: Client, three: str, offset: int, queue: int, expected: tuple[object, ...]
) -> None:
    answer = pull(client, three, offset, queue)
    assert status(answer) == expected
    found = range(offset, 3) if 0 <= offset < 3 else range(0)
    assert bodies(answer) == [b"%d" % number for number in found]
    assert answer.fields["suggestWhichBrokerId"] == "0"


@pytest.mark.parametrize(("offset", "code"), [(0, 19), (5, 21)])
def test_an_empty_queue(client: Client, made: str, offset: int, code: int) -> None:
    send(client, made, queue=0)
    answer = pull(client, made, offset, queue=1)
    assert status(answer) == (code, "NO_MESSAGE_IN_QUEUE", 0, 0, 0)


def test_as_many_as_are_asked_for(client: Client, three: str) -> None:
    answer = pull(client, three, maxMsgNums=2)
    assert bodies(answer) == [b"0", b"1"]
    assert answer.fields["nextBeginOffset"] == "2"
    assert [one.queue_offset for one in records(pull(client, three, 1, maxMsgNums=1))] == [1]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("*", [b"TagA", b"TagB", b"none", b"TagA"]),
        ("", [b"TagA", b"TagB", b"none", b"TagA"]),
        ("TagA", [b"TagA", b"TagA"]),
        ("TagA || TagB", [b"TagA", b"TagB", b"TagA"]),
        ("  TagB||TagZ ", [b"TagB"]),
    ],
)
def test_tags(client: Client, made: str, expression: str, found: list[bytes]) -> None:
    for tags in ("TagA", "TagB", "", "TagA"):
        send(client, made, tags.encode() or b"none", i=properties(TAGS=tags) if tags else "")
    read_queue(client, made, 4)
    answer = pull(client, made, subscription=expression)
    assert bodies(answer) == found
    assert status(answer)[2:] == (4, 0, 4), "what does not match is passed over"


def test_no_tag_matches(client: Client, three: str) -> None:
    answer = pull(client, three, subscription="TagZ")
    assert status(answer) == (20, "NO_MATCHED_MESSAGE", 3, 0, 3)
    assert answer.body == b""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("maxMsgNums", value) for value in (0, -1, (1 << 31) - 1)],
        *[("suspendTimeoutMillis", value) for value in (-1, 10**17, (1 << 63) - 1)],
        *[("commitOffset", value) for value in (-1, (1 << 63) - 1, -(1 << 63))],
        *[("subVersion", value) for value in (-1, (1 << 63) - 1)],
        *[("queueOffset", value) for value in ((1 << 63) - 1, -(1 << 63))],
        *[("maxMsgBytes", value) for value in (0, -1)],
        *[("requestSource", value) for value in (0, 2)],
        *[("expressionType", value) for value in ("", None)],
        *[("lo", value) for value in ("false", "true")],
        ("sysFlag", SUBSCRIPTION | 8),
    ],
)
def test_odd_values_in_a_pull(
    client: Client, three: str, field: str, value: Any, topic: str
) -> None:
    """Every one is answered with a pull's codes, and nothing breaks."""
    flag: dict[str, Any] = {"sysFlag": SUBSCRIPTION | COMMIT | SUSPEND}
    answer = pull(client, three, consumerGroup=topic, **{**flag, field: value})
    assert answer.code in (0, 20, 21), answer
    assert bodies(pull(client, three)) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("ms", [-1, 10**17, (1 << 63) - 1])
def test_a_pull_that_would_wait_for_ever_or_less(
    client: Client, other: Client, made: str, ms: int
) -> None:
    asked = client.frame("PULL_MESSAGE", waiting(made, ms=ms))
    client.put(asked)
    parked(client)
    send(other, made, b"x")
    assert client.answer(asked).code in (0, 19)
    assert pull(other, made).code == 0


def test_a_pull_creates_its_group(client: Client, made: str, topic: str) -> None:
    commit = {"consumerGroup": f"New-{topic}", "topic": made, "queueId": 0, "commitOffset": 1}
    assert client.ask("UPDATE_CONSUMER_OFFSET", commit).code == 26
    assert pull(client, made, consumerGroup=f"New-{topic}").code == 19
    assert client.ask("UPDATE_CONSUMER_OFFSET", commit).code == 0


def test_a_pull_commits(client: Client, three: str, topic: str) -> None:
    mine: dict[str, Any] = {"consumerGroup": f"Commits-{topic}"}
    asked = {**mine, "topic": three, "queueId": 0, "setZeroIfNotFound": False}
    pull(client, three, commitOffset=2, **mine)
    assert client.ask("QUERY_CONSUMER_OFFSET", asked).code == 22, "it did not say that it commits"
    pull(client, three, sysFlag=SUBSCRIPTION | COMMIT, commitOffset=2, **mine)
    assert client.ask("QUERY_CONSUMER_OFFSET", asked).fields == {"offset": "2"}
    pull(client, three, sysFlag=SUBSCRIPTION | COMMIT, commitOffset=1, **mine)
    assert client.ask("QUERY_CONSUMER_OFFSET", asked).fields == {"offset": "1"}


# Long polls --------------------------------------------------------------------------------------


def waiting(topic: str, offset: int = 0, ms: int = 15_000, **fields: Any) -> dict[str, Any]:
    """The header of a pull that may wait."""
    flag: dict[str, Any] = {"sysFlag": SUBSCRIPTION | SUSPEND, "suspendTimeoutMillis": ms}
    return pull_fields(topic, offset, **{**flag, **fields})


def test_a_long_poll_wakes_when_a_message_comes(client: Client, other: Client, made: str) -> None:
    """Within milliseconds; on a busy machine not every time, so the best of ten is asserted."""
    delays_ms = []
    for offset in range(10):
        asked = client.frame("PULL_MESSAGE", waiting(made, offset))
        client.put(asked)
        parked(client)
        send(other, made, b"%d" % offset)
        began = time.monotonic()
        assert bodies(client.answer(asked)) == [b"%d" % offset]
        delays_ms.append((time.monotonic() - began) * 1000)
    assert min(delays_ms) < 20
    assert max(delays_ms) < 1000


def parked(client: Client) -> None:
    """Whatever came before on this connection has been looked at: this was, and it came later."""
    assert client.ask("GET_MAX_OFFSET", {"topic": "TBW102", "queueId": 0}).code == 0


def test_a_long_poll_ends(broker: Appliance | Apache, client: Client, made: str) -> None:
    """The real broker looks at the clock every five seconds only."""
    began = time.monotonic()
    answer = client.ask("PULL_MESSAGE", waiting(made, ms=300))
    seconds = time.monotonic() - began
    assert status(answer) == (19, "NO_MESSAGE_IN_QUEUE", 0, 0, 0)
    assert 0.3 <= seconds < (1.5 if isinstance(broker, Appliance) else 10)


def test_a_long_poll_does_not_wake_for_other_tags(client: Client, other: Client, made: str) -> None:
    asked = client.frame("PULL_MESSAGE", waiting(made, subscription="TagA"))
    client.put(asked)
    parked(client)
    send(other, made, b"not this", i=properties(TAGS="TagB"))
    send(other, made, b"this", i=properties(TAGS="TagA"))
    assert bodies(client.answer(asked)) == [b"this"]


def test_a_long_poll_of_another_queue_does_not_wake(
    client: Client, other: Client, made: str
) -> None:
    asked = [client.frame("PULL_MESSAGE", waiting(made, queue=queue)) for queue in range(4)]
    client.put(*asked)
    parked(client)
    for queue in (2, 0, 3, 1):
        send(other, made, b"%d" % queue, queue=queue)
        answer = client.next_answer()
        assert (answer.opaque, bodies(answer)) == (asked[queue].opaque, [b"%d" % queue])


def test_many_wait_for_one_message(client: Client, other: Client, made: str) -> None:
    asked = [client.frame("PULL_MESSAGE", waiting(made)) for _ in range(200)]
    client.put(*asked)
    parked(client)
    send(other, made, b"for all")
    assert all(bodies(client.answer(one)) == [b"for all"] for one in asked)


def test_who_waits_may_go(broker: Appliance | Apache, client: Client, made: str) -> None:
    with connected(broker.ports.broker) as gone:
        gone.put(gone.frame("PULL_MESSAGE", waiting(made)))
        parked(gone)
    send(client, made, b"x")
    assert read_queue(client, made, 1)[0].body == b"x"


def test_a_woken_pull_does_not_commit(client: Client, other: Client, made: str, topic: str) -> None:
    """What it would commit was committed when it came."""
    group: dict[str, Any] = {"consumerGroup": f"Woken-{topic}"}
    flag = SUBSCRIPTION | SUSPEND | COMMIT
    commits = waiting(made, sysFlag=flag, commitOffset=3, **group)
    fields = {**group, "topic": made, "queueId": 0, "commitOffset": 7}
    asked = client.frame("PULL_MESSAGE", commits)
    client.put(asked)
    await_until("the commit", lambda: committed(client, fields) == "3")
    client.ask("UPDATE_CONSUMER_OFFSET", fields)
    send(other, made)
    assert client.answer(asked).code == 0
    assert committed(client, fields) == "7"


def committed(client: Client, fields: dict[str, object]) -> str | None:
    """How far a group has read a queue."""
    return client.ask("QUERY_CONSUMER_OFFSET", fields).fields.get("offset")
