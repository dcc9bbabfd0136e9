"""Pulls that the frontends hand on: what is wrong with each, or that nothing is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from clib import lib
from tests.broker.paper import Desk, config, make_heritage
from tests.broker.test_clients import beat, subscription

TAGS = Path(__file__).parent.parent / "golden" / "client" / "tags.json"

SUSPEND, SUBSCRIPTION = 2, 4


def header(**fields: Any) -> dict[str, Any]:
    base = {"consumerGroup": "G", "topic": "T", "queueId": 0, "queueOffset": 0, "maxMsgNums": 32}
    more = {"sysFlag": SUSPEND, "commitOffset": 0, "suspendTimeoutMillis": 15000, "subVersion": 1}
    return {**base, **more, **fields}


def pull(desk: Desk, code: str = "PULL_MESSAGE", **fields: Any) -> Any:
    """The answer, or None when the frontend is to do it."""
    opaque = desk.put(desk.open(), code, header(**fields))
    desk.run()
    answers = desk.answers(opaque)
    if not answers:
        assert desk.kinds()[-1] == lib.AP_AGAIN
    return answers[0] if answers else None


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    create(made, "T")
    return made


def create(desk: Desk, topic: str, perm: int = 6) -> None:
    fields = {"topic": topic, "readQueueNums": 2, "writeQueueNums": 4, "perm": perm}
    assert desk.ask(desk.open(), "UPDATE_AND_CREATE_TOPIC", fields).code == 0


def put_group(desk: Desk, **members: Any) -> None:
    body = {"groupName": "G", **members}
    assert desk.ask(desk.open(), "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", body=body).code == 0


def refused(answer: Any, code: int, remark: str) -> None:
    assert answer is not None
    assert answer.code == code
    assert re.search(remark, answer.remark), answer.remark


def test_a_filter_of_its_own_needs_no_heartbeat(desk: Desk) -> None:
    assert pull(desk, sysFlag=SUBSCRIPTION, subscription="A || B") is None
    assert pull(desk, "LITE_PULL_MESSAGE", sysFlag=SUBSCRIPTION | 16) is None
    assert desk.coordinator.state.groups.row("G") >= 0, "asking created the group"


def test_the_heartbeat_says_what_is_read(desk: Desk) -> None:
    beat(desk, desk.open(), "a", subscription(version=5))
    assert pull(desk, subVersion=5) is None
    refused(pull(desk, subVersion=6), 25, "not latest")
    refused(pull(desk, topic="%RETRY%G"), 24, "consumer's subscription not exist")


def test_a_topic_that_came_after_the_heartbeat(desk: Desk) -> None:
    beat(desk, desk.open(), "a", subscription("later"))
    refused(pull(desk, topic="later"), 17, "apply first")
    create(desk, "later")
    assert desk.coordinator.state.subscriptions.version("G", "later") is None
    assert pull(desk, topic="later") is None
    assert desk.coordinator.state.subscriptions.version("G", "later") == 1


def test_the_checks_come_in_apaches_order(desk: Desk) -> None:
    wrong: dict[str, Any] = {
        "topic": "nobody",
        "queueId": 9,
        "consumerGroup": "a b",
        "expressionType": "SQL92",
    }
    refused(pull(desk, **wrong), 26, "does not exist")
    wrong.pop("consumerGroup")
    put_group(desk, consumeEnable=False)
    answer = pull(desk, **wrong)
    refused(answer, 16, "subscription group no permission")
    assert answer.fields == {"forbiddenType": "2"}
    put_group(desk)
    refused(pull(desk, **wrong), 17, "topic.nobody. not exist")
    create(desk, "nobody", perm=2)
    answer = pull(desk, **wrong)
    refused(answer, 16, "pulling message is forbidden")
    assert answer.fields == {"forbiddenType": "3"}
    create(desk, "nobody")
    refused(pull(desk, **wrong), 29, r"queueId\[9\] is illegal")
    wrong["queueId"] = 2
    refused(pull(desk, **wrong), 29, r"readQueueNums:\[2\]")
    wrong["queueId"] = -1
    refused(pull(desk, **wrong), 29, r"queueId\[-1\]")
    wrong["queueId"] = 1
    refused(pull(desk, **wrong), 24, "group info not exist")
    refused(pull(desk, sysFlag=SUBSCRIPTION, **wrong), 1, "filter message by SQL92")


def test_broadcasting_may_be_forbidden(desk: Desk) -> None:
    beat(desk, desk.open(), "a", model="BROADCASTING")
    assert pull(desk) is None
    put_group(desk, consumeBroadcastEnable=False)
    answer = pull(desk)
    refused(answer, 16, "broadcast way")
    assert answer.fields == {"forbiddenType": "4"}


def test_an_administrator_may_forbid_a_topic(desk: Desk) -> None:
    beat(desk, desk.open(), "a")
    desk.coordinator.state.groups._forbidden["G"] = {"T": 4}
    answer = pull(desk)
    refused(answer, 16, "is forbidden for topic")
    assert answer.fields == {"forbiddenType": "5"}


def test_filters_by_sql_are_not_served(desk: Desk) -> None:
    beat(desk, desk.open(), "a", subscription(expressionType="SQL92", subString="a > 1"))
    refused(pull(desk), 1, "filter message by SQL92")


@pytest.mark.parametrize(
    "case", json.loads(TAGS.read_text())["cases"], ids=lambda c: repr(c["expr"])
)
def test_expressions_that_the_reference_reads(desk: Desk, case: dict[str, Any]) -> None:
    answer = pull(desk, sysFlag=SUBSCRIPTION, subscription=case["expr"] or "")
    if isinstance(case["result"], str):
        refused(answer, 23, "parse the consumer's subscription failed")
    else:
        assert answer is None


def test_groups_may_not_be_created() -> None:
    desk = Desk(make_heritage(config(auto_create_groups=False)))
    create(desk, "T")
    refused(pull(desk, sysFlag=SUBSCRIPTION), 26, "does not exist")


def test_after_a_restart_the_predecessors_word_counts(desk: Desk) -> None:
    beat(desk, desk.open(), "a", subscription(version=5))
    desk.restart()
    assert pull(desk, subVersion=5) is None
    refused(pull(desk, subVersion=6), 24, "group info not exist")
    desk.pass_ms(2_000)
    refused(pull(desk, subVersion=5), 24, "group info not exist")
