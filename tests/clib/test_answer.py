"""answer.c: answers that net/frame.py reads, with what the writer and the queues said."""

import json
from typing import Any

import numpy as np
import pytest

from appliance.commitlog.record import decode_message_id, encode_host, encode_message_id
from appliance.net import frame as frames
from appliance.net.frame import Frame
from clib import ffi, lib
from tests.clib.engine import Engine
from tests.clib.sends import PORT, Sends
from tools.fuzz_frames import batch_item


def read(engine: Engine, connection: int) -> list[Frame]:
    """The answers that the peer finds, each strict JSON."""
    engine.flush()
    split, used = frames.split(data := engine.read_all(connection))
    assert used == len(data)
    for one in split:
        json.loads(bytes(one[4 : 4 + int.from_bytes(one[1:4])]))
    return [frames.decode(one) for one in split]


def answer(sends: Sends, first: int, last: int) -> int:
    send, done = sends.send.header, sends.done.header
    return int(lib.ap_send_answer(sends.engine.net, sends.build, send, done, first, last))


@pytest.mark.parametrize("host", ["10.1.2.3", "2001:db8::7"])
@pytest.mark.parametrize("code", [0, 10, 11, 12])
def test_the_answer_to_a_send(host: str, code: int) -> None:
    sends = Sends(host=host)
    connection = sends.engine.connect()
    assert sends.put(sends.message(connection, i='UNIQ_KEY\x01k"\\\t€\x02', opaque=-5)) == 1
    sends.store(0, physical=(1 << 45) + 3, offset=17, code=code)
    assert answer(sends, 0, 1) == 1
    (found,) = read(sends.engine, connection)
    assert (found.code, found.opaque, found.flag) == (code, -5, frames.RESPONSE)
    assert (found.language, found.version, found.remark) == (frames.PYTHON, frames.VERSION, None)
    assert found.fields == {
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "msgId": encode_message_id(encode_host(host, PORT), (1 << 45) + 3),
        "queueId": "2",
        "queueOffset": "17",
        "transactionId": 'k"\\\t€',
    }


def test_a_batch_is_answered_with_every_id() -> None:
    sends = Sends()
    connection = sends.engine.connect()
    assert sends.put(sends.message(connection, batch_item(b"x" * 9) * 3, m="true")) == 1
    sends.store(0, physical=4096, offset=(1 << 63) - 1)
    assert answer(sends, 0, 1) == 1
    (found,) = read(sends.engine, connection)
    size = len(sends.records(0)) // 3
    ids = [decode_message_id(it)[1] for it in found.fields["msgId"].split(",")]
    assert ids == [4096, 4096 + size, 4096 + 2 * size]
    assert found.fields["queueOffset"] == str((1 << 63) - 1)
    assert "transactionId" not in found.fields


def test_a_batch_of_very_many() -> None:
    sends = Sends(host="2001:db8::7", arena=8 << 20)
    connection, count = sends.engine.connect(), 10_000
    assert sends.put(sends.message(connection, batch_item(b"x") * count, m="true")) == 1
    sends.store(0, physical=1 << 60, offset=0)
    assert answer(sends, 0, 1) == 1
    (found,) = read(sends.engine, connection)
    assert len(set(found.fields["msgId"].split(","))) == count
    assert sends.engine.pool.taken == 0


def test_the_longest_key_in_its_longest_form() -> None:
    sends = Sends(host="2001:db8::7")
    connection = sends.engine.connect()
    key = "\x03" * 255  # six bytes each as JSON
    sends.put(sends.message(connection, i=f"UNIQ_KEY\x01{key}\x02", opaque=-(1 << 31)))
    sends.build.region_size = len(sends.build.region)
    for at in range(sends.build.region_size):
        sends.build.region[at] = ord("x")
    sends.build.region[0], sends.build.region[sends.build.region_size - 1] = ord('"'), ord('"')
    sends.build.region[100:103] = b'":"'
    sends.store(0, physical=-(1 << 63), offset=-(1 << 63))
    sends.entry(0)["queue_id"] = -(1 << 31)
    assert answer(sends, 0, 1) == 1
    (found,) = read(sends.engine, connection)
    assert found.fields["transactionId"] == key


def test_who_gets_none() -> None:
    sends = Sends()
    here, gone = sends.engine.connect(), sends.engine.connect()
    refused = sends.message(here)
    quiet = sends.message(here, flag=2)
    assert sends.put(refused, quiet, sends.message(gone), sends.message(here, opaque=9)) == 4
    sends.send.push(kind=lib.AP_BIND)
    for position in range(5):
        sends.store(position, physical=0, offset=0, code=14 if position == 0 else 0)
    lib.ap_net_break(sends.engine.net, gone & 0xFFFFFFFF, lib.AP_CLOSE_PEER)
    assert answer(sends, 0, 5) == 1
    assert [found.opaque for found in read(sends.engine, here)] == [9]
    assert sends.engine.read(gone) == b""


@pytest.mark.parametrize(
    ("field", "value", "answers"),
    [
        ("unique_key_at", 1 << 20, 1),
        ("unique_key_size", 256, 1),
        ("unique_key_size", (1 << 32) - 1, 1),
        ("record_count", 1 << 16, 1),
        ("arena_at", (1 << 20) - 8, 0),
    ],
)
def test_entries_that_lie(field: str, value: int, answers: int) -> None:
    sends = Sends()
    connection = sends.engine.connect()
    sends.put(sends.message(connection))
    sends.store(0, physical=0, offset=0)
    sends.entry(0)[field] = value
    assert answer(sends, 0, 1) == answers
    assert len(read(sends.engine, connection)) == answers


def test_a_code_with_a_remark() -> None:
    engine = Engine()
    connection = engine.connect()
    remarks: list[Any] = [ffi.NULL, b"", b'say "why"\n', b"r" * lib.AP_REMARK_MAX]
    for number, remark in enumerate(remarks):
        assert lib.ap_answer_code(engine.net, connection, number, 17, remark) == 0
    too_long = b"\x01" * (lib.AP_REMARK_MAX + 1)
    assert lib.ap_answer_code(engine.net, connection, 9, 17, too_long) == lib.AP_EINVAL
    assert lib.ap_answer_code(engine.net, 99, 9, 17, ffi.NULL) == lib.AP_EGONE
    assert lib.ap_answer_code(engine.net, connection, 4, 17, b"\x01" * lib.AP_REMARK_MAX) == 0
    found = read(engine, connection)
    assert [(it.opaque, it.code, it.fields) for it in found] == [(i, 17, {}) for i in range(5)]
    assert [it.remark for it in found][:3] == [None, "", 'say "why"\n']


def test_the_answer_to_a_pull() -> None:
    engine = Engine()
    connection = engine.connect()
    log = np.frombuffer(bytes(range(256)) * 4, np.uint8)
    address = log.ctypes.data
    slices = ffi.new("uint64_t[]", [address + 10, 100, address + 500, 1, address, 256])
    pulled = ffi.new("ap_pulled *")
    pulled.code, pulled.opaque, pulled.next_offset = 0, 77, 1 << 40
    pulled.min_offset, pulled.max_offset, pulled.broker_id = 0, (1 << 40) + 5, 0
    pulled.topic_flag, pulled.group_flag = 1, 2
    assert lib.ap_pull_answer(engine.net, connection, pulled, b"FOUND", slices, 3) == 0
    assert lib.ap_pull_answer(engine.net, connection, pulled, ffi.NULL, slices, 0) == 0
    full, empty = read(engine, connection)
    assert full.body == bytes(log[10:110]) + bytes(log[500:501]) + bytes(log[:256])
    assert (full.remark, empty.remark, empty.body) == ("FOUND", None, b"")
    assert (full.code, full.opaque, full.flag) == (0, 77, frames.RESPONSE)
    assert full.fields == {
        "nextBeginOffset": str(1 << 40),
        "minOffset": "0",
        "maxOffset": str((1 << 40) + 5),
        "suggestWhichBrokerId": "0",
        "offsetDelta": "0",
        "topicSysFlag": "1",
        "groupSysFlag": "2",
    }
    long = b"r" * (lib.AP_REMARK_MAX + 1)
    assert lib.ap_pull_answer(engine.net, connection, pulled, long, slices, 1) == lib.AP_EINVAL
