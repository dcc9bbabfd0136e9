"""record.py, and C's record walk, whose twin it is: the same cases for both."""

import base64
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.commitlog import record as r
from appliance.commitlog.record import Record, Status, build, parse
from appliance.ring.layout import dtype, pointer
from clib import ffi, lib
from tests.commitlog import stores

Walk = Callable[[bytes], list[tuple[int, int, int]]]


def walk_in_python(data: bytes) -> list[tuple[int, int, int]]:
    return [(int(status), offset, size) for status, offset, size in r.walk(data, 1000)]


def walk_in_c(data: bytes) -> list[tuple[int, int, int]]:
    out = np.zeros(1000, dtype("ap_record"))
    buffer = ffi.from_buffer("uint8_t[]", data)
    count = lib.ap_walk(buffer, len(data), 1000, 1, pointer("ap_record", out), len(out))
    return [
        (int(row["status"]), int(row["physical_offset"]), int(row["size"])) for row in out[:count]
    ]


hosts = st.one_of(st.binary(min_size=8, max_size=8), st.binary(min_size=20, max_size=20))
longs = st.integers(-(1 << 63), (1 << 63) - 1)
ints = st.integers(-(1 << 31), (1 << 31) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x01\x02"))
records = st.builds(
    Record,
    topic=st.text(st.characters(codec="ascii"), max_size=255),
    body=st.binary(max_size=200),
    properties=st.dictionaries(texts, texts, max_size=4).map(r.encode_properties),
    queue_id=ints,
    flag=ints,
    queue_offset=longs,
    physical_offset=longs,
    system_flag=ints,
    born_timestamp=longs,
    born_host=hosts,
    store_timestamp=longs,
    store_host=hosts,
    reconsume_times=ints,
    prepared_transaction_offset=longs,
)


@pytest.mark.parametrize("walk", [walk_in_python, walk_in_c])
class TestWalk:
    """Python and C see the same in the same bytes."""

    @pytest.mark.parametrize("name", ["clean", "crash"])
    def test_golden_logs(self, walk: Walk, name: str, tmp_path: Path) -> None:
        known = stores.messages(name)
        blanks = {
            blank["offset"]: blank["length"] for blank in stores.manifest(name)["blankRecords"]
        }
        files = sorted((stores.unpack(name, tmp_path) / "commitlog").iterdir())
        for number, path in enumerate(files):
            *found, last = walk(path.read_bytes())
            base = number * 65536 - 1000
            for status, offset, size in found:
                assert (status, size) == (Status.MESSAGE, known.pop(base + offset)["storeSize"])
            expected = Status.BLANK if base + last[1] in blanks else Status.END
            assert last[0] == expected and last[2] == blanks.get(base + last[1], 0)
        assert not known

    def test_nothing(self, walk: Walk) -> None:
        assert walk(b"") == []
        assert walk(bytes(5)) == [(Status.END, 1000, 0)]
        assert walk(bytes(500)) == [(Status.END, 1000, 0)]

    def test_a_file_that_is_exactly_full(self, walk: Walk) -> None:
        data = build(Record("t", b"body"))
        assert walk(data * 2) == [(0, 1000, len(data)), (0, 1000 + len(data), len(data))]

    @pytest.mark.parametrize(
        ("at", "expected"),
        [
            (0, Status.BAD_LENGTH),
            (5, Status.BAD_MAGIC),
            (8, Status.BAD_CRC),
            (86, Status.BAD_LENGTH),
            (89, Status.BAD_CRC),
            (92, Status.BAD_LENGTH),
        ],
    )
    def test_one_wrong_byte(self, walk: Walk, at: int, expected: Status) -> None:
        data = bytearray(build(Record("t", b"body")))
        data[at] ^= 0x40
        assert [row[0] for row in walk(bytes(data))] == [expected]

    @pytest.mark.parametrize("size", [0, 7, 101])
    def test_a_blank_of_impossible_size(self, walk: Walk, size: int) -> None:
        data = size.to_bytes(4, "big") + b"\xcb\xd4\x31\x94" + bytes(92)
        assert walk(data)[0][0] == Status.BAD_LENGTH


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_python_and_c_agree_on_damaged_bytes(found: list[Record], data: st.DataObject) -> None:
    whole = bytearray(b"".join(build(record) for record in found) + bytes(20))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    statuses_c, statuses_python = walk_in_c(bytes(whole)), walk_in_python(bytes(whole))
    assert [row[:2] for row in statuses_c] == [row[:2] for row in statuses_python]


@given(records, st.booleans())
def test_a_record_survives(record: Record, property_crc: bool) -> None:
    data = build(record, property_crc=property_crc)
    found = parse(data)
    v6 = r.BORN_HOST_V6_FLAG | r.STORE_HOST_V6_FLAG
    assert found.system_flag & ~v6 == record.system_flag & ~v6
    assert found.version == (2 if len(record.topic) > 127 else 1)
    for name in ("topic", "body", "queue_id", "flag", "queue_offset", "born_host", "store_host"):
        assert getattr(found, name) == getattr(record, name)
    if property_crc:
        assert r.is_sealed(data)
    else:
        assert r.property_crc_of(data) is None
        assert found.properties == record.properties and build(found) == data


@given(records, st.booleans(), st.integers(0, 1 << 62))
def test_stamping_is_building_with_offsets(record: Record, property_crc: bool, at: int) -> None:
    data = bytearray(build(record, property_crc=property_crc))
    r.stamp(memoryview(data), queue_offset=at, physical_offset=at + 1, store_timestamp=at + 2)
    found = parse(bytes(data))
    assert (found.queue_offset, found.physical_offset, found.store_timestamp) == (
        at,
        at + 1,
        at + 2,
    )
    assert not property_crc or r.is_sealed(data)


@pytest.mark.parametrize("name", ["clean", "crash"])
def test_golden_records(name: str, tmp_path: Path) -> None:
    """Every field of every record that the real broker wrote; built again, the same bytes."""
    root = stores.unpack(name, tmp_path)
    log = b"".join(path.read_bytes() for path in sorted((root / "commitlog").iterdir()))
    for at, message in stores.messages(name).items():
        record = parse(log, at)
        assert record.topic == message["topic"]
        assert record.queue_id == message["queueId"]
        assert record.queue_offset == message["queueOffset"]
        assert record.physical_offset == at
        assert record.flag == message["flag"]
        assert record.system_flag == message["sysFlag"]
        assert record.born_timestamp == message["bornTimestamp"]
        assert "[{}]:{}".format(*r.decode_host(record.born_host)) == message["bornHost"]
        assert record.store_timestamp == message["storeTimestamp"]
        assert "[{}]:{}".format(*r.decode_host(record.store_host)) == message["storeHost"]
        assert record.reconsume_times == message["reconsumeTimes"]
        assert record.prepared_transaction_offset == message["preparedTransactionOffset"]
        assert record.version == message["recordVersion"]
        assert hashlib.sha256(record.body).hexdigest() == message["storedBodySha256"]
        assert record.message_id == message["offsetMsgId"]
        properties = r.decode_properties(record.properties)
        assert properties == message["properties"]
        assert properties.get("TAGS") == message["tags"]
        if not record.system_flag & r.COMPRESSED_FLAG and "bodyBase64" in message:
            assert record.body.startswith(base64.b64decode(message["bodyBase64"]))
        assert build(record) == log[at : at + message["storeSize"]]


def test_statuses_are_those_of_c() -> None:
    names = ("MESSAGE", "BLANK", "END", "MAGIC", "LENGTH", "CRC")
    assert [int(status) for status in Status] == [getattr(lib, f"AP_WALK_{name}") for name in names]


def test_the_field_table() -> None:
    """Pinned: a record's head is Apache's for ever."""
    assert [(field.name, field.at) for field in r.FIELDS] == [
        ("total_size", 0),
        ("magic", 4),
        ("body_crc", 8),
        ("queue_id", 12),
        ("flag", 16),
        ("queue_offset", 20),
        ("physical_offset", 28),
        ("system_flag", 36),
        ("born_timestamp", 40),
        ("born_host", 48),
        ("store_timestamp", 56),
        ("store_host", 64),
        ("reconsume_times", 72),
        ("prepared_transaction_offset", 76),
        ("body_length", 84),
    ]


def test_parse_says_what_is_wrong() -> None:
    with pytest.raises(r.RecordError, match="byte 3: bad magic") as caught:
        parse(bytes(3) + b"\1" * 100, 3)
    assert caught.value.status is Status.BAD_MAGIC and caught.value.at == 3


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_tags_code_in_python_and_c(text: str) -> None:
    data = text.encode()
    assert r.java_hash(text) == lib.ap_tags_code(ffi.from_buffer("uint8_t[]", data), len(data))


def test_tags_codes_of_java() -> None:
    assert r.tags_code(None) == r.tags_code("") == 0
    assert r.tags_code("TagA") == 2598919
    assert r.tags_code("polygenelubricants") == -(1 << 31)


@given(st.dictionaries(texts.filter(bool), texts.filter(bool)))
def test_properties_survive(properties: dict[str, str]) -> None:
    assert r.decode_properties(r.encode_properties(properties)) == properties


def test_odd_properties() -> None:
    assert r.decode_properties(b"") == {}
    assert r.decode_properties(b"a\x01b\x02c\x01d") == {"a": "b", "c": "d"}
    assert r.decode_properties(b"a\x011\x02a\x012\x02") == {"a": "2"}
    assert r.decode_properties(b"\x01b\x02a\x01\x02nothing\x02k\x01v\x01w\x02") == {"k": "v\x01w"}


def test_property_crc_has_its_digits_reversed() -> None:
    data = build(Record("t", b"body", b"a\x01b"), property_crc=True)
    value = zlib.crc32(data[:-20]) & 0x7FFFFFFF
    assert data[-23:] == b"\x01b\x02__CRC32#\x01" + f"{value:010d}"[::-1].encode() + b"\x02"
    assert parse(data).properties[:4] == b"a\x01b\x02"


def test_message_ids() -> None:
    host = r.encode_host("127.0.0.1", 20911)
    assert r.encode_message_id(host, 812) == "7F000001000051AF000000000000032C"
    assert r.decode_message_id("7F000001000051AF000000000000032C") == (host, 812)
    v6 = r.encode_host("fe80::1", 10911)
    assert r.decode_message_id(r.encode_message_id(v6, 1 << 40)) == (v6, 1 << 40)
    assert r.decode_host(v6) == ("fe80::1", 10911)
    with pytest.raises(ValueError, match="not 4"):
        r.decode_message_id("ABCD")


def batch_item(flag: int, body: bytes, properties: bytes) -> bytes:
    size = 22 + len(body) + len(properties)
    head = b"".join(value.to_bytes(4, "big") for value in (size, 0, 0, flag, len(body)))
    return head + body + len(properties).to_bytes(2, "big") + properties


def test_a_batch() -> None:
    items = [r.BatchItem(3, b"one", b"a\x01b\x02"), r.BatchItem(0, b"", b"")]
    body = b"".join(batch_item(*item) for item in items)
    assert r.decode_batch(body) == items
    assert r.decode_batch(b"") == []
    for cut in range(1, len(body)):
        if cut != len(batch_item(*items[0])):
            with pytest.raises(r.RecordError):
                r.decode_batch(body[:cut])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_an_error(data: bytes) -> None:
    try:
        r.decode_batch(data)
    except r.RecordError as error:
        assert error.status is Status.BAD_LENGTH


def test_delivery_time_of_a_delay_level() -> None:
    levels = (1000, 5000)
    assert [r.schedule_tags_code(level, 100, levels) for level in (0, 1, 2, 9)] == [
        1100,
        1100,
        5100,
        5100,
    ]
