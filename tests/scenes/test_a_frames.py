"""Frames, good and bad: what is answered, what ends the connection, what is dropped in silence."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.net import frame as frames
from appliance.net.frame import ONEWAY, RESPONSE, ROCKETMQ, Frame
from tests.interop.brokers import Apache, Appliance, await_until
from tests.scenes.client import (
    Client,
    connected,
    create_topic,
    message,
    pull,
    read_queue,
    send,
)

UNKNOWN = 9999
BUSY, NOT_SUPPORTED = 2, 3


def raw(
    header: bytes, body: bytes = b"", *, form: int = 0, header_size: int | None = None
) -> bytes:
    """A frame around any header, which may lie about its length."""
    size = len(header) if header_size is None else header_size
    return struct.pack(">II", 4 + len(header) + len(body), form << 24 | size) + header + body


def head(**members: object) -> bytes:
    return json.dumps({"code": UNKNOWN, "opaque": 7, "flag": 0, **members}).encode()


def still_serves(client: Client) -> None:
    """The connection is as good as new."""
    answer = client.ask(UNKNOWN)
    assert answer.code == NOT_SUPPORTED
    assert answer.remark == f" request type {UNKNOWN} not supported"


@pytest.fixture
def witness(broker: Appliance | Apache) -> Iterator[Client]:
    """Somebody else, who must not notice anything."""
    with connected(broker.ports.broker) as client:
        still_serves(client)
        yield client
        still_serves(client)


LONG = 16 << 20


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(struct.pack(">iI", -1, 0) + bytes(64), id="length -1"),
        pytest.param(struct.pack(">iI", -(1 << 31), 0) + bytes(64), id="the least length"),
        pytest.param(struct.pack(">iI", (1 << 31) - 1, 0) + bytes(64), id="the greatest length"),
        pytest.param(struct.pack(">II", LONG - 3, 40) + bytes(64), id="one byte over the limit"),
        pytest.param(struct.pack(">II", 4, 0) + bytes(64), id="no header"),
        pytest.param(raw(b"this is not JSON, is it?"), id="no JSON"),
        pytest.param(raw(b'{"code":10,"opaque":1,"flag":'), id="half JSON"),
        pytest.param(raw(b'["code","is","the","first"]'), id="a list"),
        pytest.param(raw(head(opaque=1 << 40)), id="an opaque of 41 bits"),
        pytest.param(raw(head(language=99)), id="an ordinal that is no language"),
        pytest.param(raw(head(extFields=[1, 2])), id="extFields is a list"),
        pytest.param(raw(head(), header_size=1000), id="header longer than the frame"),
        pytest.param(raw(head(), form=2), id="unknown serialization"),
        pytest.param(raw(bytes(10), form=ROCKETMQ), id="binary header cut short"),
        pytest.param(
            raw(struct.pack(">hBhiii", 10, 3, 479, 1, 0, 1 << 30) + bytes(8), form=ROCKETMQ),
            id="remark longer than the header",
        ),
    ],
)
def test_what_ends_the_connection(broker: Appliance | Apache, witness: Client, data: bytes) -> None:
    """Without an answer, as the real decoder does (remoting.md section 1)."""
    with connected(broker.ports.broker) as client:
        client.put_bytes(data)
        assert client.is_closed()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(struct.pack(">iI", -1, 0), "a frame of an impossible length", id="length"),
        pytest.param(raw(b"this is not JSON"), "the header is not JSON", id="header"),
    ],
)
def test_it_is_told_in_one_line(appliance: Appliance, data: bytes, reason: str) -> None:
    """So many a second at the most, so that nobody fills the log: it may take another one."""
    addresses = []

    def told() -> list[str]:
        with connected(appliance.ports.broker) as client:
            addresses.append(client.address)
            client.put_bytes(data)
            assert client.is_closed()
        lines = appliance.log.read_text().splitlines()
        return [line for line in lines if any(f" {one}: " in line for one in addresses)]

    await_until("a line", lambda: bool(told()), seconds=10)
    assert all(f"connection closed: {reason}" in line for line in told())


def test_half_a_frame_then_silence(broker: Appliance | Apache, witness: Client) -> None:
    """Nobody waits for the other half but its own connection, which may still bring it."""
    data = frames.encode(Frame(UNKNOWN, opaque=5))
    with connected(broker.ports.broker) as slow, connected(broker.ports.broker) as gone:
        slow.put_bytes(data[:30])
        gone.put_bytes(data[:30])
        gone.close()
        still_serves(witness)
        slow.put_bytes(data[30:])
        assert slow.next_answer().opaque == 5


def test_a_frame_in_many_segments(client: Client) -> None:
    data = frames.encode(Frame(UNKNOWN, opaque=5, body=b"abc"))
    for at in range(len(data)):
        client.put_bytes(data[at : at + 1])
    assert client.next_answer().opaque == 5
    still_serves(client)


def test_many_frames_in_one_segment(client: Client) -> None:
    asked = [client.frame(UNKNOWN) for _ in range(500)]
    client.put(*asked)
    assert {client.next_answer().opaque for _ in asked} == {frame.opaque for frame in asked}


def test_the_longest_frame(client: Client) -> None:
    """16 MiB with the length word; the request is unknown, its body is no one's business.

    It fills all the room between two processes: until that is free, others are told to wait.
    """
    frame = client.frame(UNKNOWN)
    frame.body = bytes(LONG - len(frames.encode(frame)))

    def answered() -> int:
        client.put(frame)
        return client.answer(frame).code

    await_until("room for it", lambda: answered() == NOT_SUPPORTED)
    await_until("room", lambda: client.ask(UNKNOWN).code != BUSY)
    still_serves(client)


@pytest.mark.parametrize("code", [UNKNOWN, 0, -1, 1 << 30])
def test_an_unknown_code(client: Client, code: int) -> None:
    answer = client.ask(code)
    assert (answer.code, answer.remark) == (
        NOT_SUPPORTED,
        f" request type {code} not supported",
    )


def test_a_oneway_request_is_never_answered(client: Client) -> None:
    """The first answer is the one to what was asked afterwards."""
    client.tell(UNKNOWN)
    client.tell("GET_MAX_OFFSET", {"topic": "T", "queueId": 0})
    client.tell("PULL_MESSAGE", {"topic": "no such topic"})
    asked = client.frame(UNKNOWN)
    client.put(asked)
    assert client.next_answer().opaque == asked.opaque


def test_answers_to_nothing_are_dropped(client: Client) -> None:
    client.put(client.frame(0, flag=RESPONSE), client.frame(40, flag=RESPONSE | ONEWAY))
    asked = client.frame(UNKNOWN)
    client.put(asked)
    assert client.next_answer().opaque == asked.opaque


@pytest.mark.parametrize("opaque", [0, -1, -(1 << 31), (1 << 31) - 1])
def test_any_opaque_comes_back(client: Client, opaque: int) -> None:
    assert client.ask(UNKNOWN, opaque=opaque).code == NOT_SUPPORTED


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"{'code':9999,'opaque':7,'flag':0}", id="single quotes"),
        pytest.param(b'{"code":"9999","opaque":"7","flag":"0"}', id="quoted numbers"),
        pytest.param(b'{"opaque":7,"x":{"y":[1]},"code":9999}', id="unknown members"),
        pytest.param(
            b'{"code":9999,"extFields":{"a":1,"b":true,"c":null},"opaque":7}', id="values"
        ),
        pytest.param(b'{"code":9999,"opaque":7,"language":"KLINGON"}', id="unknown language"),
    ],
)
def test_what_the_real_decoder_forgives(client: Client, header: bytes) -> None:
    client.put_bytes(raw(header))
    answer = client.next_answer()
    assert (answer.opaque, answer.code) == (7, NOT_SUPPORTED)


def test_binary_headers(client: Client, topic: str) -> None:
    """A client with ROCKETMQ headers is served; the answer may have either form."""
    create_topic(client, topic)
    for number in range(3):
        fields = message(topic, i=f"UNIQ_KEY\x01{number:032}\x02")
        answer = client.ask("SEND_MESSAGE_V2", fields, b"binary", serialization=ROCKETMQ)
        assert (answer.code, answer.fields["queueOffset"]) == (0, str(number))
    assert [one.body for one in read_queue(client, topic, 3)] == [b"binary"] * 3
    answer = client.ask(UNKNOWN, serialization=ROCKETMQ)
    assert answer.remark == f" request type {UNKNOWN} not supported"


# Fields that are missing or out of range ---------------------------------------------------------


@pytest.mark.parametrize("missing", ["b", "e", "f", "g", "h"])
def test_a_send_without_a_field_that_it_needs(client: Client, topic: str, missing: str) -> None:
    """Java's handler trips over a null; ours says which field it misses."""
    create_topic(client, topic)
    answer = client.ask("SEND_MESSAGE_V2", {**message(topic), missing: None}, b"x")
    assert answer.code in ({1, 29} if missing == "b" else {1}), answer
    assert answer.remark
    assert pull(client, topic).code == 19, "nothing is stored"


@pytest.mark.parametrize("missing", ["a", "c", "d", "i", "j", "k", "m"])
def test_a_send_without_a_field_that_it_can_do_without(
    client: Client, topic: str, missing: str
) -> None:
    create_topic(client, topic)
    answer = client.ask("SEND_MESSAGE_V2", {**message(topic), missing: None}, b"x")
    assert answer.code == 0, answer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("e", value) for value in (1 << 31, 1 << 63, -(1 << 70), "", "four", "1e3", " 1", "0x1")],
        *[("f", value) for value in ("x", 1 << 40)],
        *[("g", value) for value in ("now", 1 << 64)],
    ],
)
def test_a_number_that_is_none(client: Client, topic: str, name: str, value: Any) -> None:
    """Is not taken for 0: the message would be in a queue that nobody asked for."""
    create_topic(client, topic)
    answer = client.ask("SEND_MESSAGE_V2", message(topic, **{name: value}), b"x")
    assert answer.code == 1
    assert answer.remark
    assert pull(client, topic).code == 19, "nothing is stored"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("j", value) for value in ("1", -(1 << 31))],
        *[("i", value) for value in ("\x01", "\x02\x02", "a\x01", "a\x01b\x01c\x02", "\ud800")],
        *[("k", value) for value in ("maybe", 1)],
    ],
)
def test_odd_values_are_stored_as_they_are(
    client: Client, topic: str, name: str, value: Any
) -> None:
    create_topic(client, topic)
    send(client, topic, b"odd", **{name: value})
    assert read_queue(client, topic, 1)[0].body == b"odd"


@pytest.mark.parametrize("field", ["readQueueNums", "writeQueueNums", "perm", "topicSysFlag"])
@pytest.mark.parametrize("value", [-1, -(1 << 31), (1 << 31) - 1])
def test_a_topic_with_a_number_out_of_range(
    appliance: Appliance, topic: str, field: str, value: int
) -> None:
    """It is refused, or kept as it is; either way the broker can go on with it."""
    fields = {"topic": topic, "readQueueNums": 4, "writeQueueNums": 4, "perm": 6, field: value}
    with connected(appliance.ports.broker) as client:
        answer = client.ask("UPDATE_AND_CREATE_TOPIC", fields)
        refused = value < 0 or field != "topicSysFlag"
        assert answer.code == (29 if refused else 0), answer
        send(client, topic)
        assert pull(client, topic).code == 0


@pytest.mark.parametrize("code", ["QUERY_CONSUMER_OFFSET", "UPDATE_CONSUMER_OFFSET"])
def test_an_offset_without_a_queue(client: Client, topic: str, code: str) -> None:
    create_topic(client, topic)
    fields = {"consumerGroup": "CG", "topic": topic, "commitOffset": 5}
    pull(client, topic)
    assert client.ask(code, fields).code in {1, 29}
    assert client.ask(code, {**fields, "queueId": 1 << 40}).code in {1, 29}


REQUESTS = (
    *(11, 361, 14, 15, 17, 29, 30, 31, 32, 33, 34, 35, 36),
    *(38, 41, 42, 46, 200, 201, 203, 215, 351),
)


@pytest.mark.parametrize("code", REQUESTS)
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        pytest.param({}, b"", id="nothing"),
        pytest.param(
            {"topic": "", "consumerGroup": "", "queueId": -1, "group": ""}, b"{}", id="empty"
        ),
        pytest.param(
            {"topic": "T", "consumerGroup": "G", "queueId": 1 << 40, "offset": 1 << 63},
            b"[1,",
            id="too large",
        ),
        pytest.param(
            {"topic": "T", "consumerGroup": "G", "timestamp": -(1 << 63)},
            b'{"consumerDataSet":7}',
            id="of another kind",
        ),
    ],
)
def test_any_request_with_nonsense_is_answered(
    broker: Appliance | Apache, client: Client, code: int, fields: dict[str, object], body: bytes
) -> None:
    """Java's exceptions are not always worded."""
    answer = client.ask(code, fields, body)
    assert answer.code == 0 or answer.remark or isinstance(broker, Apache)
    still_serves(client)
