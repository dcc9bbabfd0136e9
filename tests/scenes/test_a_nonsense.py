"""Nonsense in every field of every request, drawn from a seed: it is answered, and nobody dies.

A value that kills the coordinator would do so again and again, since its successor hears the same
question. SEED and ROUNDS choose others and more.
"""

import json
import os
import random
from typing import Any

import pytest

from appliance.net.frame import JSON, ROCKETMQ
from appliance.net.requests import BROKER, BY_CODE, FRONTEND, Row
from tests.interop.brokers import Appliance
from tests.scenes.client import (
    batch,
    connected,
    create_topic,
    heartbeat,
    properties,
    pull,
    send,
    subscription,
)

SEED = int(os.environ.get("SEED", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "1500"))
BATCH_ROUNDS = 100
BINARY_CODE_MAX = (1 << 15) - 1

BOUNDS = [edge + step for edge in (0, 1 << 31, 1 << 32, 1 << 63, 1 << 70) for step in (-1, 0, 1)]
NUMBERS = [str(number) for bound in BOUNDS for number in (bound, -bound)]
WORDS = (
    *("", " ", "x", "*", "||", "a || b", "true", "TAG", "SQL92", "UPPER", "1e3", "\0", "\ud800"),
    *("T", "G", "%RETRY%G", "%DLQ%G", "TBW102", "SCHEDULE_TOPIC_XXXX", "é" * 200, "long" * 2000),
    *("+message.type=FIFO", "-x", "+x=", "MULTI_TAG"),
)
PROPERTIES = tuple(
    properties(**{name: value})
    for name in ("DELAY", "TIMER_DELAY_SEC", "TIMER_DELIVER_MS", "TAGS", "KEYS", "UNIQ_KEY")
    for value in ("", "x", "1", "-1", "9" * 30)
)
NASTY = (*NUMBERS, *WORDS, *PROPERTIES)

SENSIBLE = {
    **dict.fromkeys(("topic", "b"), "T"),
    **dict.fromkeys(("defaultTopic", "c"), "TBW102"),
    **dict.fromkeys(("group", "consumerGroup"), "G"),
    **dict.fromkeys(("queueId", "e", "sysFlag", "f", "flag", "h", "bornTimestamp", "g"), "0"),
    **dict.fromkeys(("queueOffset", "commitOffset", "offset", "subVersion", "delayLevel"), "0"),
    **dict.fromkeys(("readQueueNums", "writeQueueNums", "perm", "d", "maxMsgNums"), "4"),
    "timestamp": "0",
    "topicFilterType": "SINGLE_TAG",
}
CALM = {"suspendTimeoutMillis": ("", "x", "-1", "0", "1")}
"""Who asks to wait for years waits: that is another scene's."""
ROWS = [row for row in BY_CODE.values() if row.served and row.served_by & (BROKER | FRONTEND)]


def fields_of(row: Row, chance: random.Random) -> dict[str, str]:
    """Most fields are there, and most make sense: or the first that does not hides the others."""
    return {
        field.wire: SENSIBLE[field.wire]
        if field.wire in SENSIBLE and chance.random() < 0.7
        else chance.choice(CALM.get(field.wire, NASTY))
        for field in row.asks
        if chance.random() < 0.9
    }


def nasty_json(chance: random.Random, depth: int = 0) -> Any:
    """Any value where another is expected."""
    kind = chance.random()
    if kind < 0.3 or depth > 3:
        return chance.choice(NASTY)
    if kind < 0.5:
        return chance.choice([None, True, 1.5, *BOUNDS])
    if kind < 0.75:
        return [nasty_json(chance, depth + 1) for _ in range(chance.randrange(3))]
    return {chance.choice(WORDS): nasty_json(chance, depth + 1) for _ in range(chance.randrange(3))}


def spoilt(value: Any, chance: random.Random) -> Any:
    """The same JSON with something else in one place."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.2:
        return nasty_json(chance)
    if isinstance(value, list):
        return [spoilt(value[0], chance), *value[1:]]
    name = chance.choice(list(value))
    return {**value, name: spoilt(value[name], chance)}


def body_of(row: Row, chance: random.Random) -> bytes:
    """What the request carries, spoilt, or something else altogether."""
    meant: dict[str, Any] = {
        "HEART_BEAT": heartbeat("c", "G", subscription("T")),
        "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP": {"groupName": "G", "retryQueueNums": 1},
        "LOCK_BATCH_MQ": {"consumerGroup": "G", "clientId": "c", "mqSet": [{"topic": "T"}]},
    }
    if row.name in meant and chance.random() < 0.8:
        return json.dumps(spoilt(meant[row.name], chance)).encode()
    items = batch((b"one", ""), (b"two", chance.choice(PROPERTIES)))
    return chance.choice([b"", b"x", b"{}", b"[]", items, items[:-3], chance.randbytes(50)])


@pytest.mark.parametrize("part", range(max(1, ROUNDS // BATCH_ROUNDS)))
def test_nobody_dies_of_it(appliance: Appliance, part: int) -> None:
    chance = random.Random(f"{SEED} {part}")
    children = appliance.children()
    with connected(appliance.ports.broker) as client:
        create_topic(client, "T")
        send(client, "T")
        for _ in range(BATCH_ROUNDS):
            row = chance.choice(ROWS)
            binary = row.code <= BINARY_CODE_MAX and chance.random() < 0.3
            fields, body = fields_of(row, chance), body_of(row, chance)
            form = ROCKETMQ if binary else JSON
            answer = client.ask(row.code, fields, body, serialization=form)
            assert answer.code == 0 or answer.remark, (row.name, fields, body)
        create_topic(client, "T")
        send(client, "T")
        assert pull(client, "T", consumerGroup="Sane").code == 0
    assert appliance.children() == children
