"""Queue locks over the wire."""

import json
from typing import Any

import pytest

from tests.broker.paper import Desk


def queue(number: int) -> dict[str, Any]:
    return {"topic": "T", "brokerName": "broker-a", "queueId": number}


def body(client: str, *numbers: int) -> dict[str, Any]:
    return {"clientId": client, "consumerGroup": "G", "mqSet": [queue(n) for n in numbers]}


def lock(desk: Desk, client: str, *numbers: int) -> list[int]:
    answer = desk.ask(desk.open(), "LOCK_BATCH_MQ", body=body(client, *numbers))
    assert answer.code == 0
    return [one["queueId"] for one in json.loads(answer.body)["lockOKMQSet"]]


def test_locks_last_a_minute() -> None:
    desk = Desk()
    assert lock(desk, "a", 0, 1) == [0, 1]
    assert lock(desk, "b", 0, 2) == [2]
    desk.pass_ms(60_001)
    assert lock(desk, "b", 0, 1) == [0, 1]


def test_a_jump_of_the_wall_clock_frees_nothing() -> None:
    desk = Desk()
    lock(desk, "a", 0)
    desk.now = desk.now._replace(wall_ms=desk.now.wall_ms + 3_600_000)
    assert lock(desk, "b", 0) == []


def test_unlocking() -> None:
    desk = Desk()
    lock(desk, "a", 0)
    assert desk.ask(desk.open(), "UNLOCK_BATCH_MQ", body=body("b", 0)).code == 0
    assert lock(desk, "b", 0) == []
    assert desk.ask(desk.open(), "UNLOCK_BATCH_MQ", body=body("a", 0)).code == 0
    assert lock(desk, "b", 0) == [0]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"mqSet":[7]}', b'{"mqSet":[{"queueId":"x"}]}'])
@pytest.mark.parametrize("name", ["LOCK_BATCH_MQ", "UNLOCK_BATCH_MQ"])
def test_a_body_that_is_none_gets_an_answer(name: str, text: bytes) -> None:
    desk = Desk()
    answer = desk.ask(desk.open(), name, body=text)
    assert answer.code == 1
    assert name in (answer.remark or "")
