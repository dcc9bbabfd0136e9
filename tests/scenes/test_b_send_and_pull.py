"""Sends and pulls: what is stored, what is read, what is refused, and in which order.

Played on the real broker as well (INTEROP_PEER=1). Where ours differs, the scene says so.
"""

import time
from collections.abc import Iterator

import pytest

from appliance.net import frame as frames
from tests.interop.brokers import Apache, Appliance, await_until
from tests.scenes.client import (
    COMMIT,
    SUBSCRIPTION,
    SUSPEND,
    Client,
    batch,
    bodies,
    connected,
    create_group,
    create_topic,
    heartbeat,
    message,
    properties,
    properties_of,
    pull,
    pull_fields,
    read_queue,
    records,
    send,
    subscription,
)

BODY_MAX = 4 << 20
TOO_LONG = (
    "the message is illegal, maybe msg body or properties length not matched. msg body length "
    "limit 4194304B, msg properties length limit 32KB."
)
ILLEGAL = "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"


@pytest.fixture
def made(client: Client, topic: str) -> str:
    """A topic of four queues that is there."""
    create_topic(client, topic)
    return topic


# Sends that are refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "code", "remark"),
    [
        pytest.param("a b", 29, ILLEGAL, id="a blank"),
        pytest.param("täst", 29, ILLEGAL, id="an umlaut"),
        pytest.param(" ", 29, "The specified topic is blank.", id="blank"),
        pytest.param(
            "t" * 128, 29, "The specified topic is longer than topic max length.", id="long"
        ),
        *(
            pytest.param(name, 16, f"Sending message to topic[{name}] is forbidden.", id=name)
            for name in (
                *("SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "OFFSET_MOVED_EVENT"),
                *("RMQ_SYS_TRANS_OP_HALF_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC", "SELF_TEST_TOPIC"),
            )
        ),
    ],
)
def test_a_topic_that_may_not_be_sent_to(
    client: Client, topic: str, code: int, remark: str
) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message(topic), b"x")
    assert (answer.code, answer.remark) == (code, remark)
    assert answer.fields == {"MSG_REGION": "DefaultRegion", "TRACE_ON": "true"}


def test_a_topic_that_is_not_there_and_has_no_template(client: Client, topic: str) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message(topic, c="NoSuchTemplate"), b"x")
    assert answer.code == 17
    assert (answer.remark or "").startswith(f"topic[{topic}] not exist, apply first please!")


def test_a_queue_that_is_not_there(client: Client, made: str) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message(made, queue=4), b"x")
    assert answer.code == 29
    assert (answer.remark or "").startswith(
        f"request queueId[4] is illegal, TopicConfig [topicName={made}, readQueueNums=4"
    )
    assert (answer.remark or "").endswith(f"Producer: {client.address}")


def test_the_longest_body_and_one_byte_more(client: Client, made: str) -> None:
    send(client, made, bytes(BODY_MAX))
    answer = client.ask("SEND_MESSAGE_V2", message(made), bytes(BODY_MAX + 1))
    assert (answer.code, answer.remark) == (13, TOO_LONG)
    assert [len(one.body) for one in read_queue(client, made, 1)] == [BODY_MAX]


def test_properties_that_are_too_long(client: Client, made: str) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message(made, i=properties(k="v" * 32_768)), b"x")
    assert (answer.code, answer.remark) == (13, TOO_LONG)


def test_no_body(client: Client, made: str) -> None:
    """The remark is Java's exception there, and a sentence here."""
    answer = client.ask("SEND_MESSAGE_V2", message(made))
    assert answer.code == 1
    assert answer.remark


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        pytest.param({"b": "a b", "e": 99}, 29, id="topic before queue"),
        pytest.param({"b": "SELF_TEST_TOPIC", "e": 99}, 16, id="forbidden before queue"),
        pytest.param({"b": "Missing", "c": "None", "e": 99}, 17, id="missing before queue"),
    ],
)
def test_what_is_said_when_several_things_are_wrong(
    client: Client, faults: dict[str, object], code: int
) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message("", **faults), bytes(BODY_MAX + 1))
    assert answer.code == code
    assert "queueId" not in (answer.remark or "")


def test_the_queue_is_looked_at_before_the_size(client: Client, made: str) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message(made, queue=99), bytes(BODY_MAX + 1))
    assert answer.code == 29


# Sends that are stored ---------------------------------------------------------------------------


def test_what_a_sender_is_told(broker: Appliance | Apache, client: Client, made: str) -> None:
    key = "7F0000010ABC18B4AAC2000000000001"
    answer = send(client, made, b"hello", queue=2, i=properties(UNIQ_KEY=key, TAGS="TagA"))
    assert answer.fields.keys() == {
        *("MSG_REGION", "TRACE_ON", "msgId", "queueId", "queueOffset", "transactionId"),
    }
    assert answer.fields["transactionId"] == key
    assert (answer.fields["queueId"], answer.fields["queueOffset"]) == ("2", "0")
    assert answer.fields["msgId"].startswith(f"7F000001{broker.ports.broker:08X}")
    assert answer.version == 479


def test_what_a_reader_finds(client: Client, made: str) -> None:
    fields = {"f": 0, "g": 1_700_000_000_123, "h": 7, "i": properties(KEYS="k", own="ü\t"), "j": 2}
    answer = send(client, made, "größe".encode(), queue=1, **fields)
    (record,) = read_queue(client, made, 1, queue=1)
    assert (record.topic, record.body, record.queue_id) == (made, "größe".encode(), 1)
    assert (record.born_timestamp, record.flag, record.reconsume_times) == (1_700_000_000_123, 7, 2)
    assert record.message_id == answer.fields["msgId"]
    host, _, port = client.address.rpartition(":")
    assert record.born_host == bytes(map(int, host.split("."))) + int(port).to_bytes(4)
    assert properties_of(record) == {
        "KEYS": "k",
        "own": "ü\t",
        "UNIQ_KEY": answer.fields["transactionId"],
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "CLUSTER": "DefaultCluster",
    }


def test_a_message_without_a_unique_key_gets_one(client: Client, made: str) -> None:
    keys = [send(client, made).fields["transactionId"] for _ in range(2)]
    assert all(keys)
    assert keys[0] != keys[1]
    assert [properties_of(one)["UNIQ_KEY"] for one in read_queue(client, made, 2)] == keys


def test_a_negative_queue_leaves_it_to_the_broker(client: Client, made: str) -> None:
    """That none of 64 draws differs from the others happens once in 10 to the 38."""
    queues = {int(send(client, made, queue=-1).fields["queueId"]) for _ in range(64)}
    assert len(queues) > 1
    assert queues <= {0, 1, 2, 3}


def test_long_names(client: Client, made: str) -> None:
    """Code 10, as the Go client sends."""
    fields = {
        "producerGroup": "PG",
        "topic": made,
        "defaultTopic": "TBW102",
        "defaultTopicQueueNums": 4,
        "queueId": 3,
        "sysFlag": 0,
        "bornTimestamp": 1_700_000_000_000,
        "flag": 0,
        "properties": properties(UNIQ_KEY="K"),
        "reconsumeTimes": 0,
        "unitMode": False,
        "batch": False,
    }
    answer = client.ask("SEND_MESSAGE", fields, b"long")
    assert (answer.code, answer.fields["transactionId"]) == (0, "K")
    assert read_queue(client, made, 1, queue=3)[0].body == b"long"


def test_oneway_sends_are_stored_and_not_answered(client: Client, made: str) -> None:
    for number in range(20):
        client.tell("SEND_MESSAGE_V2", message(made), b"%d" % number)
    asked = client.frame("SEND_MESSAGE_V2", message(made), b"last")
    client.put(asked)
    assert client.next_answer().opaque == asked.opaque
    found = sorted(one.body for one in read_queue(client, made, 21))
    assert found == sorted([*(b"%d" % number for number in range(20)), b"last"])


def test_many_sends_at_once_are_stored_in_their_order(client: Client, made: str) -> None:
    """Ours keeps the order of a connection; the real one has several threads that race."""
    asked = [client.frame("SEND_MESSAGE_V2", message(made), b"%d" % n) for n in range(300)]
    client.put(*asked)
    offsets = {one.opaque: int(client.answer(one).fields["queueOffset"]) for one in asked}
    assert sorted(offsets.values()) == list(range(300))
    found = read_queue(client, made, 300)
    for number, one in enumerate(asked):
        assert found[offsets[one.opaque]].body == b"%d" % number


def test_a_batch(client: Client, made: str) -> None:
    items = [(b"one", properties(UNIQ_KEY="A", TAGS="x")), (b"two", properties(UNIQ_KEY="B"))]
    fields = message(made, queue=1, m=True, i=properties(UNIQ_KEY="OUTER", WAIT="true"))
    answer = client.ask("SEND_BATCH_MESSAGE", fields, batch(*items))
    assert answer.code == 0
    assert (answer.fields["queueId"], answer.fields["queueOffset"]) == ("1", "0")
    assert answer.fields.get("transactionId") in (None, "OUTER"), "ours has none for a batch"
    found = read_queue(client, made, 2, queue=1)
    assert [one.body for one in found] == [b"one", b"two"]
    assert [one.queue_offset for one in found] == [0, 1]
    assert answer.fields["msgId"] == ",".join(one.message_id for one in found)
    assert send(client, made, queue=1).fields["queueOffset"] == "2"


def test_a_batch_may_come_as_a_single_message(client: Client, made: str) -> None:
    answer = client.ask("SEND_MESSAGE_V2", message(made, m=True), batch((b"1", ""), (b"2", "")))
    assert answer.code == 0
    assert [one.body for one in read_queue(client, made, 2)] == [b"1", b"2"]


def test_a_batch_to_a_retry_topic(client: Client, topic: str) -> None:
    answer = client.ask("SEND_BATCH_MESSAGE", message("%RETRY%G", m=True), batch((b"x", "")))
    assert answer.code == 13
    assert "does not support retry group" in (answer.remark or "")


def test_a_topic_is_created_from_its_template(client: Client, topic: str) -> None:
    """As many queues as the sender asks for, at most the template's eight."""
    send(client, topic, d=2)
    assert client.ask("SEND_MESSAGE_V2", message(topic, queue=2), b"x").code == 29
    send(client, f"{topic}-8", queue=7, d=100)
    assert client.ask("SEND_MESSAGE_V2", message(f"{topic}-8", queue=8), b"x").code == 29


def test_a_topic_that_may_only_be_read_takes_sends(client: Client, topic: str) -> None:
    """Routes hide it; whoever knows the broker may still send (broker.md section 3)."""
    create_topic(client, topic, perm=4)
    send(client, topic)
    assert read_queue(client, topic, 1)


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
    told = {"consumerGroup": group, "sysFlag": 0, "subVersion": 100}
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


def status(answer: frames.Frame) -> tuple[int, str | None, int, int, int]:
    """Code, remark, and the next, least and greatest offset."""
    offsets = (int(answer.fields[name]) for name in ("nextBeginOffset", "minOffset", "maxOffset"))
    return (answer.code, answer.remark, *offsets)


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
    client: Client, three: str, field: str, value: object, topic: str
) -> None:
    """Every one is answered with a pull's codes, and nothing breaks."""
    flag = {"sysFlag": SUBSCRIPTION | COMMIT | SUSPEND}
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
    mine = {"consumerGroup": f"Commits-{topic}"}
    asked = {**mine, "topic": three, "queueId": 0, "setZeroIfNotFound": False}
    pull(client, three, commitOffset=2, **mine)
    assert client.ask("QUERY_CONSUMER_OFFSET", asked).code == 22, "it did not say that it commits"
    pull(client, three, sysFlag=SUBSCRIPTION | COMMIT, commitOffset=2, **mine)
    assert client.ask("QUERY_CONSUMER_OFFSET", asked).fields == {"offset": "2"}
    pull(client, three, sysFlag=SUBSCRIPTION | COMMIT, commitOffset=1, **mine)
    assert client.ask("QUERY_CONSUMER_OFFSET", asked).fields == {"offset": "1"}


# Long polls --------------------------------------------------------------------------------------


def waiting(topic: str, offset: int = 0, ms: int = 15_000, **fields: object) -> dict[str, object]:
    """The header of a pull that may wait."""
    flag = {"sysFlag": SUBSCRIPTION | SUSPEND, "suspendTimeoutMillis": ms}
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
    fields = {"consumerGroup": f"Woken-{topic}", "topic": made, "queueId": 0, "commitOffset": 7}
    commits = waiting(
        made, sysFlag=SUBSCRIPTION | SUSPEND | COMMIT, **{**fields, "commitOffset": 3}
    )
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


# The second port ---------------------------------------------------------------------------------


@pytest.fixture
def vip(broker: Appliance | Apache) -> Iterator[Client]:
    """A client of the port two below, as older ones and the dashboard are."""
    with connected(broker.ports.broker - 2) as client:
        yield client


def test_the_vip_port_serves(vip: Client, client: Client, made: str) -> None:
    assert send(vip, made, b"by the side door").fields["queueOffset"] == "0"
    assert read_queue(client, made, 1)[0].body == b"by the side door"
    answer = vip.ask("GET_MAX_OFFSET", {"topic": made, "queueId": 0})
    assert answer.fields == {"offset": "1"}
    answer = vip.ask("GET_MIN_OFFSET", {"topic": made, "queueId": 0})
    assert answer.fields == {"offset": "0"}
