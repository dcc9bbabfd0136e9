"""record.c: the records in the arena are those that commitlog/record.py builds."""

import zlib
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance.commitlog.record import (
    PROPERTIES_SIZE_MAX,
    BatchItem,
    encode_host,
    parse,
    tags_code,
)
from clib import ffi, lib
from tests.clib.engine import PEER
from tests.clib.sends import CLUSTER, KEY, MESSAGE_MAX, SUFFIX, Sends
from tools.fuzz_frames import batch_item

V6_PEER = encode_host("fe80::1", 65535)
IPV6_FLAGS, COMPRESSION = 0x30, 0x701


@given(st.binary(max_size=300), st.integers(0, 9))
def test_crc(data: bytes, skip: int) -> None:
    memory = ffi.new("uint8_t[]", data or b"\0")
    size = max(0, len(data) - skip)
    assert lib.ap_crc32(memory + (len(data) - size), size) == zlib.crc32(data[len(data) - size :])


@pytest.mark.parametrize("peer", [PEER, V6_PEER])
@pytest.mark.parametrize("host", ["10.1.2.3", "2001:db8::7"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_single_message(peer: bytes, host: str, ended: bool) -> None:
    sends = Sends(host=host)
    connection = sends.engine.connect(peer=peer)
    properties = "TAGS\x01标签\x02" + KEY
    text = properties if ended else properties[:-1]
    request = sends.message(connection, i=text, j=3, f=0x31, opaque=-9, flag=2)
    assert sends.put(request, rows=[11]) == 1
    built = sends.records(0)
    assert built == sends.expected(
        properties=properties.encode() + SUFFIX,
        system_flag=1,  # the bits of the hosts are ours to set
        born_host=peer,
        reconsume_times=3,
    )
    entry = sends.entry(0)
    assert (entry["kind"], entry["record_count"], entry["queue_index"]) == (lib.AP_SEND, 1, 11)
    assert (entry["connection"], entry["opaque"], entry["code"]) == (connection, -9, 310)
    assert (entry["flags"], entry["queue_id"], entry["sequence"]) == (lib.AP_ONEWAY, 2, 0)
    assert entry["tags_code"] == tags_code("标签")
    at, size = int(entry["unique_key_at"]), int(entry["unique_key_size"])
    assert built[at : at + size] == b"k"


items = st.tuples(
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.binary(min_size=1, max_size=60),
    st.sampled_from(
        [b"", b"TAGS\x01a\x02", b"TAGS\x01b", b"K\x01v\x02TAGS\x01\x02", b"\x02", b"x"]
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(items, min_size=1, max_size=8), st.sampled_from([PEER, V6_PEER]))
def test_a_batch(parts: list[tuple[int, bytes, bytes]], peer: bytes) -> None:
    sends = Sends()
    batch = [BatchItem(*part) for part in parts]
    body = b"".join(batch_item(it.body, it.properties, it.flag & 0xFFFFFFFF) for it in batch)
    connection = sends.engine.connect(peer=peer)
    request = sends.message(connection, body, code=320, m="true", f=COMPRESSION | 2, i="A\x01b\x02")
    assert sends.put(request) == 1
    built, at = sends.records(0), 0
    for it in batch:
        ended = it.properties + b"\x02" * (it.properties[-1:] not in (b"\x02", b""))
        record = sends.expected(
            body=it.body,
            properties=ended + SUFFIX,
            flag=it.flag,
            system_flag=2,
            born_host=peer,
        )
        assert built[at : at + len(record)] == record
        at += len(record)
    assert at == len(built)
    entry = sends.entry(0)
    assert (entry["record_count"], entry["flags"]) == (len(batch), lib.AP_BATCH)
    assert not entry["unique_key_size"]


def test_a_ring_that_fills_up() -> None:
    """What finds no room is not built; what was built stays whole, also round the arena's end."""
    sends = Sends(entries=4, arena=4096)
    connection = sends.engine.connect()
    requests = [sends.message(connection, bytes([i]) * 700) for i in range(5)]
    assert sends.put(*requests) == 4, "entries end first"
    for position in range(4):
        sends.store(position, physical=0, offset=0)
    sends.done.publish(4)
    sends.send.release(4)
    sends.done.release(2)
    big = [sends.message(connection, b"x" * 1200), sends.message(connection, b"y" * 1200)]
    assert sends.put(*big) == 1, "then the arena"
    assert parse(sends.records(4)).body == b"x" * 1200
    assert [parse(sends.records(position)).body[0] for position in (2, 3)] == [2, 3]


def test_a_message_larger_than_the_arena_finds_no_room() -> None:
    sends = Sends(arena=4096)
    assert sends.put(sends.message(sends.engine.connect(), bytes(5000))) == 0


def test_properties_up_to_the_last_byte_that_fits() -> None:
    most = PROPERTIES_SIZE_MAX - len(SUFFIX) - len(KEY) - 3
    refused = lib.AP_EINVAL
    cases = ((most, 0, 1), (most, 1, 1), (most + 1, 0, refused), (most + 1, 1, refused))
    for size, unended, built in cases:
        sends = Sends()
        text = KEY + "p\x01" + "v" * size + "\x02" * (1 - unended)
        assert sends.put(sends.message(sends.engine.connect(), i=text)) == built
        if built == 1:
            assert parse(sends.records(0)).properties == text.encode() + b"\x02" * unended + SUFFIX


@pytest.mark.parametrize(
    "fields",
    [
        {"b": "y" * 128},
        {"i": ""},
        {"i": KEY + "DELAY\x013\x02"},
        {"e": "x"},
        {"code": 11},
        {"m": "true"},
    ],
)
def test_what_is_not_plain_is_refused(fields: dict[str, Any]) -> None:
    sends = Sends()
    assert sends.put(sends.message(sends.engine.connect(), **fields)) == lib.AP_EINVAL
    assert sends.send.head == 0


def test_longest_of_all() -> None:
    sends = Sends(arena=4 << 20)
    body = bytes(MESSAGE_MAX)
    assert sends.put(sends.message(sends.engine.connect(peer=V6_PEER), body, b="x" * 127)) == 1
    record = parse(sends.records(0))
    assert (len(record.topic), len(record.body), record.version) == (127, len(body), 1)
    assert record.properties.endswith(f"CLUSTER\x01{CLUSTER}\x02".encode())
    assert replace(record, body=b"").born_host == V6_PEER
