"""The body of REGISTER_BROKER in its forms, as Apache's classes wrote them and broken."""

import json
import struct
import zlib
from pathlib import Path

import pytest

from appliance.namesrv import registration
from appliance.namesrv.registration import Registration
from appliance.namesrv.state import DataVersion, QueueData
from appliance.net.json_text import JsonError

GOLDEN = Path(__file__).parent.parent / "golden" / "namesrv"
PLAIN = (GOLDEN / "register_body_plain.json").read_bytes()
COMPRESSED = (GOLDEN / "register_body_compressed.bin").read_bytes()
INFLATED = (GOLDEN / "register_body_inflated.bin").read_bytes()


def read(body: bytes, version: int = 479, compressed: bool = False) -> Registration:
    return registration.read(body, broker_name="b", version=version, compressed=compressed)


def chunk(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def test_plain_and_compressed_say_the_same() -> None:
    """But for topicSysFlag, which the compressed form has no room for (section 14.5)."""
    plain, compressed = read(PLAIN), read(COMPRESSED, compressed=True)
    assert {queues.sys_flag for queues in compressed.topics.values()} == {0}
    for queues in plain.topics.values():
        queues.sys_flag = 0
    assert plain == compressed
    assert plain.mappings["TopicZ"]["currIdMap"] == {0: 0, 1: 1}
    assert plain.filter_servers == ["127.0.0.1:30001"]
    assert plain.topics["TopicZ"] == QueueData("b", 4, 6, 6, 0)


def test_a_deflated_body_is_recognised_unannounced() -> None:
    assert read(COMPRESSED) == read(COMPRESSED, compressed=True)


def test_brokers_before_5_send_no_mapping() -> None:
    assert read(COMPRESSED, version=412).mappings == {}


def test_brokers_before_3_send_the_topic_table_alone() -> None:
    wrapper = json.loads(PLAIN.replace(b"0:0,1:1", b""))["topicConfigSerializeWrapper"]
    told = read(json.dumps(wrapper).encode(), version=36)
    assert told.topics.keys() == read(PLAIN).topics.keys()
    assert told.filter_servers is None


def test_no_body_is_an_empty_table() -> None:
    assert read(b"") == Registration(DataVersion(0, 0, 0), {}, None, {})


def test_absent_members_are_apaches_defaults() -> None:
    body = b'{"topicConfigSerializeWrapper":{"topicConfigTable":{"T":{"perm":"4"}}}}'
    told = read(body)
    assert told.topics == {"T": QueueData("b", 16, 16, 4, 0)}
    assert told.version == DataVersion(0, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"nothing",
        b"[]",
        b'{"topicConfigSerializeWrapper":[]}',
        b'{"topicConfigSerializeWrapper":{"topicConfigTable":{"T":5}}}',
        b'{"topicConfigSerializeWrapper":{"topicConfigTable":{"T":{"perm":"many"}}}}',
        b'{"topicConfigSerializeWrapper":{"topicConfigTable":{"T":{"perm":[]}}}}',
        b'{"topicConfigSerializeWrapper":{"topicQueueMappingInfoMap":{"T":{"currIdMap":{"x":1}}}}}',
        b'{"filterServerList":{}}',
        b"\x78\x9c broken",
        *(zlib.compress(INFLATED[:size]) for size in (0, 3, 10, 60, 150, len(INFLATED) - 1)),
        zlib.compress(chunk(b"{}") + struct.pack(">i", -1)),
        zlib.compress(chunk(b"{}") + struct.pack(">i", 0x7FFFFFFF)),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(JsonError):
        read(body)


def test_a_body_that_inflates_beyond_measure_is_refused() -> None:
    bomb = zlib.compress(b"\0" * (registration.INFLATED_SIZE_MAX + 1))
    with pytest.raises(JsonError, match="when inflated"):
        read(bomb)


def test_queues_of_a_route() -> None:
    body = b'{"queueDatas":[{"brokerName":"x","perm":6,"readQueueNums":2,"writeQueueNums":3}]}'
    assert registration.route_queues(body) == [QueueData("x", 2, 3, 6, 0)]
    assert registration.route_queues(b"") == []
