"""Sends that the frontends hand on: what becomes of each."""

import re
import struct
from typing import Any

import msgspec
import pytest

from appliance.commitlog.record import Record, decode_properties, parse
from appliance.net.frame import ONEWAY, Frame
from appliance.net.json_text import MessageQueue
from tests.broker.paper import START_MS, Desk, config, make_heritage


def header(topic: str = "T", **fields: Any) -> dict[str, Any]:
    base = {"a": "PG", "b": topic, "c": "TBW102", "d": 4, "e": 0, "f": 0, "g": START_MS, "h": 0}
    return {**base, "i": "", "j": 0, "k": "false", "m": "false", **fields}


def properties(**pairs: object) -> str:
    return "".join(f"{name}\x01{value}\x02" for name, value in pairs.items())


def send(desk: Desk, topic: str = "T", body: bytes = b"hello", **fields: Any) -> Frame:
    return desk.ask(desk.open(), "SEND_MESSAGE_V2", header(topic, **fields), body)


def stored(desk: Desk, answer: Frame, number: int = 0) -> Record:
    message_id = answer.fields["msgId"].split(",")[number]
    record = desk.coordinator.state.store.record(int(message_id[-16:], 16))
    assert record is not None
    return parse(record)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_unknown_topic_is_created_from_its_template(desk: Desk) -> None:
    answer = send(desk, d=3)
    assert answer.code == 0
    topic = desk.coordinator.state.topics.get("T")
    assert topic is not None
    assert (topic.read_queues, topic.write_queues, topic.perm) == (3, 3, 6)
    assert b'"T":' in desk.disk.read("/store/config/topics.json")


def test_what_is_stored(desk: Desk) -> None:
    answer = send(desk, e=2, h=7, i=properties(TAGS="A", POP_CK="x", UNIQ_KEY="k"), j=1)
    record = stored(desk, answer)
    assert (record.topic, record.queue_id, record.body, record.flag) == ("T", 2, b"hello", 7)
    assert (record.born_timestamp, record.reconsume_times) == (START_MS, 1)
    assert record.born_host == bytes([127, 0, 0, 1]) + (48264).to_bytes(4, "big")
    assert record.store_host == bytes([127, 0, 0, 1]) + (10911).to_bytes(4, "big")
    assert decode_properties(record.properties) == {
        "TAGS": "A",
        "UNIQ_KEY": "k",
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "CLUSTER": "DefaultCluster",
    }
    assert answer.fields["transactionId"] == "k"
    assert answer.fields["queueId"] == "2"


def test_a_client_over_ipv6_has_a_long_host(desk: Desk) -> None:
    client = desk.open(peer="[::1]:5000")
    answer = desk.ask(client, "SEND_MESSAGE_V2", header(), b"x")
    record = stored(desk, answer)
    assert len(record.born_host) == 20
    assert record.system_flag & 0x10


def test_the_key_in_the_body_is_not_taken_for_the_property(desk: Desk) -> None:
    answer = send(desk, body=b"UNIQ_KEY\x01k\x02", i=properties(UNIQ_KEY="k", TAGS="A"))
    assert answer.fields["transactionId"] == "k"


def test_each_message_gets_a_key_of_its_own(desk: Desk) -> None:
    keys = {send(desk).fields["transactionId"] for _ in range(5)}
    assert len(keys) == 5


def test_v1_headers_and_oneway(desk: Desk) -> None:
    client = desk.open()
    fields = {
        "producerGroup": "PG",
        "topic": "T",
        "defaultTopic": "TBW102",
        "queueId": 0,
        "defaultTopicQueueNums": 4,
        "sysFlag": 0,
        "bornTimestamp": 1,
        "flag": 0,
    }
    assert desk.ask(client, "SEND_MESSAGE", fields, b"x").fields["queueOffset"] == "0"
    opaque = desk.put(client, "SEND_MESSAGE", fields, b"y", flag=ONEWAY)
    desk.run()
    assert desk.answers(opaque) == []
    assert desk.ask(client, "SEND_MESSAGE", fields, b"z").fields["queueOffset"] == "2"


@pytest.mark.parametrize(
    ("topic", "fields", "code", "remark"),
    [
        ("a b", {}, 29, "illegal characters"),
        ("", {}, 29, "blank"),
        ("t" * 128, {}, 29, "longer"),
        ("TRANS_CHECK_MAX_TIME_TOPIC", {}, 16, "is forbidden"),
        ("T", {"c": "nobody"}, 17, "apply first"),
        ("T", {"c": "BenchmarkTest"}, 17, "apply first"),
        ("T", {"e": 4}, 29, r"queueId\[4\] is illegal"),
        ("T", {"f": 4}, 16, "transaction"),
        ("T", {"f": 12}, 16, "transaction"),
        ("T", {"i": properties(TRAN_MSG="true")}, 16, "transaction"),
        ("T", {"i": properties(TIMER_DELAY_SEC="x")}, 13, "timer message illegal"),
        ("T", {"i": properties(TIMER_DELAY_MS=5)}, 1, "timerWheelEnable is false"),
        ("T", {"i": properties(x="y" * 32767)}, 13, "properties length"),
        ("%RETRY%G", {"m": "true"}, 13, "does not support retry group"),
        ("T", {"m": "true"}, 13, "does not add up"),
    ],
)
def test_what_is_refused(
    desk: Desk, topic: str, fields: dict[str, Any], code: int, remark: str
) -> None:
    answer = send(desk, topic, **fields)
    assert answer.code == code
    assert answer.remark is not None
    assert re.search(remark, answer.remark), answer.remark
    assert answer.fields == {"MSG_REGION": "DefaultRegion", "TRACE_ON": "true"}


def test_a_body_over_the_limit() -> None:
    settings = config()
    store = msgspec.structs.replace(settings.store, max_message_size=1024)
    desk = Desk(make_heritage(msgspec.structs.replace(settings, store=store)))
    assert send(desk, body=b"x" * 1024).code == 0
    answer = send(desk, body=b"x" * 1025)
    assert answer.code == 13
    assert "length limit 1024B" in (answer.remark or "")


def test_an_empty_body(desk: Desk) -> None:
    assert send(desk, body=b"").code == 1


def test_auto_creation_can_be_off() -> None:
    desk = Desk(make_heritage(config(auto_create_topics=False)))
    assert send(desk).code == 17
    assert "TBW102" not in desk.coordinator.state.topics


def test_compacted_topics_need_keys(desk: Desk) -> None:
    fields = {"topic": "C", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6}
    edits = {"attributes": "+cleanup.policy=COMPACTION"}
    assert desk.ask(desk.open(), "UPDATE_AND_CREATE_TOPIC", {**fields, **edits}).code == 0
    assert send(desk, "C").code == 13
    assert send(desk, "C", i=properties(KEYS="k")).code == 0


def test_a_timer_in_the_past_is_no_delay(desk: Desk) -> None:
    assert send(desk, i=properties(TIMER_DELIVER_MS=1000)).fields["queueOffset"] == "0"


def test_a_topic_of_many_tags_marks_its_messages(desk: Desk) -> None:
    fields = {"topic": "M", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6}
    desk.ask(desk.open(), "UPDATE_AND_CREATE_TOPIC", {**fields, "topicFilterType": "MULTI_TAG"})
    assert stored(desk, send(desk, "M")).system_flag & 2


# Retries sent by consumers -----------------------------------------------------------------------


def test_what_a_consumer_sends_again(desk: Desk) -> None:
    record = stored(desk, send(desk, "%RETRY%G", j=3, l=5))
    assert (record.topic, record.reconsume_times) == ("%RETRY%G", 3)


def test_too_often_is_a_dead_letter(desk: Desk) -> None:
    record = stored(desk, send(desk, "%RETRY%G", j=6, l=5))
    assert (record.topic, record.queue_id) == ("%DLQ%G", 0)
    assert decode_properties(record.properties)["DELAY"] == "-1"
    assert desk.coordinator.state.topics.get("%DLQ%G") is not None


def test_an_orderly_consumer_gave_up(desk: Desk) -> None:
    locks = desk.coordinator.state.locks
    locks.lock("G", "a", [MessageQueue("T", "b", 0)], now_ns=desk.now.monotonic_ns)
    assert stored(desk, send(desk, "%RETRY%G", j=1, l=5)).topic == "%DLQ%G"


# Batches -----------------------------------------------------------------------------------------


def item(body: bytes, text: str = "") -> bytes:
    tail = struct.pack(">h", len(text)) + text.encode()
    size = 20 + len(body) + len(tail)
    return struct.pack(">iiiii", size, 0, 0, 5, len(body)) + body + tail


def test_a_batch_is_one_record_each(desk: Desk) -> None:
    items = [
        item(b"one", properties(TAGS="A")),
        item(b"three", properties(UNIQ_KEY="k")),
        item(b"x"),
    ]
    answer = desk.ask(desk.open(), "SEND_BATCH_MESSAGE", header(m="true"), b"".join(items))
    assert answer.code == 0
    assert answer.fields["queueOffset"] == "0"
    assert "transactionId" not in answer.fields
    records = [stored(desk, answer, number) for number in range(3)]
    assert [record.body for record in records] == [b"one", b"three", b"x"]
    assert [record.queue_offset for record in records] == [0, 1, 2]
    assert [record.flag for record in records] == [5, 5, 5]
    store = desk.coordinator.state.store
    tags = [unit.tags_code for n in range(3) if (unit := store.unit("T", 0, n)) is not None]
    assert tags == [65, 0, 0]


def test_a_batch_holds_no_delayed_messages(desk: Desk) -> None:
    body = item(b"x", properties(DELAY=3))
    assert desk.ask(desk.open(), "SEND_BATCH_MESSAGE", header(m="true"), body).code == 13


def test_a_batch_of_more_records_than_an_append_may_have() -> None:
    """However small its items are: their records together are no longer than one may be."""
    settings = config()
    store = msgspec.structs.replace(settings.store, max_message_size=16 << 10)
    desk = Desk(make_heritage(msgspec.structs.replace(settings, store=store)))
    assert send(desk, body=item(b"x") * 200, m="true").code == 0
    answer = send(desk, body=item(b"x") * 700, m="true")
    assert len(item(b"x") * 700) < 16 << 10
    assert answer.code == 13 and "MSG_REGION" in answer.fields


@pytest.mark.parametrize("cut", [1, 10, 21, 24])
def test_a_batch_that_is_cut(desk: Desk, cut: int) -> None:
    answer = desk.ask(desk.open(), "SEND_BATCH_MESSAGE", header(m="true"), item(b"hello")[:cut])
    assert answer.code == 13


def test_the_writer_refuses(desk: Desk) -> None:
    desk.writer.code = 14
    answer = send(desk)
    assert answer.code == 14
    assert "service not available" in (answer.remark or "")
    assert answer.fields == {"MSG_REGION": "DefaultRegion", "TRACE_ON": "true"}
