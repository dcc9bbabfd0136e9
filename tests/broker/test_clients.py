"""Heartbeats: what they create, whom they notify, what they answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.ring.tables import SUB_TAGS
from clib import lib
from tests.broker.paper import Desk

GOLDEN = Path(__file__).parent.parent / "golden" / "client" / "heartbeat.json"


def subscription(topic: str = "T", version: int = 1, **members: Any) -> dict[str, Any]:
    base = {"topic": topic, "subString": "*", "subVersion": version, "expressionType": "TAG"}
    return {**base, "tagsSet": [], "codeSet": [], **members}


def body(
    client: str,
    *subscriptions: dict[str, Any],
    group: str = "G",
    model: str = "CLUSTERING",
    **members: Any,
) -> dict[str, Any]:
    consumer = {
        "groupName": group,
        "consumeType": "CONSUME_PASSIVELY",
        "messageModel": model,
        "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
        "subscriptionDataSet": list(subscriptions or (subscription(),)),
    }
    return {"clientID": client, "consumerDataSet": [consumer], "producerDataSet": [], **members}


def beat(desk: Desk, connection: int, *args: Any, **keywords: Any) -> dict[str, str]:
    answer = desk.ask(connection, "HEART_BEAT", body=body(*args, **keywords))
    assert answer.code == 0, answer
    return answer.fields


def ids(desk: Desk, connection: int, group: str = "G") -> list[str]:
    answer = desk.ask(connection, "GET_CONSUMER_LIST_BY_GROUP", {"consumerGroup": group})
    listed: list[str] = json.loads(answer.body)["consumerIdList"] if answer.code == 0 else []
    return listed


def notified(desk: Desk) -> list[int]:
    return [connection for connection, frame in desk.pushes() if frame.code == 40]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_first_beat_creates_what_the_group_needs(desk: Desk) -> None:
    client = desk.open()
    assert beat(desk, client, "a") == {"IS_SUPPORT_HEART_BEAT_V2": "true", "IS_SUB_CHANGE": "true"}
    state = desk.coordinator.state
    assert "G" in state.groups
    retry = state.topics.get("%RETRY%G")
    assert retry is not None
    assert (retry.read_queues, retry.write_queues, retry.perm) == (1, 1, 6)


@pytest.mark.parametrize("number", range(5))
def test_real_bodies_are_understood(desk: Desk, number: int) -> None:
    text = json.loads(GOLDEN.read_text())["cases"][number]["body"]
    answer = desk.ask(desk.open(), "HEART_BEAT", body=text.encode())
    assert answer.code == 0
    for consumer in json.loads(text)["consumerDataSet"]:
        group = desk.coordinator.state.clients.consumers(consumer["groupName"])
        assert group is not None
        listed = {s["topic"]: s for s in consumer["subscriptionDataSet"]}
        assert {t: s.to_json() for t, s in group.subscriptions.items()} == listed


def test_who_joins_is_told_to_all_before_the_answer(desk: Desk) -> None:
    first, second = desk.open(1), desk.open(2)
    beat(desk, first, "a")
    assert notified(desk) == [first]
    beat(desk, second, "b")
    assert notified(desk) == [first, second]
    assert ids(desk, first) == ["a", "b"]
    beat(desk, second, "b")
    assert notified(desk) == []


def test_broadcasting_groups_are_not_told_who_joins(desk: Desk) -> None:
    beat(desk, desk.open(1), "a", model="BROADCASTING")
    beat(desk, desk.open(2), "b", model="BROADCASTING")
    assert notified(desk) == []


def test_a_group_may_not_want_to_know(desk: Desk) -> None:
    client = desk.open()
    config = {"groupName": "G", "notifyConsumerIdsChangedEnable": False}
    desk.ask(client, "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", body=config)
    beat(desk, client, "a")
    desk.close(client)
    desk.run()
    assert notified(desk) == []


def test_who_leaves_is_told_to_the_others(desk: Desk) -> None:
    first, second, third = desk.open(1), desk.open(2), desk.open(3)
    for connection, name in ((first, "a"), (second, "b"), (third, "c")):
        beat(desk, connection, name)
    desk.pushes()
    desk.ask(first, "UNREGISTER_CLIENT", {"clientID": "a", "consumerGroup": "G"})
    assert notified(desk) == [second, third]
    desk.close(second)
    desk.run()
    assert notified(desk) == [third]
    assert ids(desk, third) == ["c"]


def test_a_frontend_that_was_started_anew_has_nobody(desk: Desk) -> None:
    first, second = desk.open(1, frontend=0), desk.open(1, frontend=1)
    beat(desk, first, "a")
    beat(desk, second, "b")
    desk.pushes()
    desk.event(lib.AP_RESET, first)
    desk.run()
    assert notified(desk) == [second]
    assert ids(desk, second) == ["b"]


def test_silence_ends_a_connection_without_a_word(desk: Desk) -> None:
    first, second = desk.open(1), desk.open(2)
    beat(desk, first, "a")
    desk.pass_ms(60_000)
    beat(desk, second, "b")
    desk.told.clear()
    desk.pass_ms(70_000)
    assert [(kind, connection) for kind, connection, _ in desk.told] == [(lib.AP_CLOSE, first)]
    assert ids(desk, second) == ["b"]


def test_a_beat_keeps_a_connection(desk: Desk) -> None:
    client = desk.open()
    for _ in range(10):
        beat(desk, client, "a")
        desk.pass_ms(30_000)
    assert lib.AP_CLOSE not in desk.kinds()


def test_subscriptions_are_shown_to_the_fast_path(desk: Desk) -> None:
    client = desk.open()
    config = {"topic": "T", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6}
    desk.ask(client, "UPDATE_AND_CREATE_TOPIC", config)
    tags = subscription(version=9, subString="A", tagsSet=["A"], codeSet=[65])
    beat(desk, client, "a", tags)
    state = desk.coordinator.state
    assert state.subscriptions.version("G", "T") == 9
    shared = state.subscriptions._table.get(state.groups.row("G"), state.topics.row("T"))
    assert shared is not None
    assert (shared.kind, shared.codes.tolist()) == (SUB_TAGS, [65])
    desk.close(client)
    desk.run()
    assert state.subscriptions.version("G", "T") is None


def test_heartbeat_v2_without_subscriptions(desk: Desk) -> None:
    client = desk.open()
    known = beat(desk, client, "a", heartbeatFingerprint=7)
    assert known["IS_SUB_CHANGE"] == "false"
    short = beat(desk, client, "a", {}, heartbeatFingerprint=7, withoutSub=True)
    assert short["IS_SUB_CHANGE"] == "false"
    group = desk.coordinator.state.clients.consumers("G")
    assert group is not None
    assert list(group.subscriptions) == ["T"]
    assert beat(desk, client, "a", heartbeatFingerprint=8)["IS_SUB_CHANGE"] == "true"


def test_heartbeat_v2_of_an_unknown_group_is_asked_for_everything(desk: Desk) -> None:
    answer = beat(desk, desk.open(), "a", heartbeatFingerprint=7, withoutSub=True)
    assert answer["IS_SUB_CHANGE"] == "true"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b'{"consumerDataSet":7}',
        b'{"consumerDataSet":[{"groupName":"G","subscriptionDataSet":[{"subVersion":"x"}]}]}',
        b'{"consumerDataSet":[[]]}',
        b'{"heartbeatFingerprint":"x"}',
    ],
)
def test_a_body_that_is_none_gets_an_answer(desk: Desk, text: bytes) -> None:
    answer = desk.ask(desk.open(), "HEART_BEAT", body=text)
    assert answer.code == 1
    assert "HEART_BEAT" in (answer.remark or "")


@pytest.mark.parametrize("group", ["", "a b", "\ud83d\ude00", "g" * 400])
def test_an_illegal_group_gets_no_topic(desk: Desk, group: str) -> None:
    client = desk.open()
    beat(desk, client, "a", group=group)
    assert ids(desk, client, group) == ["a"]
    assert desk.coordinator.state.topics.get(f"%RETRY%{group}") is None
