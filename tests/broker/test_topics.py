"""Topics by request."""

import json
from typing import Any

import pytest

from appliance.net import json_text
from appliance.net.frame import Frame
from tests.broker.paper import Desk
from tests.broker.test_send import send


@pytest.fixture
def desk() -> Desk:
    return Desk()


def create(desk: Desk, **fields: Any) -> Frame:
    header = {"topic": "T", "readQueueNums": 2, "writeQueueNums": 3, "perm": 6}
    return desk.ask(desk.open(), "UPDATE_AND_CREATE_TOPIC", {**header, **fields})


def config_of(desk: Desk, topic: str = "T") -> dict[str, Any]:
    answer = desk.ask(desk.open(), "GET_TOPIC_CONFIG", {"topic": topic})
    assert answer.code == 0
    config: dict[str, Any] = json.loads(answer.body)
    return config


def test_a_topic_is_created_and_changed(desk: Desk) -> None:
    assert create(desk, attributes="+message.type=FIFO", order="true").code == 0
    config = config_of(desk)
    assert config["attributes"] == {"message.type": "FIFO"}
    assert (config["readQueueNums"], config["writeQueueNums"], config["order"]) == (2, 3, True)
    assert create(desk, readQueueNums=5, attributes="-message.type").code == 0
    assert (config_of(desk)["readQueueNums"], config_of(desk)["attributes"]) == (5, {})


def test_what_is_the_same_changes_nothing(desk: Desk) -> None:
    create(desk)
    version = desk.coordinator.state.topics.version
    assert create(desk).code == 0
    assert desk.coordinator.state.topics.version == version


@pytest.mark.parametrize(
    "fields",
    [
        {"topic": "a b"},
        {"topic": "t" * 128},
        {"topic": "rmq_sys_x"},
        {"readQueueNums": -1},
        {"writeQueueNums": 65_537},
        {"perm": 8},
        {"perm": -1},
        {"topicFilterType": "x"},
        {"attributes": "+message.type=MIXED"},
    ],
)
def test_what_is_refused(desk: Desk, fields: dict[str, Any]) -> None:
    assert create(desk, **fields).code == 29
    assert desk.ask(desk.open(), "GET_TOPIC_CONFIG", {"topic": "T"}).code == 17


def test_more_queues_than_there_are(desk: Desk) -> None:
    answer = create(desk, readQueueNums=65_536)
    assert answer.code == 1
    assert "limit" in (answer.remark or "")
    assert create(desk).code == 0


def test_a_disk_that_is_full(desk: Desk) -> None:
    desk.disk.fail(28, on="write_atomic")
    answer = create(desk)
    assert (answer.code, "No space" in (answer.remark or "")) == (1, True)
    assert create(desk).code == 0


def test_a_topic_is_deleted(desk: Desk) -> None:
    create(desk)
    assert desk.ask(desk.open(), "DELETE_TOPIC_IN_BROKER", {"topic": "T"}).code == 0
    assert desk.ask(desk.open(), "GET_TOPIC_CONFIG", {"topic": "T"}).code == 17
    assert b'"T"' not in desk.disk.read("/store/config/topics.json")
    assert desk.ask(desk.open(), "DELETE_TOPIC_IN_BROKER", {"topic": "T"}).code == 0
    assert desk.ask(desk.open(), "DELETE_TOPIC_IN_BROKER", {}).code == 29


def test_all_topics(desk: Desk) -> None:
    create(desk)
    body = json.loads(desk.ask(desk.open(), "GET_ALL_TOPIC_CONFIG").body)
    assert body["topicConfigTable"]["T"]["writeQueueNums"] == 3
    assert {"TBW102", "BenchmarkTest", "DefaultCluster"} < body["topicConfigTable"].keys()
    assert body["dataVersion"]["counter"] == desk.coordinator.state.topics.version.counter
    assert body["topicQueueMappingInfoMap"] == {}


def test_how_far_the_queues_go(desk: Desk) -> None:
    create(desk)
    for queue in (0, 1, 1):
        send(desk, e=queue)
    body = json_text.loads(desk.ask(desk.open(), "GET_TOPIC_STATS_INFO", {"topic": "T"}).body)
    table = {key.queueId: value for key, value in body["offsetTable"].items()}
    assert [table[n]["maxOffset"] for n in range(3)] == [1, 2, 0]
    assert table[1]["lastUpdateTimestamp"] == desk.now.wall_ms
    assert table[2]["lastUpdateTimestamp"] == 0
    assert desk.ask(desk.open(), "GET_TOPIC_STATS_INFO", {"topic": "nobody"}).code == 17


def test_system_topics_are_apaches(desk: Desk) -> None:
    topics = desk.coordinator.state.topics
    perms = {config.name: (config.queue_count, config.perm) for config in topics}
    assert perms == {
        "TBW102": (8, 7),
        "DefaultCluster": (16, 7),
        "broker-a": (1, 7),
        "SELF_TEST_TOPIC": (1, 6),
        "OFFSET_MOVED_EVENT": (1, 6),
        "BenchmarkTest": (1024, 6),
        "SCHEDULE_TOPIC_XXXX": (18, 6),
        "DefaultCluster_REPLY_TOPIC": (1, 6),
        "rmq_sys_REVIVE_LOG_DefaultCluster": (8, 6),
        "rmq_sys_wheel_timer": (1, 6),
        "rmq_sys_SYNC_BROKER_MEMBER_broker-a": (1, 1),
        "RMQ_SYS_TRANS_HALF_TOPIC": (1, 6),
        "RMQ_SYS_TRANS_OP_HALF_TOPIC": (1, 6),
    }
