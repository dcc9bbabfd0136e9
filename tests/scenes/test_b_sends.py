"""Sends: what is stored, what is refused, and which fault comes first.

Played on the real broker as well (INTEROP_PEER=1). Where ours differs, the scene says so.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.brokers import Apache, Appliance
from tests.scenes.client import (
    Client,
    batch,
    connected,
    create_topic,
    message,
    properties,
    properties_of,
    pull,
    read_queue,
    send,
)

BODY_MAX = 4 << 20
TOO_LONG = (
    "the message is illegal, maybe msg body or properties length not matched. msg body length "
    "limit 4194304B, msg properties length limit 32KB."
)
ILLEGAL = "The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"


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
    client: Client, faults: dict[str, Any], code: int
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
    fields: dict[str, Any] = {
        "f": 0,
        "g": 1_700_000_000_123,
        "h": 7,
        "i": properties(KEYS="k", own="ü\t"),
        "j": 2,
    }
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


def test_pulls_on_the_vip_port(
    broker: Appliance | Apache, vip: Client, client: Client, made: str
) -> None:
    """The real one has no processor for pulls there; ours does not tell its two ports apart."""
    send(client, made, b"x")
    read_queue(client, made, 1)
    answer = pull(vip, made)
    assert answer.code == (0 if isinstance(broker, Appliance) else 3)
