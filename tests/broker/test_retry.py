"""Messages that a consumer sends back: again later, or to the dead letters."""

from typing import Any

import pytest

from appliance.commitlog.record import Record, decode_properties, parse
from appliance.net.frame import Frame
from tests.broker.paper import Desk
from tests.broker.test_send import properties, send, stored


@pytest.fixture
def desk() -> Desk:
    return Desk()


def back(desk: Desk, offset: int = 0, **fields: Any) -> Frame:
    header = {"offset": offset, "group": "G", "delayLevel": 0, "maxReconsumeTimes": 16}
    return desk.ask(desk.open(), "CONSUMER_SEND_MSG_BACK", {**header, **fields})


def last(desk: Desk, topic: str, queue: int) -> Record:
    """The newest record of a queue."""
    store = desk.coordinator.state.store
    unit = store.unit(topic, queue, store.bounds(topic, queue)[1] - 1)
    assert unit is not None
    record = store.record(unit.physical_offset)
    assert record is not None
    return parse(record)


def test_it_waits_for_its_level(desk: Desk) -> None:
    origin = stored(desk, send(desk, i=properties(UNIQ_KEY="k", TAGS="A")))
    answer = back(desk)
    assert (answer.code, answer.fields) == (0, {})
    waiting = last(desk, "SCHEDULE_TOPIC_XXXX", 2)
    assert (waiting.body, waiting.reconsume_times) == (origin.body, 1)
    kept = decode_properties(waiting.properties)
    assert kept["REAL_TOPIC"] == "%RETRY%G"
    assert kept["RETRY_TOPIC"] == "T"
    assert kept["ORIGIN_MESSAGE_ID"] == origin.message_id
    assert (kept["DELAY"], kept["WAIT"], kept["UNIQ_KEY"]) == ("3", "false", "k")


def test_it_comes_back_and_back(desk: Desk) -> None:
    send(desk)
    back(desk)
    desk.pass_ms(10_000)
    again = last(desk, "%RETRY%G", 0)
    assert again.reconsume_times == 1
    back(desk, again.physical_offset)
    waiting = last(desk, "SCHEDULE_TOPIC_XXXX", 3)
    assert waiting.reconsume_times == 2
    kept = decode_properties(waiting.properties)
    assert (kept["RETRY_TOPIC"], kept["DELAY"]) == ("T", "4")
    assert kept["ORIGIN_MESSAGE_ID"] == decode_properties(again.properties)["ORIGIN_MESSAGE_ID"]


def test_the_consumer_names_a_level(desk: Desk) -> None:
    send(desk)
    back(desk, delayLevel=1)
    assert desk.coordinator.state.store.bounds("SCHEDULE_TOPIC_XXXX", 0) == (0, 1)


@pytest.mark.parametrize("fields", [{"delayLevel": -1}, {"maxReconsumeTimes": 0}])
def test_dead_letters(desk: Desk, fields: dict[str, int]) -> None:
    origin = stored(desk, send(desk))
    assert back(desk, **fields).code == 0
    dead = last(desk, "%DLQ%G", 0)
    assert (dead.body, dead.reconsume_times) == (origin.body, 1)
    kept = decode_properties(dead.properties)
    assert (kept["DLQ_ORIGIN_TOPIC"], kept["DLQ_ORIGIN_MESSAGE_ID"]) == ("T", origin.message_id)


def test_a_message_that_is_not_there(desk: Desk) -> None:
    answer = back(desk, 123)
    assert (answer.code, answer.remark) == (1, "look message by offset failed, 123")


def test_an_illegal_group(desk: Desk) -> None:
    send(desk)
    assert back(desk, group="a b").code == 26


def test_a_group_without_retry_queues_drops_it(desk: Desk) -> None:
    send(desk)
    body = {"groupName": "G", "retryQueueNums": 0}
    desk.ask(desk.open(), "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", body=body)
    assert back(desk).code == 0
    assert desk.coordinator.state.topics.get("%RETRY%G") is None


def test_the_writer_refuses(desk: Desk) -> None:
    send(desk)
    desk.writer.code = 14
    answer = back(desk)
    assert (answer.code, answer.remark) == (1, "SERVICE_NOT_AVAILABLE")


def test_a_dead_letter_topic_without_queues(desk: Desk) -> None:
    send(desk)
    fields = {"topic": "%DLQ%G", "readQueueNums": 0, "writeQueueNums": 0, "perm": 6}
    assert desk.ask(desk.open(), "UPDATE_AND_CREATE_TOPIC", fields).code == 0
    answer = back(desk, delayLevel=-1)
    assert (answer.code, answer.remark) == (29, "topic[%DLQ%G] has no queue 0")
