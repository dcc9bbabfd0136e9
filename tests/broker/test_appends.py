"""Appends: what the ring tells a successor, and answers that are built from it alone."""

import pytest

from appliance.broker.appends import SOURCES_MAX, Asker, Origin
from appliance.broker.effects import Append, connection_of
from appliance.commitlog.record import Record, build, encode_properties
from appliance.net.frame import JSON, ONEWAY, ROCKETMQ, Frame
from tests.broker.paper import Desk, page_of

FRONTEND = 1
CONNECTION = connection_of(FRONTEND, 0xFFFF_FFFF_0000_0007)


def record(body: bytes = b"x", key: str = "k") -> bytes:
    host = bytes([127, 0, 0, 1]) + (10911).to_bytes(4, "big")
    properties = encode_properties({"UNIQ_KEY": key} if key else {})
    return build(Record("SELF_TEST_TOPIC", body, properties, store_host=host))


def append(*records: bytes, key: str = "k") -> Append:
    return Append("SELF_TEST_TOPIC", 0, records or (record(),), (5,) * max(len(records), 1), 3, key)


def asker(code: int = 310, flag: int = 0, serialization: int = JSON) -> Asker:
    return Asker(CONNECTION, Frame(code, opaque=-9, flag=flag, serialization=serialization))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_origin_is_a_number_and_back() -> None:
    for origin in (Origin(0, 0), Origin(SOURCES_MAX - 1, 0), Origin(3, (1 << 56) - 2)):
        assert Origin.of(origin.number) == origin
        assert origin.number < 1 << 64


def test_the_answer_to_a_send(desk: Desk) -> None:
    appends = desk.coordinator._appends
    assert appends.push(append(), Origin(FRONTEND, 4), asker())
    desk.writer.step(desk.now)
    (result,) = appends.results(9)
    assert (result.origin, result.code, result.connection) == (Origin(1, 4), 0, CONNECTION)
    answer = result.answer
    assert answer is not None
    assert (answer.opaque, answer.code) == (-9, 0)
    assert answer.fields == {
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "queueId": "3",
        "queueOffset": "0",
        "msgId": "7F00000100002A9F" + "0" * 16,
        "transactionId": "k",
    }


def test_who_asked_in_binary_is_answered_so(desk: Desk) -> None:
    appends = desk.coordinator._appends
    appends.push(append(), Origin(0, 0), asker(serialization=ROCKETMQ))
    desk.writer.step(desk.now)
    (result,) = appends.results(9)
    assert result.answer is not None
    assert result.answer.serialization == ROCKETMQ


def test_who_reads_no_answer_gets_none(desk: Desk) -> None:
    appends = desk.coordinator._appends
    appends.push(append(), Origin(0, 0), asker(flag=ONEWAY))
    desk.writer.step(desk.now)
    (result,) = appends.results(9)
    assert result.answer is None


def test_nobody_asked(desk: Desk) -> None:
    appends = desk.coordinator._appends
    appends.push(append(), Origin(60, 4))
    desk.writer.step(desk.now)
    (result,) = appends.results(9)
    assert result.answer is None


def test_a_batch_has_an_id_each_and_no_transaction(desk: Desk) -> None:
    appends = desk.coordinator._appends
    records = [record(b"a" * size, key="") for size in (1, 2, 3)]
    appends.push(append(*records, key=""), Origin(0, 0), asker(320))
    desk.writer.step(desk.now)
    (result,) = appends.results(9)
    assert result.answer is not None
    offsets = [int(text[-16:], 16) for text in result.answer.fields["msgId"].split(",")]
    assert offsets == [0, len(records[0]), len(records[0]) + len(records[1])]
    assert "transactionId" not in result.answer.fields


def test_a_used_slot_says_nothing_of_what_stood_there(desk: Desk) -> None:
    appends = desk.coordinator._appends
    for number in range(desk.writer.send.capacity + 1):
        appends.push(append(), Origin(0, number), asker(flag=ONEWAY))
        desk.writer.step(desk.now)
        list(appends.results(9))
    appends.push(append(record(key=""), key=""), Origin(0, 99), asker())
    desk.writer.step(desk.now)
    (result,) = appends.results(9)
    assert result.answer is not None
    assert "transactionId" not in result.answer.fields


def test_results_are_seen_one_by_one(desk: Desk) -> None:
    appends, page = desk.coordinator._appends, page_of(desk.heritage)
    for number in (4, 5):
        appends.push(append(), Origin(FRONTEND, number), asker())
    desk.writer.step(desk.now)
    results = appends.results(9)
    next(results)
    results.close()
    assert page.appended_origin[FRONTEND] == 0
    assert [result.origin.position for result in appends.results(9)] == [4, 5]
    assert page.appended_origin[FRONTEND] == 6
    assert appends.idle


def test_a_successor_knows_what_was_handed_over(desk: Desk) -> None:
    appends = desk.coordinator._appends
    appends.push(append(), Origin(FRONTEND, 4), asker())
    desk.restart()
    assert desk.coordinator._appends.after(FRONTEND) == 5
    assert desk.coordinator._appends.after(0) == 0
    desk.run()
    desk.restart()
    assert desk.coordinator._appends.after(FRONTEND) == 5


def test_a_full_ring_is_an_answer(desk: Desk) -> None:
    appends = desk.coordinator._appends
    pushed = [appends.push(append(), Origin(0, n), asker()) for n in range(200)]
    assert pushed.count(True) == desk.writer.send.capacity
    assert appends.after(0) == desk.writer.send.capacity
    assert not appends.bind(0, 1)
    desk.writer.step(desk.now)
    assert not appends.push(append(), Origin(0, 200), asker()), "only what is answered is free"
    list(appends.results(9))
    assert appends.push(append(), Origin(0, 200), asker())
