"""The answers of a real 5.3.3 broker to a script of requests, and ours in the same order."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from appliance.net import json_text, requests
from appliance.net.frame import Frame
from appliance.net.json_text import MessageQueue
from clib import lib
from tests.broker.paper import PEER, Desk

GOLDEN = Path(__file__).parent.parent / "golden" / "client" / "broker_responses.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text())["cases"]

NOT_SERVED_YET = {
    "send timer 2s",  # arbitrary delays
    "send prepared transaction",
    "query offset after reset",  # resets by the server
}
ANOTHER_TEXT = {  # Java's exceptions
    "send empty body",
    "view message bad offset",
}
POPPED = {  # what pop, which is not served yet, had committed
    "consume stats",
}
READ_BY_THE_FRONTENDS = {0, 19, 20, 21}

VARIABLE = re.compile(r"\d{13}|[0-9A-F]{32,56}")
VARIABLE_FIELDS = {"msgId", "transactionId", "timestamp", "queueOffset"}
VARIABLE_MEMBERS = {"lastUpdateTimestamp", "lastTimestamp"}


class FirstQueue(Random):
    """Where the real broker drew a queue, it drew the first."""

    def randrange(self, *_: Any) -> int:
        return 0


def served(case: dict[str, Any]) -> bool:
    row = requests.BY_CODE.get(case["request"]["code"])
    if case["name"].startswith("name server"):
        return False
    return row is None or row.served


def replay(desk: Desk, connection: int, case: dict[str, Any]) -> int:
    asked = case["request"]
    body = (asked["body"] or "").encode()
    # The captured client gave no version, which heartbeats and listings show.
    return desk.put(connection, asked["code"], asked["extFields"], body, version=0)


def test_every_answer_is_as_captured() -> None:
    desk = Desk(random=FirstQueue())
    connection = desk.open(peer=PEER)
    compared = 0
    for case in filter(served, CASES):
        opaque = replay(desk, connection, case)
        desk.run()
        if case["name"] in NOT_SERVED_YET:
            continue
        compared += 1
        if is_read(case):
            assert desk.kinds()[-1] == lib.AP_AGAIN, case["name"]
        else:
            compare(case, desk.answer(opaque))
    assert compared >= 70


def is_read(case: dict[str, Any]) -> bool:
    """A pull with which nothing is wrong goes back to the frontend."""
    pull = case["request"]["code"] in (11, 361)
    return pull and case["response"]["code"] in READ_BY_THE_FRONTENDS


def compare(case: dict[str, Any], answer: Frame) -> None:
    name, wanted = case["name"], case["response"]
    assert answer.code == wanted["code"], f"{name}: {answer}"
    if name not in ANOTHER_TEXT and answer.code != 0:
        assert stable(answer.remark) == stable(wanted["remark"]), name
        wanted_fields = wanted["extFields"] or {}
        assert answer.fields.keys() == wanted_fields.keys(), name
    if answer.code == 0:
        compare_fields(name, answer.fields, wanted["extFields"] or {})
    if wanted["body"] is not None and name not in POPPED:
        assert plain(answer.body) == plain(wanted["body"].encode()), name


def compare_fields(name: str, fields: dict[str, str], wanted: dict[str, str]) -> None:
    assert fields.keys() == wanted.keys(), name
    for key in wanted.keys() - VARIABLE_FIELDS:
        assert fields[key] == wanted[key], f"{name}: {key}"


def stable(remark: str | None) -> str:
    return VARIABLE.sub("<n>", remark or "")


def plain(body: bytes) -> Any:
    return without_times(json_text.loads(body))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            str(k) if isinstance(k, MessageQueue) else k: without_times(v)
            for k, v in value.items()
            if k not in VARIABLE_MEMBERS
        }
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["topic stats", "consumer connection", "get group"])
def test_bodies_are_written_as_java_writes_them(name: str) -> None:
    """Raw object keys, members in the alphabet's order, nothing that is null."""
    case = next(case for case in CASES if case["name"] == name)
    text = case["response"]["body"].encode()
    assert json_text.dumps(json_text.loads(text)) == text
