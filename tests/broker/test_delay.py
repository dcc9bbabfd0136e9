"""Delay levels: delivered when due, once, across failures and restarts."""

import pytest

from appliance.broker.delay import PAUSE_NS
from appliance.commitlog.record import decode_properties
from tests.broker.paper import Desk
from tests.broker.test_retry import last
from tests.broker.test_send import properties, send
from tests.fakes.disk import FakeDisk

SCHEDULE = "SCHEDULE_TOPIC_XXXX"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def count(desk: Desk, topic: str = "T", queue: int = 0) -> int:
    return desk.coordinator.state.store.bounds(topic, queue)[1]


def delayed(desk: Desk, level: int = 1, body: bytes = b"later", **pairs: object) -> None:
    answer = send(desk, body=body, i=properties(DELAY=level, UNIQ_KEY=body.decode(), **pairs))
    assert answer.code == 0
    assert answer.fields["queueId"] == "0"


def test_a_message_is_delivered_when_it_is_due(desk: Desk) -> None:
    delayed(desk, TAGS="A")
    assert (count(desk), count(desk, SCHEDULE)) == (0, 1)
    desk.pass_ms(999)
    assert count(desk) == 0
    desk.pass_ms(1)
    assert count(desk) == 1
    record = last(desk, "T", 0)
    assert (record.body, record.store_timestamp) == (b"later", desk.now.wall_ms)
    assert decode_properties(record.properties)["REAL_TOPIC"] == "T"
    unit = desk.coordinator.state.store.unit("T", 0, 0)
    assert unit is not None
    assert unit.tags_code == 65


def test_a_level_beyond_the_last_is_the_last(desk: Desk) -> None:
    delayed(desk, level=99)
    assert count(desk, SCHEDULE, 17) == 1


def test_levels_do_not_wait_for_each_other(desk: Desk) -> None:
    for level in (3, 1, 2):
        delayed(desk, level, f"{level}".encode())
    for after_ms, delivered in ((1_000, 1), (4_000, 2), (5_000, 3)):
        desk.pass_ms(after_ms)
        assert count(desk) == delivered


def test_many_at_once_keep_their_order(desk: Desk) -> None:
    for number in range(150):
        delayed(desk, body=f"{number}".encode())
    desk.pass_ms(1_000)
    assert count(desk) == 150
    store = desk.coordinator.state.store
    bodies = []
    for number in range(150):
        unit = store.unit("T", 0, number)
        assert unit is not None
        bodies.append((store.record(unit.physical_offset) or b"")[88:91])
    assert [int(bytes(c for c in body if 48 <= c < 58)) for body in bodies] == list(range(150))


def test_progress_is_kept(desk: Desk) -> None:
    delayed(desk)
    desk.pass_ms(1_000)
    desk.pass_ms(10_000)
    assert b'"offsetTable":{1:1}' in desk.disk.read("/store/config/delayOffset.json")


def test_a_successor_delivers_nothing_twice(desk: Desk) -> None:
    delayed(desk)
    desk.pass_ms(1_000)
    desk.restart()
    desk.pass_ms(1_000)
    assert count(desk) == 1


def test_a_successor_knows_what_is_on_its_way(desk: Desk) -> None:
    delayed(desk)
    desk.now = desk.now._replace(wall_ms=desk.now.wall_ms + 1_000)
    desk.run(writing=False)
    desk.restart()
    desk.run()
    assert count(desk) == 1
    assert desk.coordinator.state.delays.offset(1) == 1


def test_a_refused_delivery_is_tried_again(desk: Desk) -> None:
    for body in (b"a", b"b"):
        delayed(desk, body=body)
    desk.writer.code = 14
    desk.pass_ms(1_000)
    assert count(desk) == 0
    desk.writer.code = 0
    desk.pass_ms(PAUSE_NS // 1_000_000)
    assert count(desk) == 2
    assert desk.coordinator.state.delays.offset(1) == 2


def test_a_clock_that_was_set_back_delays_no_more_than_the_level(desk: Desk) -> None:
    delayed(desk)
    desk.now = desk.now._replace(wall_ms=desk.now.wall_ms - 3_600_000)
    desk.run()
    assert count(desk) == 0
    desk.pass_ms(1_000)
    assert count(desk) == 1


def test_the_topic_is_gone(desk: Desk) -> None:
    delayed(desk)
    desk.ask(desk.open(), "DELETE_TOPIC_IN_BROKER", {"topic": "T"})
    desk.pass_ms(1_000)
    delayed(desk)
    desk.pass_ms(1_000)
    assert count(desk) == 1


def test_a_broker_with_fewer_levels_was_here_before() -> None:
    disk = FakeDisk()
    topic = b'{"readQueueNums":3,"writeQueueNums":3,"perm":6}'
    disk.add(
        "/store/config/topics.json", b'{"topicConfigTable":{"%s":%s}}' % (SCHEDULE.encode(), topic)
    )
    desk = Desk(disk=disk)
    delayed(desk, level=18)
    assert count(desk, SCHEDULE, 17) == 1
