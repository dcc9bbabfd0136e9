"""Consume offsets over the wire."""

from typing import Any

import pytest

from appliance.net.frame import ONEWAY, Frame
from clib import lib
from tests.broker.paper import Desk
from tests.broker.test_clients import beat
from tests.broker.test_send import send

FILE = "/store/config/consumerOffset.json"


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    send(made)
    beat(made, made.open(), "a")
    return made


def query(desk: Desk, **fields: Any) -> Frame:
    header = {"consumerGroup": "G", "topic": "T", "queueId": 0}
    return desk.ask(desk.open(), "QUERY_CONSUMER_OFFSET", {**header, **fields})


def commit(desk: Desk, offset: int, **fields: Any) -> Frame:
    header = {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": offset}
    return desk.ask(desk.open(), "UPDATE_CONSUMER_OFFSET", {**header, **fields})


def test_a_young_queue_is_read_from_its_begin(desk: Desk) -> None:
    assert query(desk).fields == {"offset": "0"}
    assert query(desk, setZeroIfNotFound="false").code == 22
    empty = query(desk, queueId=1)
    assert (empty.code, empty.fields) == (22, {})
    assert query(desk, topic="nobody").code == 22


def test_what_is_committed_is_answered(desk: Desk) -> None:
    assert commit(desk, 7).code == 0
    assert query(desk).fields == {"offset": "7"}
    assert commit(desk, 3).code == 0
    assert query(desk).fields == {"offset": "3"}


def test_the_file_follows_within_five_seconds(desk: Desk) -> None:
    commit(desk, 7)
    desk.pass_ms(5_000)
    assert b'"T@G":{0:7}' in desk.disk.read(FILE)


def test_a_clean_end_writes_it(desk: Desk) -> None:
    commit(desk, 8)
    while not desk.coordinator.stop(desk.now):
        desk.run()
    desk.coordinator.close()
    assert b'"T@G":{0:8}' in desk.disk.read(FILE)


def test_commits_inside_pulls(desk: Desk) -> None:
    state = desk.coordinator.state
    rows = state.groups.row("G"), state.topics.row("T")
    desk.event(lib.AP_COMMIT, desk.open(), values=(*rows, 0, 9))
    desk.run()
    assert query(desk).fields == {"offset": "9"}


def test_oneway_commits_are_kept_and_not_answered(desk: Desk) -> None:
    header = {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 4}
    opaque = desk.put(desk.open(), "UPDATE_CONSUMER_OFFSET", header, flag=ONEWAY)
    assert query(desk).fields == {"offset": "4"}
    assert desk.answers(opaque) == []


@pytest.mark.parametrize("queue", [-1, 1 << 22, 2_147_483_647, -2_147_483_648])
def test_impossible_queues_do_no_harm(desk: Desk, queue: int) -> None:
    assert commit(desk, 5, queueId=queue).code == 0
    assert query(desk, queueId=queue).code == 22


def test_a_full_table_is_an_answer(desk: Desk) -> None:
    answers = [commit(desk, 5, queueId=queue) for queue in range(600)]
    assert answers[0].code == 0
    assert answers[-1].code == 1
    assert "full" in (answers[-1].remark or "")
    assert query(desk).fields == {"offset": "5"}


@pytest.mark.parametrize(
    ("fields", "code"), [({"consumerGroup": "nobody"}, 26), ({"topic": "nobody"}, 17)]
)
def test_what_does_not_exist(desk: Desk, fields: dict[str, str], code: int) -> None:
    answer = commit(desk, 1, **fields)
    assert (answer.code, "not exist!" in (answer.remark or "")) == (code, True)


def test_a_disk_that_is_full_loses_none(desk: Desk) -> None:
    commit(desk, 6)
    desk.disk.fail(28, on="write_atomic", times=1)
    desk.pass_ms(5_000)
    assert query(desk).fields == {"offset": "6"}
    desk.pass_ms(5_000)
    assert b'"T@G":{0:6}' in desk.disk.read(FILE)
