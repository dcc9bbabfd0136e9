"""Subscription groups by request."""

import json
from typing import Any

import pytest

from appliance.net import json_text
from appliance.net.frame import Frame
from tests.broker.paper import Desk
from tests.broker.test_clients import beat, subscription
from tests.broker.test_send import send


@pytest.fixture
def desk() -> Desk:
    return Desk()


def put(desk: Desk, **members: Any) -> Frame:
    body = {"groupName": "G", **members}
    return desk.ask(desk.open(), "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", body=body)


def config_of(desk: Desk, group: str = "G") -> dict[str, Any]:
    answer = desk.ask(desk.open(), "GET_SUBSCRIPTIONGROUP_CONFIG", {"group": group})
    config: dict[str, Any] = json.loads(answer.body)
    return config


def test_a_group_is_created_and_changed(desk: Desk) -> None:
    assert put(desk, retryMaxTimes=3, consumeEnable=False).code == 0
    assert (config_of(desk)["retryMaxTimes"], config_of(desk)["consumeEnable"]) == (3, False)
    assert put(desk, retryQueueNums=2).code == 0
    assert (config_of(desk)["retryMaxTimes"], config_of(desk)["retryQueueNums"]) == (16, 2)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"groupName": ""}, 29),
        ({"groupName": "a b"}, 29),
        ({"groupName": None}, 29),
        ({"retryMaxTimes": "many"}, 1),
        ({"attributes": 7}, 1),
        ({"attributes": {"+x": "1"}}, 1),
    ],
)
def test_what_is_refused(desk: Desk, members: dict[str, Any], code: int) -> None:
    assert put(desk, **members).code == code
    assert "G" not in desk.coordinator.state.groups


def test_all_groups(desk: Desk) -> None:
    put(desk)
    body = json.loads(desk.ask(desk.open(), "GET_ALL_SUBSCRIPTIONGROUP_CONFIG").body)
    assert {"G", "TOOLS_CONSUMER"} < body["subscriptionGroupTable"].keys()
    assert body["forbiddenTable"] == {}


@pytest.mark.parametrize("clean", [True, False])
def test_a_group_is_deleted_with_or_without_its_offsets(desk: Desk, clean: bool) -> None:
    send(desk)
    put(desk)
    fields = {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 1}
    desk.ask(desk.open(), "UPDATE_CONSUMER_OFFSET", fields)
    header = {"groupName": "G", "cleanOffset": str(clean).lower()}
    assert desk.ask(desk.open(), "DELETE_SUBSCRIPTIONGROUP", header).code == 0
    assert "G" not in desk.coordinator.state.groups
    put(desk)
    assert desk.coordinator.state.offsets.get("T", "G", 0) == (-1 if clean else 1)


def stats(desk: Desk, **fields: Any) -> dict[tuple[str, int], dict[str, int]]:
    answer = desk.ask(desk.open(), "GET_CONSUME_STATS", {"consumerGroup": "G", **fields})
    table = json_text.loads(answer.body)["offsetTable"]
    return {(key.topic, key.queueId): value for key, value in table.items()}


def test_how_far_a_group_is(desk: Desk) -> None:
    for topic in ("T", "U"):
        send(desk, topic, d=1)
    put(desk)
    fields = {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 1}
    desk.ask(desk.open(), "UPDATE_CONSUMER_OFFSET", fields)
    of_t = {
        "brokerOffset": 1,
        "consumerOffset": 1,
        "lastTimestamp": desk.now.wall_ms,
        "pullOffset": 1,
    }
    assert stats(desk) == {("T", 0): of_t}
    assert stats(desk, topic="T") == {("T", 0): of_t}
    both = stats(desk, topicList="T;U")
    assert both["U", 0] == {"brokerOffset": 1, "consumerOffset": 0, "lastTimestamp": 0} | {
        "pullOffset": 0
    }
    assert stats(desk, topic="nobody") == {}


def test_a_topic_that_an_online_group_does_not_read_is_left_out(desk: Desk) -> None:
    for topic in ("T", "U"):
        send(desk, topic, d=1)
    beat(desk, desk.open(), "a", subscription("T"))
    assert list(stats(desk, topicList="T;U")) == [("T", 0)]
